"""Texts: reading, tokenizing, packing and batching."""
