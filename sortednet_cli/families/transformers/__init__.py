"""Architectures of transformers, one module each, and the code that cuts all of them.

To add an architecture, declare it in a module of its own and list it here.
"""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import Architecture, Head, decoder, encoder
from sortednet_cli.families.transformers.bert import BERT
from sortednet_cli.families.transformers.distilbert import DISTILBERT
from sortednet_cli.families.transformers.electra import ELECTRA
from sortednet_cli.families.transformers.gemma3 import GEMMA3
from sortednet_cli.families.transformers.gpt2 import GPT2
from sortednet_cli.families.transformers.granite import GRANITE
from sortednet_cli.families.transformers.llama import LLAMA
from sortednet_cli.families.transformers.mistral import MISTRAL
from sortednet_cli.families.transformers.modernbert import MODERNBERT
from sortednet_cli.families.transformers.olmo2 import OLMO2
from sortednet_cli.families.transformers.phi3 import PHI3
from sortednet_cli.families.transformers.qwen2 import QWEN2
from sortednet_cli.families.transformers.qwen3 import QWEN3
from sortednet_cli.families.transformers.roberta import ROBERTA
from sortednet_cli.families.transformers.smollm3 import SMOLLM3
from sortednet_cli.families.transformers.vit import VIT

__all__ = ["ARCHITECTURES", "Architecture", "Head", "decoder", "encoder"]

ENCODERS = (BERT, ROBERTA, DISTILBERT, ELECTRA, MODERNBERT, VIT)
DECODERS = (LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, OLMO2, GRANITE, GEMMA3, PHI3, GPT2)
ARCHITECTURES = (*ENCODERS, *DECODERS)
