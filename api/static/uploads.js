// The upload queue: sends pictures and waits until their jobs settle, a few at a time. Results come as events; without
// them, or when none has come for a while, it asks for a job, which the API holds until it has settled.

import { ApiError, call, fetchWithin, sleep } from "./api.js";
import { fail, link, remove, reset, setState, settle } from "./cards.js";
import { showCounts } from "./counts.js";
import { byId, maxBytes } from "./dom.js";
import * as events from "./events.js";
import { items } from "./items.js";
import { calm, notify } from "./notices.js";

const MAX_CONCURRENT = 5; // pictures at a time; browsers open 6 connections to a host over HTTP/1.1
const WAIT_SECONDS = 10; // how long the API may hold one GET /v1/jobs/ID open
const UPLOAD_TIMEOUT = 180_000; // ms; 10 MB at 0.5 Mbit/s

let session = new AbortController(); // aborted and replaced by Clear
let running = 0;
let queue = [];

export const currentSignal = () => session.signal;

export function enqueue(item) {
  queue.push(item);
  if (running < MAX_CONCURRENT) void runQueue(session.signal);
}

export function retry(item) {
  reset(item);
  enqueue(item);
}

async function runQueue(signal) {
  running += 1;
  try {
    while (queue.length > 0 && !signal.aborted) await process(queue.shift(), signal);
  } finally {
    if (!signal.aborted) running -= 1; // otherwise Clear has set it to 0 already
  }
}

async function process(item, signal) {
  try {
    if (item.file.size > maxBytes) throw new ApiError(tooLarge(item.file.size));
    events.start();
    setState(item, "sending", "Sending…");
    const isTold = events.isLive(); // before the upload: its result can come before its response
    let job = await upload(item, signal);
    link(item, job);
    setState(item, "queued", "Classifying…");
    while (job.state === "queued") job = (isTold && (await told(job, signal))) || (await wait(job, signal));
    events.compare(job);
    settle(item, job);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) console.error(error);
    const sentence = error instanceof ApiError ? error.message : "This page ran into a fault; try again.";
    fail(item, sentence, error.retryable ?? true);
  }
}

async function upload(item, signal) {
  const headers = {
    "Content-Type": await mediaTypeOf(item.file),
    "Idempotency-Key": item.key, // the same for every try, so that a retry never makes a second job
    "X-Camera-Id": item.camera,
  };
  return call("/v1/images", { method: "POST", headers, body: item.file }, UPLOAD_TIMEOUT, signal);
}

async function told(job, signal) {
  return events.isLive() ? events.settled(job.id, WAIT_SECONDS * 1000, signal) : null;
}

async function wait(job, signal) {
  const asked = performance.now();
  const timeout = WAIT_SECONDS * 1000 + 15_000;
  const next = await call(`/v1/jobs/${encodeURIComponent(job.id)}?wait=${WAIT_SECONDS}`, {}, timeout, signal)
    .catch((error) => {
      throw error instanceof ApiError ? new ApiError(error.message, true) : error;
    });
  if (next.state === "queued") {
    await checkWorkers(signal);
    if (performance.now() - asked < 1000) await sleep(1000, signal); // a server that does not hold the request
  }
  return next;
}

async function mediaTypeOf(file) {
  // The first bytes, not the name: a PNG called .jpg is fine, and is sent as what it is.
  let head;
  try {
    head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  } catch {
    throw new ApiError("The file can’t be read; it may have been moved or deleted.", true);
  }
  const text = String.fromCharCode(...head);
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (text.startsWith("RIFF") && text.endsWith("WEBP")) return "image/webp";
  return "image/jpeg"; // the API then says what is wrong with the bytes
}

function tooLarge(bytes) {
  const megabytes = (size) => (size / 1024 ** 2).toFixed(1).replace(/\.0$/, "");
  return `The picture has ${megabytes(bytes)} MB; at most ${megabytes(maxBytes)} MB can be sent.`;
}

let workersCheckedAt = -Infinity;

async function checkWorkers(signal) {
  if (performance.now() - workersCheckedAt < WAIT_SECONDS * 1000) return;
  workersCheckedAt = performance.now();
  try {
    const ready = await (await fetchWithin("/readyz", {}, 5_000, signal)).json();
    if (ready.workers === 0) {
      notify("workers", "No worker is running. Your pictures are stored and will be classified when one starts.");
    }
  } catch {
    // Only a hint; the next call reports the problem.
  }
}

export function clear() {
  session.abort();
  session = new AbortController();
  running = 0;
  queue = [];
  for (const item of [...items]) remove(item);
  calm();
  showCounts();
}

byId("clear").addEventListener("click", () => {
  clear();
  byId("said").textContent = "Cleared.";
  byId("choose").focus();
});

window.addEventListener("beforeunload", (event) => {
  // Uploaded pictures are classified anyway; those that still wait here would be lost.
  if ([...items].some((item) => item.state === "waiting" || item.state === "sending")) event.preventDefault();
});
