"""Counts network evaluations where they are made, for one run: forward and backward, in rows of a batch.

A denoiser that calls other denoisers (a wrapper, a guided prior) is not an evaluation of its own: the innermost calls count, each as many
as its denoiser says one call is (`Denoiser.evaluations`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")
_CURRENT: ContextVar[Meter | None] = ContextVar("meter", default=None)


def current() -> Meter | None:
    """The meter of the run that is going on in this thread, if any."""
    return _CURRENT.get()


class Meter:
    """Rows that went forward and backward through networks, and the seconds spent there."""

    def __init__(self) -> None:
        self.forward, self.backward, self.seconds = 0, 0, 0.0
        self._inner: list[bool] = []  # per open call: whether a denoiser was called inside it

    def counts(self) -> dict[str, float]:
        """What has been counted, to go on from."""
        return {"forward": self.forward, "backward": self.backward, "network": self.seconds}

    def resume(self, counts: Mapping[str, float]) -> None:
        """Go on from what `counts` gave."""
        self.forward, self.backward, self.seconds = int(counts["forward"]), int(counts["backward"]), counts["network"]

    def call(self, function: Callable[..., Tensor], x: Tensor, sigma: Any, evaluations: int = 1) -> Tensor:
        """function(x, sigma), counted as so many evaluations unless it calls denoisers itself."""
        self._inner.append(False)
        began = time.perf_counter()
        try:
            out = function(x, sigma)
        finally:
            wraps = self._inner.pop()
            if self._inner:
                self._inner[-1] = True
            else:
                self.seconds += time.perf_counter() - began
        if not wraps:
            self.forward += evaluations * len(x)
            if isinstance(out, Tensor) and out.requires_grad:
                self._watch(out, evaluations)
        return out

    def _watch(self, out: Tensor, evaluations: int) -> None:
        """Count the backward passes through an output."""
        rows = evaluations * len(out)

        def passed(_: Tensor) -> None:
            self.backward += rows

        try:
            out.register_hook(passed)
        except RuntimeError:  # inside a functional transform there is no graph to hang a hook on
            return

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what is done inside as the network's time: for backward passes; those inside a call are in its time."""
        began, inside = time.perf_counter(), bool(self._inner)
        try:
            yield
        finally:
            if not inside:
                self.seconds += time.perf_counter() - began

    def watch(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps, counted while they are made and not while the caller has them."""
        while True:
            token = _CURRENT.set(self)
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                _CURRENT.reset(token)
            yield step


@contextmanager
def network_time() -> Iterator[None]:
    """Count what is done inside as the network's time, where a run is metered."""
    meter = current()
    if meter is None:
        yield
    else:
        with meter.timed():
            yield
