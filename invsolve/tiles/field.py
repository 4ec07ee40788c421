"""Random numbers that belong to places of a large image, so that what is drawn at a pixel does not depend on how the image is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invsolve.operator.windows import Window
from invsolve.rng import Rng, derive

SIDE = 64  # of the squares that are drawn at once, whatever the pieces
COUNT = 8  # bytes of a number of draws


class Field(Rng):
    """Draws of the shape of a window are cut out of those of the whole image: a square of 64 x 64 places has a stream of its own, keyed by
    (seed, purpose, sample, item, number of the draw, row and column of the square). Draws of another shape are the same in every window.

    Args:
        seed, items, sample, purpose: as of `Rng`.
        window: of the image.
        strides: pixels per entry of y, or of each of several: draws of y's shape are those of a field of their own.
    """

    def __init__(
        self, seed: int, items: Sequence[int], window: Window, strides: Sequence[int] = (1,), sample: int = 0, purpose: str = "solve"
    ) -> None:
        super().__init__(seed, items, sample, purpose)
        self.window, self.strides = window, strides
        self.rows = [(sample, item) for item in self.items]
        self.counts = [torch.zeros(1, dtype=torch.int64) for _ in self.rows]

    def chosen(self, pairs: Sequence[tuple[int, int]]) -> Field:
        """As `Rng.chosen`; the counts of sample 0 move with this one's."""
        plain = super().chosen(pairs)
        found = Field(self.seed, (), self.window, self.strides, self.sample, self.purpose)
        found.items, found.streams = plain.items, plain.streams
        found.rows = [(self.sample if sample == 0 else sample, self.items[place]) for sample, place in pairs]
        found.counts = [self.counts[place] if sample == 0 else torch.zeros(1, dtype=torch.int64) for sample, place in pairs]
        return found

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) standard normal numbers; see the class."""
        drawn = self._drawn(shape, lambda size, stream: torch.randn(size, generator=stream, dtype=like.dtype))
        return super().normal(shape, like) if drawn is None else self._stack(drawn, shape, like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """(B, *shape) numbers uniform on [0, 1); see the class."""
        drawn = self._drawn(shape, lambda size, stream: torch.rand(size, generator=stream, dtype=like.real.dtype))
        return super().uniform(shape, like) if drawn is None else self._stack(drawn, shape, like)

    def _drawn(self, shape: Sequence[int], draw: Callable[[tuple[int, ...], torch.Generator], Tensor]) -> list[Tensor] | None:
        """The window's numbers per row; None where the shape is no image's and no measurement's."""
        for stride in dict.fromkeys((1, *self.strides)):
            if len(shape) >= 2 and tuple(shape[-2:]) == (self.window.height // stride, self.window.width // stride):
                top, left = self.window.top // stride, self.window.left // stride
                place = Window(top, left, shape[-2], shape[-1])
                return [self._row(row, count, stride, place, shape, draw) for row, count in zip(self.rows, self.counts, strict=True)]
        return None

    def _row(
        self,
        row: tuple[int, int],
        count: Tensor,
        stride: int,
        place: Window,
        shape: Sequence[int],
        draw: Callable[[tuple[int, ...], torch.Generator], Tensor],
    ) -> Tensor:
        key = (self.seed, self.purpose, *row, "field", stride, int(count))
        count += 1
        lead = tuple(shape[:-2])
        spans = [
            range(first // SIDE, (first + length - 1) // SIDE + 1) for first, length in ((place.top, shape[-2]), (place.left, shape[-1]))
        ]
        lines = []
        for down in spans[0]:
            squares = [draw((*lead, SIDE, SIDE), torch.Generator().manual_seed(derive(*key, down, across))) for across in spans[1]]
            lines.append(torch.cat(squares, dim=-1))
        wide = torch.cat(lines, dim=-2)
        return Window(place.top % SIDE, place.left % SIDE, shape[-2], shape[-1]).of(wide)

    def state(self) -> list[Tensor]:
        """The streams' positions, with the numbers of draws behind them."""
        return [torch.cat([state, count.view(torch.uint8)]) for state, count in zip(super().state(), self.counts, strict=True)]

    def restore(self, state: list[Tensor]) -> Field:
        """Go to positions taken by `state`; returns self."""
        super().restore([one[:-COUNT].clone() for one in state])
        for count, one in zip(self.counts, state, strict=True):
            count.copy_(one[-COUNT:].clone().view(torch.int64))
        return self
