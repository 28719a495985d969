// Calls of the public API, repeated until the server responds.

import { root } from "./dom.js";
import { calm, notify } from "./notices.js";

const MIN_BACKOFF = 500; // ms before the first retry; doubles up to MAX_BACKOFF
const MAX_BACKOFF = 10_000; // ms
const MAX_SERVER_ERRORS = 4; // a 500 is a fault, not an outage: it is not retried for ever
const RETRIED = new Set([408, 425, 429, 502, 503, 504]);

export class ApiError extends Error {
  // A final error of the server. Sending the same again does not help, unless it is `retryable`.
  constructor(sentence, retryable = false) {
    super(sentence);
    this.retryable = retryable;
  }
}

let signIn = null; // resolves when somebody has signed in

export function onUnauthorized(handler) {
  signIn = handler;
}

export async function call(path, init, timeout, signal) {
  for (let attempt = 0; ; attempt += 1) {
    let sentence;
    let pause = Math.min(MAX_BACKOFF, MIN_BACKOFF * 2 ** attempt) * (0.75 + Math.random() / 2);
    try {
      const response = await fetchWithin(path, init, timeout, signal);
      if (response.ok) {
        const body = await response.json();
        calm("outage");
        return body;
      }
      sentence = await problemOf(response);
      if (response.status === 401) {
        await signIn(signal);
        continue;
      }
      const fault = response.status === 500 && attempt + 1 < MAX_SERVER_ERRORS;
      if (!fault && !RETRIED.has(response.status)) throw new ApiError(sentence, response.status >= 500);
      pause = retryAfter(response) ?? pause;
    } catch (error) {
      if (error instanceof ApiError || signal.aborted) throw error;
      sentence = navigator.onLine ? "The server can’t be reached." : "This device is offline.";
    }
    notify("outage", `${sentence} This page keeps trying; your pictures wait here.`);
    await sleep(pause, signal);
  }
}

export async function fetchWithin(path, init, timeout, signal) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, timeout);
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await fetch(`${root}${path}`, { ...init, signal: limit.signal, credentials: "same-origin", cache: "no-store" });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

export async function problemOf(response) {
  try {
    const problem = await response.json();
    if (problem.detail || problem.title) return problem.detail || problem.title;
  } catch {
    // Not problem+json: the response comes from a proxy in front of the API.
  }
  if (response.status === 413) return "The picture is too large for this server; send a smaller one.";
  if (RETRIED.has(response.status)) return "The server is not ready.";
  return `The server answered ${response.status} without a reason.`;
}

function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.2), 60) * 1000 : null;
}

export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const finish = (act) => () => {
      clearTimeout(timer);
      window.removeEventListener("online", wake);
      signal.removeEventListener("abort", stop);
      act();
    };
    const wake = finish(resolve);
    const stop = finish(() => reject(new DOMException("Cleared", "AbortError")));
    const timer = setTimeout(wake, milliseconds);
    window.addEventListener("online", wake); // the network is back: no need to wait any longer
    signal.addEventListener("abort", stop);
  });
}

export function newKey() {
  // Not crypto.randomUUID: browsers omit it on plain-http addresses other than localhost.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
