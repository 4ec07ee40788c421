"""The problems of the leaderboard: a prior in closed form, an operator, a noise level, eight draws of (x, y), and the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.gaussian import GaussianMixturePrior, GaussianPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import Solver
from invsolve.testing.oracle import DenseOperator, Gaussian, normal
from invsolve.testing.subjects import NegativeLog
from invsolve.testing.units import matrix_of
from invsolve_benchmarks.truth import posteriors
from invsolve_benchmarks.truth.catalogue import FULL, SHORT
from invsolve_benchmarks.truth.posteriors import Posterior
from invsolve_benchmarks.truth.priors import FieldPrior, LevyPrior

DRAWS, SEED = 8, 20
SIDE, SIZE = 12, 16


@dataclass(frozen=True)
class Truth:
    """A problem whose posterior is known.

    Args:
        family: "gaussian", "field" (256 x 256), "mixture" or "levy".
        prior: with its exact denoiser.
        operator: H.
        sigma: noise level of y.
        x: the truths of the D draws, (D, C, H, W).
        known: the posterior, made when it is asked for.
        chains: draws of a solver for each y.
        most: evaluations beyond which the problem is too dear for the run.
        name: prior, operator and noise level.
    """

    family: str
    prior: Prior
    operator: Operator
    sigma: float
    x: Tensor
    known: Callable[[Truth], Posterior]
    chains: int = 128
    most: int = 1000
    name: str = ""

    def prior_for(self, solver: Solver) -> Prior:
        """The prior, or -log p of a Gaussian one for solvers that minimise: the posterior's mean is its mode."""
        if isinstance(self.prior, GaussianPrior) and not issubclass(Denoiser, solver.requires.prior):
            return NegativeLog(self.prior)
        return self.prior

    @cached_property
    def problem(self) -> Problem:
        """The D measurements."""
        return Problem.simulate(self.operator, self.x, GaussianNoise(self.sigma), generator=SEED)

    @cached_property
    def posterior(self) -> Posterior:
        """Of every y."""
        return self.known(self)

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor]:
        """(A, y): the rows that measure something."""
        matrix = matrix_of(self.operator)
        rows = matrix.abs().sum(1) > 0
        y = self.problem.y
        assert isinstance(y, Tensor)
        return matrix[rows], y.flatten(1).double()[:, rows]


def distances(side: int) -> Tensor:
    """|p - q| of the pixels of a square, (n, n)."""
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).reshape(-1, 2).double()
    return torch.cdist(at, at)


def covariances(name: str) -> tuple[Tensor, tuple[int, int, int]]:
    """(C, image shape): white and correlated vectors of 16; exponential and smooth 12 x 12 fields of length 3, std 1/4."""
    if name == "white":
        return 0.0625 * torch.eye(SIZE, dtype=torch.float64), (1, 1, SIZE)
    if name == "correlated":
        basis = torch.linalg.qr(normal(SIZE, SIZE, seed=100))[0]
        values = torch.logspace(math.log10(0.075), math.log10(0.00075), SIZE, dtype=torch.float64)
        cov = basis @ torch.diag(values) @ basis.T
        return 0.5 * (cov + cov.T), (1, 1, SIZE)
    far = distances(SIDE)
    if name == "exponential":
        return 0.0625 * (-far / 3).exp(), (1, SIDE, SIDE)
    return 0.0625 * (-0.5 * (far / 3).square()).exp() + 2e-4 * torch.eye(SIDE**2, dtype=torch.float64), (1, SIDE, SIDE)


def dense(shape: tuple[int, ...], rows: int) -> Operator:
    """Orthonormal rows times singular values over two decades, 1 to .01."""
    basis = torch.linalg.qr(normal(math.prod(shape), rows, seed=500))[0].T
    return DenseOperator(torch.logspace(0, -2, rows, dtype=torch.float64)[:, None] * basis, shape)


