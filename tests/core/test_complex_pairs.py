"""Complex images as pairs with a total variation that sees phase and magnitude together: `vectorial-tv` of (2, H, W)."""

import math

import pytest
import torch
from invsolve_operators import Mask

from invsolve import AsComplex, GaussianNoise, Operator, Problem
from invsolve.priors import TotalVariation, VectorialTV
from invsolve.solvers import FISTA, PDHGTV

SHAPE = (1, 8, 9)
PAIR = AsComplex((2, 8, 9))


def complex_image(seed=0):
    """Two flat parts with magnitudes and phases of their own."""
    z = torch.full(SHAPE, 0.8 + 0j, dtype=torch.complex128)
    z[:, 2:6, 3:8] = 0.4 * torch.exp(torch.tensor(1.2j))
    return z[None]


def noise(seed=0):
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def slopes(z):
    """(2, H, W) complex forward differences, 0 at the far edge."""
    out = torch.zeros(2, *z.shape[-2:], dtype=z.dtype)
    out[0, :-1], out[1, :, :-1] = z[1:] - z[:-1], z[:, 1:] - z[:, :-1]
    return out


def prox_of_complex_numbers(z, tau, steps=3000):
    """argmin_u tau sum sqrt(|dy u|^2 + |dx u|^2) + |u - z|^2 / 2 and its duality gap, in complex arithmetic, by projected gradient."""
    p = torch.zeros(2, *z.shape, dtype=z.dtype)

    def back(p):
        out = torch.zeros_like(z)
        out[:-1] -= p[0, :-1]
        out[1:] += p[0, :-1]
        out[:, :-1] -= p[1, :, :-1]
        out[:, 1:] += p[1, :, :-1]
        return out

    for _ in range(steps):
        p = p + slopes(z - tau * back(p)) / (8 * tau)
        p = p / p.abs().square().sum(0).sqrt().clamp_min(1)
    u = z - tau * back(p)
    slope = slopes(u)
    size = slope.abs().square().sum(0).sqrt().sum()
    return u, float(tau * (size - (p.conj() * slope).real.sum()))


def test_the_value_and_the_prox_are_those_of_complex_numbers():
    z, tau = (complex_image() + 0.2 * noise())[0, 0], 0.15
    prior = VectorialTV(tol=1e-10, max_iter=20_000)
    x = PAIR.adjoint(z[None, None])
    assert float(prior.value(x)) == pytest.approx(float(slopes(z).abs().square().sum(0).sqrt().sum()), rel=1e-13)
    oracle, gap = prox_of_complex_numbers(z, tau)
    assert gap < 1e-5
    found = PAIR(prior.prox(x, tau))[0, 0]
    primal = tau * float(prior.value(PAIR.adjoint(found[None, None]))) + float((found - z).abs().square().sum()) / 2
    # the objective is 1-strongly convex: each is within sqrt(2 gap) of the minimiser
    assert float((found - oracle).norm()) <= math.sqrt(2 * 1e-10 * primal) + math.sqrt(2 * gap)


def test_a_turn_of_the_phase_changes_nothing_but_the_phase():
    z, turn = complex_image() + 0.2 * noise(), torch.exp(torch.tensor(0.7j, dtype=torch.complex128))
    x, turned = PAIR.adjoint(z), PAIR.adjoint(turn * z)
    prior, apart = VectorialTV(tol=1e-9), TotalVariation(tol=1e-9)
    assert torch.allclose(prior.value(x), prior.value(turned), rtol=1e-13)
    assert (apart.value(x) - apart.value(turned)).abs().item() > 0.02 * apart.value(x).item()  # channel by channel it is not so
    # the same iterations in another frame: rounding, and the stopping rule at the same iterate
    assert torch.allclose(turn * PAIR(prior.prox(x, 0.2)), PAIR(prior.prox(turned, 0.2)), atol=1e-10)


def test_half_of_the_fourier_plane_of_a_complex_image():
    """Accelerated proximal gradient is near the minimum that the dual proves; the complex image is nearer to the truth than its noise."""
    sampled = Mask(SHAPE, keep=0.7, seed=1) @ Operator.from_function(lambda x: torch.fft.fft2(x, norm="ortho"), SHAPE) @ PAIR
    truth = PAIR.adjoint(complex_image())
    problem = Problem.simulate(sampled, truth, GaussianNoise(0.05), generator=0)
    prior = VectorialTV(weight=8.0)
    best = PDHGTV(tol=1e-3, steps=1000).solve(problem, prior, generator=0)
    assert float(best.stats["gap"].max()) <= 1e-3

    def objective(x):
        return float((sampled(x) - problem.y).abs().square().sum() / (2 * 0.05**2) + 8 * prior.value(x).sum())

    found = FISTA(steps=60).solve(problem, prior, generator=0).x
    lowest = objective(best.x) * (1 - 1e-3)
    assert lowest <= objective(found) <= 1.05 * objective(best.x)
    assert float((best.x - truth).square().mean().sqrt()) < 0.05
