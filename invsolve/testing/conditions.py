"""Priors that depend on the problem: on its context, on y, on codes of another space, on data per item.

The checks of a denoiser call D(x, sigma). One that is made for a problem is called as it is for the first item of a small problem, whose
context the prior gives itself (`Prior.example_context`); what it does for several items is checked here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from invsolve.noise import GaussianNoise
from invsolve.plugins import registry
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.testing.cases import Check, need
from invsolve.testing.settings import frozen_state, same, truth
from invsolve.testing.subjects import Kept

SHAPE = (3, 12, 13)
CLOSED = 1e-10
DESCENT = 12


def problem_for(prior: Prior, batch: int = 3, dtype: torch.dtype = torch.float64, *, context: bool = True) -> Problem:
    """A small problem of the prior's images, with what it looks at."""
    count = prior.batch or batch
    shape = prior.image_shape or (getattr(prior, "channels", None) or SHAPE[0], *SHAPE[1:])
    own = prior.example_problem(truth(shape, count, dtype))
    if own is not None:
        return own
    given = prior.example_context(count) if context else {}
    return Problem.simulate(Kept(shape), truth(shape, count, dtype), GaussianNoise(0.1), generator=0, context=given)


def conditional(denoiser: Denoiser) -> bool:
    """Whether it is another denoiser for another problem."""
    return bool(denoiser.example_context(1)) or denoiser.given(denoiser.space(problem_for(denoiser))[0]) is not denoiser


class FirstItem(Denoiser):
    """The denoiser that a prior is for the first item of its problem, for any number of images."""

    def __init__(self, prior: Denoiser) -> None:
        super().__init__()
        self.prior = prior
        self.take_after(prior)
        self.batch = None

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """D(x, sigma) with the first item's condition in every row."""
        if len(x) == 1 or not self.draws:
            return self.bound(len(x), x.dtype)(x, sigma)
        one, levels = self.bound(1, x.dtype), torch.as_tensor(sigma).expand(len(x))
        return torch.cat([one(x[row : row + 1], levels[row : row + 1]) for row in range(len(x))])

    @functools.cached_property
    def draws(self) -> bool:
        """Whether its condition is drawn by an item's id, such as noise in a hole: then rows with ids of their own are no copies.

        What a batch does to such a prior is seen by `check_given`, with ids that stay.
        """
        x = self.prior.space(problem_for(self.prior, 1, torch.float32))[0].image[:1]
        twice = self.bound(2, x.dtype)(torch.cat([x, x]), max(0.3, self.prior.sigma_range[0]))
        return not torch.allclose(twice[0], twice[1], rtol=0.0, atol=1e-4)  # what rounding does to a network, as in check_given

    def bound(self, rows: int, dtype: torch.dtype) -> Denoiser:
        """The denoiser of the first item's problem, repeated."""
        problem = self.prior.space(problem_for(self.prior, 1, dtype))[0]
        prior = self.prior if self.prior.batch is None else self.prior.select([0] * rows)
        assert isinstance(prior, Denoiser)
        return prior.given(problem.rows([0] * rows))

    def sample(self, shape: tuple[int, ...], rng: Rng, like: Tensor) -> Tensor:
        """Images that it is meant for: its own draws where it can, else the end of twelve deterministic steps from noise.

        One step gives about their mean, which a network of images that are all sharp was never shown.
        """
        bound = self.bound(len(rng.items), like.dtype)
        draw = getattr(bound, "sample", None)
        if draw is not None:
            return draw(shape, rng, like)
        low, high = bound.sigma_range
        levels = [high * (low / high) ** (step / DESCENT) for step in range(DESCENT)]
        x = bound.centre + high * rng.normal(shape, like)
        for sigma, after in pairwise([*levels, 0.0]):
            estimate = bound(x, sigma)
            x = estimate + after / sigma * (x - estimate)
        return x

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The prior's own grid."""
        return self.prior.sigmas(steps, grid, sigma_max)


