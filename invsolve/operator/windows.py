"""Rectangles of an image, on which an operator that looks no further than its neighbours can be had alone: `Operator.window`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invsolve.errors import InputError


@dataclass(frozen=True)
class Window:
    """Pixels top to top + height - 1 and left to left + width - 1 of an image.

    Args:
        top, left: the first pixel, counted from 0.
        height, width: how many.

    Raises:
        InputError: no whole numbers, a negative place or no pixel.
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        given = (self.top, self.left, self.height, self.width)
        if any(isinstance(one, bool) or not isinstance(one, int) for one in given) or min(given[:2]) < 0 or min(given[2:]) < 1:
            raise InputError(f"a window is (top, left, height, width), whole numbers, from 0 and at least 1 pixel; given {given}")

    def of(self, image: Tensor) -> Tensor:
        """The window of a tensor (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def over(self, stride: int) -> Window:
        """The same window where an entry stands for stride x stride pixels.

        Raises:
            InputError: its border runs through an entry.
        """
        given = (self.top, self.left, self.height, self.width)
        if any(one % stride for one in given):
            raise InputError(f"the window {given} cuts through an entry of {stride} x {stride} pixels; take multiples of {stride}")
        return Window(*(one // stride for one in given))
