"""Random numbers for thousands of chains of one problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.rng import Rng, derive


class Pooled(Rng):
    """One stream for all items, a tenth of the time of a stream for each: for the law of many chains, where no single one is asked about.

    An item's numbers depend on how many items there are, so it is no generator for images. Pass it as `generator=Pooled(seed, items)`.
    """

    def __init__(self, seed: int, items: Sequence[int], sample: int = 0, purpose: str = "solve") -> None:
        super().__init__(seed, (), sample, purpose)
        self.items = tuple(items)
        self.streams = [torch.Generator().manual_seed(derive(self.seed, purpose, sample, "pooled"))]

    def chosen(self, pairs: Sequence[tuple[int, int]]) -> Rng:
        """Itself: its rows cannot be told apart."""
        assert list(pairs) == [(0, place) for place in range(len(self.items))], "Pooled serves whole batches in one piece"
        return self

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) standard normal numbers."""
        return torch.randn(len(self.items), *shape, generator=self.streams[0], dtype=like.dtype).to(like.device)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) numbers uniform on [0, 1)."""
        return torch.rand(len(self.items), *shape, generator=self.streams[0], dtype=like.real.dtype).to(like.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson counts with the given rate (B, ...)."""
        return torch.poisson(rate.cpu(), generator=self.streams[0]).to(rate.device)
