"""Conformance of operators under autograd: through H itself and through the maps that come with it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import mapped, minus, parts
from invsolve.testing.cases import Check, need
from invsolve.testing.objects import made_again
from invsolve.testing.probes import below, calls, dot, equal, image, measurement, norms

# Room for large second derivatives, or for condition numbers up to 1e9: a wrong derivative is wrong by its own size.
RELATIVE = 1e-6


def check_differentiable(operator: Operator) -> None:
    """Autograd goes through: the derivative along a direction equals a central difference.

    Where the operator declares a surrogate, its gradient is not the derivative: it must be finite, and not 0 everywhere.

    With step h = eps^(1/3) both errors of the difference, curvature h^2 and rounding eps / h, are about 4e-11 for maps of
    order one; `RELATIVE` leaves room for large second derivatives.
    """
    x = image(operator).real.sigmoid().to(image(operator).dtype).requires_grad_()
    y, direction = measurement(operator), image(operator, seed=4)
    with torch.enable_grad():
        value = dot(y, operator(x)).real
        (gradient,) = torch.autograd.grad(value.sum(), x)
    if operator.surrogate is not None:
        need(
            bool(torch.isfinite(gradient).all() & gradient.flatten(1).any(1).all()),
            "the surrogate gradient is not finite, or 0 for an item",
        )
        return
    slope = dot(gradient, direction).real
    step = torch.finfo(torch.float64).eps ** (1 / 3)
    with torch.no_grad():
        change = minus(operator(x + step * direction), operator(x - step * direction))
    numeric = dot(y, change).real / (2 * step)
    scale = norms(y) * (norms(change) / (2 * step)) + norms(gradient) * norms(direction)
    below((slope - numeric).abs(), RELATIVE * scale, "derivative by autograd against a central difference")


def check_gradients(operator: Operator) -> None:
    """Autograd goes through adjoint, pinv and prox of a linear operator, in y and in z: what unrolled and guided solvers build on.

    These maps are affine, so that the derivative along a direction is a difference: no step has to be chosen.
    """
    if not operator.has(Capability.LINEAR):
        return
    x, y = image(operator), measurement(operator)
    step_x, step_y = image(operator, seed=4), measurement(operator, seed=8)
    for name, call in calls(operator).items():
        if name not in ("adjoint", "pinv", "prox"):
            continue
        with torch.enable_grad():
            leaf_x, leaf_y = x.clone().requires_grad_(), mapped(lambda part: part.clone().requires_grad_(), y)
            result = call(operator, leaf_x, leaf_y)
            need(all(part.requires_grad for part in parts(result)), f"{name} leaves the graph: no gradient reaches its input")
            probe = image(operator, seed=9)
            leaves = [leaf_x, *parts(leaf_y)]
            found = torch.autograd.grad(dot(probe, result).real.sum(), leaves, allow_unused=True)
        gradients = [torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in zip(leaves, found, strict=True)]
        steps = [step_x, *parts(step_y)]
        slope = sum((dot(gradient, step).real for gradient, step in zip(gradients, steps, strict=True)), torch.zeros(()))
        with torch.no_grad():
            moved = call(operator, x + step_x, mapped(torch.add, y, step_y))
            change = minus(moved, call(operator, x, y))
        size = sum((norms(gradient) * norms(step) for gradient, step in zip(gradients, steps, strict=True)), torch.zeros(()))
        scale = size + norms(probe) * (norms(change) + norms(moved))
        below((slope - dot(probe, change).real).abs(), RELATIVE * scale, f"the derivative of {name} by autograd against a difference")


def check_inference(operator: Operator) -> None:
    """Used first under torch.inference_mode, the operator still gives the same bits and a gradient afterwards."""
    used, x, y = made_again(operator) or copy.deepcopy(operator), image(operator), measurement(operator)
    with torch.inference_mode():
        for call in calls(used).values():
            call(used, x.clone(), mapped(torch.clone, y))
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        result = used(leaf)
        need(equal(mapped(Tensor.detach, result), operator(x)), "forward differs after a first use under inference mode")
        if operator.has(Capability.DIFFERENTIABLE):
            try:
                torch.autograd.grad(dot(y, result).real.sum(), leaf)
            except RuntimeError as error:
                raise AssertionError(f"no gradient after a first use under inference mode: {error}") from error


GRADIENT_CHECKS: tuple[Check, ...] = (check_differentiable, check_gradients, check_inference)
