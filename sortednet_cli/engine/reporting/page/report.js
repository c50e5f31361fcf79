"use strict";
// The page of a report. The data come from the block `data`; text is set as text, never as HTML.

const report = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const percent = report.metric === "accuracy";
const scoreName = `${report.split} ${report.metric}`;

// What the user has set: the run and the sub-model looked at, the cost of the plot, the two axes of
// the heat map, and for each cost the step of its slider, which is its last where there is no limit.
const state = { run: 0, chosen: null, cost: "macs", down: null, across: null, steps: {} };

const run = () => report.runs[state.run];
const costNamed = (name) => report.costs.find((cost) => cost.name === name);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function showScore(score) {
  if (score === null) return "not finite";
  return percent ? `${(100 * score).toFixed(2)}%` : String(Number(score.toPrecision(4)));
}

// A colour or number that the style sheet gives, which depends on the reader's scheme.
const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const showCost = (cost, index, of = run()) => of.costs[cost.name].shown[index];

// Higher is better, whatever the metric; a score that is not finite is the worst.
function goodness(of, index) {
  const score = of.scores[index];
  return score === null ? -Infinity : report.higher_is_better ? score : -score;
}

// Budgets

// The distinct values of a cost in a run: one step of its slider for each, and one for no limit.
function stepsOf(of, cost) {
  const { values, shown } = of.costs[cost.name];
  const first = new Map(values.map((value, index) => [value, shown[index]]).reverse());
  return [...first].sort((a, b) => a[0] - b[0]).map(([value, text]) => ({ value, text }));
}

// The bounds that are set, in the order in which they decide between equal scores.
function limits() {
  return report.costs.flatMap((cost) => {
    const step = stepsOf(run(), cost)[state.steps[cost.name]];
    return step === undefined ? [] : [{ cost: cost.name, limit: step.value, text: step.text }];
  });
}

const isWithin = (of, index, bounds) =>
  bounds.every(({ cost, limit }) => of.costs[cost].values[index] <= limit);

// The rule of `sortednet frontier --max-...`: the best score within all bounds; between equal ones
// the bounded costs decide, then multiply-adds, then parameters.
function choose(of, bounds) {
  const order = [...bounds.map(({ cost }) => cost), "macs", "params"];
  const rank = (index) => [-goodness(of, index), ...order.map((name) => of.costs[name].values[index])];
  let best = null;
  for (const index of of.names.keys()) {
    if (!isWithin(of, index, bounds)) continue;
    if (best === null || isBefore(rank(index), rank(best))) best = index;
  }
  return best;
}

function isBefore(one, other) {
  const at = one.findIndex((value, index) => value !== other[index]);
  return at >= 0 && one[at] < other[at];
}

function makeSliders() {
  by("sliders").replaceChildren(...report.costs.map((cost) => {
    const id = `limit-${cost.name}`;
    const slider = element("input", { id, type: "range", min: 0, step: 1 });
    slider.addEventListener("input", () => {
      state.steps[cost.name] = Number(slider.value);
      chooseWithin();
    });
    const label = element("label", { htmlFor: id }, cost.label);
    return element("div", { className: "slider" }, label, element("output", { id: `${id}-value` }), slider);
  }));
}

function removeLimits() {
  for (const cost of report.costs) state.steps[cost.name] = stepsOf(run(), cost).length;
  chooseWithin();
}

function chooseWithin() {
  state.chosen = choose(run(), limits());
  show();
}

function showSliders() {
  for (const cost of report.costs) {
    const slider = by(`limit-${cost.name}`), steps = stepsOf(run(), cost);
    const step = steps[state.steps[cost.name]];
    slider.max = steps.length;
    slider.value = state.steps[cost.name];
    by(`limit-${cost.name}-value`).textContent = step ? `≤ ${step.text}` : "no limit";
    slider.setAttribute("aria-valuetext", step ? `at most ${step.text} ${cost.units}` : "no limit");
  }
}

// The chosen sub-model

function select(runIndex, index) {
  if (runIndex !== state.run) changeRun(runIndex);
  state.chosen = index;
  show();
}

function command() {
  const of = run();
  const words = of.axes.map((axis, at) => {
    const value = of.values[state.chosen][at];
    return ["width", "depth"].includes(axis) ? `--${axis} ${value}` : `--axis ${axis}=${value}`;
  });
  return `sortednet extract ${of.argument} ${words.join(" ")}`;
}

