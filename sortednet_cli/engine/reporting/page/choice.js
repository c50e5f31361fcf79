"use strict";
// The data, what the user has set, and the choice within budgets. The data come from the block
// `data`; text is set as text, never as HTML.

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
