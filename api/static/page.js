// The page's script: takes pictures in, sends them to the API, shows what comes back.
// It uses the public API only: /session, POST /v1/images, then GET /v1/jobs/ID?wait=..., and /readyz when waiting
// is long.

const LANES = 5; // pictures under way at a time; browsers open 6 connections to a host over HTTP/1.1
const WAIT_SECONDS = 10; // how long the API may hold one GET /v1/jobs/ID open
const UPLOAD_TIMEOUT = 180_000; // ms; 10 MB at 0.5 Mbit/s
const FIRST_PAUSE = 500; // ms before the first retry; doubles up to LONGEST_PAUSE
const LONGEST_PAUSE = 10_000; // ms
const SERVER_ERRORS_TRIED = 4; // a 500 is a fault, not an outage: it is not retried for ever
const RETRIED = new Set([408, 425, 429, 502, 503, 504]);
const THUMBNAIL = 480; // px, the longer side of what a card shows, at twice its size for dense screens
const FRAMES_SHOWN = 300; // camera pictures that stay on the page; it may run for days
const FRAMES_UNDER_WAY = 10; // camera pictures not yet settled; beyond it frames are skipped, not piled up
const CHUNK = 40; // cards made between two screen refreshes

const LABELS = { biodegradable: "Biodegradable", non_biodegradable: "Non-biodegradable" };
const PICTURE_NAME = /\.(jpe?g|png|webp)$/i;

const root = document.body.dataset.root; // a prefix, if a proxy shows the API below one
const maxBytes = Number(document.body.dataset.maxBytes);

const byId = (id) => document.getElementById(id);
const cards = byId("cards");

class Refused extends Error {
  // The server's final no: sending the same again would not help, unless `again` says so.
  constructor(sentence, again = false) {
    super(sentence);
    this.again = again;
  }
}

// ---- Talking to the API ------------------------------------------------------------------------

async function call(path, init, timeout, signal) {
  for (let attempt = 0; ; attempt += 1) {
    let sentence;
    let pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt) * (0.75 + Math.random() / 2);
    try {
      const response = await fetchWithin(path, init, timeout, signal);
      if (response.ok) {
        const answer = await response.json();
        calm("outage");
        return answer;
      }
      sentence = await problemOf(response);
      if (response.status === 401) {
        await signedIn(signal);
        continue;
      }
      const fault = response.status === 500 && attempt + 1 < SERVER_ERRORS_TRIED;
      if (!fault && !RETRIED.has(response.status)) throw new Refused(sentence, response.status >= 500);
      pause = retryAfter(response) ?? pause;
    } catch (error) {
      if (error instanceof Refused || signal.aborted) throw error;
      sentence = navigator.onLine ? "The server can’t be reached." : "This device is offline.";
    }
    notify("outage", `${sentence} This page keeps trying; your pictures wait here.`);
    await sleep(pause, signal);
  }
}

async function fetchWithin(path, init, timeout, signal) {
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

async function problemOf(response) {
  try {
    const problem = await response.json();
    if (problem.detail || problem.title) return problem.detail || problem.title;
  } catch {
    // Not problem+json: a proxy between here and the API answered.
  }
  if (response.status === 413) return "The picture is too large for this server; send a smaller one.";
  if (RETRIED.has(response.status)) return "The server is not ready.";
  return `The server answered ${response.status} and gave no reason.`;
}

function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.2), 60) * 1000 : null;
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const finish = (act) => () => {
      clearTimeout(timer);
      window.removeEventListener("online", woken);
      signal.removeEventListener("abort", stopped);
      act();
    };
    const woken = finish(resolve);
    const stopped = finish(() => reject(new DOMException("Cleared", "AbortError")));
    const timer = setTimeout(woken, milliseconds);
    window.addEventListener("online", woken); // the network is back: no need to sit the pause out
    signal.addEventListener("abort", stopped);
  });
}

