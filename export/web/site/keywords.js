// Typed keywords of a CTC model: what can be spelled is spotted. How and why is said where Python
// does the same, in asr/decode/keywords/typed.py; the events are the same.

const LEAST_SCORE = 0.01; // no peak is lower

// The phonemes of CMUdict, and the letter that each has in a card: see asr/phonemes.py.
const NAMES = ("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW B D G K P T CH JH DH F S SH TH V Z ZH "
  + "HH L M N NG R W Y").split(" ");
const LETTERS = "a@AcWYEReIioOUubdgkptCJDfsSTvzZhlmnGrwy";

// Read "operator, wild fire=0.8, lumos (L UW M OW S)", as 'asr spot --keywords' does.
export function parseKeywords(list) {
  const sounds = new Set();
  return list.split(",").filter((part) => part.trim()).map((part) => {
    const [name, number] = part.split(/[=:]/);
    const text = name.replace(/\([^()]*\)/g, " ").trim();
    const threshold = number === undefined ? undefined : Number(number);
    if (threshold !== undefined && !(threshold > 0 && threshold <= 1)) throw new Error(`the threshold of '${text}' is no number up to 1; write '${text}=0.8'`);
    const sound = text.toLowerCase().replace(/\s+/g, "");
    if (sounds.has(sound)) throw new Error(`'${text}' is there twice`);
    sounds.add(sound);
    return { text, threshold, said: Array.from(name.matchAll(/\(([^()]*)\)/g), ([, said]) => said) };
  });
}

// The letters of "L UW1 M OW S"; stress is not needed.
function pronounced(said) {
  const names = said.toUpperCase().split(/\s+/).filter(Boolean);
  if (!names.length) throw new Error("a pronunciation is empty");
  return names.map((name) => {
    const place = NAMES.indexOf(name.replace(/[012]+$/, ""));
    if (place < 0) throw new Error(`'${name}' is no phoneme; write those of CMUdict: ${NAMES.join(" ")}`);
    return LETTERS[place];
  });
}

// What each label costs in a frame; a separator makes no sound, so that it is as good as a blank.
function weighed(row, blank, separator, linger) {
  const best = Math.max(...row);
  const found = Array.from(row, (value) => value - best);
  if (separator >= 0) found[blank] = Math.max(found[blank], found[separator]);
  found[blank] -= linger;
  return found;
}

// Labels, of letters or of phonemes, and the best path through them.
class Spelling {
  constructor(labels, blank) {
    this.length = labels.length;
    this.states = labels.flatMap((label, k) => (k ? [blank, label] : [label]));
    this.best = new Array(this.states.length).fill(-Infinity);
    this.starts = new Array(this.states.length).fill(0);
  }

  // Go on by a frame; return the score of what ends now.
  advance(costs, frame) {
    const { states, best, starts } = this;
    for (let s = states.length - 1; s >= 0; s--) { // downwards: what is below is of the frame before
      const skips = s > 1 && s % 2 === 0 && states[s] !== states[s - 2];
      let score = best[s];
      let start = starts[s];
      if ((s ? best[s - 1] : 0) > score) [score, start] = s ? [best[s - 1], starts[s - 1]] : [0, frame];
      if (skips && best[s - 2] > score) [score, start] = [best[s - 2], starts[s - 2]];
      best[s] = score + costs[states[s]];
      starts[s] = start;
    }
    return Math.exp(best.at(-1) / this.length);
  }
}

export class Spotter {
  // keywords: [{ text, threshold, said }]; without a threshold that of the card holds; said: the
  // pronunciations, ["L UW M OW S"], without which it is found by its letters alone.
  constructor(card, keywords) {
    this.seconds = card.hop_length / card.sample_rate;
    this.rate = card.sample_rate;
    this.blank = card.blank;
    this.separator = card.labels.indexOf(" ");
    this.phonemes = card.phonemes ?? []; // the first is the blank
    this.confirm = Math.max(1, Math.round(card.spotting.confirm / this.seconds));
    this.refractory = Math.round(card.spotting.refractory / this.seconds);
    this.linger = card.spotting.linger * this.seconds;
    this.keywords = keywords.map((keyword) => this.target(card, keyword));
    this.frame = this.end = 0;
    this.waiting = []; // peaks that are not judged yet
    this.fired = null;
  }

