"""The figure of the page on the idea: one weight matrix, its nested slices and nested depths.

python -m docs.draw_idea            # writes docs/images/nested-slices.svg
python -m docs.draw_idea --out FILE # any format that matplotlib writes, such as .png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

FIGURE = Path(__file__).parent / "images" / "nested-slices.svg"
WIDTHS = {1.0: "#dbe7f3", 0.75: "#a9c8e4", 0.5: "#5f9bcb", 0.25: "#1f5f99"}
DEPTH, KEPT = 6, 3
HEAD, EDGE, UNUSED = "#f0b86e", "#5b6570", "#eeeeee"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=FIGURE)
    out = parser.parse_args().out
    mpl.rcParams.update({"svg.hashsalt": "sortednet", "font.size": 10.5})
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.1), width_ratios=(1, 1.05, 0.95))
    _matrix(axes[0])
    _network(axes[1])
    _artifact(axes[2])
    for axis in axes:
        axis.set_aspect("equal")
        axis.axis("off")
    figure.tight_layout(w_pad=1.5)
    figure.savefig(
        out, dpi=120, facecolor="white", metadata={"Date": None} if out == FIGURE else {}
    )


def _square(axis: Axes, left: float, top: float, size: float, colour: str) -> None:
    axis.add_patch(
        Rectangle((left, top - size), size, size, facecolor=colour, edgecolor=EDGE, linewidth=0.8)
    )


def _head(axis: Axes, left: float, top: float, width: float, colour: str) -> None:
    """A matrix with few outputs, of which a width takes the leading inputs."""
    axis.add_patch(
        Rectangle((left, top - 0.7), width, 0.7, facecolor=colour, edgecolor=EDGE, linewidth=0.8)
    )


def _matrix(axis: Axes) -> None:
    """One weight matrix: each width is a leading slice of the next larger one."""
    axis.set_title("One weight matrix, four widths", fontsize=12)
    for width, colour in WIDTHS.items():
        size = 8 * width
        _square(axis, 0, 8, size, colour)
        ink = "white" if width <= 0.5 else "black"
        axis.text(size - 0.2, 8 - size + 0.2, f"w{width:g}", ha="right", va="bottom", color=ink)
    axis.annotate("", (8.1, 8.45), (-0.1, 8.45), arrowprops={"arrowstyle": "->", "color": EDGE})
    axis.annotate("", (-0.45, -0.1), (-0.45, 8.1), arrowprops={"arrowstyle": "->", "color": EDGE})
    axis.text(4, 8.6, "input channels", ha="center", va="bottom", color=EDGE)
    axis.text(-0.6, 4, "output channels", ha="right", va="center", rotation=90, color=EDGE)
    axis.set(xlim=(-1.6, 8.4), ylim=(-1.6, 9.6))
    axis.text(
        4, -0.5, "A width is the top left corner:\na view, not a copy.", ha="center", va="top"
    )


def _network(axis: Axes) -> None:
    """A stack of such matrices: a depth keeps the first blocks, and every depth has the head."""
    axis.set_title(f"{DEPTH} blocks: w0.5-d{KEPT} uses the coloured part", fontsize=12)
    for block in range(DEPTH):
        left, top = 2.1 * (block % 3), 8 - 3.5 * (block // 3)
        _square(axis, left, top, 1.8, UNUSED)
        if block < KEPT:
            _square(axis, left, top, 0.9, WIDTHS[0.5])
        axis.text(left + 0.9, top - 1.95, f"block {block + 1}", ha="center", va="top", color=EDGE)
    _head(axis, 6.5, 8, 1.8, UNUSED)
    _head(axis, 6.5, 8, 0.9, HEAD)
    axis.text(7.4, 7.15, "head", ha="center", va="top", color=EDGE)
    axis.set(xlim=(-0.2, 8.5), ylim=(-0.6, 9.4))
    text = "A depth keeps the first blocks.\nEvery depth shares the head."
    axis.text(4.1, 1.6, text, ha="center", va="top")


def _artifact(axis: Axes) -> None:
    """What `extract` writes: the slices alone, contiguous."""
    axis.set_title("extract --width 0.5 --depth 3", fontsize=11, family="monospace")
    for block in range(KEPT):
        _square(axis, 1.6 * block + 0.6, 7.2, 0.9, WIDTHS[0.5])
    _head(axis, 5.4, 7.1, 0.9, HEAD)
    for block in range(KEPT):
        start = (1.6 * block + 1.55, 6.75)
        arrow = FancyArrowPatch(start, (start[0] + 0.6, 6.75), arrowstyle="->", mutation_scale=9)
        axis.add_patch(arrow)
    text = (
        "A standalone model with contiguous\ntensors: model.safetensors, and the\n"
        "config.json of the stock class.\n\nExtraction compares every tensor with\n"
        "its slice, and the outputs bit for bit."
    )
    axis.text(3.5, 5.4, text, ha="center", va="top")
    axis.set(xlim=(-0.4, 7.4), ylim=(-0.6, 9.4))


if __name__ == "__main__":
    main()
