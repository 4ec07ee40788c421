"""Conditional priors one after the other: y is what a small image gave, the small image what the next larger one gave, up to x."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, NoNoise
from invsolve.operator import Operator
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.made_for import MadeFor, bare
from invsolve.problem import Problem


class StagedPrior(ConditionalPrior):
    """p(x | y) as p(z | y) p(x | z): several conditional priors, each of the image that the one before takes for its measurement.

    The solver `cascade` draws z and then x. To any other sampler it is the last stage where z is the mean of the stage before:

        D(x, sigma) = D_2(x, sigma, E[z | y]),   E[z | y] = D_1(centre, top of its levels, y)

    which is one evaluation more a stage and, as it knows no spread of z, no draw from p(x | y).

    Args:
        stages: conditional priors of one operator and one size each, from the smallest image to x.

    Raises:
        InputError: fewer than two, one of a moving image, of several operators or of any size; sizes that do not follow.

    References:
        Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2022), arXiv:2106.15282.
    """

    def __init__(self, *stages: ConditionalPrior) -> None:
        _check(stages)
        first, last = stages[0].made_for, stages[-1]
        tables = [stage.made_for.operators[0] for stage in reversed(stages)]
        whole = MadeFor(({"name": "chain", "operators": tables},), noise=first.noise, up="pinv", shape=last.made_for.shape)
        super().__init__(last.net, whole, **last.options)  # pyright: ignore[reportArgumentType]
        self.take_after(last)
        self.made_for, self.held = whole, nn.ModuleList(stages)

    @property
    def stages(self) -> list[ConditionalPrior]:
        """From the smallest image to x."""
        return list(self.held)  # pyright: ignore[reportReturnType, reportArgumentType]

    def problem(self, number: int, y: Measurement, of: Problem, noise: float = 0.0) -> Problem:
        """That of a stage: y and noise are those of the whole for the first, what the stage before made with `noise` for the others."""
        operator = on_device(stage_operator(self.stages[number]), parts(y)[0].device)
        if number == 0:
            return Problem(bare(of.operator)[1] * operator, y, of.noise, of.items, of.check_range)
        return Problem(operator, y, GaussianNoise(noise) if noise > 0 else NoNoise(), of.items, check_range=False)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Two Gaussian stages in closed form."""
        from invsolve.priors.pairs import gaussian_stages

        return [gaussian_stages()]

    def given(self, problem: Problem) -> Denoiser:
        """The last stage where the others have their means."""
        return Staged(self, problem)


class Staged(Denoiser):
    """The stages with a problem put in.

    Args:
        prior: the stages.
        problem: the whole one.
    """

    sees_y = True

    def __init__(self, prior: StagedPrior, problem: Problem) -> None:
        super().__init__()
        self.take_after(prior)
        self.batch, self.in_shape = problem.batch, prior.in_shape
        self.prior, self.whole = prior, problem

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat."""
        prior = self.prior
        z: Measurement = mapped(lambda part: part.to(x.device), self.whole.y)
        if self.whole.batch not in (1, len(x)):
            raise InputError(f"measurements of {self.whole.batch} items, images of {len(x)}")
        for number, stage in enumerate(prior.stages[:-1]):
            own = prior.problem(number, z, self.whole)
            grey = torch.full_like(own.image, float(stage.centre))
            z = stage.given(own)(grey, stage.sigma_range[1])
        return prior.stages[-1].given(prior.problem(len(prior.stages) - 1, z, self.whole))(x, sigma)

    def select(self, items: Sequence[int]) -> Prior:
        """Those of some items."""
        return Staged(self.prior, self.whole.rows(items, [self.whole.items[item] for item in items]))


def stage_operator(stage: ConditionalPrior) -> Operator:
    """From a stage's image to that of the one before."""
    return stage.made_for.instances(stage.made_for.shape)[0]


def on_device(operator: Operator, device: torch.device) -> Operator:
    """The operator, or a copy where the data are elsewhere."""
    return operator if operator.device in (None, device) else copy.deepcopy(operator).to(device)


def _check(stages: Sequence[ConditionalPrior]) -> None:
    """Raise InputError unless they follow one another."""
    if len(stages) < 2 or not all(isinstance(stage, ConditionalPrior) for stage in stages):
        given = [type(stage).__name__ for stage in stages]
        raise InputError(f"need two or more conditional priors, from the smallest image to the largest; given {', '.join(given) or 'none'}")
    for stage in stages:
        made_for = stage.made_for
        if stage.moving is not None or made_for.any_size or len(made_for.instances(made_for.shape)) != 1:
            raise InputError(f"a stage is a conditional prior of one operator and one size, not of a moving image; {made_for.words}")
    for small, large in pairwise(stages):
        shape, seen = tuple(small.made_for.shape), tuple(stage_operator(large).out_shape)
        if shape != seen:
            raise InputError(f"a stage of images {shape} is followed by one that measures {seen}; the order is from small to large")
