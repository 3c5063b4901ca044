// All boxes of a clip as typed arrays: a few megabytes for a thousand frames of fifty tracks, and found at once by frame.

class Boxes {
  /** `buffer` holds seven float32 columns of `rows` values, by frame: frame, identity, x, y, w, h, confidence. */
  constructor(buffer, rows, frames) {
    const at = buffer.byteOffset ?? 0;
    const bytes = buffer.buffer ?? buffer;
    // A view that does not begin at a multiple of four cannot be read as floats.
    const values = at % 4 ? new Float32Array(bytes.slice(at, at + rows * 28)) : new Float32Array(bytes, at, rows * 7);
    const column = (k) => values.subarray(k * rows, (k + 1) * rows);
    [this.frame, this.id, this.x, this.y, this.w, this.h, this.confidence] = [0, 1, 2, 3, 4, 5, 6].map(column);
    this.start = new Uint32Array(frames + 2);
    for (let row = 0; row < rows; row++) this.start[Math.min(this.frame[row], frames) + 1]++;
    for (let frame = 1; frame < this.start.length; frame++) this.start[frame] += this.start[frame - 1];
  }

  /** First row of a frame, and the row after its last. */
  rows(frame) {
    return [this.start[frame] ?? 0, this.start[frame + 1] ?? this.start[frame] ?? 0];
  }

  /** The identity whose box is around a place of a frame: the smallest one, or undefined. */
  around(frame, x, y) {
    const [first, last] = this.rows(frame);
    let found, smallest = Infinity;
    for (let row = first; row < last; row++) {
      const inside = x >= this.x[row] && x <= this.x[row] + this.w[row] && y >= this.y[row] && y <= this.y[row] + this.h[row];
      const area = this.w[row] * this.h[row];
      if (inside && area < smallest) [found, smallest] = [this.id[row], area];
    }
    return found;
  }
}
