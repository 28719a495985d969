// The pictures on the page.

export const WEBCAM = "webcam"; // the camera id of pictures that the page's camera took

export const items = new Set();

export function isSettled(item) {
  return item.state === "classified" || item.state === "failed";
}
