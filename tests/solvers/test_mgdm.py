"""MGDM: its bridge and its draw given y against Gaussian algebra written here; more sweeps follow y further."""

import pytest
import torch
from invsolve_operators import Identity, PhaseRetrieval

from invsolve import GaussianNoise, InputError, Problem
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import MGDM
from invsolve.solvers.decoupled.mgdm import between, bridge
from invsolve.testing.oracle import DenseOperator, Gaussian, gaussian_case, standard_errors
from invsolve.testing.pooled import Pooled

CHAINS, SIZE = 4000, 8
EYE = torch.eye(SIZE, dtype=torch.float64)


def conditional(cov, seen, wanted, values):
    """Mean and variance of one coordinate of a centred Gaussian given two others."""
    inside = cov[seen][:, seen]
    weights = torch.linalg.solve(inside, cov[seen][:, [wanted]]).flatten()
    return weights @ values, cov[wanted, wanted] - weights @ cov[seen][:, [wanted]].flatten()


@pytest.mark.parametrize(("a", "b", "c"), [(0.0, 0.3, 1.1), (0.2, 0.3, 0.5), (0.2, 0.5, 0.5)])
def test_the_bridge_is_the_conditional_of_a_walk(a, b, c):
    """x_a = x_0 + a z, then independent increments; x_0 wide, so that what is given of the middle are its two neighbours."""
    wide = 1e3**2
    levels = torch.tensor([a, b, c], dtype=torch.float64) ** 2
    cov = wide + torch.minimum(levels[:, None], levels)
    lower, upper = torch.tensor([0.4], dtype=torch.float64), torch.tensor([-0.7], dtype=torch.float64)
    mean, width = bridge(lower, upper, a, b, c)
    if b == c:
        assert float(mean) == pytest.approx(-0.7)
        assert float(width) == 0
        return
    exact, variance = conditional(cov, [0, 2], 1, torch.cat([lower, upper]))
    assert float(mean) == pytest.approx(float(exact), abs=1e-6)  # the algebra loses 1e6 of 1e16
    assert float(width) ** 2 == pytest.approx(float(variance), abs=1e-6)


def test_a_draw_of_the_bridge_has_its_mean_and_width():
    lower, upper = torch.full((CHAINS, 1), 0.4, dtype=torch.float64), torch.full((CHAINS, 1), -0.7, dtype=torch.float64)
    x = between(lower, upper, 0.2, torch.full((CHAINS,), 0.5, dtype=torch.float64), 1.0, Pooled(0, range(CHAINS)))
    mean, width = bridge(lower[:1], upper[:1], 0.2, 0.5, 1.0)
    mean_error, cov_error = standard_errors(x.reshape(CHAINS, 1, 1, 1), Gaussian(mean.flatten(), width.square().reshape(1, 1)))
    assert mean_error < 4
    assert cov_error < 4


@pytest.mark.parametrize("name", ["S", "G"])
def test_the_state_given_y_is_drawn_exactly(name):
    """x_tau ~ N(m, w^2) N(y; A D x_tau, v): D of the Gaussian prior is affine, so that its law is; gradient steps until they stand."""
    law, prior, matrix, y = gaussian_case(name, 0, size=SIZE, rows=4, sigma=0.05)
    tau, sigma, gain = 0.3, 0.6, float(torch.linalg.matrix_norm(matrix, 2))
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, -1), GaussianNoise(0.05))
    x_0, x = (torch.linspace(low, high, SIZE, dtype=torch.float64).expand(CHAINS, 1, 1, SIZE) for low, high in ((0.0, 1.0), (1.0, -1.0)))
    drawn = MGDM(inner=400)._drawn(problem, prior, x_0, x, tau, sigma, Pooled(0, range(CHAINS)))
    centre, width = bridge(x_0[:1], x[:1], 0.0, tau, sigma)
    denoise = law.cov @ torch.linalg.inv(law.cov + tau**2 * EYE)  # D x = mean + denoise (x - mean)
    through = matrix @ denoise
    variance = 0.05**2 + gain**2 * prior.s0**2 * tau**2 / (prior.s0**2 + tau**2)
    precision = EYE / width.flatten() ** 2 + through.T @ through / variance
    cov = torch.linalg.inv(precision)
    right = centre.flatten() / width.flatten() ** 2 + through.T @ (y.flatten() - matrix @ (law.mean - denoise @ law.mean)) / variance
    mean_error, cov_error = standard_errors(drawn, Gaussian(cov @ right, cov))
    assert mean_error < 4
    assert cov_error < 4


