"""Where a nested training starts: from a trained network's weights, in several orders, or nothing.

    python -m benchmarks.accuracy.starts cifar10-resnet --samples 95000 --lone-samples 237500 \\
        --lr 0.03 0.1 --data cifar10-jpeg.tar.xz

The weights are those of the preset's largest sub-model, trained alone on `--lone-samples` samples.
Nested trainings start from them, with channels in each order; two others start from nothing. All
get the work of training the largest on `--samples` samples, and one of the two from nothing gets
that of the lone training too. These two keep the preset's learning rate; those from weights try
`--lr`. Otherwise as benchmarks.accuracy.rules.
"""

from __future__ import annotations

import argparse

from benchmarks.accuracy.rules import add_comparison, compare
from benchmarks.accuracy.teachers import finish, lone
from benchmarks.accuracy.trainings import trainer_of
from benchmarks.harness import tell
from sortednet_cli.spec import presets

NOTHING, BOTH = "from nothing", "from nothing, with the work of both"
ORDERS = {"as trained": "none", "by L1 norm": "importance", "by activation": "activation"}
FROM_WEIGHTS = ("train.smallest_first=0", "model.init=stock")
"""All sizes learn from the start: the smallest alone would spoil the weights of the others."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--lone-samples", type=int, required=True)
    add_comparison(parser)
    options = parser.parse_args()
    training, trainer = lone(options.preset, options.lone_samples), trainer_of(options)
    (alone,) = trainer.results([training])
    start = (*FROM_WEIGHTS, f"model.pretrained={trainer.folder(training)}")
    rules: dict[str, tuple[str, ...]] = {
        f"from weights, {name}": (*start, f"model.reorder={order}")
        for name, order in ORDERS.items()
    }
    rules |= {NOTHING: (), BOTH: ()}
    samples = {BOTH: options.samples + options.lone_samples}
    tuned = [name for name, settings in rules.items() if settings]
    result = compare(options.preset, rules, options, samples, tuned)
    finish("starts", options, result, options.lone_samples, alone)


if __name__ == "__main__":
    tell(main)
