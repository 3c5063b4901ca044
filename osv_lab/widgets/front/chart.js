// Small charts, drawn as SVG in the colours of the page.

const TONES = ["#1976d2", "#e07b00", "#1a9850", "#8e44ad", "#d73027", "#00838f", "#ad8b00", "#c2185b"];

/** Round steps that part a range into about `count`. */
function ticks(low, high, count = 5) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

/** Of a long row of points so many that none is missed on a screen: the first, the last, and evenly in between. */
function thinned(length, most = 600) {
  if (length <= most) return [...Array(length).keys()];
  return [...Array(most).keys()].map((k) => Math.round((k * (length - 1)) / (most - 1)));
}

/**
 * Lines over a common x. `series`: `{name, colour, x, y, dashed}` (y may hold null). `at` is a value of x to mark,
 * `onpick(x)` is told where somebody clicks or drags. The axes' ranges are given or those of the data.
 */
function lineChart({ series, x = {}, y = {}, width = 460, height = 230, at, onpick, dots = [], legend = true }) {
  const room = { left: 46, right: 12, top: legend ? 26 : 10, bottom: 34 };
  const every = (axis) => series.flatMap((one) => Array.from(one[axis])).filter((value) => value !== null && Number.isFinite(value));
  const range = (given, values) => {
    const low = given.min ?? Math.min(...values, Infinity);
    const high = given.max ?? Math.max(...values, -Infinity);
    if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const [x0, x1] = range(x, every("x"));
  const [y0, y1] = range(y, every("y"));
  const px = (value) => room.left + ((value - x0) / (x1 - x0)) * (width - room.left - room.right);
  const py = (value) => height - room.bottom - ((value - y0) / (y1 - y0)) * (height - room.top - room.bottom);
  const text = (content, attributes) => svg("text", { fill: "var(--osv-soft)", "font-size": 11, ...attributes }, content);
  const line = (attributes) => svg("line", { stroke: "var(--osv-line)", ...attributes });
  const marks = [];
  for (const value of ticks(x0, x1)) marks.push(text(shown(value, 2).replace(/\.?0+$/, "") || "0", { x: px(value), y: height - room.bottom + 15, "text-anchor": "middle" }));
  for (const value of ticks(y0, y1, 4)) {
    marks.push(line({ x1: room.left, x2: width - room.right, y1: py(value), y2: py(value) }));
    marks.push(text(shown(value, 2), { x: room.left - 6, y: py(value) + 4, "text-anchor": "end" }));
  }
  marks.push(text(x.label ?? "", { x: (room.left + width - room.right) / 2, y: height - 4, "text-anchor": "middle" }));
  const lines = series.map(({ x: xs, y: ys, colour, dashed, name }) => {
    let path = "";
    let pen = "M";
    for (const k of thinned(xs.length)) {
      if (ys[k] === null || !Number.isFinite(ys[k])) {
        pen = "M";
        continue;
      }
      path += `${pen}${px(xs[k]).toFixed(1)} ${py(Math.min(y1, Math.max(y0, ys[k]))).toFixed(1)}`;
      pen = "L";
    }
    const title = svg("title", {}, name);
    const attributes = { d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round" };
    return svg("path", dashed ? { ...attributes, "stroke-dasharray": "5 4" } : attributes, title);
  });
  let left = room.left;
  const names = !legend ? [] : series.map(({ name, colour }) => {
    const entry = svg("g", {}, svg("rect", { x: left, y: 6, width: 14, height: 3, fill: colour }), text(name, { x: left + 19, y: 12 }));
    left += 34 + name.length * 6.4;
    return entry;
  });
  const points = dots.map((one) => svg("circle", { cx: px(one.x), cy: py(one.y), r: 4.5, fill: one.colour, stroke: "var(--osv-paper)", "stroke-width": 1.5 }, svg("title", {}, one.name ?? "")));
  const marker = line({ y1: room.top, y2: height - room.bottom, stroke: "var(--osv-accent)", "stroke-width": 2, class: "osv-marker" });
  const mark = (value) => {
    const hidden = value === undefined || value === null || value < x0 || value > x1;
    marker.setAttribute("visibility", hidden ? "hidden" : "visible");
    if (!hidden) for (const name of ["x1", "x2"]) marker.setAttribute(name, px(value));
  };
  mark(at);
  const element = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "osv-chart", role: "img", "aria-label": `${series.map((one) => one.name).join(", ")} against ${x.label ?? ""}` }, marks, lines, points, marker, names);
  if (onpick) {
    element.style.cursor = "ew-resize";
    element.style.touchAction = "none";
    const pick = (event) => {
      const box = element.getBoundingClientRect();
      const inside = ((event.clientX - box.left) / box.width) * width;
      onpick(Math.min(x1, Math.max(x0, x0 + ((inside - room.left) / (width - room.left - room.right)) * (x1 - x0))));
    };
    element.addEventListener("pointerdown", (event) => (element.setPointerCapture(event.pointerId), pick(event)));
    element.addEventListener("pointermove", (event) => event.buttons && pick(event));
  }
  return { element, mark };
}

/** An interval as a small drawing in a table: a line from low to high, a dot at the value, a rule at `zero`. */
function intervalMark({ value, low, high, from, to, zero, tone }) {
  const width = 150;
  const px = (at) => 4 + ((at - from) / (to - from || 1)) * (width - 8);
  const known = (at) => at !== null && at !== undefined && Number.isFinite(at);
  return svg(
    "svg", { width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    known(zero) && svg("line", { x1: px(zero), x2: px(zero), y1: 0, y2: 18, stroke: "var(--osv-soft)", "stroke-dasharray": "2 2" }),
    known(low) && known(high) && svg("line", { x1: px(low), x2: px(high), y1: 9, y2: 9, stroke: tone, "stroke-width": 2.5 }),
    known(value) && svg("circle", { cx: px(value), cy: 9, r: 4, fill: tone }),
  );
}

/** A share as a bar with its number. */
const shareBar = (share, text, tone = "var(--osv-accent)") =>
  h("span", { class: "osv-share" }, h("i", { style: { width: `${Math.max(0, Math.min(1, share || 0)) * 100}%`, background: tone } }), h("b", {}, text));

/**
 * A table. `columns`: `{title, number, cell(row)}`; `onpick(row)` makes rows buttons; `chosen(row)` marks some.
 */
function rowsTable({ columns, rows, onpick, chosen = () => false, id = (row, k) => k }) {
  const body = rows.map((row, k) => {
    const attributes = { "data-row": id(row, k), class: `${onpick ? "osv-can" : ""} ${chosen(row) ? "osv-chosen" : ""}` };
    if (onpick) Object.assign(attributes, { tabindex: 0, onclick: () => onpick(row), onkeydown: (event) => event.key === "Enter" && onpick(row) });
    return h("tr", attributes, columns.map((column) => h("td", { class: column.number ? "n" : "" }, column.cell(row))));
  });
  return h(
    "div", { class: "osv-scroll" },
    h("table", { class: "osv-rows" }, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { class: column.number ? "n" : "" }, column.title)))), h("tbody", {}, body)),
  );
}
