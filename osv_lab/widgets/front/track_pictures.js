// Pictures of frames: asked for around the playhead, a few at a time, kept up to a limit of memory.

const CHUNK = 12;
const IN_FLIGHT = 2;
const KEPT_BYTES = 96 * 2 ** 20;
const KEPT_BITMAPS = 24;
const OPENING = 2;
const AHEAD = 240;

class Pictures {
  /** `fetch(numbers)` answers `{numbers, buffers}`; `arrived(number)` is told of every picture that can be drawn. */
  constructor(frames, fetch, arrived) {
    Object.assign(this, { frames, fetch, arrived, at: 1, flying: 0, bytes: 0, closed: false, urgent: 0, failed: 0 });
    this.blobs = new Map(); // by frame, the least recently used first
    this.bitmaps = new Map();
    this.opening = new Set();
    this.asked = new Set();
    this.missing = new Set();
    this.mean = 20_000;
    this.latest = [];
  }

  /**
   * The playhead is here: fetch what is missing, this frame first. Gives `[picture, frame]`: its own if it can be drawn
   * now, else the one that was opened last, so that the picture follows a playhead that never rests.
   */
  go(frame) {
    this.at = frame;
    const found = this.bitmaps.get(frame);
    if (!found) this.open(frame);
    else {
      this.bitmaps.delete(frame);
      this.bitmaps.set(frame, found);
    }
    this.fill();
    return found ? [found, frame] : this.latest;
  }

  has(frame) {
    return this.blobs.has(frame) || this.missing.has(frame);
  }

  async open(frame) {
    const blob = this.blobs.get(frame);
    if (!blob || this.opening.has(frame) || this.opening.size >= OPENING) return;
    this.blobs.delete(frame);
    this.blobs.set(frame, blob); // now the most recently used
    this.opening.add(frame);
    try {
      const bitmap = await createImageBitmap(blob);
      if (this.closed) return bitmap.close();
      this.bitmaps.set(frame, bitmap);
      this.latest = [bitmap, frame];
      for (const [old, picture] of this.bitmaps) {
        if (this.bitmaps.size <= KEPT_BITMAPS) break;
        this.bitmaps.delete(old);
        picture.close();
      }
      this.arrived(frame);
    } catch {
      this.missing.add(frame);
    } finally {
      this.opening.delete(frame);
      if (!this.closed && frame !== this.at && !this.bitmaps.has(this.at)) this.open(this.at);
    }
  }

  /** How many frames around the playhead fit in the limit. */
  get reach() {
    return Math.floor(KEPT_BYTES / this.mean);
  }

  /** The next frames to ask for: around the playhead if they are missing, then ahead of it, then behind it. */
  wanted() {
    const free = (frame) => frame >= 1 && frame <= this.frames && !this.has(frame) && !this.asked.has(frame);
    // While somebody scrubs, the very frame is worth more than its neighbours.
    if (free(this.at) && !this.urgent) return [this.at];
    const all = this.reach > this.frames;
    const ahead = all ? this.frames : Math.min(AHEAD, Math.floor(this.reach * 0.7));
    for (let first = this.at; first <= Math.min(this.frames, this.at + ahead); first++)
      if (free(first)) return this.run(first, free);
    for (let first = this.at; first >= Math.max(1, this.at - (all ? this.frames : ahead / 4)); first--)
      if (free(first)) return this.run(Math.max(1, first - CHUNK + 1), free);
    return [];
  }

  run(first, free) {
    const found = [];
    for (let frame = first; frame < first + CHUNK && frame <= this.frames; frame++) if (free(frame)) found.push(frame);
    return found;
  }

  async fill() {
    while (!this.closed && this.flying < IN_FLIGHT && this.failed < 3) {
      const numbers = this.wanted();
      if (!numbers.length) return;
      this.flying++;
      const urgent = numbers.length === 1 && numbers[0] === this.at;
      if (urgent) this.urgent++;
      numbers.forEach((number) => this.asked.add(number));
      this.fetch(numbers)
        .then((answer) => ((this.failed = 0), this.take(answer.numbers ?? [], answer.buffers ?? [])))
        .catch(() => this.failed++)
        .finally(() => {
          this.flying--;
          if (urgent) this.urgent--;
          numbers.forEach((number) => this.asked.delete(number));
          this.fill();
        });
    }
  }

  take(numbers, buffers) {
    numbers.forEach((number, k) => {
      const data = buffers[k];
      if (!data || !data.byteLength) return void this.missing.add(number);
      if (this.blobs.has(number)) return;
      this.blobs.set(number, new Blob([data], { type: "image/jpeg" }));
      this.bytes += data.byteLength;
      this.mean += (data.byteLength - this.mean) / 20;
    });
    for (const [old, blob] of this.blobs) {
      if (this.bytes <= KEPT_BYTES) break;
      if (Math.abs(old - this.at) < CHUNK) continue;
      this.blobs.delete(old);
      this.bytes -= blob.size;
    }
    if (!this.closed && this.blobs.has(this.at) && !this.bitmaps.has(this.at)) this.open(this.at);
    this.arrived(0);
  }

  /** Ask again after failures. */
  again() {
    this.failed = 0;
    this.fill();
  }

  close() {
    this.closed = true;
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
    this.latest = [];
    this.blobs.clear();
  }
}
