// The edits of identities: what can be done with one or two chosen tracks, undo and redo.

class Edits {
  /** `act(kind, values)` asks for an edit of what is chosen. */
  constructor(act) {
    this.act = act;
    this.said = h("span", { class: "osv-soft osv-picked" });
    this.label = h("input", { list: "", placeholder: "class", size: 10, "aria-label": "class", onkeydown: (event) => event.key === "Enter" && act("relabel", { label: this.label.value }) });
    this.known = h("datalist", {});
    this.drop = h("input", { type: "checkbox" });
    const own = (text, kind, title) => button(text, () => act(kind, kind === "relabel" ? { label: this.label.value } : { drop: this.drop.checked }), { title, "data-edit": kind });
    this.one = h(
      "span", { class: "osv-tools" },
      own("Split here", "split", "from this frame on it is another track (s)"),
      this.label, this.known,
      own("Relabel", "relabel", "give the track this class"),
      own("Delete", "delete", "delete the track (Del)"),
    );
    this.two = h(
      "span", { class: "osv-tools" },
      own("Swap from here", "swap", "exchange the two from this frame on (x)"),
      own("Merge", "merge", "make the two one (m)"),
      h("label", { class: "osv-soft", title: "where both are seen, keep the first one's box" }, this.drop, " drop the second's boxes where both are seen"),
    );
    this.undo = own("Undo", "undo", "");
    this.redo = own("Redo", "redo", "");
    this.element = h("div", { class: "osv-edits" }, this.said, this.one, this.two, h("span", { class: "osv-tools osv-last" }, this.undo, this.redo));
    this.known.id = `osv-classes-${Math.random().toString(36).slice(2)}`;
    this.label.setAttribute("list", this.known.id);
  }

  show(chosen, names, data) {
    const told = chosen.map((id) => `${names.get(id) ?? "track"} ${id}`);
    this.said.textContent = told.length
      ? told.join(" and ")
      : "Click a box or a lane to choose a track; Ctrl-click a second one.";
    this.one.hidden = chosen.length !== 1;
    this.two.hidden = chosen.length !== 2;
    this.known.replaceChildren(...(data.classes ?? []).map((name) => h("option", { value: name })));
    for (const [one, words, verb] of [[this.undo, data.undo, "take back"], [this.redo, data.redo, "do again"]]) {
      one.disabled = !words;
      one.title = words ? `${verb}: ${words}` : "";
    }
  }
}
