"""Whether a sampler's draws are those of the posterior that it claims, told from draws of the prior alone.

    x_j ~ p,  y_j | x_j,  s_1 ... s_n ~ q(. | y_j):   if q is the posterior, x_j is one more of the s_i

- simulation-based calibration (Talts et al. 2018, arXiv 1804.06788): the rank of f(x_j) among the f(s_i) is uniform on 0 ... n;
- expected coverage with random reference points (TARP; Lemos, Coogan, Hezaveh, Perreault-Levasseur 2023, arXiv 2302.03026): the share of
  samples nearer to a reference than the truth is uniform too, for every dimension of the image at once.

Uniformity is asked by Kolmogorov and Smirnov's test of (rank + u) / (n + 1), u uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from invsolve.errors import InputError
from invsolve.predictive.calibration import Calibration
from invsolve.rng import Rng


@dataclass(frozen=True)
class Ranks:
    """The ranks of one number.

    Args:
        name: of the number.
        ranks: of the truth among n samples, 0 to n, one per draw.
        places: (rank + u) / (n + 1), uniform on [0, 1] for a calibrated sampler.
        samples: n.
        p: of the test for uniformity.
    """

    name: str
    ranks: tuple[int, ...]
    places: tuple[float, ...]
    samples: int
    p: float

    def covered(self, level: float) -> float:
        """The share of truths within the central interval of that level; the level itself for a calibrated sampler."""
        return sum(abs(2 * place - 1) <= level for place in self.places) / len(self.places)

    @property
    def said(self) -> str:
        """What the ranks' shape says."""
        centre = sum(self.places) / len(self.places)
        outer = sum(abs(2 * place - 1) for place in self.places) / len(self.places)
        if abs(centre - 0.5) > 0.15:
            return f"samples lie too {'low' if centre > 0.5 else 'high'}"
        return "samples spread too little" if outer > 0.5 else "samples spread too much"


def ranked(name: str, truth: Tensor, samples: Tensor, seed: int = 0) -> Ranks:
    """Ranks of the truths (N,) among samples (n, N)."""
    below, equal = (samples < truth).sum(0), (samples == truth).sum(0)
    u = Rng(seed, [0], purpose="ranks").uniform((2, len(truth)), torch.zeros(1, dtype=torch.float64))[0]
    rank = below + (u[0] * (equal + 1)).floor().long().clamp_max(equal)  # ties broken by chance, as a continuous law would
    place = (rank + u[1]) / (len(samples) + 1)
    p = float(stats.kstest(place.numpy(), "uniform").pvalue)
    return Ranks(name, tuple(map(int, rank)), tuple(map(float, place)), len(samples), p)


def projections(count: int, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Numbers of an image: its brightness, its contrast, and random directions in the space of pixels."""

    def along(index: int) -> Callable[[Tensor], Tensor]:
        def value(x: Tensor) -> Tensor:
            direction = Rng(seed, [index], purpose="projection").normal(x.shape[1:], x)
            return (x * direction).flatten(1).sum(1)

        return value

    def brightness(x: Tensor) -> Tensor:
        return x.flatten(1).mean(1)

    def contrast(x: Tensor) -> Tensor:
        return x.flatten(1).var(1)

    return {"brightness": brightness, "contrast": contrast, **{f"direction {k + 1}": along(k) for k in range(count)}}


def simulated(calibration: Calibration, of: Mapping[str, Callable[[Tensor], Tensor]] | None = None, *, seed: int = 0) -> list[Ranks]:
    """Ranks of some numbers of the image: simulation-based calibration.

    Raises:
        InputError: plain runs, or a solver whose samples are all alike: neither has a law.
    """
    if not calibration.random:
        raise InputError("ranks need samples that differ, of every draw: calibrate(..., samples=4) of a solver that draws")
    out = []
    for index, (name, value) in enumerate((of or projections(4, seed)).items()):
        truth = value(calibration.draws.truths).double().cpu()
        drawn = torch.stack([value(one) for one in calibration.samples]).double().cpu()
        out.append(ranked(name, truth, drawn, seed + index))
    return out


def expected_coverage(calibration: Calibration, *, seed: int = 0) -> Ranks:
    """TARP: the rank of the truth's distance from a reference, the truth of the next draw, among those of the samples.

    Raises:
        InputError: as `simulated`; a single draw.
    """
    if not calibration.random or len(calibration) < 2:
        raise InputError("expected coverage needs samples that differ, of at least two draws")
    truths = calibration.draws.truths
    reference = truths.roll(1, 0)  # another draw: it knows nothing of this one's truth
    far = (truths - reference).flatten(1).double().norm(dim=1).cpu()
    theirs = torch.stack([(one - reference).flatten(1).double().norm(dim=1).cpu() for one in calibration.samples])
    return ranked("distance from a reference", far, theirs, seed + 100)