function newKey() {
  // Not crypto.randomUUID: browsers leave it out on plain-http addresses other than localhost.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- Who is signed in ---------------------------------------------------------------------------

const SESSION_TIMEOUT = 10_000; // ms
const never = new AbortController().signal;
let waiters = []; // calls that go on when someone has signed in

function signedIn(signal) {
  // The key was revoked or has expired, or nobody signed in yet: what was begun waits, and then goes on.
  showSession({ required: true, key: null });
  return new Promise((resolve, reject) => {
    waiters.push(resolve);
    signal.addEventListener("abort", () => reject(new DOMException("Cleared", "AbortError")), { once: true });
  });
}

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
  if (out) return;
  for (const resolve of waiters.splice(0)) resolve();
  const lacks = key === null || key.scopes.includes("admin") ? [] : ["ingest", "read"].filter((one) => !key.scopes.includes(one));
  if (lacks.length > 0) {
    notify("scope", `The key ${key.name} lacks the scope ${lacks.join(" and ")}, which this page needs; sign in with another.`);
  } else {
    calm("scope");
  }
}

async function askSession() {
  try {
    const response = await fetchWithin("/session", {}, SESSION_TIMEOUT, never);
    if (response.ok) return showSession(await response.json());
  } catch {
    // Down or offline: the first picture says so, and asks for a key when one is needed.
  }
  return showSession({ required: false, key: null });
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = byId("sign-in-said");
  const button = event.target.querySelector("button");
  said.hidden = true;
  button.disabled = true;
  try {
    const init = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key: byId("key").value }),
    };
    const response = await fetchWithin("/session", init, SESSION_TIMEOUT, never);
    if (!response.ok) throw new Refused(await problemOf(response));
    byId("key").value = "";
    showSession(await response.json());
    byId("choose").focus();
  } catch (error) {
    said.textContent = error instanceof Refused ? error.message : "The server can’t be reached; try again.";
    said.hidden = false;
    byId("key").select();
  } finally {
    button.disabled = false;
  }
});

byId("sign-out").addEventListener("click", async () => {
  try {
    const response = await fetchWithin("/session", { method: "DELETE" }, SESSION_TIMEOUT, never);
    if (!response.ok) throw new Refused(await problemOf(response));
    clear(); // whoever comes next must not see them
    if (stream) closeCamera();
    showSession(await response.json());
  } catch (error) {
    notify("session", error instanceof Refused ? error.message : "The server can’t be reached, so you are still signed in.");
  }
});

// ---- One picture's way -------------------------------------------------------------------------

let session = new AbortController(); // aborted and replaced by Clear
let lanes = 0;
let queue = [];
const items = new Set();

function enqueue(item) {
  queue.push(item);
  if (lanes < LANES) void runLane(session.signal);
}

async function runLane(signal) {
  lanes += 1;
  try {
    while (queue.length > 0 && !signal.aborted) await process(queue.shift(), signal);
  } finally {
    if (!signal.aborted) lanes -= 1; // else Clear has set the count to 0 already
  }
}

