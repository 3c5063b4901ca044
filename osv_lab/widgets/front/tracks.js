// The track inspector: stage, timeline, events, edits; playback and keys.

const SPEEDS = [0.25, 0.5, 1, 2, 4];

function drawTracks({ model, root, body, tools, ask, question, note }) {
  let data = model.get("data");
  let boxes = null;
  let revision = 0;
  let pictures = null;
  let frame = model.get("frame");
  let playing = false;
  let names = new Map();
  const chosen = () => model.get("chosen") ?? [];

  const clips = h("select", { "aria-label": "clip", onchange: () => ask("switch", { clip: clips.value }) });
  const reveal = button("Open in the App", () => ask("reveal", { event: current() }), { title: "the event at the playhead, or the clip" });
  tools.append(clips, reveal);

  const stage = new Stage(data.size, (x, y, more) => choose(boxes?.around(frame, x, y), more));
  const lanes = new Lanes((to) => go(to), (id, more, keep) => (keep && chosen().includes(id) ? null : choose(id, more)));
  const edits = new Edits((kind, values) => edit(kind, values));
  const told = h("output", { class: "osv-frame" });
  const speed = h("select", { "aria-label": "speed" }, SPEEDS.map((one) => h("option", { value: one, selected: one === 1 }, `${one}×`)));
  const toggle = button("Play", () => play(!playing), { class: "osv-button osv-main", title: "play or pause (space)" });
  const kind = h("select", { "aria-label": "kind of events", onchange: () => list() });
  const found = h("ol", { class: "osv-events" });
  const controls = h(
    "div", { class: "osv-controls" },
    toggle,
    button("⟨", () => go(frame - 1), { title: "one frame back (←)", "aria-label": "back" }),
    button("⟩", () => go(frame + 1), { title: "one frame on (→)", "aria-label": "on" }),
    speed, told,
    h("span", { class: "osv-tools" }, button("Previous event", () => jump(-1), { title: "(p)" }), button("Next event", () => jump(1), { title: "(n)" })),
  );
  const stale = h("p", { class: "warn osv-stale", hidden: true });
  const side = h("div", { class: "osv-side" }, h("div", { class: "osv-side-head" }, h("strong", {}, "Events"), kind), stale, found);
  const view = h("div", { class: "osv-stage-box" }, stage.canvas);
  body.append(h("div", { class: "osv-top" }, h("div", { class: "osv-left" }, view, controls), side), edits.element, lanes.element);

  const paint = perFrame(() => {
    const [picture, of] = pictures?.go(frame) ?? [];
    stage.draw(frame, picture, boxes, chosen(), names);
    lanes.move(frame);
    const late = picture && of !== frame ? `, picture of ${of.toLocaleString("en")}` : "";
    told.textContent = `frame ${frame.toLocaleString("en")} of ${data.frames.toLocaleString("en")}${late}`;
    root.dataset.frame = frame;
    if (picture) root.dataset.picture = of;
    root.dataset.cached = pictures?.blobs.size ?? 0;
  });

  const layout = perFrame(() => {
    if (!body.clientWidth) return;
    stage.fit(view.clientWidth);
    lanes.draw(lanes.element.clientWidth, chosen());
    paint();
  });

  const tell = perFrame(() => {
    model.set("frame", frame);
    model.save_changes();
  });
  let telling = 0;

  function go(to, keep = false) {
    frame = Math.min(data.frames, Math.max(1, Math.round(to)));
    if (!keep) play(false);
    paint();
    // The kernel is told where the playhead came to rest, not of every frame on the way.
    clearTimeout(telling);
    telling = setTimeout(tell, 250);
  }

  function choose(id, more) {
    const now = chosen();
    if (id === undefined) model.set("chosen", []);
    else if (more && now.length) model.set("chosen", now.includes(id) ? now.filter((one) => one !== id) : [now.at(-1), id]);
    else model.set("chosen", [id]);
    model.save_changes();
  }

  const picked = () => {
    lanes.draw(lanes.element.clientWidth, chosen());
    for (const id of chosen()) lanes.reveal(id);
    edits.show(chosen(), names, data);
    paint();
  };

  async function edit(kind, values) {
    if (edits.element.inert) return; // one at a time: a key that is held down would split what was split
    const tracks = kind === "undo" || kind === "redo" ? [] : chosen();
    edits.element.inert = true;
    await ask("edit", { kind, tracks, frame, ...values });
    edits.element.inert = false;
  }

  let last = 0;
  function play(on) {
    if (on === playing) return;
    playing = on;
    if (pictures) pictures.playing = on;
    toggle.textContent = on ? "Pause" : "Play";
    if (!on) return;
    if (frame >= data.frames) frame = 1;
    last = performance.now();
    let owed = 0;
    const step = (now) => {
      if (!playing) return;
      owed += ((now - last) / 1000) * data.rate * Number(speed.value);
      last = now;
      const steps = Math.floor(owed);
      if (steps) {
        // A frame whose picture has not come is waited for, up to a moment.
        const next = Math.min(data.frames, frame + steps);
        if (!pictures || pictures.has(next) || owed > data.rate) {
          owed -= steps;
          go(next, true);
          if (next >= data.frames) return play(false);
        } else {
          pictures.moveTo(next);
        }
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  const shownEvents = () => data.events.map((event, index) => ({ ...event, index })).filter((event) => !kind.value || event.kind === kind.value);

  /** The index of the event at the playhead, the shortest if there are several; -1 for none. */
  function current() {
    let best = -1;
    data.events.forEach((event, index) => {
      const here = event.first <= frame && frame <= event.last;
      if (here && (best < 0 || event.last - event.first < data.events[best].last - data.events[best].first)) best = index;
    });
    return best;
  }

  function jump(way) {
    const events = shownEvents();
    const next = way > 0 ? events.find((event) => event.first > frame) : events.findLast((event) => event.first < frame);
    if (next) visit(next);
    else note(way > 0 ? "No event after this frame." : "No event before this frame.");
  }

  function visit(event) {
    note("");
    go(event.first);
    model.set("chosen", event.tracks.slice(0, 2));
    model.save_changes();
    for (const item of found.children) item.classList.toggle("osv-chosen", Number(item.dataset.index) === event.index);
  }

  function list() {
    const events = shownEvents();
    found.replaceChildren(
      ...events.slice(0, 500).map((event) =>
        h(
          "li", { "data-index": event.index, "data-kind": event.kind, tabindex: 0, onclick: () => visit(event), onkeydown: (key) => key.key === "Enter" && visit(event) },
          h("i", { style: { background: eventColour(event.kind) } }), event.words,
        ),
      ),
    );
    if (!events.length) found.append(h("p", { class: "osv-soft" }, data.events.length ? "None of this kind." : "No gaps, and no evaluation has looked at these tracks: evaluate_tracks() or suspicious() finds events."));
  }

  async function fetchBoxes() {
    const wanted = data.revision;
    try {
      const answer = await question("boxes", {}, true);
      if (answer.revision !== data.revision) return;
      boxes = answer.rows ? new Boxes(answer.buffers[0], answer.rows, data.frames) : null;
      revision = wanted;
      root.dataset.boxes = answer.rows;
      paint();
    } catch (error) {
      note(error.message, "bad");
    }
  }

  function update() {
    const before = data;
    data = model.get("data");
    names = new Map(data.lines.map(({ id, label }) => [id, label]));
    const other = before.clip !== data.clip;
    if (!pictures || other) {
      pictures?.close();
      stage.size = data.size;
      boxes = null;
      frame = model.get("frame");
      delete root.dataset.picture;
      pictures = data.pictures ? null : new Pictures(data.frames, data.keys, (numbers) => question("pictures", { numbers }, true), () => paint(), (error) => note(error.message, "bad"));
      if (data.pictures) note(data.pictures, "bad");
    }
    clips.replaceChildren(...data.clips.map((name) => h("option", { value: name, selected: name === data.clip }, name)));
    clips.hidden = data.clips.length < 2;
    const counts = new Map();
    for (const event of data.events) counts.set(event.kind, (counts.get(event.kind) ?? 0) + 1);
    const only = kind.value;
    kind.replaceChildren(
      h("option", { value: "" }, `all ${data.events.length}`),
      ...[...counts].map(([name, count]) => h("option", { value: name, selected: name === only }, `${name.replace("_", " ")} ${count}`)),
    );
    kind.hidden = !data.events.length;
    lanes.show(data.lines, data.events, data.frames);
    list();
    edits.show(chosen(), names, data);
    stale.hidden = !data.stale.length;
    stale.textContent = `Edited since ${data.stale.join(" and ")} looked: run it again for events that are up to date.`;
    if (revision !== data.revision) fetchBoxes();
    layout();
  }

  const keys = {
    " ": () => play(!playing),
    ArrowLeft: (event) => go(frame - (event.shiftKey ? 10 : 1)),
    ArrowRight: (event) => go(frame + (event.shiftKey ? 10 : 1)),
    Home: () => go(1),
    End: () => go(data.frames),
    n: () => jump(1),
    p: () => jump(-1),
    s: () => chosen().length === 1 && edit("split", {}),
    x: () => chosen().length === 2 && edit("swap", {}),
    m: () => chosen().length === 2 && edit("merge", { drop: edits.drop.checked }),
    Delete: () => chosen().length === 1 && edit("delete", {}),
    Escape: () => choose(undefined),
  };
  const pressed = (event) => {
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return event.stopPropagation();
    const undo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    const work = undo ? () => edit(event.shiftKey ? "redo" : "undo", {}) : event.ctrlKey || event.metaKey ? null : keys[event.key];
    if (!work || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    event.stopPropagation();
    work(event);
  };
  root.addEventListener("keydown", pressed);

  const seen = new ResizeObserver(layout);
  seen.observe(body);
  const themed = new MutationObserver(layout);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });
  const moved = () => {
    // What the kernel says: a label was selected in the App, or `widget.frame = 120`.
    if (model.get("frame") !== frame && !playing && !lanes.dragging) {
      frame = Math.min(data.frames, Math.max(1, model.get("frame")));
      paint();
    }
  };
  model.on("change:frame", moved);
  model.on("change:chosen", picked);
  update();
  return {
    update,
    close() {
      playing = false;
      clearTimeout(telling);
      seen.disconnect();
      themed.disconnect();
      model.off("change:frame", moved);
      model.off("change:chosen", picked);
      pictures?.close();
    },
  };
}

export default shell("tracks", drawTracks);
