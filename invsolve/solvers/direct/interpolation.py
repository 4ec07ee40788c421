"""Interpolation of y: the baselines of super-resolution, which ask no prior and draw nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import parts
from invsolve.priors.base import Prior
from invsolve.priors.conditions import image_condition
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.pairs import averages
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.direct.unasked import Unasked


@dataclass(frozen=True)
class Bicubic(Unasked):
    """y brought to the image's size by bicubic interpolation, for an H that gives an image of fewer pixels.

        x = up(y / H(1))

    H(1), the measurement of a white image, makes it independent of y's units. The prior is not asked, the noise stays in.

    Raises:
        CompatibilityError: y is no image of at most x's pixels, or H(1) is 0 somewhere.

    References:
        Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981), a = -3/4 as torch has it, pixel centres aligned.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR}), prior=(Prior,), noise=())
    mode: ClassVar[str] = "bicubic"

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A measurement that is no smaller image."""
        operator = problem.operator
        shape = operator.out_shape
        image = len(shape) == 3 and not isinstance(problem.y, tuple) and not any(isinstance(one, tuple) for one in shape)
        if not image or operator.complex_outputs != (False,) or shape[0] != operator.in_shape[0]:
            return [f"{operator.label} gives no image of as many channels; pinv-like starts are in ddnm and hqs"]
        if any(fewer > side for fewer, side in zip(shape[1:], operator.in_shape[1:], strict=True)):  # pyright: ignore[reportOperatorIssue]
            return [f"{operator.label} gives an image of more pixels, {shape}"]
        return (
            []
            if bool((white(problem) != 0).all())
            else [f"{operator.label} does not see a white image everywhere; there is nothing to divide by"]
        )

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer."""
        if start is not None and start.index >= 0:
            return
        y = parts(problem.y)[0] / white(problem)
        x = image_condition(problem.operator, y, self.mode).clone()
        yield Step(0, 1, x, x)

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """Means of two neighbours, in two units."""
        x = Rng(11, range(3), purpose="simulate").uniform((1, 4, 6), torch.zeros(1, dtype=torch.float64))
        return [(averages(x, unit), GaussianPrior(0.5, 0.25)) for unit in (1.0, 3.0)]

    @classmethod
    def examples(cls) -> list[Solver]:
        """As it comes."""
        return [cls()]


@dataclass(frozen=True)
class Nearest(Bicubic):
    """y brought to the image's size by repeating its pixels, for an H that gives an image of fewer pixels: x = up(y / H(1)).

    The prior is not asked, the noise stays in.

    Raises:
        CompatibilityError: see Bicubic.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636, whose tables begin with such rows.
    """

    mode: ClassVar[str] = "nearest"


@torch.no_grad()
def white(problem: Problem) -> Tensor:
    """H(1), (1 or B, c, h, w)."""
    operator: Any = problem.operator
    image = problem.image[: operator.batch or 1] + 1
    return parts(operator(image))[0]