function showChosen() {
  const index = state.chosen, of = run();
  by("details").hidden = index === null;
  by("copied").textContent = "";
  if (index === null) {
    by("chosen").textContent = "No sub-model is within all these limits together.";
    return;
  }
  const outside = isWithin(of, index, limits()) ? "" : ", outside the limits";
  by("chosen").textContent = `${of.names[index]}: ${showScore(of.scores[index])} ${scoreName}${outside}`;
  const largest = of.names.length - 1;
  const rows = [[`test ${report.metric}`, showScore(of.test_scores[index]), ""]];
  for (const cost of report.costs) {
    const { values } = of.costs[cost.name];
    const share = `${Number((100 * values[index] / values[largest]).toPrecision(3))}%`;
    rows.push([cost.label, showCost(cost, index), share]);
  }
  fill(by("row"), ["", "", "of the largest"], rows);
  by("command").textContent = command();
}

async function copyCommand() {
  let text = "Copied.";
  try {
    await navigator.clipboard.writeText(by("command").textContent);
  } catch {
    getSelection().selectAllChildren(by("command"));
    text = "Selected: copy it with your keyboard.";
  }
  by("copied").textContent = text;
}

// Tables

// Fill a table from texts or elements; the first cell of each row is its heading.
function fill(table, headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))));
  const caption = table.caption ? [table.caption] : [];
  table.replaceChildren(...caption, element("thead", {}, head), element("tbody", {}, ...body));
}

function showTable() {
  if (!by("table-details").open) return;
  const marked = new Set(run().costs[state.cost].frontier);
  const indices = [...run().names.keys()].filter((index) => by("every").checked || marked.has(index));
  const headings = ["sub-model", scoreName, `test ${report.metric}`, ...report.costs.map((cost) => cost.label), "frontier"];
  fill(by("table"), headings, indices.map((index) => {
    const button = element("button", { type: "button", onclick: () => select(state.run, index) }, run().names[index]);
    const costs = report.costs.map((cost) => showCost(cost, index));
    return [button, showScore(run().scores[index]), showScore(run().test_scores[index]), ...costs, marked.has(index) ? "yes" : ""];
  }));
  by("table").tBodies[0].rows[indices.indexOf(state.chosen)]?.classList.add("chosen");
}

function showLayers() {
  const { layers, argument } = run();
  const axes = state.chosen === null ? "" : command().slice(`sortednet extract ${argument}`.length);
  by("layers-hint").textContent = layers
    ? "" : `The report holds no layers of so many sub-models; this prints them: sortednet info --plan ${argument}${axes}`;
  by("layers-details").hidden = !layers || state.chosen === null;
  if (by("layers-details").hidden || !by("layers-details").open) return;
  const [names, slices] = layers.plans[state.chosen];
  fill(by("layers"), ["tensor", "slice of the root network"],
    layers.names[names].map((name, at) => [name, at < slices.length ? layers.slices[slices[at]] : "(its own)"]));
}

// The heat map: a table whose cells are buttons, and which arrow keys walk through