  target(card, { text, threshold, said = [] }) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const spells = card.labels.every((label, k) => k === card.blank || [...label].length === 1);
    const units = spells ? [...words.join("")] : words;
    const labels = units.map((unit) => card.labels.indexOf(unit));
    const lacking = units.filter((_, k) => labels[k] < 0 || labels[k] === card.blank);
    if (!units.length || lacking.length) {
      throw new Error(`the model cannot say '${lacking[0] ?? ""}' in '${text}'; respell it`);
    }
    const name = words.join(" ");
    const own = card.alarms?.thresholds ?? {};
    const recent = 2 * this.confirm + 1;
    const ways = said.map((way) => pronounced(way).map((letter) => this.phonemes.indexOf(letter)));
    return {
      text: name,
      threshold: threshold ?? (Object.hasOwn(own, name) ? own[name] : card.spotting.threshold),
      letters: new Spelling(labels, card.blank),
      said: this.phonemes.length ? ways.map((way) => new Spelling(way, 0)) : [],
      sounds: new Array(this.confirm).fill(0), // how well `said` fitted the newest frames
      scores: new Array(recent).fill(0),
      begun: new Array(recent).fill(0),
    };
  }

  // phonemes: the rows of the second output, of a model that has it.
  push(rows, end, reached, phonemes) {
    this.end = end;
    rows.forEach((row, n) => {
      const letters = weighed(row, this.blank, this.separator, this.linger);
      const sounds = phonemes && weighed(phonemes[n], 0, this.phonemes.indexOf(" "), this.linger);
      this.confirmed(this.keywords.map((keyword) => this.scored(keyword, letters, sounds)));
    });
    return this.judged(this.frame);
  }

  finish() {
    for (let n = 0; n < this.confirm; n++) this.confirmed(this.keywords.map(() => [0, 0]));
    return this.judged(Infinity);
  }

  // The score of a keyword now, and where it began. Letters and phonemes, where they are known, have
  // to agree; those of the same sound do not end in the same frame.
  scored(keyword, letters, sounds) {
    const { said } = keyword;
    const score = keyword.letters.advance(letters, this.frame);
    const start = keyword.letters.starts.at(-1);
    if (!said.length) return [score, start];
    const now = Math.max(...said.map((way) => way.advance(sounds, this.frame)));
    keyword.sounds = [...keyword.sounds.slice(1), now];
    return [Math.sqrt(score * Math.max(...keyword.sounds)), start];
  }

  // Take the scores of the next frame; what it confirms as a peak waits to be judged.
  confirmed(found) {
    this.frame++;
    this.keywords.forEach((keyword, number) => {
      const [score, start] = found[number];
      keyword.scores = [...keyword.scores.slice(1), score];
      keyword.begun = [...keyword.begun.slice(1), start];
      const middle = keyword.scores[this.confirm];
      const before = Math.max(...keyword.scores.slice(0, this.confirm));
      const after = Math.max(...keyword.scores.slice(this.confirm + 1));
      if (middle > before && middle >= after && middle >= LEAST_SCORE) {
        this.waiting.push({ number, score: middle, start: keyword.begun[this.confirm], end: this.frame - this.confirm });
      }
    });
  }

  judged(frames) {
    const events = [];
    while (this.waiting.length && this.waiting[0].end + 2 * this.confirm <= frames) {
      const peak = this.waiting.shift();
      const rival = this.rival(peak);
      const quiet = this.fired && peak.end - this.fired.end < this.refractory;
      if (rival || quiet || this.evidence(peak) < 0) continue;
      this.fired = peak;
      events.push({
        type: "detection", time: this.end / this.rate, label: this.keywords[peak.number].text,
        score: peak.score, start: peak.start * this.seconds, end: peak.end * this.seconds,
      });
    }
    return events;
  }

  // What the sound of a peak was reported as, or will be with better reason.
  rival(peak) {
    if (this.fired && this.fired.end > peak.start) return this.fired;
    const least = Math.max(0, this.evidence(peak));
    for (const other of this.waiting) {
      if (other.end > peak.end + this.confirm) break;
      if (other.start < peak.end && this.evidence(other) > least) return other;
    }
    return null;
  }

  // How far a peak is above its threshold, weighted by how much sound it explains.
  evidence({ number, score, start, end }) {
    return Math.log(score / this.keywords[number].threshold) * (end - start);
  }
}
