"""Closed forms to hold solvers against: a dense operator, the Gaussian posterior, laws of affine samplers, distances.

x0 ~ N(m, C), y = A x0 + n, n ~ N(0, sigma^2 I):
C_y = C - C A^T (A C A^T + sigma^2 I)^{-1} A C,   m_y = m + C A^T (A C A^T + sigma^2 I)^{-1} (y - A m)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invsolve.operator import Capability, Operator
from invsolve.operator.cache import kept
from invsolve.operator.measurement import Measurement, parts
from invsolve.operator.svd import SVD, rank_rule
from invsolve.priors.gaussian import GaussianPrior
from invsolve.rng import Rng


class DenseOperator(Operator):
    """y = A x for a small dense matrix, with its SVD on the whole image space.

    Args:
        matrix: A, (m, n) with n = prod(in_shape).
        in_shape: shape of the image; default (1, 1, n).
    """

    traits = frozenset({Capability.LINEAR})
    matrix: Tensor

    def __init__(self, matrix: Tensor, in_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        rows, size = matrix.shape
        self.in_shape, self.out_shape = in_shape or (1, 1, size), (rows,)
        self.register_buffer("matrix", matrix.double())

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return x.flatten(1) @ self.like("matrix", x).T

    def adjoint(self, y: Measurement) -> Tensor:
        """A^T y."""
        y = parts(y)[0]
        return (y @ self.like("matrix", y)).reshape(-1, *self.in_shape)

    def svd(self) -> SVD:
        """By LAPACK, once; the basis is completed to the whole image space, s is padded with zeros."""
        return self._decomposed() if self.matrix.requires_grad else kept(self, self.matrix, "svd", self._decomposed)

    def _decomposed(self) -> SVD:
        rows, size = self.matrix.shape
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=True)
        count = min(rows, size)
        full = torch.zeros(size, dtype=s.dtype, device=s.device)
        full[:count] = rank_rule(s, rows, size)
        left = torch.zeros(rows, size, dtype=u.dtype, device=u.device)
        left[:, :count] = u[:, :count]
        left = left * (full > 0)

        def times(matrix: Tensor, x: Tensor) -> Tensor:
            return x.flatten(1) @ matrix.to(x).T

        return SVD(
            full,
            U=lambda c: times(left, c),
            Ut=lambda y: times(left.T, y),
            V=lambda c: times(vh.T, c).reshape(-1, *self.in_shape),
            Vt=lambda x: times(vh, x),
        )

    @classmethod
    def examples(cls) -> list[Operator]:
        """A wide and a tall matrix."""
        like = torch.zeros(1, dtype=torch.float64)
        return [cls(Rng(0, [shape[0]]).normal(shape, like)[0]) for shape in ((4, 8), (8, 4))]


@dataclass(frozen=True)
class Gaussian:
    """N(mean, cov) in float64: mean (n,), cov (n, n)."""

    mean: Tensor
    cov: Tensor

    def posterior(self, matrix: Tensor, y: Tensor, sigma: float) -> Gaussian:
        """The law of x0 given y (m,)."""
        spread = matrix @ self.cov @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=self.cov.dtype)
        gain = self.cov @ matrix.T @ torch.linalg.inv(spread)
        cov = self.cov - gain @ matrix @ self.cov
        return Gaussian(self.mean + gain @ (y - matrix @ self.mean), 0.5 * (cov + cov.T))

    def sample(self, count: int, seed: int) -> Tensor:
        """(count, n) draws."""
        values, vectors = torch.linalg.eigh(self.cov)
        z = Rng(seed, [0], purpose="oracle").normal((count, len(self.mean)), self.mean)[0]
        return self.mean + (z * values.clamp_min(0).sqrt()) @ vectors.T

    def affine(self, matrix: Tensor, offset: Tensor, noise: Tensor) -> Gaussian:
        """The law of F x + g + N(0, Q)."""
        return Gaussian(matrix @ self.mean + offset, matrix @ self.cov @ matrix.T + noise)

    def denoiser(self, sigma: float) -> tuple[Tensor, Tensor]:
        """(G, g) with E[x0 | x0 + sigma n = x] = G x + g."""
        eye = torch.eye(len(self.mean), dtype=self.cov.dtype)
        gain = self.cov @ torch.linalg.inv(self.cov + sigma**2 * eye)
        return gain, (eye - gain) @ self.mean


@dataclass(frozen=True)
class Bias:
    """A law's (or a sample's) distance from the posterior.

    Args:
        mean: |m - m_y| / sqrt(tr C_y), in posterior standard deviations.
        cov: |C - C_y|_F / |C_y|_F.
        trace: tr C / tr C_y: above 1 over-dispersed.
    """

    mean: float
    cov: float
    trace: float

    @classmethod
    def of(cls, law: Gaussian, posterior: Gaussian) -> Bias:
        """The distances of one law from another."""
        size = posterior.cov.trace()
        return cls(
            float((law.mean - posterior.mean).norm() / size.sqrt()),
            float((law.cov - posterior.cov).norm() / posterior.cov.norm()),
            float(law.cov.trace() / size),
        )


def empirical(samples: Tensor) -> Gaussian:
    """Mean and covariance of samples (N, ...)."""
    rows = samples.flatten(1).double()
    return Gaussian(rows.mean(0), torch.cov(rows.T))


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def wasserstein(first: Gaussian, second: Gaussian) -> float:
    """The 2-Wasserstein distance, sqrt(|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)); of two points that of their means."""
    half = root(first.cov)
    spread = (first.cov + second.cov).trace() - 2 * root(half @ second.cov @ half).trace()
    return math.sqrt(max(0.0, float((first.mean - second.mean).square().sum() + spread)))


def standard_errors(samples: Tensor, law: Gaussian) -> tuple[float, float]:
    """The largest deviations of mean and covariance entries of N samples from a law, in standard errors.

    A mean entry has variance C_ii / N, a covariance entry (C_ii C_jj + C_ij^2) / (N - 1) for a Gaussian law.
    """
    found, count = empirical(samples), len(samples)
    variance = law.cov.diagonal()
    mean = ((found.mean - law.mean).abs() / (variance / count).sqrt()).max()
    spread = (variance[:, None] * variance[None, :] + law.cov**2) / (count - 1)
    return float(mean), float(((found.cov - law.cov).abs() / spread.sqrt()).max())


def sliced_wasserstein(first: Tensor, second: Tensor, *, slices: int = 100, seed: int = 0) -> float:
    """Mean over directions of the 1-Wasserstein distance between equally many samples (N, n), directions fixed by the seed."""
    directions = Rng(seed, [0], purpose="slices").normal((first.shape[1], slices), first)[0]
    directions = directions / directions.norm(dim=0)
    # numpy sorts such short columns several times faster than torch
    ordered = [torch.from_numpy(np.sort((one @ directions).detach().cpu().numpy(), axis=0)) for one in (first, second)]
    return float((ordered[0] - ordered[1]).abs().mean())


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers of one stream, float64."""
    return Rng(seed, [0], purpose="test").normal(shape, torch.zeros(1, dtype=torch.float64))[0]


