// From the rate of a device to that of a model: a windowed-sinc low-pass in polyphase form
// (Oppenheim & Schafer, "Discrete-Time Signal Processing", chapter 4; Kaiser's window).

const ZEROS = 24; // crossings of the sinc on each side: a transition band of 5 % of the band
const BETA = 9; // Kaiser: 90 dB of attenuation
const BAND = 0.95; // of the lower Nyquist frequency is kept

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

function bessel(x) { // the modified Bessel function of order 0, by its series
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

export class Resampler {
  constructor(from, to) {
    const common = divisor(from, to);
    this.up = to / common;
    this.down = from / common;
    this.same = from === to;
    const scale = BAND * Math.min(1, to / from); // the cut-off, in the input's Nyquist frequency
    this.half = Math.ceil(ZEROS / scale);
    this.filters = Array.from({ length: this.up }, (_, phase) => this.filter(phase / this.up, scale));
    this.reset();
  }

  filter(fraction, scale) {
    const taps = Float64Array.from({ length: 2 * this.half }, (_, k) => {
      const t = k - this.half + 1 - fraction; // samples from the output's place
      const inside = 1 - (t / this.half) ** 2;
      if (inside <= 0) return 0;
      const x = Math.PI * t * scale;
      return (x ? Math.sin(x) / x : 1) * scale * bessel(BETA * Math.sqrt(inside)) / bessel(BETA);
    });
    const sum = taps.reduce((a, b) => a + b);
    return taps.map((tap) => tap / sum); // a constant stays what it is
  }

  reset() {
    this.kept = new Float32Array(this.half - 1); // silence before the beginning
    this.phase = 0; // of the next output between two inputs, in 1 / up
  }

  push(samples) {
    if (this.same) return samples;
    const input = new Float32Array(this.kept.length + samples.length);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const output = [];
    let first = 0; // of the inputs that the next output needs
    while (first + 2 * this.half <= input.length) {
      const taps = this.filters[this.phase];
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * input[first + k];
      output.push(sum);
      this.phase += this.down;
      first += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.kept = input.slice(first);
    return Float32Array.from(output);
  }

  finish() {
    const rest = this.same ? new Float32Array(0) : this.push(new Float32Array(this.half));
    this.reset();
    return rest;
  }
}
