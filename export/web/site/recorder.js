// The microphone's samples, at the rate of the device, in messages of 1024.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(1024);
    this.filled = 0;
  }

  process([input]) {
    if (!input.length) return true; // nothing is connected at this moment
    for (let at = 0; at < input[0].length; at++) {
      let sum = 0;
      for (const channel of input) sum += channel[at];
      this.block[this.filled++] = sum / input.length;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
