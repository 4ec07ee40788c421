"""The base of all priors: what a regulariser and a denoiser have in common."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError
from invsolve.operator.measurement import chosen
from invsolve.plugins.arguments import Remembering

if TYPE_CHECKING:
    from invsolve.problem import Problem


class Prior(nn.Module, metaclass=Remembering):
    """Base of the two kinds; `examples()` gives the instances that conformance checks run on.

    Attributes:
        batch: number of items when the prior holds data per item (its buffers then lead with it), else None.
    """

    arguments: dict[str, Any]
    batch: int | None = None

    @property
    def device(self) -> torch.device | None:
        """Where the parameters live; None without any."""
        tensor = next(iter([*self.buffers(), *self.parameters()]), None)
        return None if tensor is None else tensor.device

    def extra_repr(self) -> str:
        """The plain arguments that it was made with, as they were written."""
        plain = {name: value for name, value in self.arguments.items() if value is None or isinstance(value, bool | int | float | str)}
        return ", ".join(f"{name}={value!r}" for name, value in plain.items())

    def __repr__(self) -> str:
        from invsolve.io.html import counted

        return f"{type(self).__name__}({', '.join(part for part in (self.extra_repr(), counted(self)) if part)})"

    def _repr_html_(self) -> str:
        from invsolve.io.html import of_prior

        return of_prior(self)

    def space(self, problem: Problem) -> tuple[Problem, Callable[[Tensor], Tensor]]:
        """(inner problem, back): the problem that a solver sees with this prior, and the map of its answer to the image.

        The problem itself and the identity, unless the prior lives in another space than the image: see `LatentPrior`. Solvers
        never call it; `Solver.solve` does, once, and maps every Step that is shown and the answer back.
        """
        return problem, same

    def gaps(self, problem: Problem) -> list[str]:
        """Why this prior cannot serve the problem whatever the solver: [] unless it was made for some problems only."""
        del problem
        return []

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The one shape of the images it is for, None for any: its `in_shape`, unless it lives in another space than the image."""
        return getattr(self, "in_shape", None)

    def example_problem(self, x: Tensor) -> Problem | None:
        """A small problem with the truth x (B, C, H, W) that it serves, where it serves some problems only; None: any will do.

        It is what the conformance checks solve.
        """
        del x
        return None

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """What it looks at of `Problem.context`, for a small problem of `batch` items: what the conformance checks give it."""
        del batch
        return {}

    def select(self, items: Sequence[int]) -> Prior:
        """The prior of some items; itself where it holds no data per item.

        Raises:
            CapabilityError: a prior with data per item that does not say how.
        """
        if self.batch is None:
            return self
        raise CapabilityError(f"{type(self).__name__} holds data for {self.batch} items but no select(); write it to slice its buffers")

    def __getitem__(self, index: int | slice) -> Prior:
        """The prior of one item, or of some; one without data per item serves every item."""
        if self.batch is None:
            return self
        return self.select(chosen(self.batch, index, type(self).__name__))

    def __iter__(self) -> Iterator[Prior]:
        """The priors of the items, one after the other.

        Raises:
            CapabilityError: no data per item, so there is nothing to count through.
        """
        # Without this method Python would count without end, since such a prior has an item for every index.
        if self.batch is None:
            raise CapabilityError(f"{type(self).__name__} holds no data per item: it serves every batch and cannot be iterated over")
        return (self[item] for item in range(self.batch))

    def save(self, path: str | Path) -> None:
        """Write a folder with tensors (safetensors) and configuration (JSON), data per item included; see `invsolve.io.stored`."""
        from invsolve.io.stored import save_prior

        save_prior(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Read what `save` wrote."""
        from invsolve.io.stored import read_prior

        return read_prior(path)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Small instances for the conformance checks."""
        return [cls()]


def same(x: Tensor) -> Tensor:
    """x: the way back of a prior that lives where the image does."""
    return x


def no_prior(given: object) -> str:
    """What was given in the place of a prior, and what to write instead; for errors."""
    if isinstance(given, str):
        from invsolve.plugins import registry

        known = registry().names("prior")
        near = [given.lower()] if given.lower() in known else difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.5)
        name = near[0] if near else "natural"
        return f'given the text {given!r:.60}; load_prior("{name}") makes the prior of that name (from invsolve import load_prior)'
    if isinstance(given, type) and issubclass(given, Prior):
        return f"given the class {given.__name__}; make one of it: {given.__name__}(...)"
    return f"given {type(given).__name__}; invsolve.priors.as_denoiser wraps a network"
