// The recipe form and the training board.

const STATUS_TONES = { finished: "good", failed: "bad", interrupted: "warn" };
const PLOTS = [["Validation", ["mAP50", "mAP50-95", "precision", "recall"]], ["Losses", /loss/]];

function drawTraining({ model, root, body, tools, ask, question, note }) {
  const fields = new Map();
  const form = h("div", {});
  const verdict = h("span", { class: "osv-soft" });
  const startIt = button("Train", () => ask("start"), { class: "osv-button osv-main" });
  const stopIt = button("Stop", () => ask("stop"));
  const runs = h("div", {});
  const charts = h("div", { class: "osv-row" });
  const now = h("div", {});
  tools.append(startIt, stopIt);
  body.append(form, h("p", {}, verdict), now, charts, runs);

  let checking = 0;
  function changed(name, value) {
    const settings = { ...model.get("settings") };
    if (value === "" || value === null) delete settings[name];
    else settings[name] = value;
    model.set("settings", settings);
    model.save_changes();
    clearTimeout(checking);
    checking = setTimeout(check, 200);
  }

  async function check() {
    const answer = await ask("check", {}, true);
    if (!answer) return;
    verdict.textContent = answer.good ? `The recipe is good (${answer.digest}).` : answer.problem;
    verdict.className = answer.good ? "osv-soft" : "bad";
    startIt.disabled = !answer.good || model.get("data").running;
  }

  function field({ name, kind, meaning, low, high, choices, default: usual }) {
    let input;
    if (kind === "boolean") {
      input = h("select", {}, [["", ""], ["true", "yes"], ["false", "no"]].map(([value, text]) => h("option", { value }, text)));
      input.addEventListener("change", () => changed(name, input.value === "" ? "" : input.value === "true"));
    } else if (choices.length) {
      input = h("select", {}, choices.map((one) => h("option", { value: one }, one || "(by the model)")));
      input.addEventListener("change", () => changed(name, input.value));
    } else if (kind === "text") {
      input = h("input", { type: "text", onchange: () => changed(name, input.value.trim()) });
    } else {
      input = h("input", { type: "number", step: kind === "integer" ? 1 : "any", min: low ?? undefined, max: high ?? undefined, placeholder: usual ?? "", onchange: () => changed(name, input.value === "" ? "" : Number(input.value)) });
    }
    input.title = meaning;
    input.dataset.setting = name;
    fields.set(name, input);
    return h("label", { class: "osv-field", title: meaning }, h("span", {}, name), input);
  }

  function fill() {
    const settings = model.get("settings") ?? {};
    for (const [name, input] of fields) if (document.activeElement !== input) input.value = settings[name] === undefined ? "" : String(settings[name]);
    check();
  }

  function build() {
    form.replaceChildren(
      ...model.get("data").form.map(({ group, fields: own }, k) =>
        h("details", { open: k === 0 }, h("summary", {}, group), h("div", { class: "osv-fields" }, own.map(field))),
      ),
    );
    fill();
  }

  function update() {
    const data = model.get("data");
    if (!fields.size) build();
    startIt.disabled = data.running;
    stopIt.disabled = !data.running;
    const picked = data.runs.find((one) => one.name === model.get("run"));
    now.replaceChildren(
      ...[
        data.problem ? h("p", { class: "bad" }, data.problem) : null,
        picked
          ? h(
              "div", { class: "osv-figures", "data-status": picked.status },
              h("span", {}, "run", h("b", {}, picked.name)),
              h("span", {}, "status", h("b", { class: STATUS_TONES[picked.status] ?? "" }, picked.status)),
              h("span", {}, "epochs", h("b", {}, shareBar(picked.total ? picked.epochs / picked.total : 0, `${picked.epochs} of ${picked.total}`))),
              Object.entries(picked.metrics).slice(0, 4).map(([name, value]) => h("span", {}, name, h("b", {}, shown(value)))),
            )
          : h("p", { class: "osv-soft" }, "No run yet: set up a recipe and train."),
      ].filter(Boolean),
    );
    charts.replaceChildren(...(picked ? plots(picked.history) : []));
    runs.replaceChildren(
      ...(data.runs.length
        ? [
            h("h4", {}, "Runs"),
            rowsTable({
              columns: [
                { title: "run", cell: (one) => one.name },
                { title: "status", cell: (one) => h("span", { class: STATUS_TONES[one.status] ?? "" }, one.status) },
                { title: "epochs", number: true, cell: (one) => `${one.epochs}/${one.total}` },
                { title: "mAP50", number: true, cell: (one) => shown(one.metrics.mAP50) },
                { title: "mAP50-95", number: true, cell: (one) => shown(one.metrics["mAP50-95"]) },
                { title: "seconds", number: true, cell: (one) => shown(Math.round(one.seconds)) },
                { title: "started", cell: (one) => one.started },
                {
                  title: "", cell: (one) => {
                    const act = (text, what) => h("button", { type: "button", class: "osv-button", onclick: (event) => (event.stopPropagation(), ask(what, { run: one.name })) }, text);
                    return h("span", { class: "osv-tools" }, ["finished"].includes(one.status) || data.running ? null : act("Resume", "resume"), act("Use recipe", "use"));
                  },
                },
              ],
              rows: data.runs,
              id: (one) => one.name,
              onpick: (one) => (model.set("run", one.name), model.save_changes(), update()),
              chosen: (one) => one.name === model.get("run"),
            }),
          ]
        : []),
    );
  }

  function plots(history) {
    const epochs = history.epoch ?? [];
    if (!epochs.length) return [];
    return PLOTS.map(([title, which]) => {
      const names = Object.keys(history).filter((name) => (Array.isArray(which) ? which.includes(name) : which.test(name))).slice(0, 6);
      if (!names.length) return "";
      return h("div", { class: "osv-grow" }, h("h4", {}, title), lineChart({
        series: names.map((name, k) => ({ name: name.replace("_loss", "").replace("metrics/", ""), colour: TONES[k], x: epochs, y: history[name], dashed: name.startsWith("val/") })),
        x: { label: "epoch", min: 1, max: Math.max(2, ...epochs) }, y: Array.isArray(which) ? { min: 0, max: 1 } : { min: 0 },
      }).element);
    });
  }

  update();
  model.on("change:settings", fill);
  model.on("change:run", update);
  const stop = watch(root, () => model.get("data").every ?? 0, () => question("look", {}, true).catch((error) => note(error.message, "bad")));
  return {
    update,
    close() {
      stop();
      clearTimeout(checking);
      model.off("change:settings", fill);
      model.off("change:run", update);
    },
  };
}

export default shell("training", drawTraining);
