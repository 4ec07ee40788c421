"""What watches a run: every iterate's size, by one pass over it and one read for the whole batch."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invsolve.errors import DivergedError
from invsolve.solution import Step

# Times the largest size of the first steps: images, gradients' first steps and levels of noise stay below a thousand; what passes this
# doubles every few steps.
GROWTH, FIRST = 1e5, 5
STEP_SIZES = ("lr", "step", "zeta", "scale", "gamma", "tau", "weight", "eta")


class Watch:
    """Sizes of the iterates of a run: |x| / sqrt(n) per item.

    A norm carries NaN and Inf, so the same pass tells whether x is finite, whether it grows without end, and, by being the same number to
    the last bit, whether it stands still.

    Args:
        solver: the configuration, for the messages.
    """

    def __init__(self, solver: Any) -> None:
        self.solver = solver
        self.norms: list[NDArray[np.float64]] = []
        self.usual: NDArray[np.float64] = np.zeros(0)
        self.limit: NDArray[np.float64] = np.zeros(0)
        self.still: NDArray[np.int64] = np.zeros(0, np.int64)
        self.seen = 0

    def fault(self, step: Step) -> str:
        """What is wrong with this step: "" if nothing."""
        if step.finite is not None:  # the solver has looked, with its stopping rule; a second read would make the host wait twice
            return "" if step.finite else "NaN or Inf"
        sizes = sizes_of(step.x)
        self._count(sizes)
        if self.seen > FIRST and (sizes < self.limit).all():  # the usual case, by one comparison; what is not finite is not below
            return ""
        if not np.isfinite(sizes).all():
            return "NaN or Inf"
        with np.errstate(over="ignore"):
            if self.seen <= FIRST:
                self.usual = np.maximum(sizes, self.usual) if len(self.usual) else sizes
                self.limit = GROWTH * self.usual
            worst = float(np.divide(sizes, self.usual, out=np.zeros_like(sizes), where=self.usual > 0).max(initial=0.0))
        return f"x has grown to {worst:.1e} times its first size" if worst > GROWTH else ""

    def _count(self, sizes: NDArray[np.float64]) -> None:
        self.seen += 1
        self.still = np.where(self.norms[-1] == sizes, self.still + 1, 0) if self.norms else np.zeros(len(sizes), np.int64)
        self.norms = [*self.norms[-4:], sizes]

    def error(self, step: Step, fault: str, last: Tensor | None) -> DivergedError:
        """The error with what is known: step, sigma, sizes, a hint and the last good image."""
        where = "" if step.sigma is None else f" at sigma {step.sigma:.4g}"
        values = {field.name: getattr(self.solver, field.name) for field in fields(self.solver) if field.name in STEP_SIZES}
        shown = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if isinstance(value, int | float))
        norms = [float(row.max(initial=0.0)) for row in self.norms]
        hint = f"take a smaller step ({shown})" if shown else "take a smaller step, or another solver"
        sizes = ", ".join(f"{norm:.3g}" for norm in norms)
        return DivergedError(
            f"{self.solver}: {fault} in step {step.index} of {step.total}{where}"
            + (f"; rms of x lately {sizes}" if sizes else "")
            + f"; {hint}, or throw=False for the last good image (also this error's .x)",
            step=step.index,
            sigma=step.sigma,
            norms=norms,
            hint=hint,
            x=last,
        )


def sizes_of(x: Tensor) -> NDArray[np.float64]:
    """|x| / sqrt(n) per item, on the host: one pass and one read."""
    rows = x.detach().flatten(1)
    return (torch.linalg.vector_norm(rows, dim=1) / math.sqrt(max(1, rows.shape[1]))).cpu().double().numpy()
