// The confidence of words, as asr/decode/confidence.py has it: the probability, over all CTC paths,
// that the sound around a word reads it, calibrated by the card.

const REACH_SECONDS = 0.24; // how far the sound of a word may reach into the gaps beside it
const GREATEST_LOG_PROB = -1e-6; // for the sake of its logit
const LEAST_EVIDENCE = -700;

// words: [{ labels, start, end }], in order, in frames of `rows`, their log-probabilities.
export function confidences(rows, words, card, separator) {
  const reach = Math.round(REACH_SECONDS * card.sample_rate / card.hop_length);
  return words.map(({ labels, start, end }, n) => {
    const low = n ? Math.floor((words[n - 1].end + start) / 2) : 0;
    const high = n + 1 < words.length ? Math.floor((end + words[n + 1].start) / 2) : rows.length;
    const own = rows.slice(Math.max(low, start - reach), Math.min(high, end + reach));
    return calibrated(reading(own, labels, card.blank, separator), card.calibration);
  });
}

// The log-probability that rows read these labels and nothing else. At both ends of a word the
// separator reads nothing, as a blank.
function reading(rows, labels, blank, separator) {
  const path = Array.from({ length: 2 * labels.length + 1 }, (_, s) => (s % 2 ? labels[(s - 1) / 2] : blank));
  const last = path.length - 1;
  let forward = null;
  for (const row of rows) {
    const scores = path.map((label, s) =>
      (separator >= 0 && (s === 0 || s === last) ? logAdd(row[label], row[separator]) : row[label]));
    const before = forward;
    forward = scores.map((score, s) => {
      if (!before) return s < 2 ? score : -Infinity;
      let sum = s ? logAdd(before[s], before[s - 1]) : before[s];
      if (s > 2 && s % 2 && path[s] !== path[s - 2]) sum = logAdd(sum, before[s - 2]);
      return sum + score;
    });
  }
  return logAdd(forward[last], forward[last - 1]);
}

function logAdd(a, b) {
  const high = Math.max(a, b);
  return high === -Infinity ? high : high + Math.log1p(Math.exp(Math.min(a, b) - high));
}

function calibrated(logProb, { scale, offset }) {
  const certain = Math.min(logProb, GREATEST_LOG_PROB);
  const logit = certain - Math.log(-Math.expm1(certain));
  return 1 / (1 + Math.exp(-Math.max(scale * logit + offset, LEAST_EVIDENCE)));
}
