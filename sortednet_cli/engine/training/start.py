"""The beginning of a training: a new run's folder written, or an unfinished run opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from sortednet_cli.data import Dataset, TextFormat, Texts, open_data
from sortednet_cli.data.text.frequent import SHARE, frequent_tokens
from sortednet_cli.data.text.phrases import repeated_phrases
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes
from sortednet_cli.engine.sources.root import open_root, read_family, read_format, root_fields
from sortednet_cli.engine.training.measured import with_measured
from sortednet_cli.engine.training.requirements import (
    absolute,
    check_amount,
    check_batch,
)
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.teacher import open_teacher
from sortednet_cli.families import Config, Family, Root, root_of
from sortednet_cli.families.transformers.stock_configs import (
    GENERATION,
    generation_config,
    with_end,
)
from sortednet_cli.machine.cuda_graphs import check_graphs
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import check_fused, check_space
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, TextDataSpec
from sortednet_cli.spec.families import CAUSAL_TASKS, family_facts
from sortednet_cli.storage.files import PathExists, free_name, write_json
from sortednet_cli.storage.frequent_tokens import write_frequent
from sortednet_cli.storage.phrases import write_phrases
from sortednet_cli.storage.pretrained import hub_name, open_pretrained
from sortednet_cli.storage.run import RunFolder

SaveTokenizer = Callable[[Path], object]


def create_session(
    path: Path,
    spec: RunSpec,
    device: torch.device,
    processes: Processes = SINGLE_PROCESS,
    allowed: tuple[str, ...] = (),
    *,
    or_next: bool = False,
) -> Session:
    """Check the whole request against data and model, then write the run's folder.

    Args:
        allowed: factories that a teacher may run besides the spec's own, as `MODULE:NAME`.
        or_next: take the next free name, `path-2` and so on, if `path` exists.

    Raises:
        RequestError: anything wrong with the request; nothing is left behind.
    """
    model = spec.model
    from_folder = family_facts(model.family).pretrained == "folder"
    pretrained = open_pretrained(model.pretrained) if model.pretrained and from_folder else None
    folder = pretrained.folder if pretrained else None
    data = open_data(spec.data, spec.task, tokenizer=folder)
    stock = pretrained.config if pretrained else {}
    root = root_of(model, spec.task, data.format.facts(), stock, spec.space)
    family = open_root(root, model.factories, data.format, where="model.config")
    check_request(spec, family, data, device, processes)
    if spec.train.teacher is not None:
        open_teacher(spec.train.teacher, data, (*model.factories, *allowed))
    spec = with_measured(absolute(spec), family, data.format, device)
    manifest = {
        "created": time.time(),
        "name": spec.name,
        "versions": versions(),
        "base_model": hub_name(model.pretrained) if model.pretrained else None,
        **root_fields(family, data.format),
    }
    create = RunFolder.create if not or_next else _create_next
    run = create(path, spec, manifest, _saves_language(data, spec, root, folder))
    return Session(run, spec, family, data, device, processes, is_new=True, allowed=allowed)


def check_request(
    spec: RunSpec,
    family: Family,
    data: Dataset,
    device: torch.device,
    processes: Processes = SINGLE_PROCESS,
) -> None:
    """RequestError if a spec's search space, rule or batches do not fit its model or its data."""
    space = SearchSpace.of(spec.space)
    check_space(family, space)
    if not family.declares_fused:
        check_fused(family, space)
    make_rule(spec.train, space)
    check_amount(data, spec.train, processes)
    check_batch(family, data.format, spec.train)
    check_graphs(spec.train.cuda_graphs, device, "train.cuda_graphs = true")


def reopen_session(
    run: RunFolder,
    device: torch.device,
    allowed: tuple[str, ...],
    processes: Processes = SINGLE_PROCESS,
) -> Session:
    """Open an unfinished run to go on with it.

    Raises:
        RequestError: it is damaged, or its data cannot be opened any more.
    """
    spec, manifest = run.spec(), run.manifest()
    family = read_family(manifest, run.path, allowed)
    known = read_format(manifest.data)
    data = open_data(spec.data, spec.task, known=known, tokenizer=run.tokenizer)
    check_amount(data, spec.train, processes)
    check_graphs(spec.train.cuda_graphs, device, "train.cuda_graphs = true")
    return Session(run, spec, family, data, device, processes, allowed=allowed)


def open_together(
    processes: Processes, start: Callable[[], Session], again: Callable[[Path], Session]
) -> Session:
    """Let the first process start or reopen a run, and all others open the same one.

    Raises:
        ReportedByPeer: the first process could not; it says why.
    """
    made: list[Session] = []

    def lead() -> str:
        made.append(start())
        return str(made[0].run.path.absolute())

    path = processes.lead("run", lead)
    return made[0] if made else again(Path(path))


def _create_next(
    path: Path, spec: RunSpec, manifest: dict[str, object], save: SaveTokenizer | None
) -> RunFolder:
    """Write a run under the first free name; another training may take it meanwhile."""
    while True:
        try:
            return RunFolder.create(free_name(path), spec, manifest, save)
        except PathExists:
            continue


def _saves_language(
    data: Dataset, spec: RunSpec, root: Root, pretrained: Path | None
) -> SaveTokenizer | None:
    """What writes the tokenizer of a run on texts, and how its model generates."""
    if not isinstance(data, Texts) or not isinstance(spec.data, TextDataSpec):
        return None
    generation = _generation(data.format, root, pretrained)
    return partial(_save_language, data, generation, spec.data.phrases)


def _generation(form: TextFormat, root: Root, pretrained: Path | None) -> Config | None:
    """How a causal model generates: as its pretrained one, and ending as its texts do."""
    if form.task not in CAUSAL_TASKS:
        return None
    known = generation_config(pretrained, root.config)
    return with_end(known, form.eos_id)


def _save_language(
    texts: Texts, generation: Config | None, keeps_phrases: bool, folder: Path
) -> None:
    texts.tokenizer.save_pretrained(folder)
    if generation is None:
        return
    write_json(folder / GENERATION, generation)
    if tokens := frequent_tokens(texts.train, texts.format.vocab_size):
        write_frequent(folder, tokens, SHARE)
    if keeps_phrases and (phrases := repeated_phrases(texts.train, texts.format.vocab_size)):
        write_phrases(folder, phrases)
