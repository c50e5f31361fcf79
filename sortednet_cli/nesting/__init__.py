"""Slice plans, the nested network, normalisation statistics and costs."""

from sortednet_cli.nesting.cost import Costs, SubModelCost, cost_of
from sortednet_cli.nesting.crossing import broadcast_mask, crossing_weights, zero_crossing_weights
from sortednet_cli.nesting.identity import init_as_identity
from sortednet_cli.nesting.network import NestedNetwork, ignore_layout_warning, init_network
from sortednet_cli.nesting.plan import (
    SlicePlan,
    check_space,
    own_norms,
    plan_between,
    plan_from_root,
    spare_skeleton,
)
from sortednet_cli.nesting.skeleton import build_fake, build_skeleton, named_tensors, stored_tensors
from sortednet_cli.nesting.slices import TensorSlice
from sortednet_cli.nesting.statistics import has_statistics, recalibrate
from sortednet_cli.nesting.undeclared import check_fused

__all__ = [
    "Costs",
    "NestedNetwork",
    "SlicePlan",
    "SubModelCost",
    "TensorSlice",
    "broadcast_mask",
    "build_fake",
    "build_skeleton",
    "check_fused",
    "check_space",
    "cost_of",
    "crossing_weights",
    "has_statistics",
    "ignore_layout_warning",
    "init_as_identity",
    "init_network",
    "named_tensors",
    "own_norms",
    "plan_between",
    "plan_from_root",
    "recalibrate",
    "spare_skeleton",
    "stored_tensors",
    "zero_crossing_weights",
]
