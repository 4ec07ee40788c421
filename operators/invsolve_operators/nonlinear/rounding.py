"""Rounding with a gradient that stands for something: the straight-through rule."""

import torch
from torch import Tensor

STRAIGHT_THROUGH = "straight-through: rounding counts as the identity"


def rounded(x: Tensor) -> Tensor:
    """round(x), to even at halves; its gradient is that of x.

    References:
        Estimating or Propagating Gradients Through Stochastic Neurons (Bengio et al., 2013), arXiv:1308.3432, section 4.
    """
    return x + (torch.round(x) - x).detach()
