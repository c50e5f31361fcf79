"""The plot of a frontier: score against cost, and the grid of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from sortednet_cli.engine.evaluation.frontier import SELECTION_SPLIT, Frontier
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.space import SearchSpace
from sortednet_cli.storage.files import write_bytes

_FRONTIER_COLOR, _POINT_COLOR, _CHOSEN_COLOR = "#c44e52", "#8c9bb0", "#2e7d32"


def draw_frontier(name: str, space: SearchSpace, result: Frontier, path: Path) -> None:
    """Plot score against cost, and beside it a heat map if the space is a width x depth grid.

    The points are the sub-models whose cost is known.

    Args:
        path: the file, whose suffix is `.svg` or `.png`; it is replaced atomically.
    """
    # Without pyplot, which looks for a window system.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    is_grid = set(space.largest.axes) == {"width", "depth"}
    height = 1.8 + 0.26 * len(dict(space.axes).get("width", ())) if is_grid else 0
    size = (15 if is_grid else 7.5, max(5.0, height))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 2 if is_grid else 1, squeeze=False)[0]
    _draw_scatter(panels[0], result)
    if panels[0].get_xscale() == "log":
        panels[0].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panels[0].xaxis.set_minor_formatter(NullFormatter())
    panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: result.cost.show(value)))
    if is_grid:
        _draw_grid(panels[1], result, space.largest.axes)
    figure.suptitle(f"{name}: {len(result.rows)} sub-models of one network")
    content = BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=130)
    write_bytes(path, content.getvalue())


def _value(row: Row, metric: str) -> float:
    value = row.metrics[SELECTION_SPLIT][metric]
    return 100 * value if metric == "accuracy" else value


def _draw_scatter(panel: Any, result: Frontier) -> None:
    marked = zip(result.rows, result.pareto, strict=True)
    known = [(row, mark) for row, mark in marked if result.cost.of(row) is not None]
    costs = [result.cost.value(row) for row, _ in known]
    scores = [_value(row, result.metric) for row, _ in known]
    panel.scatter(costs, scores, s=16, color=_POINT_COLOR, label="sub-models")
    best = sorted((c, s) for c, s, (_, mark) in zip(costs, scores, known, strict=True) if mark)
    if best:  # no score is a finite number otherwise
        panel.plot(*zip(*best, strict=True), "o-", ms=4.5, color=_FRONTIER_COLOR, label="frontier")
    if result.chosen is not None:
        point = result.cost.value(result.chosen), _value(result.chosen, result.metric)
        label = f"chosen: {result.chosen.submodel}"
        panel.plot(*point, "*", ms=14, color=_CHOSEN_COLOR, label=label, zorder=3)
    if max(costs) > 4 * min(costs):
        panel.set_xscale("log")
    panel.set_xlabel(result.cost.axis_label)
    unit = ", %" if result.metric == "accuracy" else ""
    panel.set_ylabel(f"{SELECTION_SPLIT} {result.metric}{unit}")
    panel.grid(alpha=0.3)
    panel.legend(loc="best")


def _draw_grid(panel: Any, result: Frontier, largest: dict[str, int | float]) -> None:
    values = {
        (row.submodel.axes["width"], row.submodel.axes["depth"]): _value(row, result.metric)
        for row in result.rows
    }
    widths, depths = sorted({w for w, _ in values}), sorted({d for _, d in values})
    best = values[largest["width"], largest["depth"]]
    draw_cells(
        panel,
        [[values[w, d] for d in depths] for w in widths],
        widths,
        depths,
        lambda value: f"{value:.1f}" + (f" ({100 * value / best:.0f}%)" if best else ""),
        "viridis" if result.higher_is_better else "viridis_r",
    )
    panel.set_title(f"{SELECTION_SPLIT} {result.metric} (share of the largest's)", fontsize=10)


def draw_cells(
    panel: Any,
    cells: list[list[float]],
    widths: Sequence[float],
    depths: Sequence[float],
    label: Callable[[float], str],
    colors: str = "viridis",
) -> None:
    """Draw a heat map of a width (rows) by depth (columns) grid, each cell with its label."""
    image = panel.imshow(cells, aspect="auto", origin="lower", cmap=colors)
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            red, green, blue, _ = image.cmap(image.norm(value))
            is_light = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
            color = "black" if is_light else "white"
            panel.text(j, i, label(value), ha="center", va="center", fontsize=7.5, color=color)
    panel.set_xticks(range(len(depths)), [f"{d:g}" for d in depths])
    panel.set_yticks(range(len(widths)), [f"{w:g}" for w in widths])
    panel.set_xlabel("depth, blocks")
    panel.set_ylabel("width")
