// What all widgets share: making elements, the four states, and questions to the kernel.
// Everything here is drawn with text nodes and attributes: nothing of a dataset is ever read as HTML.

const SVG_SPACE = "http://www.w3.org/2000/svg";
const WAITED_MS = 4000;

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => filled(document.createElementNS(SVG_SPACE, tag), attributes, children);

const button = (text, onclick, attributes = {}) => h("button", { type: "button", class: "osv-button", onclick, ...attributes }, text);

/** A number for a person: counts in groups, shares with three decimals, an en dash for what is not known. */
function shown(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1000 || (size > 0 && size < 1e-3) ? value.toPrecision(3) : value.toFixed(digits);
}

/** A colour of its own for each number, told apart on light and on dark. */
const colourOf = (number) => `hsl(${Math.round((number * 137.508 + 205) % 360)} 68% ${number % 2 ? 46 : 56}%)`;

/** Calls `work` at most once per frame of the screen. */
function perFrame(work) {
  let due = 0;
  return () => {
    if (!due) due = requestAnimationFrame(() => ((due = 0), work()));
  };
}

/** Questions to the kernel, each with its own answer; other views of the widget get theirs. */
function asker(model, busy) {
  const waiting = new Map();
  const view = Math.random().toString(36).slice(2, 10);
  let count = 0;
  const answered = (message, buffers) => {
    const one = waiting.get(message.re);
    if (!one) return;
    waiting.delete(message.re);
    clearTimeout(one.timer);
    busy(waiting.size, false);
    if (message.error) one.reject(new Error(message.error));
    else one.resolve({ ...message.answer, buffers: buffers ?? [] });
  };
  model.on("msg:custom", answered);
  return {
    ask(what, values = {}, quiet = false) {
      return new Promise((resolve, reject) => {
        const id = `${view}-${++count}`;
        const timer = setTimeout(() => busy(waiting.size, true), WAITED_MS);
        waiting.set(id, { resolve, reject, timer });
        if (!quiet) busy(waiting.size, false);
        model.send({ ...values, do: what, id });
      });
    },
    stop() {
      model.off("msg:custom", answered);
      for (const one of waiting.values()) clearTimeout(one.timer);
      waiting.clear();
    },
  };
}

const MARKS = { empty: "○", loading: "", error: "!" };

/** What is said in place of the drawing: nothing to show, not there yet, or what went wrong; and what to do. */
function cover(state, told, again) {
  const share = told.total ? Math.min(1, told.done / told.total) : null;
  return h(
    "div", { class: `osv-cover osv-cover-${state}`, role: state === "error" ? "alert" : "status" },
    state === "loading"
      ? h("span", { class: "osv-spinner", "aria-hidden": "true" })
      : h("span", { class: "osv-mark", "aria-hidden": "true" }, MARKS[state]),
    h(
      "div", {},
      h("p", { class: "osv-what" }, told.what || (state === "loading" ? "Loading" : "Nothing to show")),
      told.found && h("p", { class: "osv-found" }, told.found),
      told.fix && h("p", { class: "osv-fix" }, told.fix),
      told.label && h("p", { class: "osv-fix" }, `${told.label}${told.total ? ` ${told.done} of ${told.total}` : ""}`),
      share !== null && h("div", { class: "osv-meter" }, h("i", { style: { width: `${share * 100}%` } })),
      state !== "loading" && again && button(state === "error" ? "Try again" : "Look again", again),
    ),
  );
}

/**
 * A widget: its heading, its states, and the drawing that is shown when it is ready.
 *
 * `draw(page)` is called once and returns `{update, close, selected}`: all optional. `page` has `model`, `body` (where
 * to draw), `tools` (beside the heading), `ask(action, values)` and `note(text, kind)`.
 */
function shell(kind, draw) {
  return {
    render({ model, el }) {
      const bar = h("div", { class: "osv-bar", hidden: true });
      const noted = h("p", { class: "osv-note", role: "status", hidden: true });
      const tools = h("span", { class: "osv-tools" });
      const body = h("div", { class: "osv-body" });
      const over = h("div", {});
      const subject = h("span", { class: "osv-subject" });
      const link = h("span", { class: "osv-link" });
      const root = h(
        "section",
        { class: `osv osv-${kind}`, "data-osv-live": model.get("uid"), "aria-label": model.get("title") },
        h("header", {}, h("strong", {}, model.get("title")), subject, link, tools),
        bar, noted, over, body,
      );
      // Keys are for what has the focus, and not for JupyterLab's commands, which are kept from an element that says so.
      root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
      el.classList.add("osv-host");
      el.append(root);
      const note = (text, tone = "") => {
        noted.textContent = text ?? "";
        noted.hidden = !text;
        noted.dataset.tone = tone;
      };
      const { ask: question, stop } = asker(model, (pending, slow) => {
        bar.hidden = !pending;
        if (pending && slow) note("The kernel is busy or gone; this goes on when it answers.", "warn");
        else if (noted.dataset.tone === "warn") note("");
      });
      /** A question whose answer may carry a note; what goes wrong is said, and `undefined` is given. */
      const ask = async (what, values, quiet) => {
        try {
          const answer = await question(what, values, quiet);
          if (answer.note) note(answer.note);
          else if (!quiet) note("");
          return answer;
        } catch (error) {
          note(error.message, "bad");
          return undefined;
        }
      };
      let drawn = null;
      const again = () => ask("again");
      const refresh = () => {
        const state = model.get("state");
        root.dataset.state = state;
        subject.textContent = model.get("subject");
        tools.hidden = body.hidden = state !== "ready";
        over.replaceChildren(...(state === "ready" ? [] : [cover(state, model.get("told") ?? {}, again)]));
        if (state !== "ready") return;
        if (drawn) drawn.update?.();
        else drawn = draw({ model, root, body, tools, ask, question, note }) ?? {};
        selected();
      };
      const selected = () => {
        const found = model.get("selected") ?? {};
        const count = (found.samples ?? []).length + (found.labels ?? []).length;
        link.textContent = model.get("linked") ? (count ? `${count} selected in the App` : "linked to the App") : "";
        link.dataset.count = count;
        drawn?.selected?.(found);
      };
      const soon = perFrame(refresh);
      model.on("change:state change:told change:data change:subject", soon);
      model.on("change:selected change:linked", selected);
      refresh();
      selected();
      if (model.get("state") === "loading") question("hello", {}, true).catch(() => {});
      return () => {
        stop();
        model.off("change:state change:told change:data change:subject", soon);
        model.off("change:selected change:linked", selected);
        drawn?.close?.();
      };
    },
  };
}
