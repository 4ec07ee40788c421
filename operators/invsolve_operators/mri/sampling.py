"""Which points of k-space are measured: 0/1 masks (H, W) of exact counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError, did_you_mean
from invsolve.rng import Rng
from invsolve_operators.masks.mask import checked_mask

PATTERNS = ("equispaced", "random-lines", "gaussian")


def sampled_points(sides: Sequence[int], mask: object, acceleration: float | None, pattern: str, centre: float, seed: int) -> Tensor:
    """The points of k-space that an operator measures, (1, H, W) or (B, 1, H, W): a mask as given, else a pattern (acceleration 4).

    Raises:
        InputError: both a mask and an acceleration, a mask of another form, a pattern that cannot be drawn.
    """
    if mask is not None and acceleration is not None:
        raise InputError("give acceleration (a pattern) or mask (an array), not both")
    rate = 4.0 if acceleration is None else acceleration
    drawn = sampling_mask(sides, pattern, rate, centre, seed) if mask is None else points(mask, sides)
    return checked_mask(drawn, (1, *sides))


def points(mask: object, sides: Sequence[int]) -> Tensor:
    """A mask of k-space as `mask.checked_mask` takes it: one of columns, (W,), serves every row.

    Raises:
        InputError: a mask of columns in another form, with the way to give it.
    """
    value = torch.as_tensor(mask)
    if tuple(value.shape) == (sides[1],):
        return value.expand(tuple(sides))
    if value.numel() == sides[1] != sides[0] * sides[1]:
        raise InputError(f"a mask of columns is (W,) = ({sides[1]},): mask.reshape(-1); given {tuple(value.shape)}")
    if value.ndim < 2:
        allowed = f"(H, W) = {tuple(sides)}, (1, H, W), (B, 1, H, W), or (W,) = ({sides[1]},) of whole columns"
        raise InputError(f"a mask of k-space must be {allowed}; given {tuple(value.shape)}")
    return value


def sampling_mask(
    sides: Sequence[int], pattern: str = "equispaced", acceleration: float = 4.0, centre: float = 0.08, seed: int = 0
) -> Tensor:
    """1 where k-space is measured, zero frequency at (H // 2, W // 2).

    Lines run along the height: all H points of round(W / acceleration) columns, among them a block of round(centre W) columns about
    zero frequency, which counts. "equispaced" spreads the others evenly over what is left, from an offset by the seed;
    "random-lines" draws them; "gaussian" draws round(H W / acceleration) single points with a density that falls off from the
    centre (standard deviation a quarter of each side), a disk of the part `centre` of the points always among them.

    Args:
        sides: (H, W).
        pattern: one of the three.
        acceleration: how many times fewer points than all, at least 1.
        centre: part of the columns (of the points for "gaussian") about zero frequency that is always measured.
        seed: of the offset or the choice.

    Raises:
        InputError: no such pattern, an acceleration below 1, a centre that alone is more than what is measured.

    References:
        fastMRI: An Open Dataset and Benchmarks for Accelerated MRI (Zbontar et al., 2018), arXiv:1811.08839, section 4.2.
        Deviation: counts are exact, where there each line is drawn with a probability.
    """
    height, width = (int(side) for side in sides)
    if pattern not in PATTERNS:
        raise InputError(f"no pattern '{pattern}'{did_you_mean(str(pattern), PATTERNS)} There are: {', '.join(PATTERNS)}")
    if not isinstance(acceleration, int | float) or not (math.isfinite(acceleration) and acceleration >= 1):
        raise InputError(f"acceleration is a number, at least 1; given {acceleration!r}")
    if not isinstance(centre, int | float) or not 0 <= centre <= 1:
        raise InputError(f"centre is the part always measured, a number in [0, 1]; given {centre!r}")
    size = height * width if pattern == "gaussian" else width
    count, kept = max(1, round(size / acceleration)), round(centre * size)
    if kept > count:
        raise InputError(f"the centre alone is {kept} of {size}, more than the {count} that acceleration {acceleration:g} leaves")
    if pattern == "gaussian":
        return gaussian_points(height, width, count, kept, seed)
    first = width // 2 - kept // 2
    line = torch.zeros(width)
    line[first : first + kept] = 1
    others = (line == 0).nonzero().flatten()
    score = Rng(seed, (0,), purpose="sampling").uniform((width,), torch.empty(0, dtype=torch.float64))[0]
    extra = count - kept
    if pattern == "equispaced":
        # The middle of every one of `extra` equal stretches, moved by less than a stretch.
        place = (torch.arange(extra, dtype=torch.float64) + score[0]) * (len(others) / max(1, extra))
        line[others[place.floor().long().clamp_max(len(others) - 1)]] = 1
    else:
        line[others[score[others].argsort()[:extra]]] = 1
    return line.expand(height, width).clone()


def gaussian_points(height: int, width: int, count: int, kept: int, seed: int) -> Tensor:
    """`count` points without replacement, weights exp(-2 (u^2 + v^2)) in units of half a side: by the Gumbel trick."""
    u = (torch.arange(height, dtype=torch.float64) - height // 2) / (height / 2)
    v = (torch.arange(width, dtype=torch.float64) - width // 2) / (width / 2)
    radius = (u[:, None].square() + v.square()).flatten()
    uniform = Rng(seed, (0,), purpose="sampling").uniform((height * width,), torch.empty(0, dtype=torch.float64))[0]
    score = -2 * radius - (-uniform.clamp_min(1e-300).log()).log()
    score[radius.argsort(stable=True)[:kept]] = math.inf
    mask = torch.zeros(height * width)
    mask[score.argsort(descending=True)[:count]] = 1
    return mask.reshape(height, width)
