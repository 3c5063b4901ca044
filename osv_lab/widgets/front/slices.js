// Slices, worst first, with their intervals beside all images' value.

function drawSlices({ model, body, ask }) {
  const summary = h("p", { class: "osv-soft" });
  const table = h("div", {});
  const notes = h("div", {});
  body.append(summary, table, notes);
  let opened = null;

  function update() {
    const data = model.get("data");
    summary.textContent = data.summary;
    const ends = data.slices.flatMap((one) => [one.low, one.high, one.value]).filter((value) => value !== null);
    const [from, to] = [Math.min(...ends, data.overall ?? 1), Math.max(...ends, data.overall ?? 0)];
    table.replaceChildren(
      rowsTable({
        columns: [
          { title: "slice", cell: (one) => one.name },
          { title: "images", number: true, cell: (one) => shown(one.images) },
          { title: "objects", number: true, cell: (one) => shown(one.objects) },
          { title: data.metric, number: true, cell: (one) => shown(one.value) },
          { title: "95 %, dashed: all images", cell: (one) => intervalMark({ ...one, from, to, zero: data.overall, tone: one.sure ? "var(--osv-bad)" : "var(--osv-accent)" }) },
          { title: "difference", number: true, cell: (one) => (one.difference > 0 ? "+" : "") + shown(one.difference) },
          { title: "p", number: true, cell: (one) => h("span", { class: one.sure ? "bad" : "" }, shown(one.p)) },
          { title: "", cell: (one) => h("span", { class: "osv-soft" }, one.note || (one.sure ? "worse beyond chance" : "")) },
        ],
        rows: data.slices,
        id: (one) => one.name,
        onpick: async (one) => {
          await ask("open_slice", { name: one.name });
          opened = one.name;
          update();
        },
        chosen: (one) => one.name === opened,
      }),
    );
    notes.replaceChildren(...data.notes.map((text) => h("p", { class: "osv-soft" }, text)));
  }

  update();
  return {
    update,
    async selected({ samples }) {
      for (const row of table.querySelectorAll(".osv-hit")) row.classList.remove("osv-hit");
      if (!samples?.length) return;
      const answer = await ask("where", {}, true);
      for (const row of table.querySelectorAll("tr[data-row]")) row.classList.toggle("osv-hit", answer?.names.includes(row.dataset.row) ?? false);
    },
  };
}

export default shell("slices", drawSlices);
