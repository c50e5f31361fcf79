// What is told in words: the chosen sub-model, the tables, and the heat map, which is a table too.

// The chosen sub-model

function select(runIndex, index) {
  if (runIndex !== state.run) changeRun(runIndex);
  state.chosen = index;
  show();
}

// The options that name the chosen sub-model.
function axisOptions() {
  return run().axes.map((axis, at) => {
    const value = run().values[state.chosen][at];
    return ["width", "depth"].includes(axis) ? `--${axis} ${value}` : `--axis ${axis}=${value}`;
  });
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
  // An element for each part, so that no line breaks behind the hyphens of an option.
  const parts = ["sortednet extract", ...of.arguments, ...axisOptions()];
  by("command").replaceChildren(...parts.flatMap((part, at) => [at ? " " : "", element("span", {}, part)]));
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
  const { layers, arguments: source } = run();
  const plan = ["sortednet info --plan", ...source, ...(state.chosen === null ? [] : axisOptions())].join(" ");
  by("layers-hint").textContent = layers ? "" : `The report holds no layers of so many sub-models; this prints them: ${plan}`;
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
  by("heat-hint").textContent = `${scoreName}${unit}. Faded cells are outside the limits.`
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
