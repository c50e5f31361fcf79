"""Opened runs, artifacts and stock checkpoints: the sources of sub-models."""
