"""A thousandth of H: one chain of ScoreALD whatever H knows of itself, DDRM continuous in s, and the yardstick for networks."""

import math

import planted_faults_solvers as planted
import pytest
import torch
from invsolve_operators import PaddedBlur
from turns import one_in

from invsolve import Capability, GaussianNoise, Operator, Problem, load_prior
from invsolve.priors import GaussianPrior
from invsolve.solvers import DDRM, DPS, ScoreALD
from invsolve.testing.oracle import DenseOperator, normal
from invsolve.testing.subjects import Coupled, Kept
from invsolve.testing.units import gaussian_answer, matrix_of, moved_by_response, rms

SHAPE = (1, 6, 6)


def problem_with(operator, sigma=0.05):
    return Problem(
        operator,
        operator(0.5 + 0.2 * normal(2, *operator.in_shape, seed=1)) + sigma * normal(2, *operator.out_shape, seed=2),
        GaussianNoise(sigma),
    )


@pytest.mark.parametrize("noise", ["consistent", "langevin"])
def test_score_ald_is_one_chain_with_an_svd_and_without(noise):
    """H that has no more than an adjoint, and the same H as a matrix: a tenth of what the kit allows, for what CG leaves."""
    operator = PaddedBlur(SHAPE, kernel=torch.ones(3, 3).double() / 9)
    assert not operator.has(Capability.SVD)
    assert not operator.has(Capability.PROX)
    matrix = Operator.from_matrix(matrix_of(operator), operator.in_shape, operator.out_shape)
    problem, prior = problem_with(operator), GaussianPrior(0.5, 0.25)
    same = Problem(matrix, problem.y, problem.noise)
    solver = ScoreALD(steps=24, noise=noise)
    both = [solver.solve(one, prior, generator=3).x for one in (problem, same)]
    assert rms(both[0] - both[1]) < 1e-3 * rms(gaussian_answer(problem, prior)[1])


@pytest.mark.parametrize("eta_b", [1.0, 0.7])
def test_ddrm_is_continuous_in_a_singular_value(eta_b):
    """Where a component's noise is a level of the grid, its first one among them, and where s goes to 0: no jump.

    The paper's cases differ there by up to the prior's standard deviation; from one side to the other of such a place, 2e-9 of s
    apart, the answer may move by that times its slope in log s, below 100 here.
    """
    solver, prior, sigma_y = DDRM(steps=12, eta_b=eta_b), GaussianPrior(0.5, 0.25), 0.05
    y = torch.tensor([[0.4, 0.7]], dtype=torch.float64)

    def answer(s):
        return solver.solve(
            Problem(DenseOperator(torch.diag(torch.tensor([1.0, s], dtype=torch.float64))), y, GaussianNoise(sigma_y)), prior, generator=0
        ).x

    for level in solver.sigmas(prior)[:-1]:
        s = sigma_y / level
        if s < 1:  # the other component keeps |H|
            assert rms(answer(s * (1 + 1e-9)) - answer(s * (1 - 1e-9))) < 2e-7, level
    assert rms(answer(1e-9) - answer(0.0)) < 1e-6
    assert rms(answer(0.01) - answer(0.0)) > 1e-3  # s matters, where it is large enough


SOUND = {"sound": planted.Sound(steps=30), "dps": DPS(steps=8), "ddrm": DDRM(steps=8), "score-ald": ScoreALD(steps=8)}
OPERATORS = {"mask": Kept(SHAPE), "coupled": Coupled(SHAPE)}


# In a plain run two solvers with each operator.
@pytest.mark.parametrize(
    ("name", "operator"), one_in(2, [pytest.param(name, kind) for name in SOUND for kind in OPERATORS], lambda *cell: cell)
)
def test_the_yardstick_for_networks_passes_what_is_sound(name, operator):
    prior = load_prior("dncnn-gray", precision="float64")
    assert moved_by_response(SOUND[name], problem_with(OPERATORS[operator]), prior) < 1


def test_the_yardstick_for_networks_finds_a_start_at_the_pseudo_inverse():
    """What y does not say is 0 in pinv(H) y and noise over 1e-3 in pinv(H') y, of which few steps forget little."""
    prior = load_prior("dncnn-gray", precision="float64")
    moved = moved_by_response(planted.StartsAtPinv(steps=5), problem_with(Kept(SHAPE)), prior)
    assert moved > 1
    assert math.isfinite(moved)
