"""Texts: where they come from, how they become tokens, how tokens are packed and served."""

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import TextPart
from sortednet_cli.data.text.texts import Texts, open_texts

__all__ = ["TextFormat", "TextPart", "Texts", "open_texts"]
