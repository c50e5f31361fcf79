"""How far a student's classes are from its teacher's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Divergence = Literal["kl", "alpha"]

MAX_RATIO = 5.0
"""Where AlphaNet clips the ratio of probabilities at alpha = -1."""


def cross_entropy_from(logits: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean cross-entropy [N] of logits [N, K] against the teacher's softmax.

    It is the Kullback-Leibler divergence and what does not depend on the student.
    """
    return F.cross_entropy(logits, teacher.softmax(1))


def alpha_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Compute AlphaNet's adaptive alpha-divergence of logits [N, K] (arXiv 2102.07954).

    With q the student's and p the teacher's probabilities, a row has the larger one of two
    divergences. That at alpha = 1 is KL(p, q), which is large where the student misses a class of
    the teacher; that at alpha = -1 is sum(q (q / p - 1)) / 2, which is large where it is sure of a
    class that the teacher rules out. There the ratio q / p is clipped, so that no class dominates
    the gradient.

    Returns:
        The mean of the divergences. Its gradient is theirs, with the ratio taken as a constant
        that is clipped, as in AlphaNet's code.
    """
    log_q, log_p = logits.log_softmax(1), teacher.log_softmax(1)
    known = log_q.detach()
    q, p = known.exp(), log_p.exp()
    ratio = (known - log_p).exp().clamp(max=MAX_RATIO)
    below, above = (q * (ratio - 1)).sum(1) / 2, (p * (log_p - known)).sum(1)
    weights = torch.where((below > above).unsqueeze(1), q * (0.5 - ratio), p)
    gradient = -(weights * log_q).sum(1)
    return (torch.maximum(below, above) + gradient - gradient.detach()).mean()
