"""Slice plans, the nested network, statistics and costs."""

from sortednet_cli.nesting.compiled import compiling
from sortednet_cli.nesting.cost import SubModelCost, cost_of
from sortednet_cli.nesting.crossing import crossing_weights, spread, zero_crossing_weights
from sortednet_cli.nesting.identity import begin_as_identity
from sortednet_cli.nesting.network import NestedNetwork, init_network, quiet_first_backward
from sortednet_cli.nesting.plan import (
    LeadingSlice,
    SlicePlan,
    check_space,
    plan_between,
    plan_from_root,
)
from sortednet_cli.nesting.skeleton import build_skeleton, named_tensors, stored_tensors
from sortednet_cli.nesting.statistics import has_statistics, recalibrate

__all__ = [
    "LeadingSlice",
    "NestedNetwork",
    "SlicePlan",
    "SubModelCost",
    "begin_as_identity",
    "build_skeleton",
    "check_space",
    "compiling",
    "cost_of",
    "crossing_weights",
    "has_statistics",
    "init_network",
    "named_tensors",
    "plan_between",
    "plan_from_root",
    "quiet_first_backward",
    "recalibrate",
    "spread",
    "stored_tensors",
    "zero_crossing_weights",
]
