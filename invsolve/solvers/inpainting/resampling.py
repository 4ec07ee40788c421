"""Resampling: replacement with particles, of which those live on that foresaw the known pixels (SMCDiff)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.solvers.diffusion.common import estimate, initial
from invsolve.solvers.inpainting.common import Inpainter, Known
from invsolve.solvers.ranges import need_count


@dataclass(frozen=True)
class Resampling(Inpainter):
    """A particle filter on the noise levels: one path of the known pixels, drawn given y, is what the particles are weighed by.

        path_t = y + sqrt(sigma_t^2 - sigma_y^2) z;   path_s between y and path_t;   x_t^k <- path_t where known
        w_k = p(path_s | x_t^k) by the ancestral kernel;   a particle drawn by w in each one's place;   x_s = generic step, eta = 1

    Exact for many particles and many levels, where `replacement` is biased; but what the known pixels of a picture tell is so much that
    of a few particles all descend from one after a few levels. The answer is one of them.

    Args:
        steps: noise levels; the network is evaluated steps particles times, one particle of the whole batch at a time.
        particles: at least 1; 1 is `replacement` with a path.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.

    Raises:
        InputError: particles is no whole number, at least 1.

    References:
        Diffusion Probabilistic Modeling of Protein Backbones in 3D for the Motif-Scaffolding Problem (Trippe et al., 2023),
        arXiv:2206.04119, algorithm 1 (SMCDiff); the baseline "Resampling" of CoPaint (Zhang et al., 2023).
        Deviations: multinomial resampling at every level; weights are the kernel's own (CoPaint's code takes a softmax of 100 / error);
        noise in y, see `invsolve.solvers.inpainting.common`: y is the last point of the path, and weighs as such.
        Resampling in RePaint's sense, without jumps, is `repaint` with jump=1.
    """

    whole: ClassVar[bool] = True
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.45, "cov": 0.25, "trace": (0.75, 0.95)}
    steps: int = 30
    particles: int = 8
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "particles")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer: the first of the particles, which are exchangeable."""
        sigmas, known = self.sigmas(prior), Known.of(problem).of_particles()
        first, x, path = self.begin(problem, prior, known, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x = torch.where(known.shown & (known.sigma <= sigma), path, x)
            x0_hat = torch.stack([estimate(prior, one, sigma) for one in x.unbind(1)], 1)
            path = known.along(path, sigma, following, rng)
            chosen = ancestors(log_weights(known, x, x0_hat, path, sigma, following), rng)
            chosen = chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2))
            x, x0_hat = (torch.take_along_dim(one, chosen, 1) for one in (x, x0_hat))
            x = known.down(x, x0_hat, sigma, following, rng)
            yield Step(index, total, x[:, 0], x0_hat[:, 0], following, state={"particles": x, "path": path})

    def begin(
        self, problem: Problem, prior: Denoiser, known: Known, rng: Rng, sigma: float, start: Step | None
    ) -> tuple[int, Tensor, Tensor]:
        """(first index, particles (B, particles, C, H, W), path (B, 1, C, H, W)): a kept step's, or drawn; all at a user's x."""
        if start is not None and "particles" in start.state:
            return start.index + 1, start.state["particles"], start.state["path"]
        first, x = initial(problem, prior, rng, sigma, start)
        x = x[:, None].repeat(1, self.particles, *[1] * (x.ndim - 1))
        if start is None:
            x = problem.image[:, None] + prior.centre + sigma * rng.normal_like(x)
        return first, x, known.at(x[:, :1], sigma, rng)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Four levels of three particles, from a level of one's own."""
        return [cls(steps=4, particles=3, sigma_max=3.0)]


def log_weights(known: Known, x: Tensor, x0_hat: Tensor, path: Tensor, sigma: float, following: float) -> Tensor:
    """log p(the path's next point | particle) up to a constant, (B, K): at `following`, or y's own level where that is higher."""
    level = known.sigma.clamp_min(following)
    share = (level / sigma).square()
    variance = level.square() * (1 - share)
    point = torch.where(known.sigma <= following, path, known.y)
    square = (point - x0_hat - share * (x - x0_hat)).square() / variance.clamp_min(torch.finfo(x.dtype).tiny)
    counted = known.shown & (known.sigma <= sigma) & (variance > 0)
    return -0.5 * torch.where(counted, square, 0.0).flatten(2).sum(2)


def ancestors(log_weight: Tensor, rng: Rng) -> Tensor:
    """Indices (B, K) drawn with probabilities in proportion to exp(log_weight), (B, K)."""
    cumulated = torch.softmax(log_weight, 1).cumsum(1)
    drawn = rng.uniform(log_weight.shape[1:], log_weight)
    return torch.searchsorted(cumulated, drawn).clamp_max(log_weight.shape[1] - 1)
