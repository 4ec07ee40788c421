"""Random numbers: one CPU stream per batch item, so that an item's answer does not depend on its batch or its device."""

import hashlib
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError


def derive(*key: object) -> int:
    """A 63-bit seed from anything that prints."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Rng:
    """Independent streams, one per item, keyed by (seed, purpose, sample, item).

    Args:
        seed: any int; 0 is a seed.
        items: the items' ids; item 7 draws the same numbers alone and in any batch.
        sample: index among several posterior samples; sample 0 is the plain run.
        purpose: "solve" or "simulate": the measurement's noise and the solver's must not be the same numbers.
    """

    def __init__(self, seed: int, items: Sequence[int], sample: int = 0, purpose: str = "solve") -> None:
        self.seed, self.items, self.sample, self.purpose = int(seed), tuple(items), sample, purpose
        self.streams = [torch.Generator().manual_seed(derive(self.seed, purpose, sample, item)) for item in self.items]

    @classmethod
    def make(cls, generator: "int | torch.Generator | Rng | None", items: Sequence[int], sample: int = 0, purpose: str = "solve") -> "Rng":
        """From what a user passes: an int, a torch.Generator (one draw is taken from it), an Rng (used as it is) or None (a fresh seed).

        Raises:
            InputError: another type, or an Rng for another number of items.
        """
        if isinstance(generator, Rng):
            if len(generator.items) != len(items):
                raise InputError(
                    f"Rng has {len(generator.items)} streams, the batch has {len(items)} items; make one with Rng(seed, items)"
                )
            return generator
        if isinstance(generator, torch.Generator):
            seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        elif generator is None:
            seed = secrets.randbits(63)
        elif isinstance(generator, int) and not isinstance(generator, bool):
            seed = generator
        else:
            raise InputError(f"generator must be an int, a torch.Generator, an Rng or None, not {type(generator).__name__}")
        return cls(seed, items, sample, purpose)

    def chosen(self, pairs: Sequence[tuple[int, int]]) -> "Rng":
        """The streams of some (sample, place in the batch) pairs; those of sample 0 are this Rng's own, and move with it."""
        chosen = Rng(self.seed, (), self.sample, self.purpose)
        chosen.items = tuple(self.items[place] for _, place in pairs)
        chosen.streams = [
            self.streams[place] if sample == 0 else torch.Generator().manual_seed(derive(self.seed, "solve", sample, self.items[place]))
            for sample, place in pairs
        ]
        return chosen

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) standard normal numbers in like's dtype and device; complex: real and imaginary part have variance 1/2 each."""
        draws = [torch.randn(tuple(shape), generator=stream, dtype=like.dtype) for stream in self.streams]
        return self._stack(draws, shape, like)

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of x's shape (B, ...)."""
        return self.normal(x.shape[1:], x)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) numbers uniform on [0, 1)."""
        draws = [torch.rand(tuple(shape), generator=stream, dtype=like.real.dtype) for stream in self.streams]
        return self._stack(draws, shape, like)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson counts with the given rate (B, ...)."""
        draws = [torch.poisson(one.cpu(), generator=stream) for one, stream in zip(rate, self.streams, strict=True)]
        return self._stack(draws, rate.shape[1:], rate)

    def _stack(self, draws: list[Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
        if not draws:
            return torch.empty((0, *shape), dtype=like.dtype, device=like.device)
        return torch.stack(draws).to(like.device)

    def state(self) -> list[Tensor]:
        """The streams' positions."""
        return [stream.get_state() for stream in self.streams]

    def restore(self, state: list[Tensor]) -> "Rng":
        """Go to positions taken by `state`; returns self."""
        for stream, position in zip(self.streams, state, strict=True):
            stream.set_state(position)
        return self

    def __repr__(self) -> str:
        return f"Rng(seed={self.seed}, items={self.items}, sample={self.sample}, purpose={self.purpose!r})"
