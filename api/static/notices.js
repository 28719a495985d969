// The notice above the results, one at a time, and announcements for screen readers.

import { byId } from "./dom.js";

let current = null; // the kind of the notice that is shown

export function notify(kind, text) {
  current = kind;
  const notice = byId("notice");
  if (notice.textContent !== text) notice.textContent = text; // unchanged text is not read aloud again
  notice.hidden = false;
}

export function calm(kind = current) {
  if (current !== kind) return;
  current = null;
  byId("notice").hidden = true;
  byId("notice").textContent = "";
}

let sentences = [];

export function announce(sentence) {
  // Screen readers hear one picture in full, many as a sum.
  sentences.push(sentence);
  if (sentences.length > 1) return;
  setTimeout(() => {
    const count = (name) => byId(`count-${name}`).textContent;
    byId("said").textContent =
      sentences.length === 1
        ? sentences[0]
        : `${count("classified")} of ${count("all")} classified, ${count("review")} to review, ${count("failed")} failed.`;
    sentences = [];
  }, 700);
}
