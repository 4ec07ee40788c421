"""Seconds and network evaluations that a run may take, shared among its parts."""

from __future__ import annotations

import time


class Budget:
    """What is left of what a run was given; None is no bound.

    Every part gets its share of what is left, by its number of images, so that all of them come equally far and what one did not use
    goes to the next.

    Args:
        seconds: wall clock.
        evaluations: network evaluations per item, over all samples, counted as `Solution.nfe` is.
        batch: items.
        pairs: images to make, items times samples.
        spent: rows that went through the network already, in a run that is taken up again.
    """

    def __init__(self, seconds: float | None, evaluations: int | None, batch: int, pairs: int, spent: int = 0) -> None:
        self.began, self.seconds = time.perf_counter(), seconds
        self.rows = None if evaluations is None else evaluations * batch - spent
        self.pairs = pairs

    def share(self, pairs: int) -> Share:
        """That of a part of so many images."""
        part = pairs / max(1, self.pairs)
        seconds = None if self.seconds is None else (self.seconds - (time.perf_counter() - self.began)) * part
        return Share(seconds, None if self.rows is None else self.rows * part)

    def used(self, pairs: int, rows: int) -> None:
        """A part has ended."""
        self.pairs -= pairs
        if self.rows is not None:
            self.rows -= rows


class Share:
    """The budget of one part: over as soon as a step as dear as the dearest so far would pass it."""

    def __init__(self, seconds: float | None = None, rows: float | None = None) -> None:
        self.seconds, self.rows = seconds, rows
        self.began = self.before = time.perf_counter()
        self.counted = self.dearest = 0

    def over(self, rows: int) -> bool:
        """After a step, with so many rows through the network so far in this part."""
        now = time.perf_counter()
        took, self.dearest = now - self.before, max(self.dearest, rows - self.counted)
        self.before, self.counted = now, rows
        late = self.seconds is not None and now - self.began + took > self.seconds
        return late or (self.rows is not None and rows + self.dearest > self.rows * (1 + 1e-9))
