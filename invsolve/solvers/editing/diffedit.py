"""DiffEdit: an image changed from one condition to another where the two disagree, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import CapabilityError
from invsolve.noise import NoNoise
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.classes import LabelledMixturePrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, generic_step
from invsolve.solvers.editing.one_shot import identity_factor
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class DiffEdit(Sampler):
    """Change the image y to what the prior's condition asks for, where that differs from what it is; the rest stays y to the bit.

        M = mean over draws and channels of |D_q(x0 + s n, s) - D_r(x0 + s n, s)|;   mask = min(M, clip mean M) / (clip mean M) > threshold
        up, i = 0 ... K - 1:   z_{i+1} = z_i + (s_{i+1} - s_i) (z_i - D_r(z_i, s)) / s,   z_0 = x0, s = s_i, and s_1 where s_0 = 0
        down from x_K = z_K:   x_{i-1} = D_q + (s_{i-1} / s_i) (x_i - D_q),   then z_{i-1} outside the mask

    D_q is the prior under `problem.context`, D_r the same prior under the image's own condition: `unconditional()`, or with
    `context["source"]` (labels, one for each item) that class. The mean of M is that of each image. The last paste is that of z_0 = x0.
    With an empty mask the image comes back; with a full one it is the inverted image, come down under the new condition.

    Args:
        steps: K, up and down: 2 K + 2 draws network evaluations.
        sigma: the level that the image is brought to, in data units: the higher, the more is changed. .4 is about half of the
            schedule of Stable Diffusion for images of a standard deviation of 1/4.
        draws: of the noise under which the two are compared, the same for both.
        mask_sigma: the level s of that noise; None for `sigma`.
        threshold: of the map over its cut, between 0 and 1.
        clip: where the map is cut, in means of it.
        grid: name of the sigma grid.

    Raises:
        InputError: an argument outside its range.
        CompatibilityError: H is not c times the identity, or the prior has no `unconditional()`.

    References:
        DiffEdit: Diffusion-based semantic image editing with mask guidance (Couairon et al., 2022), arXiv:2210.11427, section 3.2: n = 10,
        threshold .5, an encoding ratio of .5. Deviations: the mean is each image's own, so that a mask does not depend on the batch; what
        is pasted is the state of the level just reached, and at the end the image itself; the way up is never guided. `Guided(prior,
        scale)` guides the others. The estimates are compared, which differ by sigma from those of the noise: the same mask.
    """

    requires: ClassVar[Requires] = Requires(noise=())
    steps: int = 25
    sigma: float = 0.4
    draws: int = 10
    mask_sigma: float | None = None
    threshold: float = 0.5
    clip: float = 3.0
    grid: str = "karras"

    def __post_init__(self) -> None:
        need_count(self, "draws")
        for name in ("sigma", "mask_sigma", "clip"):
            need_between(self, name, 0)
        need_between(self, "threshold", 0, 1)

    def top(self, prior: Denoiser) -> float | None:
        """sigma."""
        del prior
        return self.sigma

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A level outside the prior's range, another H than the identity, a prior that has no other condition to go by."""
        assert isinstance(prior, Denoiser)
        found = super().gaps(problem, prior)
        low, high = prior.sigma_range
        if self.mask_sigma is not None and not low <= self.mask_sigma <= high:
            found.append(f"mask_sigma must lie in the prior's range, {low:.4g} to {high:.4g}; given {self.mask_sigma}")
        if identity_factor(problem) is None:
            found.append(f"operator {problem.operator.label} is not a multiple of the identity: y must be the image that is changed")
        try:
            prior.unconditional()
        except CapabilityError as error:
            found.append(str(error))
        return found

    def warmed(self, image: Tensor, prior: Denoiser, rng: Rng) -> Step:
        """The image that is changed, without noise."""
        return Solver.warmed(self, image, prior, rng)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer; the state holds the mask, 1 where it is changed, and the states z."""
        sigmas, source = self.sigmas(prior), prior.unconditional()
        if start is None or start.index < 0:
            x0 = image_of(problem) if start is None else start.x
            mask = self.mask(x0, prior, source, rng)
            path = inverted(x0, source, sigmas)
            x, first = path[:, 0], 0
        else:
            x, first, mask, path = start.x, start.index + 1, start.state["mask"], start.state["path"]
        total = len(sigmas) - 1
        for index in range(first, total):
            x0_hat = estimate(prior, x, sigmas[index])
            x = generic_step(x, x0_hat, sigmas[index], sigmas[index + 1], 0, rng)
            x = torch.where(mask == 0, path[:, index + 1], mask * x)
            x0_hat = torch.where(mask == 0, path[:, -1], x0_hat)
            yield Step(index, total, x, x0_hat, sigmas[index + 1], state={"mask": mask, "path": path})

    def mask(self, x0: Tensor, prior: Denoiser, source: Denoiser, rng: Rng) -> Tensor:
        """(B, 1, H, W), 1 where the two conditions disagree; NaN where an estimate is, which no comparison would show."""
        found = differences(x0, prior, source, self.mask_sigma or self.sigma, self.draws, rng)
        cut = self.clip * column(found.flatten(1).mean(1), found)
        return torch.where(found.isfinite(), (found.minimum(cut) > self.threshold * cut).to(x0.dtype), math.nan)

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """Images to change under a labelled mixture: from none, and from labels."""
        shape, like = (1, 4, 4), torch.zeros(1, dtype=torch.float64)
        prior = LabelledMixturePrior(Rng(12, range(4), purpose="simulate").uniform(shape, like), [0, 1, 1, 2], std=0.2)
        found: list[tuple[Problem, Prior]] = []
        for factor, more in ((1.0, {}), (3.0, {"source": torch.tensor([2, 0, 1])})):
            operator = MatrixOperator(factor * torch.eye(16, dtype=torch.float64), shape, shape)
            x = Rng(11, range(3), purpose="simulate").uniform(shape, like)
            context = {"label": torch.tensor([0, 1, 2]), **more}
            problem = Problem.simulate(operator, x, NoNoise(), generator=0, check_range=False, context=context)
            found.append((problem, prior))
        return found

    @classmethod
    def examples(cls) -> list[Solver]:
        """Six steps as they come, and with a mask of another level."""
        return [cls(steps=6, draws=3), cls(steps=4, draws=1, mask_sigma=1.0, threshold=0.4, clip=2.0)]


def image_of(problem: Problem) -> Tensor:
    """The image that y shows."""
    factor = identity_factor(problem)
    assert factor is not None
    assert isinstance(problem.y, Tensor)
    return problem.y / column(factor, problem.y)


def differences(x0: Tensor, prior: Denoiser, source: Denoiser, sigma: float, draws: int, rng: Rng) -> Tensor:
    """mean over draws and channels of |D(x0 + sigma n, sigma) - D_r(x0 + sigma n, sigma)|, (B, 1, H, W)."""
    total = torch.zeros_like(x0[:, :1])
    for _ in range(draws):
        x = x0 + sigma * rng.normal_like(x0)
        total += (estimate(prior, x, sigma) - estimate(source, x, sigma)).abs().mean(1, keepdim=True)
    return total / draws


def inverted(x0: Tensor, source: Denoiser, sigmas: list[float]) -> Tensor:
    """The states of the image on its way up, in the grid's order, the highest first and x0 last: (B, K + 1, C, H, W)."""
    z, states = x0, [x0]
    levels = sigmas[::-1]
    for low, high in pairwise(levels):
        at = low or high  # at 0 there is no noise to be seen; the step down from the next level is undone to first order
        z = z + (high - low) / at * (z - estimate(source, z, at))
        states.append(z)
    return torch.stack(states[::-1], 1)
