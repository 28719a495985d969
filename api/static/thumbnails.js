// Thumbnails, drawn for cards near the screen only, one at a time: a full-size photo takes 50 MB decoded.

import { maxBytes } from "./dom.js";
import { items } from "./items.js";

const LONGER_SIDE = 480; // px: twice what a card shows, for dense screens

export const thumbnails = new IntersectionObserver(drawVisible, { rootMargin: "300px" });

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
  const url = URL.createObjectURL(item.file);
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const blob = await scaledDown(image);
    if (!items.has(item)) return; // cleared in the meantime
    item.url = URL.createObjectURL(blob);
    const thumbnail = item.card.querySelector(".picture-image");
    thumbnail.src = item.url;
    thumbnail.hidden = false;
  } catch {
    item.card.dataset.blank = ""; // this browser cannot draw it; the API says what it is
  } finally {
    URL.revokeObjectURL(url);
  }
}

function scaledDown(image) {
  const scale = Math.min(1, LONGER_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // transparency over white, as the model sees it
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}
