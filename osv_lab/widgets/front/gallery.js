// Pictures of objects, as the kernel cut them out.

class Gallery {
  constructor(empty = "") {
    this.element = h("div", { class: "osv-gallery" });
    this.empty = empty;
    this.urls = [];
  }

  /** `pictures`: `{text, tone}` each, with its JPEG file in `buffers`. */
  show(pictures, buffers) {
    this.clear();
    this.element.replaceChildren(
      ...pictures.map(({ text, tone }, k) => {
        const url = URL.createObjectURL(new Blob([buffers[k]], { type: "image/jpeg" }));
        this.urls.push(url);
        return h("figure", { class: tone ?? "" }, h("img", { src: url, alt: text }), h("figcaption", {}, text));
      }),
    );
    if (!pictures.length && this.empty) this.element.append(h("p", { class: "osv-soft" }, this.empty));
  }

  clear() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    this.element.replaceChildren();
  }
}
