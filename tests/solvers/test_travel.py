"""The schedule of time travel and the way up."""

import math
from itertools import pairwise

import pytest
import torch

from invsolve.errors import InputError
from invsolve.rng import Rng
from invsolve.solvers import RePaint
from invsolve.solvers.diffusion.travel import go_up, visits


def authors(levels, jump, repeats):
    """RePaint's own rule, on times that count up to the noise: where a pair of neighbours goes down, the network is called at its first."""
    jumps = dict.fromkeys(range(0, levels - jump, jump), repeats - 1)
    time, times = levels, []
    while time >= 1:
        time -= 1
        times.append(time)
        if jumps.get(time, 0) > 0:
            jumps[time] -= 1
            for _ in range(jump):
                time += 1
                times.append(time)
    times.append(-1)
    return [levels - 1 - first for first, second in pairwise(times) if second < first]


@pytest.mark.parametrize(
    ("levels", "jump", "repeats", "evaluations"),
    [
        (250, 10, 10, 2410),
        (250, 10, 2, 490),
        (100, 10, 10, 910),
        (250, 1, 1, 250),
        (20, 1, 5, 96),
        (5, 2, 3, 13),
        (4, 8, 3, 4),
        (1, 1, 9, 1),
    ],
)
def test_the_schedule_is_the_papers(levels, jump, repeats, evaluations):
    found = visits(levels, jump, repeats)
    assert found == authors(levels, jump, repeats)
    assert len(found) == evaluations == levels + max(0, math.ceil((levels - jump) / jump)) * jump * (repeats - 1)


def test_a_short_schedule_by_hand():
    """Levels 0 to 4: jumps of two at 4 and 2, up to 2 and 0."""
    assert visits(5, 2, 2) == [0, 1, 0, 1, 2, 3, 2, 3, 4]
    assert visits(3, 1, 3) == [0, 0, 0, 1, 1, 1, 2]
    assert visits(3) == [0, 1, 2]


def test_going_up_adds_the_variance_that_is_missing():
    x = torch.full((1, 1, 2, 3), 0.3, dtype=torch.float64)
    wanted = 0.3 + 0.4 * Rng(3, [0]).normal_like(x)  # 0.5^2 - 0.3^2 = 0.4^2
    assert torch.allclose(go_up(x, 0.3, 0.5, Rng(3, [0])), wanted, rtol=0, atol=1e-15)
    assert torch.equal(go_up(x, 0.5, 0.5, Rng(3, [0])), x)


def test_what_is_no_count_is_refused():
    RePaint(jump=1, repeats=1)
    for wrong in (0, -1, 1.5):
        with pytest.raises(InputError, match="jump"):
            RePaint(jump=wrong, repeats=1)  # pyright: ignore
        with pytest.raises(InputError, match="repeats"):
            RePaint(jump=1, repeats=wrong)  # pyright: ignore
