"""What a paper measures, as a row: an operator of this package with its arguments fixed, where they come from and at what noise.

    class DAPSRandomMask(OnePerImage, RandomRangeMask, row=Row(fixed={"least": 0.7, "most": 0.7}, noise=0.025, source=DAPS)):
        "DAPS's random inpainting: exactly 70 % of the pixels removed."

A row is a class statement without code: type checkers, pickles and editors need nothing else to know it. What it is made with, its
examples and the rest of its docstring come from here; its name in the registry stands where every operator's does, in `__init__.pyi`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from textwrap import fill
from typing import Any, ClassVar

from invsolve.operator import Operator, Shape, image_shape

WIDTH = 130  # of a line


@dataclass(frozen=True)
class Row:
    """The columns beside the class, its base and its sentence.

    Args:
        fixed: the base's arguments besides in_shape and those that the preset leaves free (seed, items), which the base takes as they
            are; or a function of the image's shape and what is left free to all of the base's besides in_shape.
        noise: standard deviation of the noise that belongs to it, for images in [0, 1]: half of what a paper states for [-1, 1].
        source: authors, year, arXiv number and place.
        differs: from the paper, or from the authors' code, and why.
        sides: what the sides must be, where not every size will do.
        tried: shapes of two examples; none is larger than it need be.
    """

    fixed: Mapping[str, Any] | Callable[..., Mapping[str, Any]]
    noise: float
    source: str
    differs: str = ""
    sides: str = ""
    tried: tuple[Shape, Shape] = ((3, 8, 8), (1, 9, 7))

    def arguments(self, in_shape: Sequence[int], free: Mapping[str, Any]) -> dict[str, Any]:
        """What the base is made with, besides in_shape."""
        if isinstance(self.fixed, Mapping):
            return {**self.fixed, **free}
        return dict(self.fixed(image_shape(in_shape), **free))

    def text(self, sentence: str, takes: Sequence[str]) -> str:
        """The docstring."""
        noise = f"Its noise: sigma_y {self.noise:g} in [0, 1]." if self.noise else "It has no noise."
        prose = [sentence, *(fill(one, WIDTH, break_long_words=False, break_on_hyphens=False) for one in (noise, self.differs) if one)]
        sections = {"Args:": [takes[0] + self.sides, *takes[1:]], "References:": [self.source]}
        return "\n\n".join([*prose, *("\n".join([title, *(f"    {line}." for line in lines)]) for title, lines in sections.items())])


class Preset:
    """Base of the rows, before the operator whose arguments they fix: nothing is left free but in_shape."""

    row: ClassVar[Row]
    takes: ClassVar[tuple[str, ...]] = ("in_shape: (C, H, W)",)

    def __init_subclass__(cls, row: Row | None = None, **options: Any) -> None:
        """Take the row, and complete the docstring."""
        super().__init_subclass__(**options)
        if row is not None:
            cls.row, cls.__doc__ = row, row.text(cls.__doc__ or "", cls.takes)

    def __init__(self, in_shape: Sequence[int]) -> None:
        self.make(in_shape)

    def make(self, in_shape: Sequence[int], **options: Any) -> None:
        """The base's constructor."""
        base: Any = super()
        base.__init__(in_shape, **self.row.arguments(in_shape, options))

    @classmethod
    def examples(cls) -> list[Operator]:
        """As it is; the second shape with everything set that is left free."""
        build: Any = cls
        free = {name: value for name, value in (("seed", 1), ("items", 3)) if name in signature(cls).parameters}
        return [build(cls.row.tried[0]), build(cls.row.tried[1], **free)]


class Seeded(Preset):
    """A preset that is drawn, once for all images."""

    takes = (*Preset.takes, "seed: of what is drawn")

    def __init__(self, in_shape: Sequence[int], seed: int = 0) -> None:
        self.make(in_shape, seed=seed)


class OnePerImage(Preset):
    """A preset that is drawn for every image, or once for all."""

    takes = (
        *Preset.takes,
        "seed: of what is drawn; image i's is keyed by (seed, i), whatever their number",
        "items: number of images with a draw each; one for all where None",
    )

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        self.make(in_shape, seed=seed, items=items)
