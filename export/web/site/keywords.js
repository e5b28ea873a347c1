// Typed keywords of a CTC model: what can be spelled is spotted. How and why is said where Python
// does the same, in asr/decode/keywords/typed.py; the events are the same.

const LEAST_SCORE = 0.01; // no peak is lower

export class Spotter {
  // keywords: [{ text, threshold }]; without a threshold that of the card holds.
  constructor(card, keywords) {
    this.seconds = card.hop_length / card.sample_rate;
    this.rate = card.sample_rate;
    this.blank = card.blank;
    this.separator = card.labels.indexOf(" ");
    this.confirm = Math.max(1, Math.round(card.spotting.confirm / this.seconds));
    this.refractory = Math.round(card.spotting.refractory / this.seconds);
    this.linger = card.spotting.linger * this.seconds;
    this.keywords = keywords.map((keyword) => this.target(card, keyword));
    this.frame = this.end = 0;
    this.waiting = []; // peaks that are not judged yet
    this.fired = null;
  }

  target(card, { text, threshold }) {
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
    return {
      text: name,
      threshold: threshold ?? (Object.hasOwn(own, name) ? own[name] : card.spotting.threshold),
      length: labels.length,
      path: labels.flatMap((label, k) => (k ? [card.blank, label] : [label])),
      best: new Array(2 * labels.length - 1).fill(-Infinity), // of each state of the path
      starts: new Array(2 * labels.length - 1).fill(0),
      scores: new Array(recent).fill(0),
      begun: new Array(recent).fill(0),
    };
  }

  push(rows, end) {
    this.end = end;
    for (const row of rows) this.advance(this.costs(row));
    return this.judged(this.frame);
  }

  finish() {
    for (let n = 0; n < this.confirm; n++) this.confirmed(() => [0, 0]);
    return this.judged(Infinity);
  }

  costs(row) {
    const best = Math.max(...row);
    const costs = Array.from(row, (value) => value - best);
    if (this.separator >= 0) costs[this.blank] = Math.max(costs[this.blank], costs[this.separator]);
    costs[this.blank] -= this.linger;
    return costs;
  }

  advance(costs) {
    for (const keyword of this.keywords) {
      const { path, best, starts } = keyword;
      for (let s = path.length - 1; s >= 0; s--) { // downwards: what is below is of the frame before
        const skips = s > 1 && s % 2 === 0 && path[s] !== path[s - 2];
        let score = best[s];
        let start = starts[s];
        if ((s ? best[s - 1] : 0) > score) [score, start] = s ? [best[s - 1], starts[s - 1]] : [0, this.frame];
        if (skips && best[s - 2] > score) [score, start] = [best[s - 2], starts[s - 2]];
        best[s] = score + costs[path[s]];
        starts[s] = start;
      }
    }
    this.confirmed(({ best, starts, length }) => [Math.exp(best.at(-1) / length), starts.at(-1)]);
  }

  // Take the scores of the next frame; what it confirms as a peak waits to be judged.
  confirmed(scoreOf) {
    this.frame++;
    this.keywords.forEach((keyword, number) => {
      const [score, start] = scoreOf(keyword);
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