def test_gradient_steps_contract_in_every_direction_of_a_prior_far_wider_than_s0():
    """Direction by direction a step leaves f = 1 - (1 + J^2 c) / (1 + c) of what is missing, J = v / (v + tau^2), c = width^2 / variance.

    Variances 4 and .01 five times: s0^2 is their mean, .675, and a step that took s0^2 / (s0^2 + tau^2) for the largest J, .14 in place of
    .5, would leave -1.3 of the first.
    """
    values = torch.tensor([4.0, 0.01, 0.01, 0.01, 0.01, 0.01], dtype=torch.float64)
    prior, shape, tau, sigma = GaussianPrior(torch.zeros(1, 1, 6, dtype=torch.float64), cov=torch.diag(values)), (1, 1, 6), 2.0, 8.0
    y, x_0 = torch.ones(1, *shape, dtype=torch.float64), torch.zeros(1, *shape, dtype=torch.float64)
    problem = Problem(Identity(shape), y, GaussianNoise(0.005))
    one, two, three = (MGDM(inner=count)._drawn(problem, prior, x_0, x_0, tau, sigma, Rng(0, [0])).flatten() for count in (1, 2, 3))
    s2 = prior.s0**2
    width2 = tau**2 * (sigma**2 - tau**2) / sigma**2
    c = width2 / (0.005**2 + s2 * tau**2 / (s2 + tau**2))
    left = 1 - (1 + (values / (values + tau**2)).square() * c) / (1 + c)
    assert torch.allclose(three - two, left * (two - one), rtol=1e-6, atol=1e-12)
    assert (left.abs() < 1).all()


def test_more_sweeps_follow_y_further():
    """One pixel each, white: .58 of y with one sweep a level, .74 with ten; .80 is exact. Four standard errors of 4000 chains are .03."""
    y = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 1, 1, 2).expand(CHAINS, -1, -1, -1)
    problem, prior = Problem(Identity((1, 1, 2)), y, GaussianNoise(0.5)), GaussianPrior(0.0, 1.0)
    found = [float((MGDM(repeats=count).solve(problem, prior, generator=Pooled(0, range(CHAINS))).x * y).mean()) for count in (1, 10)]
    assert found[0] == pytest.approx(0.58, abs=0.03)
    assert found[1] == pytest.approx(0.74, abs=0.03)


def test_evaluations_are_what_it_says():
    """One at the start, then (inner + calls) a sweep; a backward pass for every gradient step."""
    problem = Problem(Identity((1, 2, 2)), torch.full((2, 1, 2, 2), 0.5), GaussianNoise(0.1))
    solution = MGDM(steps=5, repeats=3, inner=2, calls=4).solve(problem, GaussianPrior(0.5, 0.25), generator=0)
    assert (solution.nfe, solution.backward) == (1 + 5 * 3 * (2 + 4), 5 * 3 * 2)


def test_an_operator_that_is_not_linear_is_met():
    """Phase retrieval of a white field: the residual comes down to 1.5 times the noise at most, from 2.5 times, that of grey."""
    shape = (1, 6, 6)
    x = 0.5 + 0.25 * Rng(3, [0, 1]).normal(shape, torch.zeros(1, dtype=torch.float64))
    problem = Problem.simulate(PhaseRetrieval(shape), x, GaussianNoise(0.05), generator=0)
    found = MGDM().solve(problem, GaussianPrior(0.5, 0.25), generator=0).x
    off, grey = ((problem.operator(one) - problem.y).square().mean().sqrt() for one in (found, torch.full_like(x, 0.5)))
    assert grey > 2.5 * 0.05
    assert off < 1.5 * 0.05


@pytest.mark.parametrize("field", [{"rate": 2.0}, {"rate": 0.0}, {"repeats": 0}, {"inner": 0}, {"calls": 0}])
def test_fields_out_of_their_range_are_refused(field):
    with pytest.raises(InputError, match=next(iter(field))):
        MGDM(**field)
