"""What it gives to put a pretrained model's most important heads and units first.

    python -m benchmarks.accuracy.reordering sst2-minilm --samples 4096 --lr 1e-4 4e-4 \\
        --data sst2 --set "space.depth=[6]"

trains the preset from the same weights in each order: by the size of weights, by the size of
activations, and as they were stored. A rate that suits one order need not suit another. Otherwise
as benchmarks.accuracy.rules.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.accuracy.rules import add_comparison, compare, mean_and_spread
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset, presets

ORDERS = {"by weights": "importance", "by activations": "activation", "as stored": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    add_comparison(parser)
    options = parser.parse_args()
    orders = {name: (f"model.reorder={order}",) for name, order in ORDERS.items()}
    result = compare(options.preset, orders, options)
    out = options.out or RESULTS / f"reordering_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(rates(result), "", table(result), sep="\n")


def rates(result: dict[str, Any]) -> str:
    """Mean test accuracy of all sub-models, in percent, by order and learning rate."""
    tried = list(result["rules"][0]["tried"])
    lines = [f"| units | {' | '.join(f'lr {lr}' for lr in tried)} |"]
    lines.append("|" + " --- |" * (len(tried) + 1))
    for order in result["rules"]:
        cells = " | ".join(f"{100 * order['tried'][lr]:.1f}" for lr in tried)
        lines.append(f"| {order['rule']} | {cells} |")
    return "\n".join(lines)


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent by width, each order at its best rate: means over depths and seeds.

    The last column has the spread of the seeds too.
    """
    widths = _widths(result)
    heads = " | ".join(f"width {width:g}" for width in widths)
    lines = [f"| units | lr | {heads} | mean |", "|" + " --- |" * (len(widths) + 3)]
    for order in result["rules"]:
        cells = " | ".join(
            f"{100 * statistics.fmean(order['rows'][name] for name in names):.1f}"
            for names in widths.values()
        )
        lines.append(
            f"| {order['rule']} | {order['lr']:g} | {cells} | {mean_and_spread(order['mean'])} |"
        )
    return "\n".join(lines)


def _widths(result: dict[str, Any]) -> dict[float, list[str]]:
    """By width the names of its sub-models."""
    space = load_preset(result["preset"], result["settings"]).space
    names: dict[float, list[str]] = {}
    for submodel in SearchSpace.of(space).submodels:
        names.setdefault(submodel.axes["width"], []).append(submodel.name)
    return names


if __name__ == "__main__":
    tell(main)