def operator_of(name: str, shape: tuple[int, ...]) -> Operator:
    """mask, blur, decimation or dense, for a picture or a vector (1, 1, n)."""
    _, height, width = shape
    line = height == 1

    def build(name: str, **arguments: object) -> Operator:
        return registry().build("operator", name, in_shape=shape, **arguments)

    if name == "mask":
        kept = torch.ones(shape)
        kept[..., 5:9] = 0
        return build("mask", mask=kept) if line else build("box-mask", box=height // 2)
    if name == "blur":
        if not line:
            return build("gaussian-blur", sigma=1.0)
        rows = (-0.5 * (torch.arange(width)[:, None] - torch.arange(width)[None, :]).double().square()).exp()
        return DenseOperator(rows / rows.sum(1, keepdim=True), shape)
    if name == "decimation":
        if not line:
            return build("block-mean", factor=3)
        return DenseOperator(torch.block_diag(*[torch.full((1, 2), 0.5, dtype=torch.float64)] * (width // 2)), shape)
    return dense(shape, 8 if line else 6)


def drawn(prior: GaussianPrior | GaussianMixturePrior | FieldPrior | LevyPrior, shape: tuple[int, ...]) -> Tensor:
    """The truths, float64."""
    return prior.sample(shape, Rng(SEED, range(DRAWS), purpose="truths"), torch.zeros(1, dtype=torch.float64))


def gaussian(cov: str, operator: str, sigma: float) -> Truth:
    """A Gaussian vector or field about 1/2."""
    matrix, shape = covariances(cov)
    law = Gaussian(torch.full((len(matrix),), 0.5, dtype=torch.float64), matrix)
    prior = GaussianPrior(law.mean.reshape(shape), cov=matrix)

    def known(truth: Truth) -> Posterior:
        rows, y = truth.seen
        return posteriors.gaussian(law, rows, y, sigma)

    return Truth("gaussian", prior, operator_of(operator, shape), sigma, drawn(prior, shape), known, 128 if shape[1] == 1 else 96)


def field(sigma: float, side: int = 256) -> Truth:
    """Blurred: a stationary field with a natural picture's spectrum; few draws for each y, their Fourier coefficients pooled in rings."""
    prior, shape = FieldPrior(side), (1, side, side)
    made = registry().build("operator", "gaussian-blur", in_shape=shape, sigma=1.5)
    point = torch.zeros(1, *shape, dtype=torch.float64)
    point[..., 0, 0] = 1

    def known(truth: Truth) -> Posterior:
        y = truth.problem.y
        assert isinstance(y, Tensor)
        return posteriors.spectral(prior, torch.fft.fft2(made(point)[0, 0]), y, sigma)

    return Truth("field", prior, made, sigma, drawn(prior, shape).float(), known, chains=4)


def two_modes(operator: str, sigma: float) -> Truth:
    """Two modes of std .1 in eight dimensions, a quarter and three quarters of the mass."""
    means = 0.5 + 0.25 * torch.stack([normal(8, seed=40), normal(8, seed=41)])
    return mixture(means, torch.tensor([0.25, 0.75]), 0.1, operator_of(operator, (1, 1, 8)), sigma)


def grid(size: int, rows: int, sigma: float = 0.0125) -> Truth:
    """MCGdiff's mixture: 25 modes at (8 i, 8 j), i and j from -2 to 2, repeated over pairs of coordinates, with unit covariances.

    Weights are squares of normal numbers; A has random singular vectors and values uniform on [0, 1]. Here all is about 1/2 in units of 40,
    so that it lies in [0, 1], A's values are divided by the largest, and sigma is half a mode's width, theirs being drawn.

    References:
        Monte Carlo guided Diffusion for Bayesian linear inverse problems (Cardoso et al., 2023), arXiv:2308.07983.
    """
    at = torch.tensor([[8.0 * i, 8.0 * j] for i in range(-2, 3) for j in range(-2, 3)], dtype=torch.float64)
    weights = normal(25, seed=60).square()
    values = Rng(61, [0], purpose="truth").uniform((rows,), at)[0].sort(descending=True).values
    left, right = torch.linalg.qr(normal(rows, rows, seed=62))[0], torch.linalg.qr(normal(size, rows, seed=63))[0]
    operator = DenseOperator(left @ torch.diag(values / values[0]) @ right.T, (1, 1, size))
    chains = 128 if size < 100 else 32
    return mixture(0.5 + at.repeat(1, size // 2) / 40, weights, 1 / 40, operator, sigma, chains)


def mixture(means: Tensor, weights: Tensor, std: float, operator: Operator, sigma: float, chains: int = 128) -> Truth:
    """A mixture of Gaussians of one white covariance; the view is what tells modes and measurements apart, and some directions besides."""
    shape = operator.in_shape
    assert isinstance(shape, tuple)
    prior, weights = GaussianMixturePrior(means.reshape(-1, *shape), std, weights), weights.double() / weights.double().sum()

    def known(truth: Truth) -> Posterior:
        rows, y = truth.seen
        size = means.shape[1]
        apart = torch.linalg.svd(means - means.mean(0), full_matrices=False)
        important = [apart.Vh[(apart.S / apart.S[0]) > 1e-9], rows]
        count = min(size, sum(len(one) for one in important) + 8)
        view = (
            torch.linalg.qr(torch.cat([*important, normal(size, size, seed=70)])[:count].T)[0].T
            if count < size
            else torch.eye(size).double()
        )
        return posteriors.mixture(means, weights, std, rows, y, sigma, view)

    return Truth("mixture", prior, operator, sigma, drawn(prior, shape), known, chains)


def levy(increments: str, operator: str, sigma: float) -> Truth:
    """A process of sixteen samples."""
    prior, shape = LevyPrior(increments, SIZE), (1, 1, SIZE)

    def known(truth: Truth) -> Posterior:
        rows, y = truth.seen
        return posteriors.levy(prior, rows, y, sigma)

    return Truth("levy", prior, operator_of(operator, shape), sigma, drawn(prior, shape), known, 16)


MAKERS = {"gaussian": gaussian, "field": field, "two_modes": two_modes, "grid": grid, "levy": levy}


@cache
def truth_of(name: str, full: bool = False) -> Truth:
    """A problem by its name, made once in a process.

    Raises:
        InputError: there is none of this name.
    """
    known = FULL if full else SHORT
    if name not in known:
        raise InputError(f"no problem '{name}'; there are: {', '.join(known)}")
    spec = known[name]
    made: Callable[..., Truth] = MAKERS[spec.maker]
    truth = made(*spec.arguments)
    return replace(truth, name=name, most=spec.most, chains=truth.chains * (2 if full else 1))
