"""Time travel: the order in which a sampler visits its noise levels when it goes back up now and then, and the way up, in VE form.

A sampler that only goes down settles what is coarse before it has seen what is fine; going up and down again harmonises both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from invsolve.rng import Rng


def visits(levels: int, jump: int = 1, repeats: int = 1) -> list[int]:
    """The indices of the levels at which the network is evaluated, in order; 0 is the first (highest) of `levels`, 0 noise not among them.

    Evaluation n leads from level v_n to v_n + 1; where v_{n + 1} is not that level, the state then goes up to v_{n + 1} = v_n + 1 - jump.
    That happens repeats - 1 times at every jump-th level, counted from the last one, from which `jump` levels can be gone up:

        len(visits) = levels + ceil((levels - jump) / jump) jump (repeats - 1), levels where jump >= levels

    Args:
        levels: noise levels above 0, at least 1.
        jump: how many levels it goes up, at least 1.
        repeats: how often the way down is gone, at least 1: 1 never goes up.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 4.2 and the schedule of its code (250, 10, 10: 2410 evaluations).
    """
    left = dict.fromkeys(range(levels - 1, jump - 1, -jump), repeats - 1)
    found, at = [], 0
    while at < levels:
        found.append(at)
        at += 1
        if left.get(at, 0) > 0:
            left[at] -= 1
            at -= jump
    return found


def legs(sigmas: Sequence[float], jump: int, repeats: int) -> list[tuple[float, float, float]]:
    """(sigma, following, reached) of every evaluation: its level, the one it leads down to, and the one the state has then gone up to.

    Args:
        sigmas: the grid, ending at 0.
        jump, repeats: see `visits`.
    """
    path = [*visits(len(sigmas) - 1, jump, repeats), len(sigmas) - 1]
    return [(sigmas[at], sigmas[at + 1], sigmas[ahead]) for at, ahead in pairwise(path)]


def go_up(x: Tensor, sigma: float, higher: float, rng: Rng) -> Tensor:
    """A state with noise sigma, given as much fresh noise as level `higher` >= sigma has more: x + sqrt(higher^2 - sigma^2) z.

    One draw, whatever the number of levels between.
    """
    return x + math.sqrt(higher**2 - sigma**2) * rng.normal_like(x)
