"""Run specs, presets and overrides. No torch."""

from sortednet_cli.spec.load import (
    dump_spec,
    load_preset,
    load_spec_file,
    parse_spec,
)
from sortednet_cli.spec.models import (
    CustomAxis,
    CustomBlocks,
    DataSpec,
    ModelSpec,
    RunSpec,
    TrainSpec,
)

__all__ = [
    "CustomAxis",
    "CustomBlocks",
    "DataSpec",
    "ModelSpec",
    "RunSpec",
    "TrainSpec",
    "dump_spec",
    "load_preset",
    "load_spec_file",
    "parse_spec",
]
