// The versions of a dataset, and what changed between two of them.

const CHANGE_TONES = { added: "good", removed: "bad", moved: "warn", relabelled: "warn", edited: "", resplit: "", replaced: "warn", changed: "" };

function drawVersions({ model, body, ask }) {
  const table = h("div", {});
  const compared = h("div", {});
  body.append(table, compared);
  const from = h("select", { "aria-label": "from", onchange: () => compare() });
  const to = h("select", { "aria-label": "to", onchange: () => compare() });
  const compare = () => ask("compare", { a: from.value, b: to.value });

  function update() {
    const { versions, diff } = model.get("data");
    const pair = model.get("pair") ?? [];
    const splits = [...new Set(versions.flatMap((one) => Object.keys(one.splits)))];
    table.replaceChildren(
      rowsTable({
        columns: [
          { title: "version", cell: (one) => h("b", {}, one.name) },
          { title: "created", cell: (one) => one.created },
          { title: "samples", number: true, cell: (one) => shown(one.samples) },
          ...splits.map((split) => ({ title: split, number: true, cell: (one) => shown(one.splits[split] ?? 0) })),
          { title: "labels", number: true, cell: (one) => shown(one.labels) },
          { title: "MiB", number: true, cell: (one) => shown(one.mib, 1) },
          { title: "made with", cell: (one) => h("span", { class: "osv-soft" }, Object.entries(one.recipe).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ")) },
          { title: "digest", cell: (one) => h("code", {}, one.digest) },
        ],
        rows: versions,
        id: (one) => one.name,
        onpick: (one) => ask("open_version", { name: one.name }),
        chosen: (one) => pair.includes(one.name),
      }),
    );
    for (const [select, name] of [[from, pair[0]], [to, pair[1]]])
      select.replaceChildren(...versions.map((one) => h("option", { value: one.name, selected: one.name === name }, one.name)));
    if (!diff) return compared.replaceChildren(h("p", { class: "osv-soft" }, "One version: the next one can be compared with it."));
    const chip = (change, count, of) =>
      h("button", { type: "button", class: "osv-button osv-chip", disabled: !count, "data-change": `${of}-${change}`, onclick: () => ask("open_change", { change }) }, `${change} `, h("b", { class: CHANGE_TONES[change] ?? "" }, shown(count)));
    const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
    const classes = [...new Set(Object.values(diff.objects).flatMap((counts) => Object.keys(counts)))].sort();
    compared.replaceChildren(
      h("h4", {}, "Changes from ", from, " to ", to),
      h("p", { class: "osv-soft" }, diff.summary),
      h("div", { class: "osv-row" },
        h("div", {}, h("span", { class: "osv-soft" }, "samples"), h("div", { class: "osv-chips" }, Object.entries(diff.samples).map(([change, count]) => chip(change, count, "sample")), button("all that differ", () => ask("open_change"), { disabled: !diff.changed }))),
        h("div", {}, h("span", { class: "osv-soft" }, "objects"), h("div", { class: "osv-chips" }, Object.entries(diff.objects).map(([change, counts]) => chip(change, total(counts), "object")))),
      ),
      classes.length
        ? rowsTable({
            columns: [
              { title: "class", cell: (name) => name },
              ...Object.keys(diff.objects).map((change) => ({ title: change, number: true, cell: (name) => h("span", { class: CHANGE_TONES[change] ?? "" }, shown(diff.objects[change][name] ?? 0)) })),
            ],
            rows: classes,
          })
        : "",
      diff.rows.length ? h("details", {}, h("summary", {}, `${shown(diff.changed)} samples differ`), rowsTable({
        columns: [
          { title: "file", cell: (one) => one.name },
          { title: "sample", cell: (one) => one.changes.join(", ") },
          { title: "split", cell: (one) => (one.splits[0] === one.splits[1] ? one.splits[0] ?? "–" : `${one.splits[0] ?? "–"} → ${one.splits[1] ?? "–"}`) },
          { title: "objects that differ", number: true, cell: (one) => shown(one.objects) },
        ],
        rows: diff.rows,
      })) : "",
    );
  }

  update();
  return { update };
}

export default shell("versions", drawVersions);
