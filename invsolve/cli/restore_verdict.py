"""What a restored photograph is worth, in a sentence, and whether there was anything to restore."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.blind.diagnosis import FAINT, GREY
from invsolve.cli.doubts import HIGH, LOW
from invsolve.noise import GaussianNoise
from invsolve.operator.measurement import parts
from invsolve.problem import Problem

ELSE = (
    ". No file is written. --blur, --kernel, --mask, --scale, --jpeg say what else happened to it; --noise LEVEL denoises it all the same"
)


def verdict(residuals: Tensor | None, what: str) -> str | None:
    """Whether the answer explains the picture, from |Hx - y| / (sigma sqrt m) of each item; None where nothing can be said.

    Args:
        residuals: (B,), about 1 for the truth.
        what: the operator in words.
    """
    if residuals is None or not residuals.numel():
        return None
    most, least = float(residuals.max()), float(residuals.min())
    if not most <= HIGH:
        return (
            f"{what} does not explain this picture: what is left over is {most:.2g} times its noise. It is another one, or the picture "
            "is sharp; do not believe the result"
        )
    if least < LOW:
        near = f"the result is nearer to the picture than its noise ({least:.2g} of it is left over)"
        return f"{near}: there is less noise than was said or found"
    return f"the result explains the picture up to its noise ({most:.2g} of it is left over)"


def nothing(problem: Problem) -> str | None:
    """Why there is nothing to restore, where that is so: noise of hardly a grey level, and an operator that changes no more."""
    if not isinstance(problem.noise, GaussianNoise) or not problem.batch or float(problem.sigma.max()) >= FAINT or not unchanged(problem):
        return None
    level = 255 * float(problem.sigma.max())
    return (
        f"nothing to restore: the noise that was found is {level:.1f} of 255 grey levels, and the picture is sharp as far as was said{ELSE}"
    )


def unchanged(problem: Problem) -> bool:
    """Whether H of the picture, continued by its last pixels where H is of a larger image, is the picture to half a grey level."""
    operator, y = problem.operator, parts(problem.y)[0]
    if operator.stacked or y.is_complex() or y.ndim != 4 or len(operator.in_shape) != 3 or operator.in_shape[0] != y.shape[1]:
        return False
    lost = [side - seen for side, seen in zip(operator.in_shape[1:], y.shape[2:], strict=True)]
    if min(lost) < 0 or any(more >= seen for more, seen in zip(lost, y.shape[2:], strict=True)):
        return False
    down, across = lost[0] // 2, lost[1] // 2
    x = torch.nn.functional.pad(y, (across, lost[1] - across, down, lost[0] - down), mode="replicate")
    with torch.no_grad():
        return float((parts(operator(x))[0] - y).square().mean().sqrt()) <= GREY / 2
