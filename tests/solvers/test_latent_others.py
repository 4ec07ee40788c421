"""Solvers of images that serve codes too, and a flow as the prior of codes."""

import pytest
import torch

from invsolve import GaussianNoise, Problem
from invsolve.errors import CompatibilityError
from invsolve.operator import Operator
from invsolve.priors import GaussianPrior, LatentPrior, as_denoiser
from invsolve.rng import Rng
from invsolve.schedule import Flow
from invsolve.solvers import (
    FlowChef,
    FlowDPS,
    SDEdit,
)
from invsolve.solvers.start import first_image
from invsolve.testing.settings import Kept

DOUBLE = torch.float64
CODES, PIXELS, ROWS, SIGMA_Y, CHAINS = 8, 12, 5, 0.05, 1500


def pairs_prior(std=0.3):
    """Codes (1, 4, 2) of images (1, 4, 4): a place is two neighbours in a row, x = 2 (z, z)."""
    matrix = 2 * torch.eye(8, dtype=DOUBLE).repeat_interleave(2, 0)
    return LatentPrior(GaussianPrior(0.25, std), Operator.from_matrix(matrix, (1, 4, 2), (1, 4, 4)))


def test_sdedit_in_codes_starts_from_the_code_of_the_smooth_image():
    """Also of a network, which has no adjoint: E(first_image) + sigma n, and one step down; the guide of the prior needs a linear H."""
    net = Operator.from_function(lambda z: torch.tanh(z).repeat_interleave(2, -1), (1, 4, 2), linear=False)
    prior = LatentPrior(GaussianPrior(0.0, 1.0), net, encode=lambda x: torch.atanh(0.9 * x[..., ::2]))
    problem = Problem(Kept((1, 4, 4)), Kept((1, 4, 4))(torch.full((1, 1, 4, 4), 0.5, dtype=DOUBLE)), GaussianNoise(0.05))
    code = torch.atanh(0.9 * first_image(problem, None)[..., ::2])
    rng = Rng(3, [0])
    rng.normal_like(code)  # that of the mask mode
    z = code + 0.4 * rng.normal_like(code)
    found = SDEdit(steps=1, sigma=0.4).solve(problem, prior, generator=Rng(3, [0]))
    assert float((found.latent - z / (1 + 0.4**2)).abs().max()) < 1e-12
    with pytest.raises(CompatibilityError, match="lacks 'adjoint'"):
        SDEdit(guide="prior").solve(problem, prior)
    with pytest.raises(CompatibilityError, match="lacks 'adjoint'"):
        SDEdit().solve(problem, LatentPrior(GaussianPrior(0.0, 1.0), net))


def test_flowdps_takes_a_flow_network():
    """A velocity network of a Gaussian, on its own path x_t = t z + (1 - t) n, is the Gaussian's denoiser: the same codes from one seed."""
    closed = GaussianPrior(0.25, 0.3)

    def velocity(x, t):
        t = t.reshape(-1, 1, 1, 1)
        return (closed(x / t, (1 - t) / t) - x) / (1 - t)

    flow = as_denoiser(velocity, "velocity", schedule=Flow(), s0=closed.s0, centre=closed.centre, precision="float64")
    decoder = pairs_prior().decoder
    problem = Problem.simulate(Kept((1, 4, 4)), decoder(torch.full((1, 1, 4, 2), 0.3, dtype=DOUBLE)), GaussianNoise(0.05), generator=0)
    closed.sigma_range, closed.unit = flow.sigma_range, flow.unit
    for solver in (FlowDPS(steps=6, sigma_max=3.0), FlowChef(steps=6, sigma_max=3.0)):
        assert flow.sigmas(6, "karras", 3.0) == pytest.approx(closed.sigmas(6, "karras", 3.0))
        found, wanted = (solver.solve(problem, LatentPrior(one, decoder), generator=1).latent for one in (flow, closed))
        assert float((found - wanted).abs().max()) < 1e-9
