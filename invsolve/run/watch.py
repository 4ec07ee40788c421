"""What watches a run: every iterate's size, by one pass over it and one read for the whole batch."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import torch
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
        self.norms: list[list[float]] = []
        self.usual: list[float] = []
        self.still: list[int] = []
        self.seen = 0

    def fault(self, step: Step) -> str:
        """What is wrong with this step: "" if nothing."""
        if step.finite is not None:  # the solver has looked, with its stopping rule; a second read would make the host wait twice
            return "" if step.finite else "NaN or Inf"
        sizes = sizes_of(step.x)
        self._count(sizes)
        if not all(map(math.isfinite, sizes)):
            return "NaN or Inf"
        if self.seen <= FIRST:
            self.usual = [max(size, kept) for size, kept in zip(sizes, self.usual or sizes, strict=True)]
        worst = max((size / usual for size, usual in zip(sizes, self.usual, strict=True) if usual), default=0.0)
        return f"x has grown to {worst:.1e} times its first size" if worst > GROWTH else ""

    def _count(self, sizes: list[float]) -> None:
        self.seen += 1
        if self.norms:
            same = [before == now for before, now in zip(self.norms[-1], sizes, strict=True)]
            self.still = [count + 1 if stands else 0 for count, stands in zip(self.still, same, strict=True)]
        else:
            self.still = [0] * len(sizes)
        self.norms = [*self.norms[-4:], sizes]

    def error(self, step: Step, fault: str, last: Tensor | None) -> DivergedError:
        """The error with what is known: step, sigma, sizes, a hint and the last good image."""
        where = "" if step.sigma is None else f" at sigma {step.sigma:.4g}"
        values = {field.name: getattr(self.solver, field.name) for field in fields(self.solver) if field.name in STEP_SIZES}
        shown = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if isinstance(value, int | float))
        norms = [max(row, default=0.0) for row in self.norms]
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


@torch.no_grad()
def sizes_of(x: Tensor) -> list[float]:
    """|x| / sqrt(n) per item, on the host: one pass and one read."""
    rows = x.detach().flatten(1)
    return (torch.linalg.vector_norm(rows, dim=1) / math.sqrt(max(1, rows.shape[1]))).cpu().tolist()
