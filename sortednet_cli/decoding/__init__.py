"""Decoding of causal models: plain, leaving early, and drafting with their own first layers."""

from sortednet_cli.decoding.choice import Chooser, Greedy, Sampling
from sortednet_cli.decoding.decoder import Completion, Decoder
from sortednet_cli.decoding.early_exit import EarlyExit
from sortednet_cli.decoding.plain import Plain
from sortednet_cli.decoding.speculative import Adaptive, Fixed, Speculative
from sortednet_cli.decoding.stack import Stack
from sortednet_cli.decoding.strategy import Strategy
from sortednet_cli.decoding.tally import Tally

__all__ = [
    "Adaptive",
    "Chooser",
    "Completion",
    "Decoder",
    "EarlyExit",
    "Fixed",
    "Greedy",
    "Plain",
    "Sampling",
    "Speculative",
    "Stack",
    "Strategy",
    "Tally",
]
