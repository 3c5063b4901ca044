// Pictures of frames: asked for around the playhead, a few at a time, kept up to a limit of memory.
//
// To decode a frame of a video is to decode what lies between it and the keyframe before it. So a request asks for some
// pictures on that way, too: a grid of every eighth frame, which is soon there for the whole clip and is what a playhead
// that sweeps over it is shown. Before that it is shown keyframes.

const CHUNK = 12;
const GRID = 8;
const BEHIND = 30; // pictures of the grid that one request asks for on its way
const IN_FLIGHT = 2;
const KEPT_BYTES = 96 * 2 ** 20;
const KEPT_BITMAPS = 24;
const OPENING = 2;
const AHEAD = 240;
const RESTING_MS = 150;

class Pictures {
  /**
   * `keys` are the numbers of the keyframes, in order; none where any frame is read alone. `fetch(numbers)` answers
   * `{numbers, buffers}`; `arrived()` is told when something can be drawn that could not before, `failed(error)` of
   * requests that went wrong.
   */
  constructor(frames, keys, fetch, arrived, failed) {
    Object.assign(this, { frames, keys, fetch, arrived, told: failed, at: 1, flying: 0, bytes: 0, closed: false, urgent: 0, failures: 0 });
    this.blobs = new Map(); // by frame, the least recently used first
    this.bitmaps = new Map();
    this.opening = new Set();
    this.asked = new Set();
    this.missing = new Set();
    this.mean = 20_000;
    this.moved = -Infinity;
    this.sweeping = false;
    this.playing = false;
    this.rest = 0;
  }

  /**
   * The playhead is here: fetch what is missing. Gives `[picture, frame]`: its own if it can be drawn now, else the
   * nearest that can, so that the picture follows a playhead that never rests.
   */
  go(frame) {
    this.moveTo(frame);
    const near = this.nearest(this.bitmaps);
    if (near !== frame) this.open(this.nearest(this.blobs));
    const found = this.bitmaps.get(near);
    if (!found) return [];
    this.bitmaps.delete(near);
    this.bitmaps.set(near, found); // now the most recently used
    return [found, near];
  }

  /** Fetch what is missing around a frame. */
  moveTo(frame) {
    if (frame !== this.at) {
      const now = performance.now();
      this.at = frame;
      this.sweeping = !this.playing && now - this.moved < RESTING_MS;
      this.moved = now;
      this.failures = 0;
      clearTimeout(this.rest);
      this.rest = setTimeout(() => ((this.sweeping = false), this.fill()), RESTING_MS);
    }
    this.fill();
  }

  has(frame) {
    return this.blobs.has(frame) || this.missing.has(frame);
  }

  /** The frame nearest to the playhead among those of a map, or undefined. */
  nearest(among) {
    const most = among.size ? Math.max(this.at, this.frames - this.at) : -1;
    for (let away = 0; away <= most; away++) {
      if (among.has(this.at - away)) return this.at - away;
      if (among.has(this.at + away)) return this.at + away;
    }
    return undefined;
  }

  async open(frame) {
    const blob = this.blobs.get(frame);
    if (!blob || this.closed || this.bitmaps.has(frame) || this.opening.has(frame) || this.opening.size >= OPENING) return;
    this.blobs.delete(frame);
    this.blobs.set(frame, blob); // now the most recently used
    this.opening.add(frame);
    try {
      const bitmap = await createImageBitmap(blob);
      if (this.closed) return bitmap.close();
      this.bitmaps.set(frame, bitmap);
      for (const [old, picture] of this.bitmaps) {
        if (this.bitmaps.size <= KEPT_BITMAPS) break;
        this.bitmaps.delete(old);
        picture.close();
      }
      this.arrived();
    } catch {
      this.missing.add(frame);
      if (this.blobs.delete(frame)) this.bytes -= blob.size;
    } finally {
      this.opening.delete(frame);
      this.open(this.nearest(this.blobs));
    }
  }

  /** How many frames around the playhead fit in the limit. */
  get reach() {
    return Math.floor(KEPT_BYTES / this.mean);
  }

