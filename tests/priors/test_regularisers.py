"""Colour TV, second-order TGV and L1 of wavelets: values by loops and dense matrices, proxes against optimisers written here."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch

from invsolve.errors import InputError
from invsolve.priors import TotalGeneralisedVariation, TotalVariation, VectorialTV, WaveletL1
from invsolve.priors.tgv import strain, strain_adjoint
from invsolve.priors.tv import differences

DOUBLE = torch.float64


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def objective(prior, u, x, tau):
    """R(u) + |u - x|^2 / (2 tau), for one image."""
    return float(prior.value(u) + (u - x).square().sum() / (2 * tau))


# ---- colour TV ----


def test_colour_value_by_loops():
    x = image(2, 3, 4, 5)
    expected = []
    for item in x:
        total = 0.0
        for i, j in itertools.product(range(4), range(5)):
            down = (item[:, i + 1, j] - item[:, i, j]) if i < 3 else torch.zeros(3)
            right = (item[:, i, j + 1] - item[:, i, j]) if j < 4 else torch.zeros(3)
            total += math.sqrt(float(down.square().sum() + right.square().sum()))
        expected.append(total)
    assert torch.allclose(VectorialTV().value(x), torch.tensor(expected, dtype=DOUBLE), rtol=1e-13, atol=0)


def test_colour_of_grey_is_total_variation():
    x = image(2, 1, 5, 6)
    assert torch.allclose(VectorialTV().value(x), TotalVariation().value(x), rtol=1e-14, atol=0)
    same = x.expand(2, 3, 5, 6)  # every channel the same: sqrt(3) of one channel's, by the norm
    assert torch.allclose(VectorialTV().value(same), 3**0.5 * TotalVariation().value(x), rtol=1e-13, atol=0)
    assert torch.allclose(VectorialTV().prox(x, 0.1), TotalVariation().prox(x, 0.1), rtol=0, atol=1e-12)


def smooth_minimum(value, x, tau, width, norms):
    """(lower, upper) bounds of min R(u) + |u - x|^2 / (2 tau) by scipy's L-BFGS on corners rounded by a width.

    R_width <= R <= R_width + norms width; what the optimiser leaves is below |gradient|^2 tau / 2 by strong convexity 1 / tau.
    """

    def both(flat):
        leaf = torch.from_numpy(flat).reshape(x.shape).requires_grad_(True)
        total = value(leaf, width) + (leaf - x).square().sum() / (2 * tau)
        (gradient,) = torch.autograd.grad(total, leaf)
        return float(total.detach()), gradient.flatten().numpy()

    found = scipy.optimize.minimize(
        both, x.flatten().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 4000, "ftol": 0, "gtol": 1e-9}
    )
    lowest, gradient = both(found.x)
    return lowest - tau * float(np.square(gradient).sum()) / 2, lowest + norms * width


@pytest.mark.parametrize("prior", [VectorialTV(tol=1e-6), WaveletL1(), WaveletL1(wavelet="haar")], ids=["colour", "db2", "haar"])
@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_prox_against_an_independent_optimiser(prior, tau):
    """Colour TV: its prox's objective is within tol of the minimum, and the bounds are 60 norms of width 1e-4 apart."""
    x = image(1, 3, 4, 5, seed=3)
    low, high = smooth_minimum(lambda u, width: prior.smooth_value(u, width).sum(), x, tau, 1e-4, x.numel())
    found = objective(prior, prior.prox(x, tau), x, tau)
    assert low * (1 - 1e-12) <= found <= high * (1 + 1e-6)


@pytest.mark.parametrize(
    "prior", [VectorialTV(), TotalVariation(), TotalVariation(isotropic=False), WaveletL1()], ids=["colour", "tv", "l1", "db2"]
)
def test_rounded_corners_lie_below_by_at_most_their_width(prior):
    x = image(2, 3, 6, 7)
    for width in (1e-3, 0.1):
        gap = prior.value(x) - prior.smooth_value(x, width)
        assert bool((gap >= 0).all())
        assert bool((gap <= 2 * x[0].numel() * width).all())


# ---- wavelets ----


