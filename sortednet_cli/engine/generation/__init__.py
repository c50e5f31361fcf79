"""Decoding of causal models: plain, early exit, and self-speculative."""

from sortednet_cli.engine.generation.choice import Chooser, Greedy, Sampling
from sortednet_cli.engine.generation.decoder import Completion, Decoder
from sortednet_cli.engine.generation.early_exit import EarlyExit
from sortednet_cli.engine.generation.plain import Plain
from sortednet_cli.engine.generation.speculative import Adaptive, Fixed, Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.strategy import Strategy

__all__ = [
    "Adaptive",
    "Chooser",
    "Completion",
    "Decoder",
    "DecodingStats",
    "EarlyExit",
    "Fixed",
    "Greedy",
    "Plain",
    "Sampling",
    "Speculative",
    "Stack",
    "Strategy",
]
