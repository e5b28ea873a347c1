// A streaming model in the browser: sound to events, as docs/model_file.md has it. Needs an
// onnxruntime (web or node) and the model's card; the graph holds all the rest.

import { confidences } from "./confidence.js";
import { Spotter } from "./keywords.js";

export class Recogniser {
  // ort: the module of onnxruntime; session: of the model; card: its card, parsed; keywords:
  // [{ text, threshold, said }], to spot these with a model that transcribes.
  constructor(ort, session, card, keywords = []) {
    if (keywords.length && card.task !== "ctc") throw new Error(`${card.name} spots its own keywords only`);
    this.keywords = keywords;
    if (!card.block_length) throw new Error(`${card.name} needs whole utterances; it cannot stream`);
    this.ort = ort;
    this.session = session;
    this.card = card;
    this.frameSeconds = card.hop_length / card.sample_rate;
    this.closing = 0;
    if (card.trigger) {
      this.closing = Math.round(card.trigger.smoothing * card.sample_rate) + Math.floor(card.window_length / 2);
    }
    this.shapes = session.inputMetadata.slice(1).map(({ name, shape }) => [name, [1, ...shape.slice(1)]]);
    this.reset();
  }

  reset() {
    const { card, ort } = this;
    this.decoder = this.keywords.length ? new Spotter(card, this.keywords)
      : card.task === "ctc" ? new Greedy(card) : new Trigger(card);
    this.waiting = new Float32Array(0);
    this.samples = 0;
    this.stepped = 0;
    this.frames = -card.look_ahead / card.hop_length; // below zero while the look-ahead fills
    this.posteriors = new Float32Array(card.labels.length);
    this.state = Object.fromEntries(this.shapes.map(([name, shape]) =>
      [name, new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape)]));
  }

  // Take samples at the card's rate, any number of them; return the events that they bring.
  async push(samples) {
    this.samples += samples.length;
    const present = new Float32Array(this.waiting.length + samples.length);
    present.set(this.waiting);
    present.set(samples, this.waiting.length);
    const whole = present.length - present.length % this.card.block_length;
    this.waiting = present.slice(whole);
    return this.steps(present.subarray(0, whole), Infinity);
  }

  // End the sound: what look-ahead held back comes out, and the decoder's last events.
  async finish() {
    if (!this.samples) return [];
    const { block_length: block, look_ahead } = this.card;
    const last = this.samples + this.closing;
    const rest = new Float32Array(Math.ceil((last + look_ahead - this.stepped) / block) * block);
    rest.set(this.waiting);
    return [...await this.steps(rest, last), ...this.decoder.finish()];
  }

  async steps(pcm, last) {
    const block = this.card.block_length;
    const events = [];
    for (let start = 0; start < pcm.length; start += block) {
      events.push(...await this.step(pcm.slice(start, start + block), last));
    }
    return events;
  }

  async step(pcm, last) {
    const { card, ort } = this;
    const input = new ort.Tensor("float32", pcm, [1, pcm.length]);
    const output = await this.session.run({ pcm: input, ...this.state });
    for (const [name] of this.shapes) this.state[name] = output[`next_${name}`];
    this.stepped += pcm.length;
    let rows = rowsOf(output.log_probs);
    let phonemes = output.phonemes && rowsOf(output.phonemes);
    if (card.task === "ctc") {
      const wanted = Math.ceil(last / card.hop_length);
      const first = Math.max(0, -this.frames);
      const stop = Math.min(wanted - this.frames, rows.length);
      this.frames += rows.length;
      rows = rows.slice(first, Math.max(first, stop));
      phonemes = phonemes?.slice(first);
    }
    if (!rows.length) return [];
    this.posteriors = rows.at(-1).map(Math.exp);
    const reached = Math.min(this.stepped, last === Infinity ? this.samples : last);
    return this.decoder.push(rows, Math.min(reached, this.samples), reached, phonemes);
  }
}

function rowsOf({ data, dims }) {
  return Array.from({ length: dims[1] }, (_, n) => data.subarray(n * dims[2], (n + 1) * dims[2]));
}

// Keywords of a classifier: fires when a smoothed posterior crosses its threshold.
export class Trigger {
  constructor(card) {
    this.card = card;
    this.smoothing = Math.round(card.trigger.smoothing * card.sample_rate);
    this.refractory = Math.round(card.trigger.refractory * card.sample_rate);
    const own = card.alarms ? card.alarms.thresholds : {};
    this.thresholds = card.labels.map((label) => Object.hasOwn(own, label) ? own[label] : card.trigger.threshold);
    this.recent = [];
    this.fired = new Set(); // and not yet back below the threshold
    this.quietUntil = 0;
  }

