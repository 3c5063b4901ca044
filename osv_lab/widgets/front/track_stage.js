// The picture with its boxes.

class Stage {
  constructor(size, pick) {
    this.canvas = h("canvas", { class: "osv-stage", tabindex: 0, "aria-label": "the frame and its tracks" });
    this.context = this.canvas.getContext("2d");
    this.size = size;
    this.canvas.addEventListener("click", (event) => {
      const { left, top, width, height } = this.canvas.getBoundingClientRect();
      pick((event.clientX - left) / width, (event.clientY - top) / height, event.ctrlKey || event.metaKey || event.shiftKey);
    });
  }

  /** Take the room there is, at the screen's own resolution. */
  fit(width) {
    const [w, h] = this.size;
    const height = Math.min(440, (width * h) / w);
    const across = Math.min(width, (height * w) / h);
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.style.width = `${across}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(across * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
  }

  /** Draw a frame: a picture, its own as soon as that is there, and boxes, which are always its own. */
  draw(frame, picture, boxes, chosen, names) {
    const { context, canvas, ratio } = this;
    const { width, height } = canvas;
    if (picture) context.drawImage(picture, 0, 0, width, height);
    else context.clearRect(0, 0, width, height);
    if (!boxes) return;
    const [first, last] = boxes.rows(frame);
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    for (let row = first; row < last; row++) {
      const id = boxes.id[row];
      const picked = chosen.includes(id);
      const colour = colourOf(id);
      const [x, y, w, h] = [boxes.x[row] * width, boxes.y[row] * height, boxes.w[row] * width, boxes.h[row] * height];
      context.globalAlpha = chosen.length && !picked ? 0.45 : 1;
      context.lineWidth = (picked ? 3.5 : 2) * ratio;
      context.strokeStyle = colour;
      context.strokeRect(x, y, w, h);
      const text = picked ? `${names.get(id) ?? ""} ${id}` : String(id);
      const high = 15 * ratio;
      const wide = context.measureText(text).width + 6 * ratio;
      const top = y >= high ? y - high : y;
      context.fillStyle = colour;
      context.fillRect(x - context.lineWidth / 2, top, wide, high);
      context.fillStyle = "#fff";
      context.fillText(text, x + 2 * ratio, top + high - 1.5 * ratio);
    }
    context.globalAlpha = 1;
  }
}
