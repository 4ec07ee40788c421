"""Metrics of a whole case: how an answer fits the data, where it errs, whether samples say how wrong they are; and of sets of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.bench.metrics import Case, Metric, SetMetric, measured, residual, undefined
from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import flat, minus


class Residual(Metric):
    """|W (H x_hat - y)| / (sigma sqrt(m)) for Gaussian noise: about 1 for the truth, below 1 where the noise was fitted.

    W drops the entries of y that a mask does not measure, m counts the rest; NaN for other noise, or none.
    """

    label, digits, higher = "residual", 2, None
    settings = "|Hx - y| / (sigma sqrt m) over measured entries, before clipping; about 1 for the truth"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        found = residual(case.problem, case.x)
        return undefined(case) if found is None else found


class Consistency(Metric):
    """Data consistency |W (H x_hat - y)| / |W y|, for any noise and none; what the truth itself has is the noise's share of y."""

    label, higher = "data consistency", False
    settings = "|Hx - y| / |y| over measured entries, before clipping; the truth's is the noise's share of y"

    def measure(self, case: Case) -> Tensor:
        """(B,); NaN where y is 0."""
        with torch.no_grad():
            rows, y = flat(minus(case.problem.operator(case.x), case.problem.y)), flat(case.problem.y)
        kept = measured(case.problem.operator, len(rows)).to(rows.device)
        off, size = ((part.abs().double() * kept).square().sum(1).sqrt() for part in (rows, y))
        return torch.where(size > 0, off / size, torch.nan)


class NullSpaceError(Metric):
    """|(I - H^+ H)(x_hat - x)| / sqrt(n): the part of the root mean squared error that no measurement can correct, in units of the image.

    With the error in the range of H^+ it makes up the whole: rmse^2 = null^2 + range^2 for an orthogonal projection H^+ H. NaN where the
    operator has no pinv or is not linear.
    """

    label, digits, higher = "null-space error", 4, False
    settings = "root mean square of (I - H+ H)(x_hat - x), before clipping"
    NEEDS: ClassVar[frozenset[Capability]] = frozenset({Capability.PINV, Capability.LINEAR})

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        operator = case.problem.operator
        if case.truth is None or not operator.capabilities >= self.NEEDS:
            return undefined(case)
        error = case.x - case.truth.to(case.x)
        with torch.no_grad():
            unseen = error - operator.pinv(operator(error))
        return unseen.double().flatten(1).square().mean(1).sqrt()


class Coverage(Metric):
    """Share of pixels whose truth lies between the k-th smallest and the k-th largest of n samples.

    k = max(1, round((1 - level)(n + 1) / 2)). If the truth is one more draw from the law of the samples, its rank among
    them is uniform, and the share is 1 - 2k / (n + 1) on average: less says that the samples are too sure. NaN without samples
    (`samples = n` of a solver in a suite), or with one.

    Args:
        level: which share is aimed at, in (0, 1).

    Raises:
        InputError: a level outside (0, 1).
    """

    label, higher = "coverage", None

    def __init__(self, level: float = 0.9) -> None:
        if not 0 < level < 1:
            raise InputError(f"level must lie between 0 and 1; given {level}")
        self.level = float(level)
        self.settings = (
            f"share of pixels inside the central interval of level {level:g} of the samples; 1 - 2k/(n+1) if they are calibrated"
        )

    def rank(self, count: int) -> int:
        """k for n samples."""
        return max(1, round((1 - self.level) * (count + 1) / 2))

    def expected(self, count: int) -> float:
        """The share for samples from the right law."""
        return 1 - 2 * self.rank(count) / (count + 1)

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        if case.samples is None or case.truth is None or len(case.samples) < 2:
            return undefined(case)
        ordered, k = case.samples.sort(0).values, self.rank(len(case.samples))
        truth = case.truth.to(ordered)
        inside = (truth >= ordered[k - 1]) & (truth <= ordered[-k])
        return inside.double().flatten(1).mean(1)


class FrechetDistance(SetMetric):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) between the features of answers and truths: FID, for the network you give.

    A plug-in subclasses it, writes `features` and registers that; nothing is registered here, for the number depends on the network.
    S is the sample covariance (divided by n - 1); with fewer images than features the number is biased upwards, comparable at equal n only.

    Args:
        features: images (B, C, H, W) in [0, 1] -> (B, d), where no subclass writes it.

    Raises:
        InputError: no features.

    References:
        Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017, arXiv:1706.08500.
    """

    label, digits, higher = "Fréchet distance", 2, False
    settings = "between Gaussians fitted to the features of answers and truths"

    def __init__(self, features: Callable[[Tensor], Tensor] | None = None) -> None:
        if features is None and type(self).features is FrechetDistance.features:
            raise InputError("FrechetDistance needs features: FrechetDistance(network), or a subclass with a method `features`")
        self._given = features

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, d)."""
        assert self._given is not None
        return self._given(images)

    def compute(self, x_hat: Sequence[Tensor], x: Sequence[Tensor]) -> float:
        """NaN for fewer than two images."""
        if len(x_hat) < 2:
            return float("nan")
        with torch.no_grad():
            (mean, cov), (other, other_cov) = (gaussian_fit(torch.cat([self.features(one[None]) for one in many])) for many in (x_hat, x))
        root = matrix_root(cov)
        cross = torch.linalg.eigvalsh(root @ other_cov @ root).clamp_min(0).sqrt().sum()
        return float((mean - other).square().sum() + cov.trace() + other_cov.trace() - 2 * cross)


def gaussian_fit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance of (n, d) rows, in float64."""
    rows = rows.double()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def matrix_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
