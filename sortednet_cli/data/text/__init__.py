"""Texts: where they come from, how they become tokens, how tokens are packed and served."""
