// The microphone to /v1/stream, and what comes back onto the page.
const element = (id) => document.getElementById(id);
const say = (text) => { element("status").textContent = text; };
let running = null;

async function showModels() {
  const token = element("token").value;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch("models", { headers });
  element("token-label").hidden = answer.ok && !token;
  if (!answer.ok) return say("This server wants a token.");
  const { models } = await answer.json();
  element("model").replaceChildren(...models.map(({ name, task }) =>
    new Option(`${name} (${task === "ctc" ? "transcribes" : "keywords"})`, name)));
}

function show(event) {
  if (event.type === "partial") element("partial").textContent = event.text;
  if (event.type === "error") say(event.message);
  if (!["utterance", "detection", "near_miss"].includes(event.type)) return;
  if (event.type === "utterance") element("partial").textContent = "";
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = `${(event.time ?? event.start).toFixed(1)} s`;
  line.append(time, event.text ?? `${event.label} (${Math.round(100 * event.score)} %)`);
  element("events").append(line);
}

async function start() {
  if (!navigator.mediaDevices) throw new Error("browsers give it to https pages and to localhost only");
  const context = new AudioContext();
  try {
    // All that takes time comes before the microphone, so that no beginning is lost.
    await context.audioWorklet.addModule("recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const media = await navigator.mediaDevices.getUserMedia({ audio: plain });
    context.createMediaStreamSource(media).connect(recorder);
    running = { media, context, recorder, socket: connect(context.sampleRate, recorder) };
  } catch (error) {
    context.close();
    throw error;
  }
  element("button").textContent = "Stop";
}

function connect(rate, recorder) {
  const url = new URL("v1/stream", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (element("token").value) url.searchParams.set("token", element("token").value);
  const socket = new WebSocket(url);
  const keywords = element("keywords").value.split(",").map((word) => word.trim()).filter(Boolean);
  const wanted = { model: element("model").value, sample_rate: rate, format: "f32le" };
  const waiting = []; // until the server is there
  recorder.port.onmessage = ({ data }) => {
    if (socket.readyState === WebSocket.CONNECTING) waiting.push(data.buffer);
    if (socket.readyState === WebSocket.OPEN) socket.send(data.buffer);
  };
  socket.onopen = () => {
    socket.send(JSON.stringify(keywords.length ? { ...wanted, keywords } : wanted));
    waiting.forEach((sound) => socket.send(sound));
    say("Listening.");
  };
  socket.onmessage = ({ data }) => show(JSON.parse(data));
  socket.onclose = ({ reason }) => { stop(); if (reason) say(reason); };
  return socket;
}

function stop() {
  if (!running) return;
  const { media, context, socket, recorder } = running;
  running = null;
  recorder.port.onmessage = null;
  media.getTracks().forEach((track) => track.stop());
  context.close();
  if (socket.readyState === 1) socket.send(JSON.stringify({ type: "finish" }));
  element("button").textContent = "Start the microphone";
  say("Stopped.");
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) stop();
  else start().catch((error) => say(`The microphone cannot be used: ${error.message}`));
});
element("token").addEventListener("change", showModels);
showModels();
