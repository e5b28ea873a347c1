// The page: a model from beside it, sound from the microphone or a file, events onto the page.
import * as ort from "./ort/ort.wasm.min.mjs";
import { parseKeywords } from "./keywords.js";
import { Recogniser } from "./recogniser.js";
import { Resampler } from "./resampler.js";

const element = (id) => document.getElementById(id);
const say = (text) => { element("status").textContent = text; };
const BLOCK_SECONDS = 0.5; // of a file between two looks at the page

let recogniser = null;
let model = null; // session and card
let recording = null;
let queue = Promise.resolve(); // what is pushed is pushed in order
let computed = 0; // seconds

async function open() {
  ort.env.wasm.numThreads = 1; // needs no headers of isolation: any static host will do
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  const card = await (await fetch("card.json")).json();
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  model = [session, card];
  recogniser = new Recogniser(ort, ...model);
  describe(card);
  element("microphone").disabled = element("file").disabled = false;
  say("Ready. Nothing that you say leaves this page.");
}

function describe(card) {
  document.title = element("name").textContent = card.name;
  const spots = card.task === "classify";
  const seconds = (card.block_length + card.look_ahead) / card.sample_rate;
  element("about").textContent =
    `${spots ? "Spots keywords" : "Transcribes speech"}; results come after ${seconds.toFixed(2)} s.`;
  const sources = card.training_data.map(({ name, licence }) => `${name} (${licence})`).join(", ");
  element("footer").textContent =
    `Model: ${card.licence}. Trained on ${sources}. Runs on onnxruntime-web (MIT).`;
  element("typed").hidden = spots;
  if (!spots) return;
  element("labels").replaceChildren(...card.labels.filter((l) => !card.background.includes(l)).map((label) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = label;
    item.dataset.label = label;
    item.append(text);
    return item;
  }));
}

function show(event) {
  if (event.type === "partial") {
    element("partial").textContent = event.text;
    return;
  }
  element("partial").textContent = "";
  const item = document.createElement("li");
  const time = document.createElement("time");
  const text = document.createElement("span");
  time.textContent = `${(event.time ?? event.start).toFixed(2)} s`;
  if (event.words) text.append(...event.words.flatMap((word, n) => (n ? [" ", shown(word)] : [shown(word)])));
  else text.textContent = `${event.label} (${Math.round(100 * event.score)} %)`;
  item.append(time, text);
  element("events").prepend(item);
  for (const label of element("labels").children) {
    label.classList.toggle("fired", label.dataset.label === event.label);
  }
}

function shown({ text, confidence }) {
  const word = document.createElement("i");
  word.textContent = text;
  word.title = `${Math.round(100 * confidence)} %`;
  word.classList.toggle("unsure", confidence < 0.5);
  return word;
}

function showScores() {
  const { card, posteriors } = recogniser;
  for (const item of element("labels").children) {
    item.style.setProperty("--score", posteriors[card.labels.indexOf(item.dataset.label)].toFixed(3));
  }
}

function showLevel(samples) {
  const power = samples.reduce((sum, x) => sum + x * x, 0) / Math.max(1, samples.length);
  const level = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 6));
  element("level").style.transform = `scaleX(${level.toFixed(3)})`;
}

// Push samples after all that were pushed before; `last` also ends the sound.
function push(samples, last = false) {
  queue = queue.then(async () => {
    const begun = performance.now();
    const events = await recogniser.push(samples);
    if (last) events.push(...await recogniser.finish());
    computed += (performance.now() - begun) / 1000;
    events.forEach(show);
    showScores();
    return events;
  });
  return queue;
}

function factor() {
  const seconds = recogniser.samples / recogniser.card.sample_rate;
  return `${seconds.toFixed(1)} s of sound, real-time factor ${(computed / Math.max(seconds, 0.1)).toFixed(3)}`;
}

async function begin() {
  await queue;
  recogniser.reset();
  computed = 0;
  element("events").replaceChildren();
}

// Spot these keywords, [{ text, threshold, said }], or none: then words are written down.
async function spot(keywords) {
  await stop();
  await queue;
  recogniser = new Recogniser(ort, ...model, keywords);
}

// Recognise samples at the card's rate, (n,); returns the events.
async function recognise(samples) {
  await begin();
  const length = Math.round(BLOCK_SECONDS * recogniser.card.sample_rate);
  const events = [];
  for (let start = 0; start < samples.length; start += length) {
    events.push(...await push(samples.subarray(start, start + length), start + length >= samples.length));
    say(factor());
    await new Promise((resolve) => setTimeout(resolve));
  }
  return events;
}

async function recogniseFile(file) {
  await stop();
  say(`Decoding ${file.name} …`);
  const rate = recogniser.card.sample_rate;
  try {
    const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
    const mono = channels[0].map((_, at) => channels.reduce((sum, c) => sum + c[at], 0) / channels.length);
    await recognise(mono);
  } catch (error) {
    say(`${file.name} cannot be recognised: ${error.message || "it is no audio file"}`);
  }
}

async function start() {
  if (!navigator.mediaDevices) throw new Error("browsers give it to https pages and to localhost only");
  const context = new AudioContext();
  try {
    // All that takes time comes before the microphone, so that no beginning is lost.
    await begin();
    await context.audioWorklet.addModule("recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    const resampler = new Resampler(context.sampleRate, recogniser.card.sample_rate);
    recorder.port.onmessage = ({ data }) => {
      showLevel(data);
      push(resampler.push(data)).then(() => recording && say(`Listening: ${factor()}`));
    };
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const media = await navigator.mediaDevices.getUserMedia({ audio: plain });
    context.createMediaStreamSource(media).connect(recorder);
    recording = { media, context, recorder, resampler };
  } catch (error) {
    context.close();
    throw error;
  }
  element("microphone").textContent = "Stop";
  say("Listening.");
}

async function stop() {
  if (!recording) return;
  const { media, context, recorder, resampler } = recording;
  recording = null;
  recorder.port.onmessage = null;
  media.getTracks().forEach((track) => track.stop());
  await context.close();
  await push(resampler.finish(), true);
  showLevel([]);
  element("microphone").textContent = "Start the microphone";
  say(`Stopped after ${factor()}`);
}

element("microphone").addEventListener("click", () =>
  (recording ? stop() : start()).catch((error) => say(`The microphone cannot be used: ${error.message}`)));
element("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) recogniseFile(target.files[0]);
  target.value = "";
});
element("keywords").addEventListener("change", async ({ target }) => {
  try {
    await spot(parseKeywords(target.value));
    say("Ready.");
  } catch (error) {
    say(`These keywords cannot be used: ${error.message}`);
  }
});
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (recogniser && event.dataTransfer.files[0]) recogniseFile(event.dataTransfer.files[0]);
});
if ("serviceWorker" in navigator) {
  // A page that was kept shows what it was made of then: take over what is there now.
  if (navigator.serviceWorker.controller) {
    navigator.serviceWorker.addEventListener("controllerchange", () => {
      if (recording || computed) say("This page has changed: reload it to use the new one.");
      else location.reload();
    });
  }
  navigator.serviceWorker.register("sw.js").catch(() => {});
}

export const ready = open().catch((error) => say(`The model cannot be loaded: ${error.message}`));
export { recognise, spot };