function showHeat() {
  const of = run(), [down, across] = [state.down, state.across].map((axis) => of.axes.indexOf(axis));
  const distinct = (at) => at < 0 ? [null] : [...new Set(of.values.map((values) => values[at]))].sort((a, b) => a - b);
  const fixed = of.values[state.chosen ?? of.names.length - 1];
  const cells = new Map();
  of.values.forEach((values, index) => {
    const inPlane = values.every((value, at) => at === down || at === across || value === fixed[at]);
    if (inPlane) cells.set(`${values[down]} ${values[across]}`, index);
  });
  const known = of.scores.filter((score) => score !== null);
  const low = Math.min(...known), high = Math.max(...known), bounds = limits();
  const strong = Number(styled("strong-from"));
  const focused = document.activeElement?.closest("#heat") ? state.chosen : null;
  const make = (index) => {
    if (index === undefined) return "";
    const score = of.scores[index];
    let share = score === null ? 0 : high > low ? (score - low) / (high - low) : 1;
    if (!report.higher_is_better && score !== null) share = 1 - share;
    const made = element("button", {
      type: "button", tabIndex: index === state.chosen ? 0 : -1, onclick: () => select(state.run, index),
    }, showScore(score).replace("%", ""));
    made.style.setProperty("--share", `${100 * share}%`);
    made.setAttribute("aria-label", `${of.names[index]}: ${showScore(score)}`);
    made.setAttribute("aria-pressed", index === state.chosen);
    made.classList.toggle("strong", share > strong);
    made.classList.toggle("outside", !isWithin(of, index, bounds));
    made.classList.toggle("chosen", index === state.chosen);
    return made;
  };
  const columns = distinct(across), rows = distinct(down).reverse();
  fill(by("heat"), [state.across ? `${state.down} ↓ ${state.across} →` : state.down, ...columns.map((value) => value ?? "")],
    rows.map((row) => [String(row),
      ...columns.map((column) => make(cells.get(`${row ?? undefined} ${column ?? undefined}`)))]));
  const buttons = [...by("heat").querySelectorAll("button")];
  if (!buttons.some((button) => button.tabIndex === 0) && buttons.length) buttons[0].tabIndex = 0;
  if (focused !== null) by("heat").querySelector(".chosen")?.focus();
  by("heat-heading").textContent = `Score over ${[state.down, state.across].filter(Boolean).join(" and ")}`;
  const others = of.axes.filter((axis) => axis !== state.down && axis !== state.across);
  const unit = percent ? ", in percent" : "";
  by("heat-hint").textContent = `${scoreName}${unit}. Pale cells are outside the limits.`
    + (others.length ? ` ${others.join(", ")}: as in the chosen sub-model.` : "");
}

function walkHeat(event) {
  const [rows, columns] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
  const cell = event.target.closest("td");
  if (!cell || (!rows && !columns)) return;
  event.preventDefault();
  const row = by("heat").tBodies[0].rows[cell.parentNode.sectionRowIndex + rows];
  const button = row?.cells[cell.cellIndex + columns]?.querySelector("button");
  if (!button) return;
  for (const other of by("heat").querySelectorAll("button")) other.tabIndex = -1;
  button.tabIndex = 0;
  button.focus();
}

// Plots

const views = {};

