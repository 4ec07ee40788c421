"""Metrics of several samples, NaN without them; and which part of an error no measurement reaches."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.bench.case_metrics import Coverage, NullSpaceError
from invsolve.bench.metrics import Case, Metric, undefined


class CRPS(Metric):
    """Continuous ranked probability score of a value, mean over values, in units of the image; less is better.

        mean_i |x_i - x| - 1/2 mean_{i != j} |x_i - x_j|

    The second mean leaves out i = j, so that the expectation does not depend on the number n of samples ("fair"). Of samples that are all
    equal it is the mean absolute error.

    References:
        Gneiting, Raftery, Strictly proper scoring rules, JASA 102 (2007), eq. 21;
        Ferro, Fair scores for ensemble forecasts, QJRMS 140 (2014).
    """

    label, digits, higher = "CRPS", 4, False
    settings = "per value, fair (pairs of different samples), before clipping, mean over values"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        if case.samples is None or case.truth is None or len(case.samples) < 2:
            return undefined(case)
        drawn = case.samples.double().sort(0).values
        count = len(drawn)
        apart = (drawn - case.truth.to(drawn)).abs().mean(0)
        # Of sorted values sum_{i < j} (x_j - x_i) = sum_k (2 k - n + 1) x_k, k from 0.
        weights = torch.arange(count, dtype=drawn.dtype, device=drawn.device) * 2 - count + 1
        pairs = torch.tensordot(weights, drawn, dims=1) * 2 / (count * (count - 1))
        return (apart - pairs / 2).flatten(1).mean(1)


class Diversity(Metric):
    """Root mean square of the samples' standard deviation, in units of the image: how far samples of one measurement lie apart.

    sqrt(mean over values of the unbiased variance); of samples of the exact posterior it equals the rms error of their mean times
    sqrt(n / (n + 1)), on average of squares.
    """

    label, digits, higher = "diversity", 4, None
    settings = "root mean square over values of the standard deviation over samples (n - 1), before clipping"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        if case.samples is None or len(case.samples) < 2:
            return undefined(case)
        return case.samples.double().var(0).flatten(1).mean(1).sqrt()


class IntervalWidth(Metric):
    """Mean width of the interval that `coverage` looks at, in units of the image: of two that cover alike the narrower one says more.

    From the k-th smallest to the k-th largest sample of every value, k as in `Coverage`; NaN without samples, or with one.

    Args:
        level: of the interval, in (0, 1).

    Raises:
        InputError: a level outside (0, 1).
    """

    label, digits, higher = "interval width", 4, None

    def __init__(self, level: float = 0.9) -> None:
        self.coverage = Coverage(level)
        self.settings = f"mean width of the central interval of level {level:g} of the samples, before clipping"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        if case.samples is None or len(case.samples) < 2:
            return undefined(case)
        ordered, k = case.samples.double().sort(0).values, self.coverage.rank(len(case.samples))
        return (ordered[-k] - ordered[k - 1]).flatten(1).mean(1)


class NullSpaceShare(Metric):
    """|(I - H^+ H) e|^2 / |e|^2 of the error e = x_hat - x: which share of it no measurement reaches, 0 to 1 for an orthogonal projection.

    NaN where the operator has no pinv or is not linear, and where there is no error.
    """

    label, higher = "null-space share", None
    settings = "share of the squared error that lies in the null space of H, before clipping"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        if case.truth is None:
            return undefined(case)
        whole = (case.x - case.truth.to(case.x)).double().flatten(1).square().mean(1)
        unseen = NullSpaceError().measure(case).to(whole).square()
        return torch.where(whole > 0, unseen / whole, torch.nan)
