"""Sub-models, search spaces, depth orders and counts. No torch."""

from sortednet_cli.space.counts import format_count, parse_count
from sortednet_cli.space.depth import kept_blocks
from sortednet_cli.space.search_space import MAX_SUBMODELS, SearchSpace
from sortednet_cli.space.submodel import SubModel

__all__ = [
    "MAX_SUBMODELS",
    "SearchSpace",
    "SubModel",
    "format_count",
    "kept_blocks",
    "parse_count",
]