def matrix_of(prior, shape):
    """W with its details' rows and its means' rows, by the coefficients of unit images."""
    size = math.prod(shape)
    means, details = prior.coefficients(torch.eye(size, dtype=DOUBLE).reshape(size, *shape))
    fine = torch.cat([band.flatten(1) for level in details for band in level], 1)
    return torch.cat([fine, means.flatten(1)], 1).T, fine.shape[1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 7), (2, 5, 1), (1, 2, 3)])
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_a_basis_is_orthonormal_for_every_size(wavelet, shape):
    prior = WaveletL1(wavelet=wavelet)
    matrix, fine = matrix_of(prior, shape)
    eye = torch.eye(math.prod(shape), dtype=DOUBLE)
    assert matrix.shape == eye.shape
    assert torch.allclose(matrix.T @ matrix, eye, rtol=0, atol=1e-13)
    x = image(1, *shape)
    coefficients = matrix @ x.flatten()
    assert float(prior.value(x)) == pytest.approx(float(coefficients[:fine].abs().sum()), rel=1e-12)
    shrunk = torch.cat([coefficients[:fine].sign() * (coefficients[:fine].abs() - 0.1).clamp_min(0), coefficients[fine:]])
    assert torch.allclose(prior.prox(x, 0.1).flatten(), matrix.T @ shrunk, rtol=0, atol=1e-13)


def test_haar_of_four_numbers():
    a, b, c, d = 0.1, 0.4, 0.8, 0.3
    x = torch.tensor([[[[a, b], [c, d]]]], dtype=DOUBLE)
    expected = (abs(a - b + c - d) + abs(a + b - c - d) + abs(a - b - c + d)) / 2
    assert float(WaveletL1(wavelet="haar", levels=1).value(x)) == pytest.approx(expected, rel=1e-13)


def test_daubechies_sees_nothing_of_a_ramp_inside():
    """Two vanishing moments: along a row only the last coefficient, which meets the other end, is not 0; Haar sees every step."""
    ramp = torch.arange(16, dtype=DOUBLE).reshape(1, 1, 1, 16).expand(1, 1, 2, 16)
    beside = WaveletL1(levels=1).coefficients(ramp)[1][0][1].flatten()
    assert float(beside[:-1].abs().max()) < 1e-13
    assert float(beside[-1].abs()) > 1
    haar = WaveletL1(wavelet="haar", levels=1).coefficients(ramp)[1][0][1].flatten()
    assert float(haar.abs().min()) > 0.9


# ---- TGV ----


def test_strain_and_its_adjoint():
    w, q = torch.randn(2, 2, 3, 5, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)), image(2, 3, 3, 5, 6)
    assert float((strain(w) * q).sum()) == pytest.approx(float((w * strain_adjoint(q)).sum()), rel=1e-12)
    for side in (1, 2):
        thin = torch.ones(1, 2, 1, side, 3, dtype=DOUBLE)
        assert strain(thin).shape == (1, 3, 1, side, 3)
        assert strain_adjoint(strain(thin)).shape == thin.shape


def test_planes_cost_nothing_and_nothing_costs_more_than_in_tv():
    rows, columns = torch.meshgrid(torch.arange(7, dtype=DOUBLE), torch.arange(8, dtype=DOUBLE), indexing="ij")
    plane = (0.1 + 0.03 * rows - 0.02 * columns)[None, None]
    tv = float(TotalVariation().value(plane))
    assert float(TotalGeneralisedVariation().value(plane)) <= 1e-6 * tv
    x = image(2, 2, 7, 8)
    found, most = TotalGeneralisedVariation(tol=1e-3, max_iter=300).value(x), TotalVariation().value(x)
    assert bool((found <= most * 1.001).all())


