// Counts, progress and the split between labels; each count is also a filter.

import { byId } from "./dom.js";
import { items } from "./items.js";

const cards = byId("cards");
let isScheduled = false;

export function refreshCounts() {
  if (isScheduled) return;
  isScheduled = true; // hundreds of cards may change between two screen refreshes; they are counted once
  requestAnimationFrame(() => {
    isScheduled = false;
    showCounts();
  });
}

export function showCounts() {
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

const buttons = document.querySelectorAll(".count");
for (const button of buttons) {
  button.addEventListener("click", () => {
    cards.dataset.show = button.dataset.show;
    for (const other of buttons) other.setAttribute("aria-pressed", other === button);
    showCounts();
  });
}
