"""Posteriors that are known: what a solver's draws are held against, in the coordinates of a view.

Each gives, for D draws of (x, y): means (D, k), covariances (D, k, k), any number of exact draws, and weights of modes where there are
any. The view is k coordinates (or orthonormal combinations) of the image; all of them where there are few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from invsolve.rng import Rng
from invsolve.testing.oracle import Gaussian
from invsolve_benchmarks.truth.gibbs import Gibbs
from invsolve_benchmarks.truth.priors import FieldPrior, LevyPrior

Draws = Callable[[int, int], Tensor]  # count, seed -> (D, count, k)


@dataclass(frozen=True)
class Posterior:
    """The law of x0 given each y, as a view shows it.

    Args:
        mean: (D, k).
        cov: (D, k, k).
        draws: (count, seed) -> (D, count, k), exact.
        view: images (R, n) -> (R, k).
        spread: variance of what `mean` and the mean of `draws` are known with, summed over the k, (D,): 0 for closed forms.
        modes: draws (D, N, k') of whole images' views -> shares of the modes (D, N, K); None where there are no modes.
        weights: (D, K), those of the posterior.
        groups: for posteriors that are diagonal in the view: a number per coordinate, equal for those whose variances are pooled.
        cache: of `held`.
    """

    mean: Tensor
    cov: Tensor
    draws: Draws
    view: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    spread: Tensor | None = None
    modes: Callable[[Tensor], Tensor] | None = None
    weights: Tensor | None = None
    groups: Tensor | None = None
    cache: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def held(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What was made before under this name; every solver is held against the same exact draws."""
        if name not in self.cache:
            self.cache[name] = make()
        return self.cache[name]


def gaussian(law: Gaussian, matrix: Tensor, y: Tensor, sigma: float) -> Posterior:
    """x0 ~ N(m, C) behind a matrix; y (D, m)."""
    each = [law.posterior(matrix, one, sigma) for one in y]

    def draws(count: int, seed: int) -> Tensor:
        return torch.stack([one.sample(count, seed + 7919 * index) for index, one in enumerate(each)])

    return Posterior(torch.stack([one.mean for one in each]), torch.stack([one.cov for one in each]), draws)


def mixture(means: Tensor, weights: Tensor, std: float, matrix: Tensor, y: Tensor, sigma: float, view: Tensor) -> Posterior:
    """x0 ~ sum_k w_k N(m_k, std^2 I) behind a matrix: again a mixture, with

        w_k|y ~ w_k N(y; A m_k, S),  m_k|y = m_k + std^2 A' S^-1 (y - A m_k),  C|y = std^2 (I - std^2 A' S^-1 A),  S = std^2 A A' + sigma^2

    Args:
        means, weights: (K, n) and (K,).
        std: of every component.
        matrix, y, sigma: A (m, n), (D, m) and the noise level.
        view: orthonormal rows (k, n) whose span holds all differences of means and all rows of A, so that they tell the modes apart.
    """
    eye = torch.eye(matrix.shape[1], dtype=torch.float64)
    inverse = torch.linalg.inv(std**2 * matrix @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=torch.float64))
    gain = std**2 * matrix.T @ inverse
    residual = y[:, None] - (means @ matrix.T)[None]
    logs = weights.log() - 0.5 * torch.einsum("dki,ij,dkj->dk", residual, inverse, residual)
    share = logs.softmax(1)
    centres = (means + residual @ gain.T) @ view.T
    within = std**2 * view @ (eye - gain @ matrix) @ view.T
    values, vectors = torch.linalg.eigh(within)
    mean = torch.einsum("dk,dkn->dn", share, centres)
    apart = centres - mean[:, None]
    precision = torch.linalg.inv(within)

    def draws(count: int, seed: int) -> Tensor:
        rng = Rng(seed, [0], purpose="truth")
        at = torch.searchsorted(share.cumsum(1), rng.uniform((len(y), count), means)[0]).clamp_max(len(means) - 1)
        z = rng.normal((len(y), count, len(view)), means)[0]
        return torch.stack([one[index] for one, index in zip(centres, at, strict=True)]) + z * values.clamp_min(0).sqrt() @ vectors.T

    def modes(x: Tensor) -> Tensor:
        return torch.stack(
            [
                torch.softmax(share[d].log() - 0.5 * torch.stack([((x[d] - c) @ precision * (x[d] - c)).sum(1) for c in centres[d]], 1), 1)
                for d in range(len(y))
            ]
        )

    cov = within + torch.einsum("dk,dki,dkj->dij", share, apart, apart)
    return Posterior(mean, cov, draws, lambda x: x @ view.T.to(x), modes=modes, weights=share)


