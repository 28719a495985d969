// Cards: one for each picture, with its state, its prediction or the reason of its failure.

import { newKey } from "./api.js";
import { refreshCounts } from "./counts.js";
import { byId, root } from "./dom.js";
import { isSettled, items, WEBCAM } from "./items.js";
import { announce, calm } from "./notices.js";
import { thumbnails } from "./thumbnails.js";

const MAX_FRAMES = 300; // camera pictures that stay on the page; it may run for days
const LABELS = { biodegradable: "Biodegradable", non_biodegradable: "Non-biodegradable" };
const UNCLASSIFIED = {
  expired: "It waited too long in the queue and expired.",
  cancelled: "It was cancelled before it was classified.",
};

const prototype = byId("card").content.firstElementChild;
const percent = new Intl.NumberFormat("en", { style: "percent" });

export function makeItem(file, name, camera, retry) {
  const card = prototype.cloneNode(true);
  const item = { file, name, camera, card, key: newKey(), state: "waiting", review: false, label: null, url: null };
  card.querySelector(".name").textContent = name;
  card.querySelector(".name").title = name;
  card.querySelector(".again").addEventListener("click", () => retry(item));
  card.item = item;
  items.add(item);
  thumbnails.observe(card);
  return item;
}

export function setState(item, state, label) {
  item.state = state;
  item.card.dataset.state = state;
  item.card.querySelector(".label").textContent = label;
  refreshCounts();
}

export function reset(item) {
  item.card.querySelector(".sentence").hidden = true;
  item.card.querySelector(".again").hidden = true;
  item.key = newKey(); // the old key would return the old job
  setState(item, "waiting", "Waiting");
}

export function link(item, job) {
  const picture = item.card.querySelector(".picture-link");
  picture.href = `${root}/v1/jobs/${encodeURIComponent(job.id)}/image`;
  picture.target = "_blank";
  picture.rel = "noopener";
  picture.setAttribute("aria-label", `${item.name}, as stored`);
}

export function settle(item, job) {
  calm("workers");
  if (job.state !== "classified") {
    const sentence = job.error || UNCLASSIFIED[job.state] || "The server could not classify it.";
    fail(item, sentence, job.state in UNCLASSIFIED);
    return;
  }
  const { label, probability, review } = job.prediction;
  item.label = label;
  item.review = review;
  showPrediction(item.card, job);
  setState(item, "classified", LABELS[label] ?? label);
  finish(item, `${item.name}: ${LABELS[label] ?? label}, ${asPercent(probability)}${review ? ", needs a look" : ""}.`);
}

function showPrediction(card, job) {
  const { label, probability, review, model } = job.prediction;
  card.dataset.label = label;
  card.toggleAttribute("data-review", review);
  const figure = card.querySelector(".probability");
  figure.textContent = asPercent(probability);
  figure.title = `Calibrated probability ${probability.toFixed(4)}`;
  const scale = card.querySelector(".scale");
  scale.hidden = false;
  scale.firstElementChild.style.width = `${probability * 100}%`;
  card.querySelector(".badge").hidden = !review;
  const took = card.querySelector(".took");
  took.textContent = `in ${duration(Date.parse(job.settled_at) - Date.parse(job.accepted_at))}`;
  took.title = `Model ${model}`;
}

export function fail(item, sentence, retryable) {
  const detail = item.card.querySelector(".sentence");
  detail.textContent = sentence;
  detail.hidden = false;
  item.card.querySelector(".again").hidden = !retryable;
  setState(item, "failed", "Failed");
  finish(item, `${item.name} failed. ${sentence}`);
}

function finish(item, sentence) {
  announce(sentence);
  if (item.camera === WEBCAM) removeOldFrames();
}

export function remove(item) {
  thumbnails.unobserve(item.card);
  if (item.url) URL.revokeObjectURL(item.url);
  items.delete(item);
  item.card.remove();
}

function removeOldFrames() {
  const frames = [...items].filter((item) => item.camera === WEBCAM && isSettled(item));
  for (const item of frames.slice(0, Math.max(0, frames.length - MAX_FRAMES))) remove(item);
}

function asPercent(probability) {
  return probability > 0.99 ? ">99%" : percent.format(probability); // never "100%": no prediction is certain
}

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 60_000)} min`;
}
