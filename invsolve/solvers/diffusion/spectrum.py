"""A measurement in the singular basis of its operator: what y says of each component of the image, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.operator.measurement import column, flat, parts
from invsolve.operator.svd import SVD, reciprocal
from invsolve.problem import Problem

# A measurement computed in its own precision and taken to the spectrum: a few roundings of its root mean square a component.
ROUNDINGS = 4


@dataclass(frozen=True)
class Measured:
    """The measurement in the spectrum: value U^T y / s, its noise level sigma_y / s and 1 / level, and where s > 0.

    All in units of the image: the same for (cH, cy, c sigma_y).
    """

    value: Tensor
    level: Tensor
    precision: Tensor
    seen: Tensor

    @classmethod
    def of(cls, svd: SVD, problem: Problem, finest: float) -> Measured:
        """From the problem's y and sigma; rounding of y counts as noise where it is more than `finest` in the image."""
        y = parts(problem.y)[0]
        inverse = reciprocal(svd.values(y))
        value = inverse * svd.Ut(y)
        level = column(problem.sigma, value) * inverse
        rounding = ROUNDINGS * torch.finfo(value.dtype).eps * flat(y).abs().square().mean(1).sqrt()
        unresolved = column(rounding, value) * inverse
        level = torch.where(unresolved > finest, torch.maximum(level, unresolved), level)
        return cls(value, level, reciprocal(level), svd.values(y) > 0)
