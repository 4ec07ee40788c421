"""What looks wrong about a problem and its answer, in words: a boundary that the picture does not have, a residual far from 1."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.errors import InvsolveError
from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import parts
from invsolve.plugins.arguments import signature_of
from invsolve.problem import Problem
from invsolve.which import known_doors

# Mean squares: a step across the edges this many times the steps beside it is none of the picture's own. Twice in amplitude and a half.
STEP = 6.0
LEAST = 12  # sides of fewer pixels have no middle
# Of the residual |Hx - y| / (sigma sqrt m): solvers at their defaults lie in .6 .. 1.1 on the quick suite, but for one (1.7).
LOW, HIGH = 0.4, 1.4


def doubts(problem: Problem, x: Tensor | None = None) -> list[str]:
    """What a user should know before believing an answer; [] where nothing looks wrong.

    Args:
        problem: what was measured.
        x: an answer, (B, *in_shape), or None.
    """
    found = boundary_doubt(problem)
    if x is not None:
        from invsolve.bench.metrics import residual

        found += residual_doubt(residual(problem, x))
    return found


def residual_doubt(residuals: Tensor | None) -> list[str]:
    """Words for residuals (B,), which are about 1 for the truth: far above it, or far below."""
    if residuals is None or not residuals.numel():
        return []
    most, least = float(residuals.max()), float(residuals.min())
    if not most <= HIGH:
        why = "the operator, its boundary or the noise level is not what made the measurement, or the solver needs more steps"
        return [f"the residual is {most:.3g} where about 1 is right: the answer does not explain the measurement ({why})"]
    if least < LOW:
        why = "it is likely given too high (images are in [0, 1])"
        return [
            f"the residual is {least:.3g} where about 1 is right: the answer is much nearer to the measurement than its noise level; {why}"
        ]
    return []


def boundary_doubt(problem: Problem) -> list[str]:
    """Words for an operator that wraps around the edges and a measurement whose edges do not meet, as those of photographs."""
    operator = problem.operator
    if operator.stacked or any(support is not None for support in operator.supports):
        return []
    (y,) = parts(problem.y)
    if y.ndim != 4 or y.is_complex() or len(operator.in_shape) != 3 or not len(y):
        return []
    found = []
    for axis, names in ((-1, "left and right"), (-2, "upper and lower")):
        if min(y.shape[axis], operator.in_shape[axis]) < LEAST:
            continue
        across, beside = steps(y, axis)
        # White noise of level s adds 2 s^2 to both; a tenth of it stays, since a level is never known exactly.
        white = 2 * problem.level.to(across).square()
        torn = across - white > STEP * ((beside - white).clamp_min(0) + 0.1 * white)
        if bool(torn.any()) and wraps(operator, y, axis):
            sizes = f"by {float(across[torn].max().sqrt()):.2g}, neighbours there by {float(beside[torn].max().sqrt()):.2g}"
            found.append(f"the {names} edges of the measurement differ ({sizes})")
    if not found:
        return []
    doors = ", ".join(door.name for door in known_doors() if door.adds is Capability.PROX)
    if "boundary" in signature_of(type(operator)).parameters:
        how = f"; boundary = valid is what a camera does (inside {doors}, which gives it a prox)"
    else:
        other = ", ".join(bounded())
        how = f"; operators that take a boundary: {other} (inside {doors} where one lacks a prox)" if other else ""
    what = f"{operator.label} takes the picture as periodic, but {' and '.join(found)}, as in a photograph"
    return [f"{what}: expect a frame of ringing all round{how}"]


def steps(y: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean squares (B,) of the step from the last line to the first, and of the four steps beside it."""
    lines = y.detach().double().movedim(axis, 0)
    joined = torch.cat([lines[-3:], lines[:3]])
    squares = joined.diff(dim=0).square().flatten(2).mean(2)
    return squares[2], squares[[0, 1, 3, 4]].mean(0)


def wraps(operator: Operator, like: Tensor, axis: int) -> bool:
    """Whether what is changed at one edge of the image changes y at the other edge, and not in between."""
    count = operator.batch or 1
    plain = like.new_full((count, *operator.in_shape), 0.5)

    def moved(x: Tensor) -> Tensor:
        with torch.no_grad():
            return (parts(operator(x))[0] - parts(operator(plain))[0]).abs().movedim(axis, 0).flatten(1).amax(1)

    whole = moved(plain + 0.25).max()
    for edge in (0, -1):
        changed = plain.clone()
        changed.movedim(axis, 0)[edge] = 0.75
        lines = moved(changed)
        far, middle = lines[-1 - edge], lines[len(lines) // 2]
        if bool(far > 1e-3 * whole) and bool(middle < 1e-2 * far):
            return True
    return False


def bounded() -> list[str]:
    """Names of the installed operators with an argument `boundary`."""
    from invsolve.plugins import registry

    found = []
    for name in registry().names("operator"):
        try:
            if "boundary" in signature_of(registry().load("operator", name)).parameters:
                found.append(name)
        except (InvsolveError, TypeError, ValueError):  # one that cannot be loaded, or has no signature, is no advice
            continue
    return found
