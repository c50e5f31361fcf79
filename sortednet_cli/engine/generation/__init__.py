"""Decoding of causal models: plain, early exit, self-speculative, and by look-up."""

from sortednet_cli.engine.generation.choice import Chooser, Greedy, Sampling
from sortednet_cli.engine.generation.decoder import Completion, Decoder
from sortednet_cli.engine.generation.draft_length import Adaptive, Fixed
from sortednet_cli.engine.generation.early_exit import EarlyExit
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.look_up import LookUp
from sortednet_cli.engine.generation.plain import Plain
from sortednet_cli.engine.generation.speculative import Speculative
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
    "History",
    "LookUp",
    "Plain",
    "Sampling",
    "Speculative",
    "Stack",
    "Strategy",
]
