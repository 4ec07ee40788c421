"""How far draws are from a posterior: every figure a mean over the D draws of (x, y), with its standard error.

Squared distances that sampling would inflate are estimated without bias: |m - m_y|^2 less the variance of a mean of N draws, and
<C_a - C_y, C_b - C_y> of two halves of the chains. Near 0 they may come out negative, and count as 0 only after the mean over y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.rng import Rng
from invsolve.testing.oracle import Gaussian, sliced_wasserstein, wasserstein
from invsolve_benchmarks.truth.posteriors import Posterior

PIECES = 200  # exact draws that stand for the truth in coverage and ranks
DIRECTIONS = 24
SETS = 6  # of exact draws: the floor of few chains is a noisy figure
ENOUGH = 8  # chains, below which nothing is said of intervals, ranks and sliced distances


@dataclass(frozen=True)
class Found:
    """What a solver gave.

    Args:
        draws: (D, N, k) in the posterior's view; N = 1 where nothing is drawn.
        mean, cov: (D, k) and (D, k, k) of its law where that is known exactly.
        random: whether anything is drawn.
    """

    draws: Tensor
    mean: Tensor | None = None
    cov: Tensor | None = None
    random: bool = True


Figure = tuple[float, float]  # value, standard error


def spread_of(values: Tensor) -> Figure:
    """Mean and standard error over the D."""
    count = len(values)
    return float(values.mean()), float(values.std() / math.sqrt(count)) if count > 1 else math.nan


def ratio(values: Tensor, sizes: Tensor) -> Figure:
    """mean(values) / mean(sizes) over the D, so that no y of a very sure posterior decides all, and its standard error."""
    value, size = float(values.mean() / sizes.mean()), float(sizes.mean())
    return value, spread_of((values - value * sizes) / size)[1]


def rooted(squares: Tensor, sizes: Tensor) -> Figure:
    """sqrt of `ratio`, not below 0, with its error: that of the square carried over, or its root where the square is within it of 0."""
    value, error = ratio(squares, sizes)
    root = math.sqrt(max(0.0, value))
    return root, min(error / (2 * root), math.sqrt(error)) if root > 0 else math.sqrt(max(0.0, error))


def measures(found: Found, posterior: Posterior) -> dict[str, Figure]:
    """The figures by name; what cannot be said of a point, or of two chains, is left out.

    mean        |m - m_y| / sqrt(tr C_y), root mean squares over y of both, so that a y of a very sure posterior does not decide all
    gap         10 log10 of the mean's squared error over the least possible, 1 + mean^2, in dB
    cov         |C - C_y|_F / |C_y|_F, root mean square (of pooled variances where the posterior is diagonal in its view)
    trace       tr C / tr C_y
    w2          Wasserstein-2 distance of the Gaussians of these moments over sqrt(tr C_y), root mean square: exact for Gaussian laws, else
                a lower bound. Of N draws its square is less what as many exact draws have
    sliced      sliced Wasserstein-1 distance to exact draws over that of two sets of exact draws
    weights     total variation between the modes' weights
    in50, in90  share of exact draws inside the central interval of N draws, coordinate by coordinate
    ranks       largest deviation of the ranks of exact draws among N draws from uniform, along random directions
    """
    size = torch.stack([one.trace() for one in posterior.cov])
    square = mean_square(found, posterior)
    out = {"mean": rooted(square, size)}
    value, error = ratio(square, size)
    above = max(0.0, value)
    out["gap"] = (10 * math.log10(1 + above), 10 / math.log(10) * error / (1 + above))
    if not found.random:
        return out
    count = found.draws.shape[1]
    out |= of_spread(found, posterior, size)
    if count >= ENOUGH:
        out |= of_draws(found.draws, posterior)
    return out


def mean_square(found: Found, posterior: Posterior) -> Tensor:
    """|m - m_y|^2 without bias, (D,)."""
    known = 0.0 if posterior.spread is None else posterior.spread
    if found.mean is not None:
        return (found.mean - posterior.mean).square().sum(1) - known
    count = found.draws.shape[1]
    apart = (found.draws.mean(1) - posterior.mean).square().sum(1) - known
    return apart - found.draws.var(1).sum(1) / count if count > 1 else apart


def of_spread(found: Found, posterior: Posterior, size: Tensor) -> dict[str, Figure]:
    """cov, trace, w2."""
    norm = torch.stack([one.square().sum() for one in posterior.cov])
    if found.cov is not None and found.mean is not None:
        apart = torch.stack([one.square().sum() for one in found.cov - posterior.cov])
        laws = [Gaussian(*pair) for pair in zip(found.mean, found.cov, strict=True)]
        trace = torch.stack([one.trace() for one in found.cov])
        return {"cov": rooted(apart, norm), "trace": ratio(trace, size), "w2": rooted(distances(laws, posterior), size)}
    trace = found.draws.var(1).sum(1)
    if posterior.groups is not None:
        return {"trace": ratio(trace, size), **pooled(found, posterior, size)}
    half = found.draws.shape[1] // 2
    parts = [torch.stack([torch.cov(one.T) for one in part]) - posterior.cov for part in found.draws.split(half, 1)[:2]]
    square = (parts[0] * parts[1]).sum((1, 2))
    far = distances(laws_of(found.draws), posterior) - floor_distance(posterior, found.draws.shape[1])
    return {"cov": rooted(square, norm), "trace": ratio(trace, size), "w2": rooted(far, size)}


def laws_of(draws: Tensor) -> list[Gaussian]:
    """The Gaussians of the moments of draws (D, N, k)."""
    return [Gaussian(one.mean(0), torch.cov(one.T)) for one in draws]


def distances(laws: list[Gaussian], posterior: Posterior) -> Tensor:
    """Squared Wasserstein-2 distances of Gaussians, (D,)."""
    exact = [Gaussian(*pair) for pair in zip(posterior.mean, posterior.cov, strict=True)]
    return torch.tensor([wasserstein(one, two) ** 2 for one, two in zip(laws, exact, strict=True)]).double()


def floor_distance(posterior: Posterior, count: int) -> Tensor:
    """What `distances` gives for N exact draws."""
    return posterior.held(f"w2 {count}", lambda: distances(laws_of(posterior.draws(count, 14)), posterior))


def pooled(found: Found, posterior: Posterior, size: Tensor) -> dict[str, Figure]:
    """cov and w2 of a posterior that is diagonal in its view, from variances pooled within groups and over y; jackknifed over y."""
    assert posterior.groups is not None
    groups, true = posterior.groups, posterior.cov[0].diagonal()
    each = found.draws.var(1)
    square = mean_square(found, posterior)

    def figures(kept: list[int]) -> tuple[float, float]:
        ratio = (each[kept].mean(0) / true).double()
        level = torch.stack([ratio[groups == one].mean() for one in groups])
        cov = float(((level - 1) * true).norm() / true.norm())
        apart = max(0.0, float(square[kept].mean()))
        return cov, math.sqrt((apart + float(((level.sqrt() - 1).square() * true).sum())) / float(size[0]))

    everything = list(range(len(each)))
    whole = figures(everything)
    without = torch.tensor([figures([one for one in everything if one != left]) for left in everything], dtype=torch.float64)
    errors = ((len(each) - 1) * without.var(0, correction=0)).sqrt().tolist()
    return {"cov": (whole[0], errors[0]), "w2": (whole[1], errors[1])}


def of_draws(draws: Tensor, posterior: Posterior) -> dict[str, Figure]:
    """sliced, weights, in50, in90, ranks."""
    count = draws.shape[1]
    floor = posterior.held(f"sliced {count}", lambda: floor_sliced(posterior, count))
    out = {"sliced": ratio(sliced(draws, posterior), floor)}
    truths = posterior.held("truths", lambda: posterior.draws(PIECES, 13))
    for name, share in (("in50", 0.5), ("in90", 0.9)):
        low, high = draws.quantile(0.5 - share / 2, 1, keepdim=True), draws.quantile(0.5 + share / 2, 1, keepdim=True)
        out[name] = spread_of(((truths >= low) & (truths <= high)).double().mean((1, 2)))
    out["ranks"] = ranks(draws, truths)
    if posterior.modes is not None and posterior.weights is not None:
        out["weights"] = spread_of(0.5 * (posterior.modes(draws).mean(1) - posterior.weights).abs().sum(1))
    return out


def sliced(draws: Tensor, posterior: Posterior) -> Tensor:
    """Sliced Wasserstein-1 distances from as many exact draws, the mean over several sets of them, (D,)."""
    count, total = draws.shape[1], torch.zeros(len(draws), dtype=torch.float64)
    for seed in range(SETS):
        exact = posterior.held(f"draws {count} {seed}", lambda seed=seed: posterior.draws(count, 100 + seed))
        total += torch.tensor([sliced_wasserstein(one, two) for one, two in zip(draws, exact, strict=True)]).double()
    return total / SETS


def floor_sliced(posterior: Posterior, count: int) -> Tensor:
    """What `sliced` gives for N exact draws, the mean over several sets of them."""
    return torch.stack([sliced(posterior.draws(count, 200 + seed), posterior) for seed in range(SETS)]).mean(0)


def ranks(draws: Tensor, truths: Tensor) -> Figure:
    """max over u of |share of ranks below u - u|, the ranks of the truths along random directions, those of all directions together."""
    rng = Rng(0, [0], purpose="directions")
    directions = rng.normal((draws.shape[2], DIRECTIONS), draws)[0]
    count, out = draws.shape[1], []
    for chains, exact in zip(draws, truths, strict=True):
        sorted_ones = (chains @ directions).T.contiguous().sort(1).values
        place = torch.searchsorted(sorted_ones, (exact @ directions).T.contiguous())
        share = torch.bincount(place.flatten(), minlength=count + 1).double().cumsum(0) / place.numel()
        uniform = torch.arange(1, count + 2, dtype=torch.float64) / (count + 1)
        out.append((share - uniform).abs().max())
    return spread_of(torch.stack(out))


NAMES: dict[str, str] = {
    "mean": "mean error (s.d.)",
    "gap": "MMSE gap (dB)",
    "cov": "covariance error",
    "trace": "trace ratio",
    "w2": "W2",
    "sliced": "sliced W / floor",
    "weights": "mode weights",
    "in50": "in 50 %",
    "in90": "in 90 %",
    "ranks": "ranks",
}
