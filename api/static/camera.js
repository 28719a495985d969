// Pictures from the device's camera: one at a time, or one every few seconds.

import { byId } from "./dom.js";
import { add } from "./files.js";
import { isSettled, items, WEBCAM } from "./items.js";
import { calm, notify } from "./notices.js";

const MAX_UNSETTLED = 10; // camera pictures not yet settled; beyond it frames are skipped, not queued

const video = byId("video");
let stream = null;
let timer = null;

byId("camera-open").addEventListener("click", () => (stream ? closeCamera() : openCamera()));
byId("camera-close").addEventListener("click", closeCamera);
byId("capture").addEventListener("click", capture);
byId("repeat").addEventListener("change", schedule);
byId("seconds").addEventListener("change", schedule);
byId("cameras").addEventListener("change", ({ target }) => openCamera(target.value));

async function openCamera(deviceId = null) {
  calm("input");
  if (!navigator.mediaDevices?.getUserMedia) {
    notify("input", "Browsers give the camera only to pages over https or from this machine.");
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
  await video.play().catch(() => {}); // fails only if the camera was closed in the meantime
  byId("camera").hidden = false;
  byId("camera-open").setAttribute("aria-expanded", "true");
  showStatus("Hold the waste in front of the camera.");
  byId("capture").focus();
  await listCameras();
  schedule();
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
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  byId("cameras").replaceChildren(
    ...cameras.map(({ deviceId, label }, index) => new Option(label || `Camera ${index + 1}`, deviceId, false, deviceId === current)),
  );
  byId("camera-pick").hidden = cameras.length < 2;
}

export function closeCamera() {
  stopTracks();
  byId("repeat").checked = false;
  byId("camera").hidden = true;
  byId("camera-open").setAttribute("aria-expanded", "false");
  byId("camera-open").focus();
}

export function isCameraOpen() {
  return stream !== null;
}

function stopTracks() {
  clearTimeout(timer);
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  video.srcObject = null;
}

async function capture() {
  if (!stream || !video.videoWidth) return;
  if ([...items].filter((item) => item.camera === WEBCAM && !isSettled(item)).length >= MAX_UNSETTLED) {
    showStatus("The server is slower than the camera; a picture was skipped.");
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const time = new Date().toLocaleTimeString("en-GB");
  showStatus(`Picture taken at ${time}.`);
  await add([new File([blob], `camera ${time}`, { type: "image/jpeg" })], WEBCAM);
}

function showStatus(sentence) {
  byId("camera-said").textContent = sentence;
}

function schedule() {
  clearTimeout(timer);
  if (!stream || !byId("repeat").checked) return;
  const seconds = Math.min(3600, Math.max(1, Number(byId("seconds").value) || 1));
  timer = setTimeout(async () => {
    await capture();
    schedule();
  }, seconds * 1000);
}
