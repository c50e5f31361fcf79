"""Run specs, presets and overrides. No torch."""

from sortednet_cli.spec.data import AnyDataSpec, DataSpec, ImageDataSpec, TextDataSpec
from sortednet_cli.spec.load import (
    dump_spec,
    load_preset,
    load_spec_file,
    parse_spec,
)
from sortednet_cli.spec.models import (
    CustomAxis,
    CustomBlocks,
    ModelSpec,
    RunSpec,
    Task,
)
from sortednet_cli.spec.train import TrainSpec

__all__ = [
    "AnyDataSpec",
    "CustomAxis",
    "CustomBlocks",
    "DataSpec",
    "ImageDataSpec",
    "ModelSpec",
    "RunSpec",
    "Task",
    "TextDataSpec",
    "TrainSpec",
    "dump_spec",
    "load_preset",
    "load_spec_file",
    "parse_spec",
]
