// Answers about pictures in the browser: model.onnx by ONNX Runtime Web, on pixels that are made as
// in training. model.json says what the model takes and what its outputs mean.
import * as ort from "./ort.wasm.bundle.min.mjs";

const MOST_PIXELS = 2 ** 26; // As in training and on servers.
const STRIP = 128; // Rows that are copied out of a picture at once: phones bound a canvas.
const SHOWN = 960; // Longer side of the picture that is shown, in px.
const TOP = 5;
const BOXES = {
  bbox: "box",
  box_outer: "outer, holds the object",
  box_inner: "inner, lies within it",
};
const $ = (id) => document.getElementById(id);

let facts;
let session;
let camera = null; // The stream of the camera while it is on.
let asked = 0; // Of several pictures in a row, the last one is shown.

async function load() {
  ort.env.logLevel = "error";
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json cannot be fetched (${answer.status})`);
  facts = await answer.json();
  if (facts.version !== 1) {
    throw new Error("model.json is of another version: write the folder anew, by loc-keras export");
  }
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
}

// Pixels

function roundEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

/** Height and width of the picture on the model's image, and its top and left there. */
function placement(height, width) {
  const target = facts.size;
  if (facts.resize !== "letterbox") return { size: target, offset: [0, 0] };
  const factor = Math.min(target[0] / height, target[1] / width);
  const size = [height, width].map((side, axis) =>
    Math.min(Math.max(roundEven(side * factor), 1), target[axis]));
  return { size, offset: size.map((side, axis) => Math.floor((target[axis] - side) / 2)) };
}

/** By how much smaller training decodes a JPEG file of this size; else 1. */
function jpegRatio(height, width, size) {
  const most = Math.min(Math.floor(height / (2 * size[0])), Math.floor(width / (2 * size[1])));
  return [8, 4, 2].find((ratio) => ratio <= most) ?? 1;
}

/** For each of `count` places, the first of `side` pixels that it sees, and their weights.
 *
 * Means of `ratio` pixels stand in for a file that is decoded smaller. */
function kernel(side, count, ratio) {
  const step = side / ratio / count;
  const reach = Math.max(step, 1); // A triangle, averaged over the covered pixels.
  return Array.from({ length: count }, (_, at) => {
    const centre = (at + 0.5) * step;
    const first = Math.max(Math.ceil(centre - reach - 0.5), 0);
    const last = Math.min(Math.floor(centre + reach - 0.5), Math.ceil(side / ratio) - 1);
    const weights = [];
    for (let i = first * ratio; i < Math.min((last + 1) * ratio, side); i++) {
      const place = Math.floor(i / ratio) + 0.5;
      weights.push(Math.max(0, 1 - Math.abs((place - centre) / reach)));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first: first * ratio, weights: weights.map((weight) => weight / sum) };
  });
}

/** Float32 (H, W, C), the model's image of what a canvas can draw, `size` being [height, width]. */
function pixelsOf(source, [height, width], isJpeg) {
  const { size: target, channels } = facts;
  const { size, offset } = placement(height, width);
  const [tall, wide] = size;
  const ratio = isJpeg ? jpegRatio(height, width, size) : 1;
  const rows = kernel(height, tall, ratio);
  const columns = kernel(width, wide, ratio);
  const sums = new Float32Array(tall * wide * channels);
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const row = new Float32Array(wide * channels);
  let done = 0; // Rows of the result that see nothing further down.
  for (let top = 0; top < height; top += STRIP) {
    const part = Math.min(STRIP, height - top);
    context.clearRect(0, 0, width, part);
    context.drawImage(source, 0, top, width, part, 0, 0, width, part);
    const { data } = context.getImageData(0, 0, width, part);
    for (let y = 0; y < part; y++) {
      narrow(data.subarray(4 * y * width, 4 * (y + 1) * width), columns, channels, row);
      while (done < tall && rows[done].first + rows[done].weights.length <= top + y) done++;
      for (let at = done; at < tall && rows[at].first <= top + y; at++) {
        const weight = rows[at].weights[top + y - rows[at].first];
        const start = at * row.length;
        for (let x = 0; x < row.length; x++) sums[start + x] += weight * row[x];
      }
    }
  }
  const pixels = new Float32Array(target[0] * target[1] * channels);
  for (let y = 0; y < tall; y++) {
    const start = ((y + offset[0]) * target[1] + offset[1]) * channels;
    for (let x = 0; x < row.length; x++) {
      pixels[start + x] = Math.floor(Math.min(Math.max(sums[y * row.length + x], 0), 255) + 0.5);
    }
  }
  return pixels;
}

/** A row of RGBA pixels at the places of a kernel; grey by the weights of training. */
function narrow(data, columns, channels, row) {
  columns.forEach(({ first, weights }, at) => {
    let red = 0, green = 0, blue = 0;
    for (let i = 0, place = 4 * first; i < weights.length; i++, place += 4) {
      const weight = weights[i];
      if (channels === 1) {
        red += weight * ((data[place] * 19595 + data[place + 1] * 38470 + data[place + 2] * 7471
          + 0x8000) >> 16);
      } else {
        red += weight * data[place];
        green += weight * data[place + 1];
        blue += weight * data[place + 2];
      }
    }
    row[at * channels] = red;
    if (channels === 3) {
      row[at * 3 + 1] = green;
      row[at * 3 + 2] = blue;
    }
  });
}

// Answers

/** What the model says of a picture of a height and width; boxes are in px of it. */
export async function answerOf(source, size, isJpeg) {
  const pixels = pixelsOf(source, size, isJpeg);
  const images = new ort.Tensor("float32", pixels, [1, ...facts.size, facts.channels]);
  const outputs = await session.run({ images });
  const values = Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [name, Array.from(tensor.data)]));
  const order = values.softmax.map((_, at) => at).sort((a, b) => values.softmax[b] - values.softmax[a]);
  const scores = values.softmax_calibrated ?? values.softmax;
  const found = facts.class_names[order[0]] !== facts.background;
  const trusted = "label_set" in values;
  const { size: scaled, offset } = placement(...size);
  const boxes = {};
  for (const name of found ? Object.keys(BOXES) : []) {
    if (!(name in values)) continue;
    const box = values[name].map((side, at) => {
      const axis = 1 - (at % 2);
      const own = (side * facts.size[axis] - offset[axis]) / scaled[axis];
      return Math.min(Math.max(own, 0), 1) * size[axis];
    });
    const empty = box[2] <= box[0] || box[3] <= box[1];
    if (name !== "box_inner" || !empty) boxes[name] = box;
  }
  return {
    label: facts.class_names[order[0]],
    score: scores[order[0]],
    found,
    size,
    boxes,
    top: order.slice(0, TOP).map((at) => ({ label: facts.class_names[at], score: scores[at] })),
    p_iou50: trusted && found ? values.p_iou50[0] : null,
    label_set: trusted
      ? order.filter((at) => values.label_set[at]).map((at) => facts.class_names[at]) : null,
    novelty: values.novelty?.[0] ?? null,
    known: "known" in values ? Boolean(values.known[0]) : null,
  };
}

function percent(fraction) {
  const text = (100 * fraction).toFixed(1);
  return text === "100.0" && fraction < 1 ? "> 99.9 %" : `${text} %`;
}

/** Sentences: what novelty and trust say and, where there is none, what is not known. */
function sentences(one) {
  const found = [];
  if (one.novelty === null) {
    found.push("Whether this picture is like those of training is not known.");
  } else {
    if (!one.known) {
      found.push("This picture is unlike those the model was trained on: do not rely on the answer.");
    }
    found.push(`Of pictures like those of training, ${percent(one.novelty)} are as unusual as this one.`);
  }
  if (!one.found) found.push("No object is found, so there is no box.");
  else if (one.p_iou50 === null) {
    found.push("How sure the box is, is not known: no trust was fitted to this model.");
  } else {
    found.push(`The box is right (IoU at least 0.5) with a probability of ${percent(one.p_iou50)}.`);
  }
  if (one.label_set) {
    found.push(`Classes that cannot be ruled out: ${one.label_set.join(", ") || "none"}.`);
  }
  return found;
}

// The page

function element(name, text = "", more = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(more)) made.setAttribute(key, value);
  return made;
}

function tell(text, sorry = false) {
  $("state").textContent = text;
  $("state").className = sorry ? "sorry" : "";
}

function draw(source, one) {
  const [height, width] = one.size;
  const factor = SHOWN / Math.max(height, width);
  const canvas = $("shown");
  canvas.width = Math.max(1, Math.round(width * factor));
  canvas.height = Math.max(1, Math.round(height * factor));
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  const line = SHOWN / 300;
  const stroke = (box, colour, wide, dashes) => {
    const [x1, y1, x2, y2] = box.map((side) => side * factor);
    context.strokeStyle = colour;
    context.lineWidth = wide * line;
    context.setLineDash(dashes.map((length) => length * line));
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  };
  const { bbox, box_outer: outer, box_inner: inner } = one.boxes;
  for (const [box, colour, wide, halo, dashes] of [
    [inner, "#0072B2", 1, "#FFFFFF", []],
    [outer, "#FFFFFF", 1.2, "#101010", [6, 4]],
    [bbox, "#F0E442", 2, "#101010", []],
  ]) {
    if (!box) continue;
    stroke(box, halo, wide + 1, []);
    stroke(box, colour, wide, dashes);
  }
  canvas.hidden = false;
  const at = bbox ? `, box from ${bbox.slice(0, 2).map(Math.round)} to ${bbox.slice(2).map(Math.round)} px` : "";
  canvas.setAttribute("aria-label", `${one.label}, ${percent(one.score)}${at}`);
}

function show(source, one, time) {
  draw(source, one);
  $("label").textContent = one.label;
  $("score").textContent = percent(one.score);
  $("facts").replaceChildren(...sentences(one).map((text) =>
    element("li", text, text.startsWith("This picture is unlike") ? { class: "alarm" } : {})));
  $("classes").tBodies[0].replaceChildren(...one.top.map(({ label, score }) => {
    const row = element("tr");
    const meter = element("td");
    meter.append(element("meter", "", { min: 0, max: 1, value: score, "aria-hidden": "true" }));
    row.append(element("th", label, { scope: "row" }), meter, element("td", percent(score)));
    return row;
  }));
  $("boxes").hidden = !one.found;
  $("boxes").caption.textContent = `In px of the picture, ${one.size[1]} x ${one.size[0]}`;
  $("boxes").tBodies[0].replaceChildren(...Object.entries(one.boxes).map(([name, box]) => {
    const row = element("tr", "", { class: name });
    const head = element("th", "", { scope: "row" });
    head.append(element("i", "", { "aria-hidden": "true" }), BOXES[name]);
    row.append(head, ...box.map((side) => element("td", side.toFixed(1))));
    return row;
  }));
  $("time").textContent = time;
  $("answer").hidden = false;
}

async function answerFile(file) {
  stopCamera();
  const turn = ++asked;
  const start = performance.now();
  tell(`Looking at ${file.name} ...`);
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    if (turn === asked) refuse(`${file.name} is no picture that this browser can read; choose a JPEG, PNG, GIF, BMP or WebP file.`);
    return;
  }
  try {
    const size = [picture.height, picture.width];
    if (size[0] * size[1] > MOST_PIXELS) {
      refuse(`${file.name} has ${size[1]} x ${size[0]} px, more than ${MOST_PIXELS}; make it smaller.`);
      return;
    }
    const one = await answerOf(picture, size, file.type === "image/jpeg");
    if (turn !== asked) return;
    show(picture, one, `Answered in ${((performance.now() - start) / 1000).toFixed(2)} s.`);
    tell(file.name);
  } catch (error) {
    refuse(`${file.name} cannot be answered: ${error.message}.`);
  } finally {
    picture.close();
  }
}

function refuse(text) {
  $("answer").hidden = true;
  $("shown").hidden = true;
  tell(text, true);
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  $("camera").textContent = "Use the camera";
  $("answer").setAttribute("aria-live", "polite");
}

async function useCamera() {
  if (camera) {
    stopCamera();
    return;
  }
  const turn = ++asked;
  if (!navigator.mediaDevices) {
    refuse("The browser gives the camera to pages of https addresses and of localhost alone.");
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 } }, audio: false,
    });
    stopCamera();
    camera = stream;
  } catch (error) {
    refuse(`The camera cannot be used (${error.message}); allow it in the browser, or choose a picture.`);
    return;
  }
  const video = $("video");
  video.srcObject = camera;
  await video.play();
  $("camera").textContent = "Stop the camera";
  // Read aloud, every frame would be too much.
  $("answer").setAttribute("aria-live", "off");
  tell("The camera is on.");
  const ends = [];
  try {
    while (camera && turn === asked) {
      const frame = await createImageBitmap(video);
      const one = await answerOf(frame, [frame.height, frame.width], false);
      if (!camera || turn !== asked) break;
      ends.push(performance.now());
      if (ends.length > 11) ends.shift();
      const rate = ends.length > 1
        ? (1000 * (ends.length - 1)) / (ends.at(-1) - ends[0]) : 0;
      show(frame, one, rate ? `${rate.toFixed(1)} frames a second` : "");
      frame.close();
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    refuse(`The camera's picture cannot be answered: ${error.message}.`);
    stopCamera();
  }
}

function listen() {
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) answerFile($("file").files[0]);
    $("file").value = ""; // So that the same file can be chosen again.
  });
  $("camera").addEventListener("click", useCamera);
  const over = (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", event.type === "dragover");
  };
  // On the whole page: else a picture that misses the field is opened in its place.
  for (const kind of ["dragover", "dragleave"]) document.addEventListener(kind, over);
  document.addEventListener("drop", (event) => {
    over(event);
    if (event.dataTransfer.files[0]) answerFile(event.dataTransfer.files[0]);
  });
  $("file").disabled = $("camera").disabled = false;
  $("ways-more").hidden = matchMedia("(hover: none)").matches;
}

try {
  await load();
  listen();
  tell("Ready.");
} catch (error) {
  tell(`The model cannot be loaded: ${error.message}.`, true);
}
