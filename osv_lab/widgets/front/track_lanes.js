// The timeline: events on top, then a lane per identity. The playhead is a canvas of its own, so that moving it redraws
// nothing else.

const LANE = 15;
const GUTTER = 108;
const RULER = 30;
const EVENT_COLOURS = {
  gap: "#8a8f98", switch: "#d73027", swap: "#d73027", teleport: "#c77700", fragmentation: "#c77700", merge: "#8e44ad",
};
const eventColour = (kind) => EVENT_COLOURS[kind] ?? "#1976d2";

class Lanes {
  /** `go(frame)` moves the playhead; `pick(identity, more)` chooses one. */
  constructor(go, pick) {
    this.top = h("canvas", { class: "osv-ruler" });
    this.lanes = h("canvas", {});
    this.head = h("canvas", { class: "osv-head" });
    this.scroll = h("div", { class: "osv-lanes" }, this.lanes);
    this.element = h(
      "div",
      { class: "osv-timeline", tabindex: 0, role: "slider", "aria-label": "frame", "aria-valuemin": 1 },
      this.top, this.scroll, this.head,
    );
    this.lines = [];
    this.events = [];
    this.frames = 1;
    this.element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.offsetX > this.element.clientWidth) return;
      const row = this.rowAt(event);
      if (row && event.clientX - this.element.getBoundingClientRect().left < GUTTER) return pick(row.id, event.ctrlKey || event.metaKey || event.shiftKey);
      if (row) pick(row.id, event.ctrlKey || event.metaKey || event.shiftKey, true);
      this.element.setPointerCapture(event.pointerId);
      this.dragging = true;
      go(this.frameAt(event));
    });
    this.element.addEventListener("pointermove", (event) => this.dragging && go(this.frameAt(event)));
    for (const name of ["pointerup", "pointercancel"]) this.element.addEventListener(name, () => (this.dragging = false));
  }

  show(lines, events, frames) {
    Object.assign(this, { lines, events, frames: Math.max(1, frames) });
    this.element.setAttribute("aria-valuemax", this.frames);
  }

  get across() {
    return Math.max(1, this.width - GUTTER - 8);
  }

  x(frame) {
    return GUTTER + ((frame - 0.5) / this.frames) * this.across;
  }

  frameAt(event) {
    const x = event.clientX - this.element.getBoundingClientRect().left;
    return Math.min(this.frames, Math.max(1, Math.ceil(((x - GUTTER) / this.across) * this.frames)));
  }

  rowAt(event) {
    const { top } = this.scroll.getBoundingClientRect();
    return event.clientY < top ? undefined : this.lines[Math.floor((event.clientY - top + this.scroll.scrollTop) / LANE)];
  }

  /** Take the room there is and draw everything but the playhead. */
  draw(width, chosen) {
    this.width = width;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const room = (canvas, height) => {
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      return context;
    };
    const look = getComputedStyle(this.element);
    const ink = look.getPropertyValue("--osv-ink");
    const soft = look.getPropertyValue("--osv-soft");
    const line = look.getPropertyValue("--osv-line");
    this.accent = look.getPropertyValue("--osv-accent");
    this.drawRuler(room(this.top, RULER), soft, line);
    this.drawLanes(room(this.lanes, Math.max(1, this.lines.length) * LANE), chosen, ink, soft, line, look.getPropertyValue("--osv-raised"));
    this.height = RULER + Math.min(this.scroll.clientHeight, this.lines.length * LANE);
    this.headContext = room(this.head, this.height);
  }

  drawRuler(context, soft, line) {
    context.fillStyle = soft;
    context.strokeStyle = line;
    context.font = "10px system-ui, sans-serif";
    context.fillText("events", 6, 24);
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((one) => (one / this.frames) * this.across > 46) ?? this.frames;
    for (let frame = step; frame <= this.frames; frame += step) {
      const x = Math.round(this.x(frame)) + 0.5;
      context.beginPath();
      context.moveTo(x, 11);
      context.lineTo(x, RULER);
      context.stroke();
      context.textAlign = "center";
      context.fillText(frame.toLocaleString("en"), x, 9);
    }
    context.textAlign = "start";
    for (const event of this.events) {
      const first = this.x(event.first);
      context.fillStyle = eventColour(event.kind);
      context.globalAlpha = event.kind === "gap" ? 0.5 : 0.9;
      context.fillRect(first - 1, 15, Math.max(3, this.x(event.last) - first + 2), event.kind === "gap" ? 4 : 11);
    }
    context.globalAlpha = 1;
  }

  drawLanes(context, chosen, ink, soft, line, raised) {
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const wide = this.across / this.frames;
    this.lines.forEach(({ id, label, runs }, row) => {
      const top = row * LANE;
      const picked = chosen.includes(id);
      if (picked) {
        context.fillStyle = raised;
        context.fillRect(0, top, this.width, LANE);
      }
      context.fillStyle = line;
      context.fillRect(GUTTER, top + LANE - 1, this.across, 0.5);
      context.fillStyle = picked ? ink : soft;
      context.fillText(`${label} ${id}`, 6, top + LANE / 2, GUTTER - 12);
      context.fillStyle = colourOf(id);
      context.globalAlpha = chosen.length && !picked ? 0.55 : 1;
      for (let k = 0; k < runs.length; k += 2) {
        const x = GUTTER + (runs[k] - 1) * wide;
        context.fillRect(x, top + 3, Math.max(1, (runs[k + 1] - runs[k] + 1) * wide), LANE - 6);
      }
      context.globalAlpha = 1;
    });
    const rows = new Map(this.lines.map(({ id }, row) => [id, row]));
    for (const event of this.events) {
      if (event.kind === "gap") continue;
      context.fillStyle = eventColour(event.kind);
      for (const id of event.tracks) {
        const row = rows.get(id);
        if (row === undefined) continue;
        const [x, y] = [this.x((event.first + event.last) / 2), row * LANE];
        context.beginPath();
        context.moveTo(x - 4, y);
        context.lineTo(x + 4, y);
        context.lineTo(x, y + 6);
        context.fill();
      }
    }
  }

  /** Move the playhead. */
  move(frame) {
    const context = this.headContext;
    if (!context) return;
    context.clearRect(0, 0, this.width, this.height);
    const x = this.x(frame);
    context.fillStyle = this.accent;
    context.fillRect(x - 0.75, 10, 1.5, this.height);
    context.beginPath();
    context.arc(x, 10, 4, 0, 7);
    context.fill();
    this.element.setAttribute("aria-valuenow", frame);
  }

  /** Bring an identity's lane into sight. */
  reveal(id) {
    const row = this.lines.findIndex((line) => line.id === id);
    if (row < 0) return;
    const top = row * LANE;
    if (top < this.scroll.scrollTop || top + LANE > this.scroll.scrollTop + this.scroll.clientHeight)
      this.scroll.scrollTop = Math.max(0, top - this.scroll.clientHeight / 2);
  }
}
