// Jobs of annotators, in a column per state.

const JOB_STATES = ["new", "in progress", "rejected", "completed"];

function drawAnnotation({ model, root, body, tools, ask, question, note }) {
  const summary = h("p", { class: "osv-soft" });
  const runs = h("div", {});
  const board = h("div", { class: "osv-board" });
  const problems = h("div", {});
  body.append(summary, problems, runs, board);
  tools.append(button("Look now", () => ask("look")));

  function update() {
    const data = model.get("data");
    summary.textContent = data.summary;
    problems.replaceChildren(...data.problems.map((text) => h("p", { class: "warn" }, text)));
    runs.replaceChildren(
      ...data.runs.map((run) => {
        const jobs = data.jobs.filter((job) => job.key === run.key);
        const frames = jobs.reduce((sum, job) => sum + job.frames, 0);
        const done = jobs.filter((job) => job.state === "completed").reduce((sum, job) => sum + job.frames, 0);
        return h(
          "div", { class: "osv-run", "data-run": run.key },
          h("b", {}, run.key), h("span", { class: "osv-soft" }, `${run.field}, ${shown(run.samples)} samples`),
          shareBar(frames ? done / frames : 0, `${shown(done)} of ${shown(frames)} images`, "var(--osv-good)"),
          button("Pull", () => ask("pull", { run: run.key }), { title: "merge what is completed into the dataset" }),
          button("Open", () => ask("open_run", { run: run.key })),
        );
      }),
    );
    const states = [...JOB_STATES, ...new Set(data.jobs.map((job) => job.state).filter((state) => !JOB_STATES.includes(state)))];
    board.replaceChildren(
      ...states.map((state) => {
        const own = data.jobs.filter((job) => job.state === state);
        return h(
          "div", { class: "osv-lane", "data-state-lane": state },
          h("h4", {}, `${state} `, h("span", { class: "osv-soft" }, String(own.length))),
          own.map((job) =>
            h(
              "div", { class: "osv-job" },
              h("b", {}, `job ${job.job}`), h("span", { class: "osv-soft" }, ` ${job.key}, ${job.stage}`), h("br"),
              job.assignee || h("i", {}, "nobody"), `, ${shown(job.frames)} images`, h("br"),
              h("span", { class: "osv-soft" }, `${job.edited} edited, ${job.added} added, ${job.removed} removed`),
            ),
          ),
        );
      }),
    );
  }

  update();
  const stop = watch(root, () => model.get("data").every ?? 0, () => question("look", {}, true).then(() => note(""), (error) => note(error.message, "bad")));
  return { update, close: stop };
}

export default shell("annotation", drawAnnotation);
