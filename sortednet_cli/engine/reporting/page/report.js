// The page as a whole: what it says of the runs, what it listens to, and its start.

function show() {
  showSliders();
  showChosen();
  showTable();
  showHeat();
  showLayers();
  showPoints();
}

function options(id, entries, value) {
  by(id).replaceChildren(...entries.map(([name, text]) => element("option", { value: name }, text)));
  by(id).value = value;
}

function changeRun(index) {
  state.run = index;
  const { axes } = run();
  by("run").value = index;
  [state.across, state.down] = axes.includes("depth") && axes.length > 1
    ? ["depth", axes.find((axis) => axis !== "depth")] : [axes[1] ?? null, axes[0]];
  by("axes-fields").hidden = axes.length < 3;
  options("down", axes.map((axis) => [axis, axis]), state.down);
  options("across", axes.map((axis) => [axis, axis]), state.across);
  for (const cost of report.costs) state.steps[cost.name] = stepsOf(run(), cost).length;
}

function changeAxis(changed, other) {
  const before = state[changed];
  state[changed] = by(changed).value;
  if (state[other] === state[changed]) state[other] = by(other).value = before;
  showHeat();
}

function describe() {
  const paths = report.runs.map((of) => of.path).join(", ");
  document.title = `${paths}: sortednet report`;
  by("title").textContent = report.runs.length > 1 ? `${report.runs.length} runs` : paths;
  const told = report.runs.map((of) => {
    const { kind, family, rule, data, train_seconds: seconds } = of.facts;
    const facts = [kind, family, data && `data ${data}`, rule && `rule ${rule}`, seconds && `trained in ${Math.round(seconds)} s`];
    const several = report.runs.length > 1 ? `${of.path}: ` : "";
    return `${several}${of.names.length} sub-models, ${facts.filter(Boolean).join(", ")}`;
  });
  for (const { label, conditions } of report.costs) {
    const words = Object.entries(conditions).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`);
    if (words.length) told.push(`${label}: measured for this report, ${words.join(", ")}`);
  }
  by("facts").textContent = told.join("\n");
  by("notice").hidden = report.same_data;
}

function begin() {
  describe();
  makeSliders();
  options("run", report.runs.map((of, index) => [index, of.path]), 0);
  by("run-field").hidden = report.runs.length < 2;
  options("cost", report.costs.map((cost) => [cost.name, cost.label]), state.cost);
  by("run").addEventListener("change", () => { changeRun(Number(by("run").value)); chooseWithin(); });
  by("cost").addEventListener("change", () => { state.cost = by("cost").value; drawScatter(); showTable(); });
  by("down").addEventListener("change", () => changeAxis("down", "across"));
  by("across").addEventListener("change", () => changeAxis("across", "down"));
  by("reset").addEventListener("click", removeLimits);
  by("copy").addEventListener("click", copyCommand);
  by("every").addEventListener("change", showTable);
  by("table-details").addEventListener("toggle", showTable);
  by("layers-details").addEventListener("toggle", showLayers);
  by("heat").addEventListener("keydown", walkHeat);
  changeRun(0);
  chooseWithin();
  drawScatter();
  drawCurves();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    showHeat();
    drawScatter();
    drawCurves();
  });
}

begin();
