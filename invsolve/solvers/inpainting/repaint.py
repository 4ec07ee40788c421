"""RePaint: replacement that goes back up now and then, so that the known and the filled pixels come to fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.solvers.diffusion.common import estimate, initial
from invsolve.solvers.diffusion.travel import legs
from invsolve.solvers.inpainting.common import Inpainter, Known
from invsolve.solvers.ranges import need_count


@dataclass(frozen=True)
class RePaint(Inpainter):
    """Put back the known pixels at every level, go down by the ancestral step, and every `jump` levels go back up and down again.

        x_t <- y + sqrt(sigma_t^2 - sigma_y^2) z where known;   x_s = generic step of x_t, eta = 1
        at every jump-th level, repeats - 1 times:   x_t = x_s + sqrt(sigma_t^2 - sigma_s^2) z, `jump` levels up

    The defaults are ten levels, each way gone ten times, 91 evaluations. The authors' are 2410: steps=250, jump=10, repeats=10,
    grid="vp-respaced". What a way up and down mixes is told by its length in log sigma, .9 for one of the ten levels, .4 for ten of
    the authors' 250, which walk it in ten steps. Longer steps make the answers narrower than the posterior, and so nearer to its mean:
    3.7 dB better on holes than steps=50, jump=5, repeats=4, whose spread is right (benchmarks/results/inpainting.md).

    Args:
        steps: noise levels; with repeats > 1 the network is evaluated steps + ceil((steps - jump) / jump) jump (repeats - 1) times.
        jump: how many levels it goes back; 1 is resampling without jumps.
        repeats: how often each way down is gone, at least 1; 1 is `replacement`. The bias falls with it and does not vanish.
        grid: name of the sigma grid; `vp-respaced` is the authors'.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.

    Raises:
        InputError: jump or repeats is not a whole number, at least 1.

    References:
        RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865, algorithm 1.
        Deviations (E2): the noise of the known pixels has a root and the level of the others, as in the code; both draw numbers of their
        own; noise in y is taken into account, see `invsolve.solvers.inpainting.common`; pixels known exactly are in the answer as they are
        in y (theirs keep the model's, E19); the known pixels are put back before the first step too; a way up is one draw. Agrees with the
        authors' code to 3e-13 over their 2410 evaluations on shared noise, but for the pixels known (benchmarks/results/parity.md).
    """

    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.45, "trace": (0.5, 0.7)}
    steps: int = 10
    jump: int = 1
    repeats: int = 10
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "jump", "repeats")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """A step is one evaluation and the way up after it, if any; the last x is the answer."""
        sigmas, known = self.sigmas(prior), Known.of(problem)
        path = legs(sigmas, self.jump, self.repeats)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        for index in range(first, len(path)):
            sigma, following, reached = path[index]
            x = known.at(x, sigma, rng)
            x0_hat = estimate(prior, x, sigma)
            x = known.down(x, x0_hat, sigma, following, rng)
            if reached > following:
                x = known.up(x, following, reached, rng)
            yield Step(index, len(path), x, x0_hat, reached)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Six levels with jumps of two, from a level of one's own."""
        return [cls(steps=6, jump=2, repeats=2, sigma_max=3.0)]
