// Results as they settle: one stream of events for all tabs of the browser.
//
// The tab that holds a lock reads the stream and tells the others. When it is closed, the lock goes to another, which
// goes on behind the last result that was told. Browsers without locks (plain http, other than this machine) have no
// stream; nor has a server that is full. Then `isLive` is false, and each picture's job is asked for.

import { root } from "./dom.js";

const NAME = "wastestream-events";
const CAMERAS = ["page", "webcam"]; // of the page's pictures
const MAX_KEPT = 1000; // results that nobody waits for yet: they can come before the response to their upload
const MAX_SILENCE = 40_000; // ms without a word of the tab that reads the stream
const GRACE = 2_000; // ms that a result on the stream may come after the response to a request for its job
const REOPEN = 30_000; // ms until a stream that was rejected is tried again

const tabs = navigator.locks && window.BroadcastChannel && window.EventSource ? new BroadcastChannel(NAME) : null;
const kept = new Map(); // id to job, the oldest first
const waiting = new Map(); // id to the function that takes the job
const overdue = new Set(); // ids of jobs whose results the stream has not brought in time
let hasStarted = false;
let lastId = "";
let heardAt = -Infinity; // when the stream was last known to be open
let reopen = null; // in the tab that reads the stream

export function isLive() {
  return performance.now() - heardAt < MAX_SILENCE;
}

export function start() {
  if (!tabs || hasStarted) return;
  hasStarted = true;
  tabs.addEventListener("message", ({ data }) => take(data));
  tabs.postMessage({ asks: true });
  void navigator.locks.request(NAME, lead);
}

export function settled(id, milliseconds, signal) {
  // The job as soon as it settles; null if it has not after this time, or the stream has ended.
  return new Promise((resolve, reject) => {
    const finish = (act) => (value) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      waiting.delete(id);
      kept.delete(id);
      act(value);
    };
    const give = finish(resolve);
    const stop = finish(() => reject(new DOMException("Cleared", "AbortError")));
    const timer = setTimeout(() => {
      overdue.add(id);
      give(null);
    }, milliseconds);
    signal.addEventListener("abort", stop);
    waiting.set(id, give);
    if (kept.has(id)) give(kept.get(id));
  });
}

export function compare(job) {
  // A connection can die without a sign, and the stream still look open. If a job has settled and the stream does not
  // bring its result, all tabs distrust the stream, and it is opened again.
  if (!overdue.has(job.id)) return;
  setTimeout(() => {
    if (!overdue.has(job.id)) return;
    take({ open: false });
    tabs.postMessage({ open: false });
    restart();
  }, GRACE);
}

export function restart() {
  // Somebody has signed in or out, which counts for all tabs.
  if (!hasStarted) return;
  reopen?.();
  tabs.postMessage({ restarts: true });
}

function take({ job, id, open }) {
  // A message of the tab that reads the stream; from others come questions, and distrust.
  if (open === undefined) return;
  if (id) lastId = id;
  heardAt = open ? performance.now() : -Infinity;
  if (!open) {
    overdue.clear();
    for (const give of [...waiting.values()]) give(null);
  }
  if (!job) return;
  overdue.delete(job.id);
  if (waiting.has(job.id)) return void waiting.get(job.id)(job);
  kept.set(job.id, job);
  if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
}

function lead() {
  // Keeps the lock until the tab is closed.
  let source = null;
  let timer = null;
  const tell = (message) => {
    take(message);
    tabs.postMessage(message);
  };
  const isOpen = () => source.readyState === EventSource.OPEN;
  reopen = () => {
    clearTimeout(timer);
    source?.close();
    const query = new URLSearchParams(CAMERAS.map((camera) => ["camera", camera]));
    if (lastId) query.set("after", lastId);
    source = new EventSource(`${root}/v1/events?${query}`);
    source.addEventListener("open", () => tell({ open: true }));
    source.addEventListener("result", ({ data, lastEventId }) => {
      tell({ open: true, job: JSON.parse(data), id: lastEventId });
    });
    source.addEventListener("error", () => {
      tell({ open: false });
      if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
      lastId = ""; // It may be too old. What was missed is asked for.
      clearTimeout(timer);
      timer = setTimeout(reopen, REOPEN);
    });
  };
  tabs.addEventListener("message", ({ data }) => {
    if (data.asks) tabs.postMessage({ open: isOpen() });
    if (data.restarts) reopen();
  });
  reopen();
  setInterval(() => tell({ open: isOpen() }), MAX_SILENCE / 4);
  return new Promise(() => {});
}