def gaussian_case(
    name: str, seed: int = 0, *, size: int = 8, rows: int = 4, sigma: float = 0.05
) -> tuple[Gaussian, GaussianPrior, Tensor, Tensor]:
    """(law of x0, the same as a prior, A, y) for a Gaussian prior about 1/2 and y = A x0 + sigma n.

    Args:
        name: "S" white prior (std 1/2); "G" correlated, variances .075 to .00075; "I" the same behind a mask of every other entry.
        seed: of A, of the correlations, of x0 and of the noise.
        size, rows: n and m.
        sigma: noise level.
    """
    eye, matrix = torch.eye(size, dtype=torch.float64), normal(rows, size, seed=seed) / math.sqrt(size)
    mean = torch.full((size,), 0.5, dtype=torch.float64)
    if name == "S":
        law, prior = Gaussian(mean, 0.25 * eye), GaussianPrior(0.5, 0.5)
    else:
        basis = torch.linalg.qr(normal(size, size, seed=seed + 100))[0]
        values = torch.logspace(math.log10(0.075), math.log10(0.00075), size, dtype=torch.float64)
        law = Gaussian(mean, basis @ torch.diag(values) @ basis.T)
        prior = GaussianPrior(0.5, cov=law.cov)
        matrix = eye[::2] if name == "I" else matrix
    y = matrix @ law.sample(1, seed + 200)[0] + sigma * normal(rows, seed=seed + 300)
    return law, prior, matrix, y


def propagate(law: Gaussian, steps: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Gaussian:
    """The law after affine steps (F, g, Q): x <- F x + g + N(0, Q)."""
    for matrix, offset, noise in steps:
        law = law.affine(matrix, offset, noise)
    return law
