"""Architectures of transformers, one module each, and the code that cuts all of them.

To add an architecture, declare it in a module of its own and list it here.
"""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import Architecture, Head, decoder, encoder
from sortednet_cli.families.transformers.bert import BERT
from sortednet_cli.families.transformers.llama import LLAMA
from sortednet_cli.families.transformers.mistral import MISTRAL
from sortednet_cli.families.transformers.qwen2 import QWEN2
from sortednet_cli.families.transformers.roberta import ROBERTA

__all__ = ["ARCHITECTURES", "Architecture", "Head", "decoder", "encoder"]

ARCHITECTURES = (BERT, ROBERTA, LLAMA, MISTRAL, QWEN2)
