"""Gathering of rows and statistics from the processes of a job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from sortednet_cli.distributed.processes import Processes
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SearchSpace, SubModel


def gather_rows(processes: Processes, rows: Sequence[Row], space: SearchSpace) -> list[Row]:
    """Gather the rows of all processes in every process, in the order of the search space."""
    records: list[dict[str, Any]] = []
    for data in processes.gather(json.dumps([row.stored() for row in rows]).encode()):
        records += json.loads(data)
    by_submodel = {
        submodel: Row(submodel, row["params"], row["macs"], row["metrics"])
        for row in records
        for submodel in [SubModel.of(row["axes"])]
    }
    return [by_submodel[submodel] for submodel in space.submodels if submodel in by_submodel]


def gather_statistics(processes: Processes, network: NestedNetwork) -> None:
    """Gather the normalisation statistics of all processes in the network of every process."""
    if processes.count == 1:
        return
    for data in processes.gather(save(flat_statistics(network))):
        for key, tensor in load(data).items():
            submodel, _, name = key.partition("/")
            own = dict(network.statistics.get(submodel, {}))
            network.statistics[submodel] = {**own, name: tensor}


def flat_statistics(network: NestedNetwork) -> dict[str, Tensor]:
    """Return all statistics of a network, named `SUBMODEL/TENSOR` as a run stores them."""
    return {
        f"{submodel}/{name}": tensor
        for submodel, own in network.statistics.items()
        for name, tensor in own.items()
    }
