// What changes from one model to another.

const OUTCOMES = {
  fixed: ["fixed", "good", "found by the second only"], broken: ["broken", "bad", "found by the first only"],
  both_right: ["both right", "", "found by both"], both_wrong: ["both wrong", "", "found by neither"],
  fp_gone: ["false positives gone", "good", "only the first has them"], fp_new: ["false positives new", "bad", "only the second has them"],
  fp_kept: ["false positives kept", "", "both have one there"],
};

function drawComparison({ model, body, ask }) {
  const summary = h("p", { class: "osv-soft" });
  const outcomes = h("div", { class: "osv-chips" });
  const metric = h("select", { "aria-label": "metric", onchange: () => table() });
  const rows = h("div", {});
  const classes = h("div", {});
  const notes = h("div", {});
  body.append(
    summary, h("h4", {}, "What became of every object and false positive"), outcomes,
    h("h4", {}, "Differences by slice ", metric), rows, classes, notes,
  );
  let opened = null;
  let inside = null;

  function chips() {
    const data = model.get("data");
    const counts = { ...data.objects, ...data.false_positives };
    outcomes.replaceChildren(
      ...Object.entries(OUTCOMES).map(([what, [name, tone, title]]) =>
        h(
          "button",
          {
            type: "button", class: `osv-button osv-chip ${inside?.[what] ? "osv-hit" : ""}`, title, "data-outcome": what,
            "aria-pressed": String(what === opened), disabled: !counts[what],
            onclick: async () => {
              await ask("open_outcome", { what });
              opened = what;
              chips();
            },
          },
          `${name} `, h("b", { class: tone }, shown(counts[what] ?? 0)), inside?.[what] ? h("span", { class: "osv-soft" }, ` (${inside[what]} selected)`) : null,
        ),
      ),
    );
  }

  function table() {
    const data = model.get("data");
    const [a, b] = data.keys;
    const found = data.differences.filter((one) => one.metric === metric.value);
    const ends = found.flatMap((one) => [one.low, one.high, one.value]).filter((value) => value !== null);
    const far = Math.max(0.01, ...ends.map(Math.abs));
    rows.replaceChildren(
      rowsTable({
        columns: [
          { title: "slice", cell: (one) => (one.kind === "all" ? h("b", {}, "all") : one.name) },
          { title: "objects", number: true, cell: (one) => shown(one.objects) },
          { title: a, number: true, cell: (one) => shown(one.a) },
          { title: b, number: true, cell: (one) => shown(one.b) },
          { title: "worse ← 95 % → better", cell: (one) => intervalMark({ ...one, from: -far, to: far, zero: 0, tone: one.low > 0 ? "var(--osv-good)" : one.high < 0 ? "var(--osv-bad)" : "var(--osv-soft)" }) },
          { title: "difference", number: true, cell: (one) => h("span", { class: one.low > 0 ? "good" : one.high < 0 ? "bad" : "" }, (one.value > 0 ? "+" : "") + shown(one.value)) },
          { title: "p, of all", number: true, cell: (one) => shown(one.p) },
        ],
        rows: found,
        id: (one) => one.name,
      }),
    );
  }

  function update() {
    const data = model.get("data");
    summary.textContent = data.summary;
    metric.replaceChildren(...data.metrics.map((name) => h("option", { value: name, selected: name === "mAP50-95" }, name)));
    chips();
    table();
    const names = Object.keys(data.by_class.fixed ?? {}).filter((name) => ["fixed", "broken"].some((what) => data.by_class[what]?.[name]));
    classes.replaceChildren(
      ...(names.length
        ? [
            h("h4", {}, "Fixed and broken by class"),
            rowsTable({
              columns: [
                { title: "class", cell: (name) => name },
                ...["fixed", "broken", "both_right", "both_wrong"].map((what) => ({
                  title: OUTCOMES[what][0], number: true, cell: (name) => h("span", { class: OUTCOMES[what][1] }, shown(data.by_class[what]?.[name] ?? 0)),
                })),
              ],
              rows: names,
            }),
          ]
        : []),
    );
    notes.replaceChildren(...data.notes.map((text) => h("p", { class: "osv-soft" }, text)));
  }

  update();
  return {
    update,
    async selected({ samples }) {
      inside = samples?.length ? (await ask("where", {}, true))?.outcomes : null;
      chips();
    },
  };
}

export default shell("comparison", drawComparison);