async function process(item, signal) {
  try {
    if (item.file.size > maxBytes) throw new Refused(tooLarge(item.file.size));
    setState(item, "sending", "Sending…");
    let job = await upload(item, signal);
    link(item, job);
    setState(item, "queued", "Classifying…");
    while (job.state === "queued") job = await wait(job, signal);
    settle(item, job);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) console.error(error);
    fail(item, error instanceof Refused ? error.message : "This page ran into a fault; try again.", error.again ?? true);
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

async function wait(job, signal) {
  const asked = performance.now();
  const timeout = WAIT_SECONDS * 1000 + 15_000;
  const next = await call(`/v1/jobs/${encodeURIComponent(job.id)}?wait=${WAIT_SECONDS}`, {}, timeout, signal)
    .catch((error) => {
      throw error instanceof Refused ? new Refused(error.message, true) : error;
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
    throw new Refused("The file can’t be read; it may have been moved or deleted.", true);
  }
  const text = String.fromCharCode(...head);
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (text.startsWith("RIFF") && text.endsWith("WEBP")) return "image/webp";
  return "image/jpeg"; // declared as what it should be, so that the API says what is wrong with the bytes
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
    // Only a hint was asked for; the next call says what is wrong.
  }
}

// ---- Cards -------------------------------------------------------------------------------------

const prototype = byId("card").content.firstElementChild;
const thumbnails = new IntersectionObserver(drawVisible, { rootMargin: "300px" });
const percent = new Intl.NumberFormat("en", { style: "percent" });

function makeItem(file, name, camera) {
  const card = prototype.cloneNode(true);
  const item = { file, name, camera, card, key: newKey(), state: "waiting", review: false, label: null, url: null };
  card.querySelector(".name").textContent = name;
  card.querySelector(".name").title = name;
  card.querySelector(".again").addEventListener("click", () => again(item));
  card.item = item;
  items.add(item);
  thumbnails.observe(card);
  return item;
}

function setState(item, state, label) {
  item.state = state;
  item.card.dataset.state = state;
  item.card.querySelector(".label").textContent = label;
  refreshCounts();
}

function link(item, job) {
  const picture = item.card.querySelector(".picture-link");
  picture.href = `${root}/v1/jobs/${encodeURIComponent(job.id)}/image`;
  picture.target = "_blank";
  picture.rel = "noopener";
  picture.setAttribute("aria-label", `${item.name}, as stored`);
}

function settle(item, job) {
  calm("workers");
  if (job.state !== "classified") {
    const sentences = {
      expired: "It waited too long in the queue and was given up.",
      cancelled: "It was cancelled before it was classified.",
    };
    fail(item, job.error || sentences[job.state] || "The server could not classify it.", job.state in sentences);
    return;
  }
  const { label, probability, review, model } = job.prediction;
  item.label = label;
  item.review = review;
  item.card.dataset.label = label;
  item.card.toggleAttribute("data-review", review);
  const figure = item.card.querySelector(".probability");
  figure.textContent = spoken(probability);
  figure.title = `Calibrated probability ${probability.toFixed(4)}`;
  const scale = item.card.querySelector(".scale");
  scale.hidden = false;
  scale.firstElementChild.style.width = `${probability * 100}%`;
  item.card.querySelector(".badge").hidden = !review;
  const took = item.card.querySelector(".took");
  took.textContent = `in ${duration(Date.parse(job.settled_at) - Date.parse(job.accepted_at))}`;
  took.title = `Model ${model}`;
  setState(item, "classified", LABELS[label] ?? label);
  finish(item, `${item.name}: ${LABELS[label] ?? label}, ${spoken(probability)}${review ? ", needs a look" : ""}.`);
}

function fail(item, sentence, retryable) {
  const said = item.card.querySelector(".sentence");
  said.textContent = sentence;
  said.hidden = false;
  item.card.querySelector(".again").hidden = !retryable;
  setState(item, "failed", "Failed");
  finish(item, `${item.name} failed. ${sentence}`);
}

function again(item) {
  item.card.querySelector(".sentence").hidden = true;
  item.card.querySelector(".again").hidden = true;
  item.key = newKey(); // the old key would bring back the old outcome
  setState(item, "waiting", "Waiting");
  enqueue(item);
}

function finish(item, sentence) {
  announce(sentence);
  if (item.camera === "webcam") dropOldFrames();
}

function spoken(probability) {
  return probability > 0.99 ? ">99%" : percent.format(probability); // never "100%": no answer is certain
}

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 60_000)} min`;
}

function forget(item) {
  thumbnails.unobserve(item.card);
  if (item.url) URL.revokeObjectURL(item.url);
  items.delete(item);
  item.card.remove();
}

function isSettled(item) {
  return item.state === "classified" || item.state === "failed";
}

// Thumbnails are drawn for cards near the screen only, one at a time: a full-size photo takes 50 MB decoded.
let drawing = Promise.resolve();

function drawVisible(entries) {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    thumbnails.unobserve(target);
    drawing = drawing.then(() => drawThumbnail(target.item));
  }
}

async function drawThumbnail(item) {
  if (!items.has(item) || item.file.size > maxBytes) return;
  const whole = URL.createObjectURL(item.file);
  try {
    const image = new Image();
    image.src = whole;
    await image.decode();
    const scale = Math.min(1, THUMBNAIL / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // transparency is shown over white, as the model sees it
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
    if (!items.has(item)) return; // cleared meanwhile
    item.url = URL.createObjectURL(blob);
    const shown = item.card.querySelector(".picture-image");
    shown.src = item.url;
    shown.hidden = false;
  } catch {
    item.card.dataset.blank = ""; // nothing that this browser can draw; the API says what it is
  } finally {
    URL.revokeObjectURL(whole);
  }
}

function dropOldFrames() {
  const frames = [...items].filter((item) => item.camera === "webcam" && isSettled(item));
  for (const item of frames.slice(0, Math.max(0, frames.length - FRAMES_SHOWN))) forget(item);
}

// ---- Counts, notices, announcements ------------------------------------------------------------

let refreshing = false;

function refreshCounts() {
  if (refreshing) return;
  refreshing = true; // hundreds of cards may change between two screen refreshes; they are counted once
  requestAnimationFrame(() => {
    refreshing = false;
    showCounts();
  });
}

function showCounts() {
  const count = { all: items.size, classified: 0, review: 0, failed: 0, biodegradable: 0, non_biodegradable: 0 };
  for (const item of items) {
    if (item.state === "failed") count.failed += 1;
    if (item.state !== "classified") continue;
    count.classified += 1;
    count[item.label] += 1;
    if (item.review) count.review += 1;
  }
  for (const name of ["all", "classified", "review", "failed"]) byId(`count-${name}`).textContent = count[name];
  byId("results").hidden = count.all === 0;
  document.body.toggleAttribute("data-busy", count.all > 0);
  showProgress(count.classified + count.failed, count.all);
  byId("split").hidden = count.classified < 2;
  byId("split-biodegradable").textContent = `${count.biodegradable} biodegradable`;
  byId("split-non_biodegradable").textContent = `${count.non_biodegradable} non-biodegradable`;
  byId("split-bar").style.width = `${(100 * count.biodegradable) / Math.max(1, count.classified)}%`;
  byId("nothing").hidden = count.all === 0 || count[cards.dataset.show] > 0;
}

function showProgress(settled, all) {
  const progress = byId("progress");
  progress.setAttribute("aria-valuemax", all);
  progress.setAttribute("aria-valuenow", settled);
  progress.classList.toggle("done", settled === all);
  progress.firstElementChild.style.width = `${(100 * settled) / Math.max(1, all)}%`;
}

for (const button of document.querySelectorAll(".count")) {
  button.addEventListener("click", () => {
    cards.dataset.show = button.dataset.show;
    for (const other of document.querySelectorAll(".count")) other.setAttribute("aria-pressed", other === button);
    showCounts();
  });
}

let noticed = null;

function notify(kind, text) {
  noticed = kind;
  const notice = byId("notice");
  if (notice.textContent !== text) notice.textContent = text; // unchanged text is not read aloud again
  notice.hidden = false;
}

function calm(kind) {
  if (noticed !== kind) return;
  noticed = null;
  byId("notice").hidden = true;
  byId("notice").textContent = "";
}

let unsaid = [];

function announce(sentence) {
  // Screen readers hear one picture in full, many as a sum.
  unsaid.push(sentence);
  if (unsaid.length > 1) return;
  setTimeout(() => {
    const count = (name) => byId(`count-${name}`).textContent;
    byId("said").textContent =
      unsaid.length === 1
        ? unsaid[0]
        : `${count("classified")} of ${count("all")} classified, ${count("review")} to review, ${count("failed")} failed.`;
    unsaid = [];
  }, 700);
}

function clear() {
  session.abort();
  session = new AbortController();
  lanes = 0;
  queue = [];
  for (const item of [...items]) forget(item);
  calm(noticed);
  showCounts();
}

byId("clear").addEventListener("click", () => {
  clear();
  byId("said").textContent = "Cleared.";
  byId("choose").focus();
});

window.addEventListener("beforeunload", (event) => {
  // Pictures already sent go on at the server; those that wait here would be gone.
  if ([...items].some((item) => item.state === "waiting" || item.state === "sending")) event.preventDefault();
});

// ---- Pictures come in --------------------------------------------------------------------------

async function add(files, camera = "page") {
  const { signal } = session;
  calm("input");
  const before = cards.firstElementChild; // what is new comes first, in its own order
  for (let start = 0; start < files.length && !signal.aborted; start += CHUNK) {
    const made = files.slice(start, start + CHUNK).map((file) => makeItem(file, file.label ?? file.name, camera));
    const fragment = document.createDocumentFragment();
    fragment.append(...made.map((item) => item.card));
    cards.insertBefore(fragment, before?.isConnected ? before : null);
    showCounts();
    made.forEach(enqueue);
    if (files.length > CHUNK) await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
  }
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", ({ target }) => {
  void add([...target.files]);
  target.value = ""; // choosing the same file again is a change again
});

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length === 0) return;
  event.preventDefault();
  for (const file of files) file.label = `pasted ${file.name}`;
  void add(files);
});

const veil = byId("veil");
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

window.addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) veil.classList.add("shown");
});
window.addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
window.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) veil.classList.remove("shown");
});
window.addEventListener("drop", async (event) => {
  veil.classList.remove("shown");
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const files = await droppedFiles(event.dataTransfer);
  if (files.length === 0) notify("input", "No JPEG, PNG or WebP pictures were found in what you dropped.");
  await add(files);
});

async function droppedFiles(transfer) {
  // Entries must be taken before the first await: the browser empties the list after the event.
  const entries = [...transfer.items].map((part) => part.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.map((entry) => filesBelow(entry, entry.isFile)));
  return found.flat();
}

async function filesBelow(entry, named = false) {
  // A file dropped by name is always sent; in folders only what is called like a picture.
  if (entry.isFile) {
    if (!named && (!PICTURE_NAME.test(entry.name) || entry.name.startsWith("._"))) return [];
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
    if (file) file.label = entry.fullPath.replace(/^\//, "");
    return file ? [file] : [];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
    if (some.length === 0) break; // browsers hand out at most 100 at a time
    children.push(...some);
  }
  children.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const found = [];
  for (const child of children) found.push(...(await filesBelow(child)));
  return found;
}

// ---- The camera --------------------------------------------------------------------------------

const video = byId("video");
let stream = null;
let ticking = null;

byId("camera-open").addEventListener("click", () => (stream ? closeCamera() : openCamera()));
byId("camera-close").addEventListener("click", closeCamera);
byId("capture").addEventListener("click", capture);
byId("repeat").addEventListener("change", tick);
byId("seconds").addEventListener("change", tick);
byId("cameras").addEventListener("change", ({ target }) => openCamera(target.value));

async function openCamera(deviceId = null) {
  calm("input");
  if (!navigator.mediaDevices?.getUserMedia) {
    notify("input", "Browsers give the camera to pages opened over https or from this very machine only.");
    return;
  }
  stopTracks();
  const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...choice, width: { ideal: 1280 } } });
  } catch (error) {
    closeCamera();
    notify("input", cameraProblem(error));
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", closeCamera); // unplugged
  video.srcObject = stream;
  await video.play().catch(() => {}); // refused only when the camera was closed meanwhile
  byId("camera").hidden = false;
  byId("camera-open").setAttribute("aria-expanded", "true");
  saidByCamera("Hold the waste in front of the camera.");
  byId("capture").focus();
  await listCameras();
  tick();
}

function cameraProblem(error) {
  const sentences = {
    NotAllowedError: "This page may not use the camera; allow it in the browser’s address bar, then try again.",
    NotFoundError: "No camera was found; connect one, then try again.",
    OverconstrainedError: "That camera is gone; choose another.",
    NotReadableError: "The camera is in use by another program; close it there, then try again.",
  };
  return sentences[error.name] ?? `The camera can’t be used: ${error.message}`;
}

async function listCameras() {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  byId("cameras").replaceChildren(
    ...found.map(({ deviceId, label }, index) => new Option(label || `Camera ${index + 1}`, deviceId, false, deviceId === current)),
  );
  byId("camera-pick").hidden = found.length < 2;
}

function closeCamera() {
  stopTracks();
  byId("repeat").checked = false;
  byId("camera").hidden = true;
  byId("camera-open").setAttribute("aria-expanded", "false");
  byId("camera-open").focus();
}

function stopTracks() {
  clearTimeout(ticking);
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  video.srcObject = null;
}

async function capture() {
  if (!stream || !video.videoWidth) return;
  if ([...items].filter((item) => item.camera === "webcam" && !isSettled(item)).length >= FRAMES_UNDER_WAY) {
    saidByCamera("The server is slower than the camera; a picture was skipped.");
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const time = new Date().toLocaleTimeString("en-GB");
  saidByCamera(`Picture taken at ${time}.`);
  await add([new File([blob], `camera ${time}`, { type: "image/jpeg" })], "webcam");
}

function saidByCamera(sentence) {
  byId("camera-said").textContent = sentence;
}

function tick() {
  clearTimeout(ticking);
  if (!stream || !byId("repeat").checked) return;
  const seconds = Math.min(3600, Math.max(1, Number(byId("seconds").value) || 1));
  ticking = setTimeout(async () => {
    await capture();
    tick();
  }, seconds * 1000);
}

void askSession();
