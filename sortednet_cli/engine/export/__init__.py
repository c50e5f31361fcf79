"""Extraction of sub-models as standalone models, verified while they are written."""
