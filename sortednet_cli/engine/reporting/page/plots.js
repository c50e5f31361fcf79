// The plots, drawn by Vega-Lite.

const views = {}, asked = {}, drawings = {};

// Draw what `make` returns, and call `drawn` with the view. Drawing takes a while, in which another
// choice may be made: drawings of one plot wait for each other, and only the last is drawn.
function draw(id, make, drawn = () => {}) {
  asked[id] = make;
  const step = async () => { if (asked[id] === make) drawn(await embed(id, make())); };
  drawings[id] = (drawings[id] ?? Promise.resolve()).then(step, step);
}

async function embed(id, spec) {
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

function drawScatter() {
  const all = report.runs.flatMap((of) => of.scores), missing = all.filter((score) => score === null).length;
  by("unscored").hidden = !missing;
  by("unscored").textContent = `${missing} of ${all.length} sub-models have no finite score: they are not drawn.`;
  by("scatter").hidden = by("scatter-hint").hidden = missing === all.length;
  if (missing === all.length) return;
  draw("scatter", scatter, (view) => {
    view.addEventListener("click", (_, item) => {
      if (item?.datum?.index !== undefined) select(item.datum.runIndex, item.datum.index);
    });
    showPoints();  // what was chosen while it was drawn
  });
}

const showPoints = () => views.scatter?.data("points", points()).data("limit", limitLine()).runAsync();

function scatter() {
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
  // The name stays within the plot: the best points lie at its top or bottom, the largest at its right.
  const dy = report.higher_is_better ? 20 : -20, at = "scale('x', datum.cost)";
  const align = { expr: `${at} > width - 60 ? 'right' : ${at} < 60 ? 'left' : 'center'` };
  const name = (look) =>
    marked("chosen", { type: "text", align, dy, fontSize: 13, fontWeight: "bold", ...look }, { text: { field: "name" } });
  const counts = report.runs.map((of) => of.names.length).join(" and ");
  return {
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
  };
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
    draw(field, () => ({
      description: `${title} against updates. A table with the same values follows.`,
      height: 180, data: { values: rows },
      mark: { type: "line", point: rows.length < 80, strokeWidth: 1.5 },
      encoding: {
        x: { field: "update", type: "quantitative", title: "update", axis: { tickCount: 5, labelExpr: "datum.value % 1 ? '' : format(datum.value, ',d')" } },
        y: { field, type: "quantitative", title, scale: { zero: field === "lr" } },
        color: runChannels().color,
        tooltip: [{ field: "run" }, { field: "update" }, { field, title }],
      },
    }));
  }
}
