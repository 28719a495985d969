// Sign-in and sign-out with an API key.

import { ApiError, fetchWithin, onUnauthorized, problemOf } from "./api.js";
import { closeCamera, isCameraOpen } from "./camera.js";
import { byId } from "./dom.js";
import { restart } from "./events.js";
import { watchGateways } from "./gateways.js";
import { items } from "./items.js";
import { calm, notify } from "./notices.js";
import { clear } from "./uploads.js";

const TIMEOUT = 10_000; // ms
const NEEDED = ["ingest", "read"]; // scopes that the page needs
const never = new AbortController().signal;
let resumptions = []; // resume the calls that wait for a sign-in

onUnauthorized((signal) => {
  // Nobody has signed in yet, or the key was revoked or has expired: the call waits, and then goes on.
  showSession({ required: true, key: null });
  return new Promise((resolve, reject) => {
    resumptions.push(resolve);
    signal.addEventListener("abort", () => reject(new DOMException("Cleared", "AbortError")), { once: true });
  });
});

function showSession({ required, key }) {
  const out = required && key === null;
  const before = document.body.dataset.session;
  document.body.dataset.session = out ? "out" : "in";
  byId("sign-in").hidden = !out;
  byId("work").hidden = out;
  byId("who").hidden = !key;
  byId("who-name").textContent = key?.name ?? "";
  if (out && before !== "out") {
    byId("sign-in-hint").textContent = items.size > 0
      ? "This server asks for an API key again. Your pictures wait here until you have signed in."
      : "This server asks for an API key.";
    byId("key").focus();
  }
  watchGateways(!out);
  if (out) return;
  for (const resume of resumptions.splice(0)) resume();
  warnOfMissingScopes(key);
}

function warnOfMissingScopes(key) {
  const missing = key === null || key.scopes.includes("admin") ? [] : NEEDED.filter((scope) => !key.scopes.includes(scope));
  if (missing.length > 0) {
    notify("scope", `The key ${key.name} lacks the scope ${missing.join(" and ")}, which this page needs; sign in with another.`);
  } else {
    calm("scope");
  }
}

export async function loadSession() {
  try {
    const response = await fetchWithin("/session", {}, TIMEOUT, never);
    if (response.ok) return showSession(await response.json());
  } catch {
    // Down or offline: the first picture reports it, and asks for a key when one is needed.
  }
  return showSession({ required: false, key: null });
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = byId("sign-in-said");
  const button = event.target.querySelector("button");
  problem.hidden = true;
  button.disabled = true;
  try {
    const init = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key: byId("key").value }),
    };
    const response = await fetchWithin("/session", init, TIMEOUT, never);
    if (!response.ok) throw new ApiError(await problemOf(response));
    byId("key").value = "";
    showSession(await response.json());
    restart();
    byId("choose").focus();
  } catch (error) {
    problem.textContent = error instanceof ApiError ? error.message : "The server can’t be reached; try again.";
    problem.hidden = false;
    byId("key").select();
  } finally {
    button.disabled = false;
  }
});

byId("sign-out").addEventListener("click", async () => {
  try {
    const response = await fetchWithin("/session", { method: "DELETE" }, TIMEOUT, never);
    if (!response.ok) throw new ApiError(await problemOf(response));
    clear(); // the next person must not see the pictures
    if (isCameraOpen()) closeCamera();
    showSession(await response.json());
    restart();
  } catch (error) {
    notify("session", error instanceof ApiError ? error.message : "The server can’t be reached, so you are still signed in.");
  }
});
