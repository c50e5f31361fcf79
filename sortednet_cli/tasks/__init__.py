"""Tasks: what a batch is, its loss and its metrics."""

from sortednet_cli.tasks.classification import Batch, Classification

__all__ = ["Batch", "Classification"]