  /** The place among the keyframes of that from which a frame is decoded. */
  placeOf(frame) {
    let [low, high] = [0, this.keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.keys[middle] <= frame) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  keyOf(frame) {
    return this.keys[this.placeOf(frame)] ?? 1;
  }

  /** Keyframes around the playhead, where those next to it are missing. */
  keysAround(free) {
    const place = this.placeOf(this.at);
    if (!free(this.keys[place]) && !free(this.keys[place + 1])) return [];
    return this.keys.slice(Math.max(0, place - CHUNK / 2), place + CHUNK / 2 + 1).filter(free);
  }

  /**
   * The next frames to ask for. First that of the playhead; but while it sweeps, keyframes, and what is on its way, and
   * one near it will do. Then its neighbours, unless it sweeps; then the grid, from here outwards; then all others.
   */
  wanted() {
    const free = (frame) => frame >= 1 && frame <= this.frames && !this.has(frame) && !this.asked.has(frame);
    const { sweeping } = this;
    if (free(this.at) && !this.urgent) {
      if (!sweeping) return [this.at];
      if (!(Math.abs(this.nearest(this.blobs) - this.at) < GRID)) {
        const keys = this.keysAround(free);
        return keys.length ? keys : [...this.way(this.at, free), this.at];
      }
    }
    const all = this.reach > this.frames;
    const ahead = all ? this.frames : Math.min(AHEAD, Math.floor(this.reach * 0.7));
    const next = sweeping ? undefined : this.first(this.at, this.at + (this.playing ? ahead : CHUNK), free);
    if (next) return this.run(next, free);
    const grid = this.grid(ahead, free);
    if (grid.length) return this.flying ? [] : grid; // alone, since it takes long, and the playhead may jump
    const on = this.first(this.at, this.at + ahead, free);
    if (on) return this.run(on, free);
    for (let frame = this.at; frame >= Math.max(1, this.at - (all ? this.frames : ahead / 4)); frame--)
      if (free(frame)) return this.run(this.first(this.keyOf(frame), frame, free), free);
    return [];
  }

  /** The first frame of a range that is to be had. */
  first(from, to, free) {
    for (let frame = from; frame <= Math.min(to, this.frames); frame++) if (free(frame)) return frame;
    return undefined;
  }

  run(first, free) {
    const found = [];
    for (let frame = first; frame < first + CHUNK && frame <= this.frames; frame++) if (free(frame)) found.push(frame);
    return found;
  }

  /** Frames of the grid between a frame's keyframe and itself. */
  way(frame, free) {
    if (!this.keys.length) return [];
    const from = Math.max(this.keyOf(frame), frame - BEHIND * GRID);
    const found = [];
    for (let one = Math.ceil((from - 1) / GRID) * GRID + 1; one < frame; one += GRID) if (free(one)) found.push(one);
    return found;
  }

  /** Frames of the grid nearest to the playhead, with those that are decoded on the way to them. */
  grid(most, free) {
    if (!this.keys.length) return [];
    const here = Math.round((this.at - 1) / GRID) * GRID + 1;
    for (let away = 0; away <= most; away += GRID) {
      if (free(here + away)) {
        const on = [...Array(CHUNK).keys()].map((k) => here + away + k * GRID).filter(free);
        return [...this.way(here + away, free), ...on];
      }
      if (free(here - away)) return [...this.way(here - away, free), here - away];
    }
    return [];
  }

  fill() {
    while (!this.closed && this.flying < IN_FLIGHT && this.failures < 3) {
      const numbers = this.wanted();
      if (!numbers.length) return;
      this.flying++;
      const urgent = numbers.at(-1) === this.at;
      if (urgent) this.urgent++;
      numbers.forEach((number) => this.asked.add(number));
      this.fetch(numbers)
        .then((answer) => ((this.failures = 0), this.take(answer.numbers ?? [], answer.buffers ?? [])))
        .catch((error) => (this.failures++, this.closed || this.told(error)))
        .finally(() => {
          this.flying--;
          if (urgent) this.urgent--;
          numbers.forEach((number) => this.asked.delete(number));
          this.fill();
        });
    }
  }

  take(numbers, buffers) {
    if (this.closed) return;
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
    this.open(this.nearest(this.blobs));
    this.arrived();
  }

  close() {
    this.closed = true;
    clearTimeout(this.rest);
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
    this.blobs.clear();
  }
}