def tgv_minimum(x, tau, ratio, width):
    """Bounds of the prox's objective with slopes w among the unknowns, corners rounded: (1 + ratio) N norms of a width."""

    def value(both, width):
        u, w = both[:, :1], both[:, 1:].unsqueeze(2)
        dy = torch.nn.functional.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))
        dx = torch.nn.functional.pad(u[..., :, 1:] - u[..., :, :-1], (0, 1))
        wy, wx = w[:, 0], w[:, 1]
        # E by its definition, on slopes that exist: wy without its last row, wx without its last column
        yy = wy[..., 1:-1, :] - wy[..., :-2, :]
        xx = wx[..., :, 1:-1] - wx[..., :, :-2]
        mixed = (wy[..., :-1, 1:] - wy[..., :-1, :-1] + wx[..., 1:, :-1] - wx[..., :-1, :-1]) / 2
        pad = torch.nn.functional.pad
        square = pad(yy, (0, 0, 0, 2)).square() + pad(xx, (0, 2)).square() + 2 * pad(mixed, (0, 1, 0, 1)).square()
        first = ((dy - wy).square() + (dx - wx).square() + width**2).sqrt() - width
        return first.sum() + ratio * ((square + width**2).sqrt() - width).sum()

    def both(flat):
        leaf = torch.from_numpy(flat).reshape(1, 3, *x.shape[2:]).requires_grad_(True)
        total = value(leaf, width) + (leaf[:, :1] - x).square().sum() / (2 * tau)
        (gradient,) = torch.autograd.grad(total, leaf)
        return float(total.detach()), gradient.flatten().numpy()

    first = torch.cat([x, torch.zeros(1, 2, *x.shape[2:], dtype=DOUBLE)], 1).flatten().numpy()
    found = scipy.optimize.minimize(both, first, jac=True, method="L-BFGS-B", options={"maxiter": 4000, "ftol": 0, "gtol": 1e-9})
    return found.fun, found.fun + (1 + ratio) * x.numel() * width


def test_tgv_prox_against_an_independent_optimiser():
    """Between the optimiser's bounds, but for the tolerance of the prox above and of the optimiser (1e-6) below."""
    x, tau, ratio = image(1, 1, 4, 5, seed=4), 0.1, 0.7
    prior = TotalGeneralisedVariation(ratio=ratio, tol=1e-4)
    low, high = tgv_minimum(x, tau, ratio, 1e-4)
    found = objective(prior, prior.prox(x, tau), x, tau)
    assert low * (1 - 1e-6) <= found <= high * (1 + 2e-4)


def test_tgv_gradient_is_a_subgradient():
    """R(z) >= R(x) + <g, z - x>, to the tolerance of R(x)."""
    prior = TotalGeneralisedVariation(tol=1e-3)
    x = image(1, 1, 6, 6, seed=5).requires_grad_(True)
    value = prior.value(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    for seed in range(6, 9):
        z = image(1, 1, 6, 6, seed=seed)
        below = float((value + (slope * (z - x)).sum()).detach())
        assert float(prior.value(z)) >= below - 2e-3 * float(value)


class Counting(TotalGeneralisedVariation):
    """Counts iterations."""

    steps = 0

    def _iterated(self, *args, **kwargs):
        self.steps += 1
        return super()._iterated(*args, **kwargs)


def test_tgv_prox_goes_on_from_a_dual():
    """Both within sqrt(2 tol tau J) of the minimiser; from the dual in less than half of the iterations."""
    prior, x, tau = Counting(tol=1e-3), image(1, 1, 6, 6), 0.1
    u, dual = prior.prox_with_dual(x, tau)
    cold, prior.steps = prior.steps, 0
    again, _ = prior.prox_with_dual(x, tau, dual)
    assert prior.steps < cold / 2
    assert float((u - again).norm()) <= 2 * math.sqrt(2 * 1e-3 * tau * objective(prior, u, x, tau))
    with pytest.raises(InputError, match="dual"):
        prior.prox_with_dual(x, tau, differences(x))


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        (VectorialTV, "weight", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (VectorialTV, "tol", (1e-9, 0.9), (0, 1.0, math.nan)),
        (WaveletL1, "weight", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (WaveletL1, "wavelet", ("haar", "db2"), ("db3",)),
        (WaveletL1, "levels", (1, 9), (0, -1)),
        (TotalGeneralisedVariation, "weight", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (TotalGeneralisedVariation, "ratio", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (TotalGeneralisedVariation, "tol", (1e-9, 0.9), (0, 1.0, math.nan)),
        (TotalGeneralisedVariation, "max_iter", (1, 9), (0, -1)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})
