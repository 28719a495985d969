// Cameras that gateways read: their states, and the frames that wait. Hidden where there are none.

import { fetchWithin } from "./api.js";
import { byId } from "./dom.js";

const INTERVAL = 15_000; // ms
const TIMEOUT = 10_000; // ms
const WORDS = { live: "live", backfilling: "catching up", silent: "silent", off: "off", ended: "ended" };
const never = new AbortController().signal;
let timer = null;

export function watchGateways(isSignedIn) {
  clearTimeout(timer);
  if (isSignedIn) void refresh();
  else show([]);
}

async function refresh() {
  timer = setTimeout(refresh, INTERVAL);
  if (document.hidden) return;
  try {
    const response = await fetchWithin("/v1/cameras", {}, TIMEOUT, never);
    if (response.ok) show((await response.json()).cameras.filter((camera) => camera.state !== null));
  } catch {
    // Down or offline: the states stay as they were, and the next time tells.
  }
}

function show(cameras) {
  byId("gateways").hidden = cameras.length === 0;
  byId("gateways-rows").replaceChildren(...cameras.map(row));
}

function row(camera) {
  const line = document.createElement("tr");
  line.dataset.state = camera.state;
  const waiting = camera.spooled > 0 ? `${camera.spooled} waiting` : "";
  for (const text of [camera.name || camera.id, WORDS[camera.state], ago(camera.last_frame_at), waiting, camera.detail]) {
    line.insertCell().textContent = text;
  }
  return line;
}

function ago(time) {
  if (time === null) return "no frame yet";
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}
