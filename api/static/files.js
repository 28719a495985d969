// Pictures from files: chosen, dropped or pasted.

import { makeItem } from "./cards.js";
import { showCounts } from "./counts.js";
import { byId } from "./dom.js";
import { calm, notify } from "./notices.js";
import { currentSignal, enqueue, retry } from "./uploads.js";

const CHUNK = 40; // cards made between two screen refreshes
const PICTURE_NAME = /\.(jpe?g|png|webp)$/i;

const cards = byId("cards");

export async function add(files, camera = "page") {
  const signal = currentSignal();
  calm("input");
  const before = cards.firstElementChild; // new cards come first, in their own order
  for (let start = 0; start < files.length && !signal.aborted; start += CHUNK) {
    const chunk = files.slice(start, start + CHUNK);
    const added = chunk.map((file) => makeItem(file, file.label ?? file.name, camera, retry));
    const fragment = document.createDocumentFragment();
    fragment.append(...added.map((item) => item.card));
    cards.insertBefore(fragment, before?.isConnected ? before : null);
    showCounts();
    added.forEach(enqueue);
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
  if (files.length === 0) notify("input", "What you dropped has no JPEG, PNG or WebP pictures.");
  await add(files);
});

async function droppedFiles(transfer) {
  // Entries must be taken before the first await: the browser empties the list after the event.
  const entries = [...transfer.items].map((part) => part.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = await Promise.all(entries.map((entry) => filesBelow(entry, entry.isFile)));
  return files.flat();
}

async function filesBelow(entry, isNamed = false) {
  // A file dropped by name is always sent; in folders only files with a picture's name.
  if (entry.isFile) {
    if (!isNamed && (!PICTURE_NAME.test(entry.name) || entry.name.startsWith("._"))) return [];
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
    if (file) file.label = entry.fullPath.replace(/^\//, "");
    return file ? [file] : [];
  }
  const files = [];
  for (const child of await childrenOf(entry)) files.push(...(await filesBelow(child)));
  return files;
}

async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
    if (batch.length === 0) break; // browsers return at most 100 at a time
    children.push(...batch);
  }
  return children.sort((left, right) => left.name.localeCompare(right.name, "en", { numeric: true }));
}