def for_one_problem(check: Check) -> Check:
    """The check, called with the denoiser of one problem where the prior is made for problems, else with the prior itself."""

    @functools.wraps(check)
    def checked(denoiser: Denoiser) -> None:
        check(FirstItem(denoiser) if denoiser.batch is not None or conditional(denoiser) else denoiser)

    return checked


def own_denoiser(prior: Denoiser, problem: Problem) -> Callable[[Tensor, float], Tensor]:
    """D(x, sigma) of a problem."""
    return prior.given(prior.space(problem)[0])


def check_given(prior: Denoiser) -> None:
    """A conditional prior: every item has its own condition, alone and in a batch; the prior stays as it was; what is missing is named.

    A context that differs from item to item makes a difference: three items that show the same x get other estimates.
    """
    if not conditional(prior):
        return
    problem = problem_for(prior)
    held = frozen_state(prior)
    sigma = min(max(0.3, prior.sigma_range[0]), prior.sigma_range[1])
    x = prior.space(problem)[0].image + 0.4
    whole = own_denoiser(prior, problem)(x, sigma)
    single = any(parameter.dtype == torch.float32 for parameter in prior.parameters())
    slack = 1e-4 if single else CLOSED
    for item in range(problem.batch):
        own = prior[item]
        assert isinstance(own, Denoiser)
        alone = own_denoiser(own, problem[item])(x[item : item + 1], sigma)
        same(alone[0], whole[item], slack, f"the estimate of item {item}, its problem alone and in a batch")
    for old, new in zip(held, frozen_state(prior), strict=True):
        same(old, new, 0, "given() changed the prior")
    context = prior.example_context(problem.batch)
    differs = any(bool((value != value[:1]).any()) for value in context.values())
    need(not differs or bool((whole != whole[:1]).any()), "items of another context get the same estimate of the same x: it is ignored")
    if context:
        bare = problem_for(prior, context=False)
        need(
            bool(prior.gaps(bare)),
            f"gaps() of a problem without context is empty, but {type(prior).__name__} looks at {', '.join(context)}; "
            "say there what is missing, so that it is refused before anything runs",
        )


def special(prior: Prior) -> bool:
    """Whether a solver's run has to do something for it: a condition, another space, data per item."""
    problem = problem_for(prior)
    if prior.batch is not None or problem.context or prior.space(problem)[0] is not problem:
        return True
    return isinstance(prior, Denoiser) and conditional(prior)


def check_in_solvers(prior: Prior) -> None:
    """Every solver of the core that takes the prior gives a finite image for every item, the same alone and in a batch.

    Asked of priors for which a run has to do something: a condition, codes, data per item.
    """
    if not special(prior):
        return
    problem, refusals = problem_for(prior), []
    solved = 0
    single = any(parameter.dtype == torch.float32 for parameter in prior.parameters())
    for entry in registry().of("solver"):
        if not entry.target.startswith("invsolve."):
            continue
        solver: Any = entry.load().examples()[0]
        asked = solver.requires.measurement or getattr(prior, "sees_y", False)
        one = problem if asked else without_measurement(problem)
        gaps = solver.mismatches(one, prior)
        if getattr(prior, "few_step", False) and solver.requires.mean and solver.requires.asks_prior:
            gaps.append("it takes means")
        if gaps:
            refusals.append(f"{entry.name}: {'; '.join(gaps)}")
            continue
        batch = solver.solve(one, prior, generator=1)
        need(batch.x.shape == one.image.shape, f"{entry.name} gives {tuple(batch.x.shape)}, expected {tuple(one.image.shape)}")
        need(torch.isfinite(batch.x).all(), f"{entry.name} gives NaN or Inf")
        for item in range(one.batch):
            alone = solver.solve(one[item], prior[item], generator=1)
            same(alone.x[0], batch.x[item], 1e-3 if single else CLOSED, f"{entry.name}, item {item} alone and in a batch")
        solved += 1
    need(solved > 0, "no solver of the core takes it:\n" + "\n".join(refusals))


def without_measurement(problem: Problem) -> Problem:
    """The same context, nothing measured."""
    image = problem.image
    return Problem.unconditional(image.shape[1:], problem.batch, dtype=image.dtype, context=problem.context)
