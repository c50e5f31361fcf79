"""Sub-models, search spaces, depth orders and budgets. No torch."""

from sortednet_cli.space.budget import Budget, Cost, format_count, frontier, parse_count
from sortednet_cli.space.depth import kept_blocks
from sortednet_cli.space.search_space import MAX_SUBMODELS, SearchSpace
from sortednet_cli.space.submodel import SubModel

__all__ = [
    "MAX_SUBMODELS",
    "Budget",
    "Cost",
    "SearchSpace",
    "SubModel",
    "format_count",
    "frontier",
    "kept_blocks",
    "parse_count",
]