def spectral(prior: FieldPrior, transfer: Tensor, y: Tensor, sigma: float, per_band: int = 16) -> Posterior:
    """A stationary field behind a circular blur, y (D, 1, h, w), seen through some of its Fourier coefficients.

    With the orthonormal transform the coefficients are independent: S sigma^2 / (|h|^2 S + sigma^2) is the variance of each. The view is
    the real parts (times sqrt 2) of coefficients drawn from rings about frequency 0, a ring being a group of about equal variances.
    """
    side = y.shape[-1]
    power, h = prior.spectrum, transfer
    f = torch.fft.fftfreq(side, dtype=torch.float64) * side
    radius = (f[:, None].square() + f[None, :].square()).sqrt()
    upper = (f[None, :] > 0).expand(side, side) & (f.abs() < side // 2)[:, None] & (f.abs() < side // 2)[None, :]
    edges = torch.logspace(0, torch.tensor(side / 2 - 1.0).log10().item(), 13, dtype=torch.float64)
    places, groups = [], []
    for ring, (low, high) in enumerate(pairwise(edges.tolist())):
        inside = (upper & (radius >= low) & (radius < high)).flatten().nonzero()[:, 0]
        chosen = inside[torch.linspace(0, len(inside) - 1, min(per_band, len(inside)), dtype=torch.float64).round().long()]
        places.append(chosen)
        groups.append(torch.full((len(chosen),), ring))
    at = torch.cat(places)

    def view(x: Tensor) -> Tensor:
        wide = torch.fft.fft2((x.double() - prior.mean).reshape(-1, side, side), norm="ortho").flatten(1)
        return wide[:, at].real * 2**0.5

    variance = (power * sigma**2 / (h.abs().square() * power + sigma**2)).flatten()[at]
    gain = h.conj() * power / (h.abs().square() * power + sigma**2)
    data = torch.fft.fft2(y[:, 0].double() - prior.mean * h[0, 0].real, norm="ortho")
    mean = (gain * data).flatten(1)[:, at].real * 2**0.5

    def draws(count: int, seed: int) -> Tensor:
        z = Rng(seed, range(len(mean)), purpose="truth").normal((count, len(at)), mean)
        return mean[:, None] + variance.sqrt() * z

    return Posterior(mean, torch.diag(variance).expand(len(mean), -1, -1), draws, view, groups=torch.cat(groups))


def levy(prior: LevyPrior, matrix: Tensor, y: Tensor, sigma: float, *, chains: int = 64, kept: int = 40, seed: int = 0) -> Posterior:
    """A Levy process behind a matrix: chains x kept draws by Gibbs sampling, whose chains say how well the mean is known."""
    found = Gibbs(prior, matrix, sigma).draws(y, chains, kept, seed)
    flat = found.flatten(1, 2)
    spread = found.mean(2).var(1).sum(1) / chains

    def draws(count: int, seed: int) -> Tensor:
        order = Rng(seed, range(len(y)), purpose="truth").uniform((flat.shape[1],), flat).argsort(1)[:, :count]
        return torch.stack([one[index] for one, index in zip(flat, order, strict=True)])

    return Posterior(flat.mean(1), torch.stack([torch.cov(one.T) for one in flat]), draws, spread=spread)
