"""What a run beside the authors' own code has found in ours (benchmarks/results/parity.md), held by hand recursions."""

import math

import torch

from invsolve import GaussianNoise, Problem
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import DDRM
from invsolve.testing.oracle import DenseOperator


def test_the_first_state_of_ddrm_as_the_authors_have_it_is_stretched_about_their_zero():
    """E5: their first state, in [-1, 1], is divided by sigma_T in the place of sqrt(1 + sigma_T^2): grey, their 0, stays where it is."""
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.01, 0.0]], dtype=torch.float64)  # one component known, one drowned, one not measured
    y = torch.tensor([[0.7, 0.006]], dtype=torch.float64)
    problem = Problem(DenseOperator(matrix), y, GaussianNoise(0.05))
    seen = []

    class Watched(GaussianPrior):
        def forward(self, x, sigma):
            seen.append(x.clone())
            return super().forward(x, sigma)

    DDRM(steps=2, sigma_max=2.0, authors=True).solve(problem, Watched(), generator=3)
    draw = Rng(3, [0]).normal_like(torch.zeros(1, 1, 1, 3, dtype=torch.float64)).flatten()
    level, stretch = 4.0, math.sqrt(1 + 1 / 16)  # of the first state, in [-1, 1]
    theirs = torch.stack(
        [
            2 * y[0, 0] - 1 + math.sqrt(level**2 - (2 * 0.05) ** 2) * draw[0],
            level * draw[1],  # l = 2 * .05 / .01 = 10 is above the level
            level * draw[2],
        ]
    )
    assert torch.allclose(seen[0].flatten(), (1 + stretch * theirs) / 2, rtol=1e-13, atol=1e-13)
