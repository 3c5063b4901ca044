// Findings about a dataset, worst first, and its classes by split.

const severityTone = (value) => (value >= 0.6 ? "var(--osv-bad)" : value >= 0.3 ? "var(--osv-warn)" : "var(--osv-soft)");

function drawHealth({ model, body, ask }) {
  const summary = h("p", { class: "osv-soft" });
  const findings = h("div", {});
  const classes = h("div", {});
  body.append(summary, findings, classes);
  let opened = null;

  function update() {
    const data = model.get("data");
    summary.textContent = data.summary;
    findings.replaceChildren(
      data.findings.length
        ? rowsTable({
            columns: [
              { title: "severity", cell: (one) => shareBar(one.severity, one.severity.toFixed(1), severityTone(one.severity)) },
              { title: "finding", cell: (one) => one.text },
              { title: "samples", number: true, cell: (one) => shown(one.samples) },
              { title: "labels", number: true, cell: (one) => shown(one.labels) },
            ],
            rows: data.findings,
            id: (one) => one.kind,
            onpick: async (one) => {
              await ask("open_finding", { kind: one.kind });
              opened = one.kind;
              update();
            },
            chosen: (one) => one.kind === opened,
          })
        : h("p", {}, "Nothing stands out."),
    );
    const names = Object.keys(data.objects);
    if (!names.length) return classes.replaceChildren();
    const most = Math.max(1, ...Object.values(data.objects));
    const splits = Object.keys(data.splits).filter((name) => Object.keys(data.splits[name]).length);
    const total = Object.fromEntries(splits.map((split) => [split, Object.values(data.splits[split]).reduce((a, b) => a + b, 0)]));
    classes.replaceChildren(
      h("h4", {}, "Classes"),
      rowsTable({
        columns: [
          { title: "class", cell: (name) => name },
          { title: "objects", cell: (name) => shareBar(data.objects[name] / most, shown(data.objects[name])) },
          { title: "images", number: true, cell: (name) => shown(data.images[name] ?? 0) },
          ...splits.map((split) => ({
            title: `share of ${split}`, number: true,
            cell: (name) => `${(((data.splits[split][name] ?? 0) / Math.max(1, total[split])) * 100).toFixed(1)} %`,
          })),
        ],
        rows: names,
      }),
    );
  }

  update();
  return {
    update,
    async selected({ samples, labels }) {
      for (const row of findings.querySelectorAll(".osv-hit")) row.classList.remove("osv-hit");
      if (!samples?.length && !labels?.length) return;
      const answer = await ask("where", {}, true);
      for (const row of findings.querySelectorAll("tr[data-row]")) row.classList.toggle("osv-hit", answer?.kinds.includes(row.dataset.row) ?? false);
    },
  };
}

export default shell("health", drawHealth);