  // end: where the sound is, reached: with the silence that is scored after it; in samples.
  push(rows, end, reached) {
    const { labels, background, sample_rate } = this.card;
    this.recent.push({ reached, row: rows.at(-1).map(Math.exp) });
    this.recent = this.recent.filter((entry) => entry.reached > reached - this.smoothing);
    const smoothed = labels.map((_, k) =>
      this.recent.reduce((sum, { row }) => sum + row[k], 0) / this.recent.length);
    const above = labels.map((_, k) => k).filter((k) =>
      smoothed[k] >= this.thresholds[k] && !background.includes(labels[k]));
    this.fired = new Set(above.filter((k) => this.fired.has(k)));
    const armed = above.filter((k) => !this.fired.has(k));
    if (!armed.length || reached < this.quietUntil) return [];
    const best = armed.reduce((a, b) => (smoothed[b] > smoothed[a] ? b : a));
    this.fired.add(best);
    this.quietUntil = reached + this.refractory;
    return [{ type: "detection", time: end / sample_rate, label: labels[best], score: smoothed[best] }];
  }

  finish() {
    return [];
  }
}

// Words of a CTC model: the best label of each frame, repeats and blanks removed.
export class Greedy {
  constructor(card) {
    const seconds = this.seconds = card.hop_length / card.sample_rate;
    this.card = card;
    this.labels = card.labels;
    this.blank = card.blank;
    this.separator = card.labels.indexOf(" ");
    this.spells = card.labels.every((label, k) => k === card.blank || [...label].length === 1);
    this.onset = card.calibration.onset;
    this.pause = Math.ceil(card.endpoint.trailing_silence / seconds);
    this.long = Math.round(card.endpoint.soft_limit / seconds);
    this.longest = Math.round(card.endpoint.hard_limit / seconds);
    this.frame = 0;
    this.last = card.blank;
    this.begin();
  }

  begin() {
    this.first = this.frame;
    this.rows = [];
    this.spans = []; // { label, start, end }, in frames
    this.silent = this.length = 0;
    this.reported = "";
  }

  push(rows) {
    const events = [];
    for (const row of rows) {
      const label = row.indexOf(Math.max(...row));
      this.rows.push(row);
      this.advance(label);
      if (this.ends(label)) events.push(...this.finish());
    }
    return [...events, ...this.partial()];
  }

  advance(label) {
    if (label === this.last) {
      if (this.spans.length && label !== this.blank) this.spans.at(-1).end = this.frame + 1;
    } else if (label !== this.blank) {
      this.spans.push({ label, start: this.frame, end: this.frame + 1 });
    }
    this.last = label;
    this.frame++;
  }

  ends(label) {
    this.length++;
    const quiet = label === this.blank || label === this.separator;
    this.silent = quiet ? this.silent + 1 : 0;
    const gap = this.separator < 0 ? this.blank : this.separator;
    return this.silent >= this.pause || this.length >= this.longest
      || (this.length >= this.long && label === gap);
  }

  // The spans of each word.
  parts() {
    const parts = [[]];
    for (const span of this.spans) {
      if (span.label === this.separator) parts.push([]);
      else if (this.spells) parts.at(-1).push(span);
      else parts.push([span]);
    }
    return parts.filter((part) => part.length);
  }

  words(parts) {
    let free = this.first * this.seconds; // no word begins before this
    return parts.map((part) => {
      const start = Math.max(part[0].start * this.seconds - this.onset, free);
      free = part.at(-1).end * this.seconds;
      return { text: part.map(({ label }) => this.labels[label]).join(""), start, end: free };
    });
  }

  confidences(parts) {
    const words = parts.map((part) => ({
      labels: part.map(({ label }) => label),
      start: part[0].start - this.first,
      end: part.at(-1).end - this.first,
    }));
    return confidences(this.rows, words, this.card, this.separator);
  }

  partial() {
    const words = this.words(this.parts());
    const text = words.map((word) => word.text).join(" ");
    if (text === this.reported) return [];
    this.reported = text;
    return [{ type: "partial", text, start: words[0].start, end: words.at(-1).end }];
  }

  // End the utterance that is open, if one is.
  finish() {
    const parts = this.parts();
    const words = this.words(parts);
    this.confidences(parts).forEach((confidence, n) => { words[n].confidence = confidence; });
    this.begin();
    if (!words.length) return [];
    const text = words.map((word) => word.text).join(" ");
    return [{ type: "utterance", text, start: words[0].start, end: words.at(-1).end, words }];
  }
}
