"""What each process of a sharded job does in `test_sharded.py`: trainings, and their sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from sortednet_cli.distributed.processes import Processes, join_job
from sortednet_cli.engine.training.backends import sharded
from sortednet_cli.engine.training.events import Finished
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.spec import RunSpec, parse_spec
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.tasks.base import IGNORED
from tests.data.text.made import labelled, write_jsonl
from tests.sealing import keep_checkpoints

CPU = torch.device("cpu")
SPEC = """
task = "causal-lm"
[model]
family = "llama"
[model.config]
hidden_size = 16
num_hidden_layers = 3
num_attention_heads = 4
intermediate_size = 24
tie_word_embeddings = true
[space]
depth = [1, 2, 3]
[train]
rule = "sum"
updates = 4
batch_size = 4
optimizer = "adamw"
lr = 1e-2
clip = 0.1
log_every = 1
shard = true
precision = "fp32"
[data]
source = "text"
max_length = 24
vocab_size = 300
validation = 0.2
test = 0.2
"""
_BERT = (  # the gradient of a key's bias is zero but for rounding, which AdamW would enlarge
    "train.optimizer=sgd",
    "train.lr=0.1",
    "model.family=bert",
    "model.config.tie_word_embeddings=true",
    "model.config.hidden_dropout_prob=0.1",
)
CASES = {
    "sum": (),
    "sorted": (
        *("train.rule=sorted", "train.accumulate=2", "train.optimizer=sgd", "train.seed=1"),
        *("model.config.tie_word_embeddings=false", "train.precision=bf16"),
    ),
    "words": (*_BERT, "task=masked-lm", "train.rule=sandwich", "train.num_random=0"),
    "classes": (
        *(*_BERT, "task=classification", "train.rule=sorted", "train.distill=true"),
        *("data.text=text", "data.label=label"),
    ),
    "taught": ("train.distill=true", "train.optimizer=rmsprop"),
    "averaged": ("train.average=0.9", "train.rule=sorted", "train.seed=1"),
    "opening": ("train.smallest_first=0.7", "train.weight_decay=0.1"),
    "skipping": ("train.layer_dropout=0.6", "train.weight_decay=0.1", "train.seed=2"),
    "pretrained": ("model.pretrained={folder}/stock",),
}
"""Changes of the spec above by name."""


def spec_of(folder: Path, *changes: str) -> RunSpec:
    path = folder / "data.jsonl"
    if not path.exists():
        write_jsonl(path, labelled(300))
    filled = [change.format(folder=folder) for change in (f"data.path={path}", *changes)]
    return parse_spec(SPEC, where="here", name="shards", overrides=filled)


def _open(place: Path, spec: RunSpec, processes: Processes) -> Session:
    if processes.leads:
        create_session(place, spec, CPU, processes)
    processes.any(False)
    return reopen_session(RunFolder.open(place), CPU, (), processes)


def _train(folder: Path, name: str, processes: Processes) -> None:
    place = folder / "sharded" / name
    fit = _open(place, spec_of(folder, *CASES[name]), processes)
    if name == "pretrained":  # no process makes a whole network to throw it away
        sharded.init_network = None  # type: ignore[attr-defined]
    with keep_checkpoints():
        assert isinstance(list(fit.events())[-1], Finished)
    sharded.init_network = init_network  # type: ignore[attr-defined]


def _check_sizes(folder: Path, processes: Processes) -> None:
    """Weights, gradients and optimizer state: half of each here, nowhere more."""
    fit = _open(folder / "sizes", spec_of(folder), processes)
    trainer, start, _ = fit.prepare()
    network = trainer.network
    next(trainer.updates(start, lambda: False))
    whole = {name: p.numel() for name, p in network.parameters.items()}
    assert all(isinstance(p, DTensor) for p in network.parameters.values())
    assert sum(part.numel() for part in network.local_weights.values()) == sum(whole.values()) // 2
    assert sum(part.numel() for part in network.local_gradients) == sum(whole.values()) // 2
    for path, state in trainer.optimizer.state().items():
        if state.ndim:
            assert isinstance(state, DTensor), path
            assert 2 * state.to_local().numel() == whole[path.rpartition("/")[0]]
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in _held(network)}
    assert sum(held.values()) < 0.6 * 4 * sum(whole.values())


def _check_an_empty_batch(folder: Path, processes: Processes) -> None:
    """A process that has nothing to score in a batch still takes part, and adds nothing."""
    spec = spec_of(folder, *CASES["words"])
    trainer, _, _ = _open(folder / "empty", spec, processes).prepare()
    inputs, targets = next(trainer.data.training_batches(0, batch_size=4, seed=0, device=CPU))
    found = []
    for _ in range(2):
        trainer.network.zero_gradients()
        torch.manual_seed(0)  # dropout
        trainer.micro_batches.add_gradients((inputs, targets), trainer._draw(0, 0, processes.rank))
        found.append([gradient.clone() for gradient in trainer.network.local_gradients])
        if processes.rank == 1:
            targets = torch.full_like(targets, IGNORED)
    for both, one in zip(*found, strict=True):
        torch.testing.assert_close(one, both / 2, rtol=1e-4, atol=1e-7)


def _held(network: NestedNetwork) -> list[torch.Tensor]:
    """What the modules hold between two passes."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in network.module.parameters()]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join_job(CPU) as processes:
        for name in CASES:
            _train(folder, name, processes)
        _check_sizes(folder, processes)
        _check_an_empty_batch(folder, processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
