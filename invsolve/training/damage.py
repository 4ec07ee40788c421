"""Training on clean and damaged pictures: pairs of a prior that tells the two apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from scipy import ndimage
from torch import Tensor

from invsolve.data import Here
from invsolve.errors import InputError
from invsolve.recipe.config import alternatives
from invsolve.recipe.parts import build
from invsolve.recipe.tables import Part, Table
from invsolve.training.pairs import Pairs

CLEAN, DAMAGED = 0, 1
Share = Annotated[float, Field(ge=0, le=1)]
# A crop is looked for on the sheets this many times until some of it is damaged.
LOOKS = 8


class Paint:
    """What lies where a picture is damaged: every connected piece is dark or bright, nearly grey, and covers the most of what is below.

        x' = x outside the pieces,   (1 - a) x + a v on a piece,   a uniform on `cover`, v dark or bright, each as likely

    Args:
        dark, bright: ends of the grey levels, uniform.
        cover: ends of the share that covers.
        tint: largest distance of a channel from the piece's grey, uniform.
    """

    def __init__(
        self,
        dark: tuple[float, float] = (0.0, 0.15),
        bright: tuple[float, float] = (0.85, 1.0),
        cover: tuple[float, float] = (0.7, 1.0),
        tint: float = 0.05,
    ) -> None:
        self.dark, self.bright, self.cover, self.tint = dark, bright, cover, tint

    def __call__(self, x: Tensor, keep: Tensor, rng: np.random.Generator) -> Tensor:
        """x (C, H, W) in [0, 1], keep (H, W), 0 where it is damaged."""
        found: Any = ndimage.label(keep.numpy() == 0, np.ones((3, 3)))
        pieces, count = found
        if not count:
            return x
        ends = np.where(rng.random((count, 1)) < 0.5, [self.dark], [self.bright])
        grey = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * rng.random((count, 1))
        colours = np.clip(grey + self.tint * (2 * rng.random((count, len(x))) - 1), 0, 1)
        cover = self.cover[0] + (self.cover[1] - self.cover[0]) * rng.random(count)
        # piece 0 is what is not damaged
        share = torch.from_numpy(np.concatenate([[0], cover])[pieces]).to(x.dtype)
        painted = torch.from_numpy(np.concatenate([np.zeros((1, len(x))), colours])[pieces]).permute(2, 0, 1).to(x.dtype)
        return (1 - share) * x + share * painted


class Damaged(Pairs):
    """(x0, 0) for clean crops, (x0 with damage, 1) for a share of them, and either with the label 2, for none, now and then.

    Args:
        sheets: masks (H, W) larger than the crops, 0 where it is damaged; a crop is damaged as a random part of one of them.
        share: of damaged crops.
        drop: the share without a label.
        paint: what lies there.

    Raises:
        InputError: sheets smaller than the crops, when they are drawn.
    """

    def __init__(self, sheets: Sequence[Tensor], share: float = 0.5, drop: float = 0.1, paint: Paint | None = None) -> None:
        self.sheets, self.share, self.drop, self.paint = list(sheets), share, drop, paint or Paint()

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The crops, some of them damaged, with their labels."""
        damaged = rng.random(len(x0)) < self.share
        target = torch.stack([self._one(x, rng) if bad else x for x, bad in zip(x0, damaged, strict=True)])
        labels = np.where(rng.random(len(x0)) < self.drop, DAMAGED + 1, np.where(damaged, DAMAGED, CLEAN))
        return target, torch.from_numpy(labels.astype(np.int64))

    def _one(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        return self.paint(x, self.part((x.shape[1], x.shape[2]), rng), rng)

    def part(self, sides: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """A random part of a random sheet, one with some damage in it where a few looks find one."""
        part = torch.ones(sides)
        for _ in range(LOOKS):
            sheet = self.sheets[int(rng.integers(len(self.sheets)))]
            if sheet.shape[0] < sides[0] or sheet.shape[1] < sides[1]:
                wanted = f"{sides[0]} x {sides[1]}"
                raise InputError(f"sheets of damage must be as large as the crops, {wanted}; given one of {tuple(sheet.shape)}")
            top, left = (int(rng.integers(have - need + 1)) for have, need in zip(sheet.shape, sides, strict=True))
            part = sheet[top : top + sides[0], left : left + sides[1]]
            if not bool(part.all()):
                break
        return part

    def fixed(self, x0: Tensor) -> Tensor:
        """The label 0: images that are looked at in training are clean."""
        return torch.full((len(x0),), CLEAN, device=x0.device)


class DamageCondition(Table):
    """Whether a picture is damaged, class 1, or clean, class 0; the damage is painted where masks of the registry leave out pixels."""

    kind: Literal["damage"]
    """What it is told from others by."""
    operator: Annotated[list[Part], BeforeValidator(alternatives), Field(min_length=1, max_length=100)]
    """The masks: one operator with an attribute `mask`, or several; in_shape is (1, side, side)."""
    side: Annotated[int, Field(ge=1, le=4096)] = 256
    """Side of the masks in pixels, that of the pictures the prior is for; crops are damaged as parts of them."""
    draws: Annotated[int, Field(ge=1, le=4096)] = 16
    """How many of each operator are made, with seeds `seed`, `seed` + 1, ..."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """The first of them."""
    share: Share = 0.5
    """Of damaged crops."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the crops that are shown without their label."""
    classes: Literal[2] = 2
    """Clean and damaged; the label 2 stands for none."""

    def pairs(self, shape: tuple[int, int, int], folder: Path) -> Pairs:
        """What draws them.

        Raises:
            InputError: no operators with a mask, or sheets smaller than the crops.
        """
        if self.side < max(shape[1:]):
            raise InputError(f"side, of the masks, must be at least that of the crops, {max(shape[1:])}; given {self.side}")
        sheets = []
        for part in self.operator:
            for seed in range(self.seed, self.seed + self.draws):
                made = build("operator", part, Here(folder), in_shape=(1, self.side, self.side), seed=seed)
                mask = getattr(made, "mask", None)
                if not isinstance(mask, Tensor):
                    raise InputError(f"operator must be one with a mask, such as film-mask; {part.name} has none")
                sheets.append(mask.reshape(-1, self.side, self.side)[0])
        return Damaged(sheets, self.share, self.drop)