async function draw(id, spec) {
  const text = { labelColor: styled("soft"), titleColor: styled("ink"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  const result = await vegaEmbed(by(id), {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: "container",
    background: null,
    ...spec,
    config: {
      font: "system-ui, sans-serif",
      view: { stroke: null },
      mark: { aria: false },
      axis: { ...text, gridColor: styled("line"), domainColor: styled("line"), tickColor: styled("line") },
      legend: { ...text, orient: "top", direction: "vertical", title: null, symbolSize: 80, labelLimit: 320 },
    },
  }, { actions: false, renderer: "svg", tooltip: { theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" } });
  views[id]?.finalize();
  views[id] = result.view;
  return result.view;
}

// Each run has a colour and a shape of its own.
function runChannels() {
  const domain = report.runs.map((each) => each.path), several = domain.length > 1;
  const shapes = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"];
  const range = (values) => domain.map((_, index) => values[index % values.length]);
  const channel = (values) => ({ field: "run", scale: { domain, range: range(values) }, legend: several ? {} : null });
  const colors = shapes.map((_, index) => styled(`run-${index}`));
  return { color: channel(colors), shape: channel(shapes) };
}

function points() {
  const bounds = limits();
  return report.runs.flatMap((of, runIndex) => {
    const marked = new Set(of.costs[state.cost].frontier);
    return of.names.flatMap((name, index) => of.scores[index] === null ? [] : [{
      runIndex, index, run: of.path, name,
      cost: of.costs[state.cost].values[index],
      score: of.scores[index] * (percent ? 100 : 1),
      shownCost: showCost(costNamed(state.cost), index, of), shownScore: showScore(of.scores[index]),
      frontier: marked.has(index), within: isWithin(of, index, bounds),
      chosen: runIndex === state.run && index === state.chosen,
    }]);
  });
}

const limitLine = () => limits().filter(({ cost }) => cost === state.cost);

async function drawScatter() {
  // The extents are given, so that a layer may be empty.
  const cost = costNamed(state.cost), rows = points();
  const extent = (field) => [Math.min, Math.max].map((most) => most(...rows.map((row) => row[field])));
  const [least, most] = extent("cost");
  const { color, shape } = runChannels();
  const x = {
    field: "cost", type: "quantitative", title: cost.label,
    scale: { type: least > 0 && most > 4 * least ? "log" : "linear", domain: [least, most], nice: false, padding: 12 },
    axis: { format: cost.is_count ? ".3~s" : ".3~g", labelOverlap: true, tickCount: 8 },
  };
  const y = { field: "score", type: "quantitative", title: scoreName + (percent ? ", %" : ""), scale: { domain: extent("score"), nice: true, padding: 8 } };
  const tooltip = [["name", "sub-model"], ["run", "run"], ["shownScore", scoreName], ["shownCost", cost.label]]
    .map(([field, title]) => ({ field, title, type: "nominal" }));
  const marked = (filter, mark, encoding) =>
    ({ data: { name: "points" }, transform: [{ filter: `datum.${filter}` }], mark, encoding: { x, y, ...encoding } });
  const name = (look) =>
    marked("chosen", { type: "text", dy: 20, fontSize: 13, fontWeight: "bold", ...look }, { text: { field: "name" } });
  const counts = report.runs.map((of) => of.names.length).join(" and ");
  const view = await draw("scatter", {
    description: `${scoreName} of ${counts} sub-models against ${cost.label}. A table with the same values follows.`,
    height: Math.max(260, Math.min(380, innerHeight / 2)),
    datasets: { points: rows, limit: limitLine() },
    layer: [
      {
        data: { name: "limit" },
        mark: { type: "rule", strokeDash: [5, 4], color: styled("soft") },
        encoding: { x: { ...x, field: "limit" } },
      },
      marked("frontier", { type: "line", strokeWidth: 2, opacity: 0.8 }, { color, order: { field: "cost" } }),
      // The invisible stroke makes points easier to hit.
      marked("index >= 0", { type: "point", filled: true, size: 42, stroke: "transparent", strokeWidth: 9, cursor: "pointer" },
        { fill: color, shape, tooltip, opacity: { condition: { test: "datum.within", value: 0.85 }, value: 0.22 } }),
      marked("chosen", { type: "point", size: 240, strokeWidth: 3, color: styled("chosen"), opacity: 1 }, { tooltip }),
      // Twice: the broad outline below sets the name off from the points behind it.
      name({ stroke: styled("card"), strokeWidth: 5 }),
      name({ color: styled("chosen") }),
    ],
  });
  view.addEventListener("click", (_, item) => {
    if (item?.datum?.index !== undefined) select(item.datum.runIndex, item.datum.index);
  });
}

function drawCurves() {
  const rows = report.runs.flatMap((of) => (of.curves?.update ?? []).map((update, at) =>
    ({ run: of.path, update, loss: of.curves.loss[at], lr: of.curves.lr[at] })));
  by("curves").hidden = !rows.length;
  if (!rows.length) return;
  const each = report.runs.filter((of) => of.curves?.lines_each > 1)
    .map((of) => ` In ${of.path} each point is the mean of ${of.curves.lines_each} logged losses.`);
  by("curves-hint").textContent = "Each loss is of the sub-models that this update trained, so it varies with their size." + each.join("");
  fill(by("updates"), ["run", "update", "loss", "learning rate"],
    rows.map((row) => [row.run, ...[row.update, row.loss, row.lr].map((value) => value === null ? "not finite" : String(Number(value.toPrecision(5))))]));
  for (const [field, title] of [["loss", "loss"], ["lr", "learning rate"]]) {
    draw(field, {
      description: `${title} against updates. A table with the same values follows.`,
      height: 180, data: { values: rows },
      mark: { type: "line", point: rows.length < 80, strokeWidth: 1.5 },
      encoding: {
        x: { field: "update", type: "quantitative", title: "update", axis: { format: "~s", tickCount: 6 } },
        y: { field, type: "quantitative", title, scale: { zero: field === "lr" } },
        color: runChannels().color,
        tooltip: [{ field: "run" }, { field: "update" }, { field, title }],
      },
    });
  }
}

// The whole page

function show() {
  showSliders();
  showChosen();
  showTable();
  showHeat();
  showLayers();
  views.scatter?.data("points", points()).data("limit", limitLine()).runAsync();
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
