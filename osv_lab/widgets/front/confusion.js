// The confusion matrix: a row per class of object, a column per class it was found as; a click opens a cell's objects.

function drawConfusion({ model, body, ask, note }) {
  const grid = h("div", { class: "osv-scroll" });
  const gallery = new Gallery();
  const legend = h("p", { class: "osv-soft" });
  body.append(h("div", { class: "osv-row" }, h("div", { class: "osv-grow" }, legend, grid), gallery.element));

  async function open(row, column) {
    const answer = await ask("cell", { row, column });
    if (!answer) return;
    gallery.show(answer.pictures, answer.buffers);
    mark([[row, column]], "osv-chosen");
  }

  function mark(cells, name) {
    for (const cell of grid.querySelectorAll(`.${name}`)) cell.classList.remove(name);
    for (const [row, column] of cells) grid.querySelector(`[data-cell="${row},${column}"]`)?.classList.add(name);
  }

  function update() {
    const { labels, counts, none, summary } = model.get("data");
    legend.textContent = summary;
    const last = labels.length - 1;
    const name = (k, miss) => (k === last ? h("i", {}, miss) : labels[k]);
    const cell = (count, row, column) => {
      if (row === last && column === last) return h("td", {});
      const total = counts[row].reduce((a, b) => a + b, 0);
      const share = total ? count / total : 0;
      const tone = row === column ? "var(--osv-good)" : "var(--osv-bad)";
      return h(
        "td", {},
        h(
          "button",
          {
            type: "button", class: "osv-cell", "data-cell": `${row},${column}`, disabled: !count, onclick: () => open(row, column),
            style: { background: count ? `color-mix(in srgb, ${tone} ${Math.round(12 + share * 60)}%, transparent)` : "" },
            title: `${labels[row]} found as ${labels[column]}: ${count.toLocaleString("en")}, ${(share * 100).toFixed(1)} % of the row`,
          },
          count.toLocaleString("en"),
        ),
      );
    };
    grid.replaceChildren(
      h(
        "table", { class: "osv-matrix" },
        h("thead", {}, h("tr", {}, h("th", {}, "object ↓ found as →"), labels.map((_, k) => h("th", { scope: "col" }, name(k, "missed"))))),
        h("tbody", {}, counts.map((row, r) => h("tr", {}, h("th", { scope: "row" }, name(r, "no object")), row.map((count, c) => cell(count, r, c))))),
      ),
    );
    gallery.clear();
  }

  update();
  return {
    update,
    async selected({ samples, labels }) {
      if (!samples?.length && !labels?.length) return mark([], "osv-hit");
      const answer = await ask("where", {}, true);
      if (answer) mark(answer.cells, "osv-hit");
    },
    close: () => gallery.clear(),
  };
}

export default shell("confusion", drawConfusion);
