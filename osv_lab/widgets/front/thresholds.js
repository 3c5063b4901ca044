// The threshold explorer. All counting is done here, on the curves, so that the slider never waits for the kernel.

class Curve {
  constructor(buffer, rows, objects) {
    const bytes = buffer.buffer ? buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength) : buffer;
    const values = new Float64Array(bytes, 0, rows * 3);
    [this.score, this.true, this.false] = [0, 1, 2].map((k) => values.subarray(k * rows, (k + 1) * rows));
    this.objects = objects;
  }

  /** True and false predictions that score above a threshold, and objects that none of them took. */
  at(confidence) {
    let low = 0;
    let high = this.score.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.score[middle] > confidence) high = middle;
      else low = middle + 1;
    }
    const right = this.true[low] ?? 0;
    return { right, wrong: this.false[low] ?? 0, missed: this.objects - right };
  }
}

const scoresOf = ({ right, wrong, missed }) => ({
  precision: right + wrong ? right / (right + wrong) : NaN,
  recall: right + missed ? right / (right + missed) : NaN,
  f1: 2 * right + wrong + missed ? (2 * right) / (2 * right + wrong + missed) : NaN,
});

const STEPS = [...Array(201).keys()].map((k) => k / 200);

function drawThresholds({ model, body, tools, ask }) {
  let data = model.get("data");
  const curves = new Map();
  const chosen = h("select", { "aria-label": "class", onchange: () => show() });
  const slider = h("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": "confidence", oninput: () => move(Number(slider.value)) });
  const number = h("output", { class: "osv-number" });
  const figures = h("div", { class: "osv-figures" });
  const charts = h("div", { class: "osv-row" });
  const gallery = new Gallery("No predictions near this threshold.");
  const notes = h("div", {});
  tools.append(
    button("Best", () => move(best(), true), { title: "back to the threshold that was chosen" }),
    button("Open in the App", () => ask("passing"), { title: "the samples with only the predictions that pass" }),
  );
  body.append(
    h("div", { class: "osv-slide" }, chosen, slider, number), figures, charts,
    h("h4", {}, "Predictions nearest to the threshold"),
    h("p", { class: "osv-soft" }, "Green box: the object; red box: the prediction. Framed green where the prediction is right."),
    gallery.element, notes,
  );

  const names = () => (chosen.value ? [chosen.value] : data.classes.map((one) => one.name));
  const limit = (name) => (model.get("confidences") ?? {})[name] ?? (model.get("confidences") ?? {})[data.others] ?? 0;
  const best = () => data.best[chosen.value] ?? data.best[data.others];

  function counted(confidence) {
    const total = { right: 0, wrong: 0, missed: 0 };
    for (const name of names()) {
      const one = curves.get(name)?.at(confidence ?? limit(name));
      if (one) for (const part of Object.keys(total)) total[part] += one[part];
    }
    return total;
  }

  let scale = null;
  let pr = null;
  let asking = 0;
  let spoken = 0;

  function move(confidence, jump = false) {
    slider.value = confidence;
    const all = { ...model.get("confidences") };
    for (const name of names()) all[name] = confidence;
    if (!chosen.value) all[data.others] = confidence;
    model.set("confidences", all);
    // The kernel hears where the slider comes to rest.
    clearTimeout(asking);
    asking = setTimeout(() => (model.save_changes(), examples(confidence)), jump ? 0 : 180);
    draw(confidence);
  }

  async function examples(confidence) {
    const turn = ++spoken;
    const answer = await ask("examples", { name: chosen.value, confidence });
    if (answer && turn === spoken) gallery.show(answer.pictures, answer.buffers);
  }

  const draw = (confidence) => {
    const counts = counted(confidence);
    const { precision, recall, f1 } = scoresOf(counts);
    number.textContent = confidence.toFixed(3);
    figures.replaceChildren(
      ...[["precision", shown(precision)], ["recall", shown(recall)], ["F1", shown(f1)], ["right", shown(counts.right)], ["false", shown(counts.wrong)], ["missed", shown(counts.missed)]].map(
        ([name, value]) => h("span", { "data-figure": name }, name, h("b", {}, value)),
      ),
    );
    scale?.mark(confidence);
    pr?.(precision, recall);
  };

  function show() {
    const points = STEPS.map((confidence) => scoresOf(counted(confidence)));
    const column = (name) => points.map((one) => (Number.isNaN(one[name]) ? null : one[name]));
    const colours = { precision: TONES[0], recall: TONES[1], f1: TONES[2] };
    scale = lineChart({
      series: Object.keys(colours).map((name) => ({ name: name === "f1" ? "F1" : name, colour: colours[name], x: STEPS, y: column(name) })),
      x: { label: "confidence", min: 0, max: 1 }, y: { min: 0, max: 1 }, onpick: (at) => move(at),
    });
    const holder = h("div", { class: "osv-grow" });
    pr = (precision, recall) =>
      holder.replaceChildren(
        lineChart({
          series: [{ name: "precision by recall", colour: TONES[0], x: column("recall"), y: column("precision") }],
          x: { label: "recall", min: 0, max: 1 }, y: { min: 0, max: 1 },
          dots: Number.isFinite(precision) && Number.isFinite(recall) ? [{ x: recall, y: precision, colour: "var(--osv-accent)", name: "here" }] : [],
        }).element,
      );
    charts.replaceChildren(h("div", { class: "osv-grow" }, scale.element), holder);
    const at = chosen.value ? limit(chosen.value) : limit(data.others);
    slider.value = at;
    draw(at);
    examples(at);
  }

  async function update() {
    data = model.get("data");
    chosen.replaceChildren(h("option", { value: "" }, "all classes"), ...data.classes.map(({ name }) => h("option", { value: name }, name)));
    notes.replaceChildren(...data.notes.map((text) => h("p", { class: "osv-soft" }, text)));
    const answer = await ask("curves", {}, true);
    if (!answer) return;
    data.classes.forEach(({ name, objects, rows }, k) => curves.set(name, new Curve(answer.buffers[k], rows, objects)));
    show();
  }

  update();
  return { update, close: () => (clearTimeout(asking), gallery.clear()) };
}

export default shell("thresholds", drawThresholds);
