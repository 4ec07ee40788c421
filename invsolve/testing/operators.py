"""Conformance of operators: what every operator promises, chosen by its capabilities.

    for operator, check in operator_cases(MyOperator((1, 8, 8))):
        check(operator)                      # raises AssertionError with what was found and what is allowed

With pytest: `@pytest.mark.parametrize("operator, check", operator_cases(*MyOperator.examples()))`. Tolerances are derived in
`invsolve.testing.probes`; products are taken per item, since an operator that mixes the items of a batch symmetrically, such
as x - mean over the batch, passes a dot test over the whole batch.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from invsolve.arguments import signature_of
from invsolve.errors import CapabilityError
from invsolve.measurement import Measurement, minus, parts
from invsolve.operator import Capability, Operator
from invsolve.testing.cases import Check, Checks, build_cases, named, need, with_expected
from invsolve.testing.inverse import PINV_CHECKS, PROX_CHECKS, SVD_CHECKS
from invsolve.testing.probes import (
    ITEMS,
    below,
    calls,
    close,
    copied,
    dot,
    equal,
    frobenius,
    image,
    measurement,
    norms,
    pick,
    unit,
    widened,
)

DTYPES = (torch.float32, torch.float64)


def check_shapes(operator: Operator) -> None:
    """Every map gives the shape that in_shape and out_shape promise, for one item and for several."""
    for count in [operator.batch] if operator.batch else [1, ITEMS]:
        x, y = image(operator, batch=count), measurement(operator, batch=count)
        for name, call in calls(operator).items():
            wanted = parts(y) if name == "forward" else (x,)
            if name.startswith("svd."):
                continue
            for part, other in zip(parts(call(operator, x, y)), wanted, strict=True):
                need(part.shape == other.shape, f"{name} of a batch of {count} gives {tuple(part.shape)}, expected {tuple(other.shape)}")
        shapes = operator.out_shape if isinstance(y, tuple) else (operator.out_shape,)
        for part, shape in zip(parts(operator(x)), shapes, strict=True):
            need(tuple(part.shape) == (count, *shape), f"forward gives {tuple(part.shape)}, out_shape says (B, *{shape})")  # pyright: ignore[reportGeneralTypeIssues]


def check_dtypes(operator: Operator) -> None:
    """float32 stays float32 and float64 stays float64, on the device of the input."""
    for dtype in DTYPES:
        x, y = image(operator, dtype=dtype), measurement(operator, dtype=dtype)
        for name, call in calls(operator).items():
            for part in parts(call(operator, x, y)):
                need(part.real.dtype == dtype, f"{name} turns {dtype} into {part.dtype}")
                need(part.device == x.device, f"{name} moves {x.device} data to {part.device}")
                need(bool(torch.isfinite(part).all()), f"{name} gives NaN or Inf in {dtype}")


def check_single_precision(operator: Operator) -> None:
    """A linear operator's forward and adjoint in float32 equal those in float64 to 8 eps |H| |x|.

    Here rounding is taken as random, which adds up to sqrt(n) eps |H x|, at most eps |H| |x| in the Frobenius norm.
    """
    if not operator.has(Capability.LINEAR):
        return
    x, y = image(operator, dtype=torch.float32), measurement(operator, dtype=torch.float32)
    x64, y64 = x.to(torch.promote_types(x.dtype, torch.float64)), widened(y)
    probes: tuple[tuple[str, Measurement], ...] = (("forward", x64), ("adjoint", y64))
    for name, probe in probes:
        call = calls(operator)[name]
        exact = call(operator, x64, y64)
        allowed = 8 * torch.finfo(torch.float32).eps * frobenius(exact, probe) * float(norms(probe).max())
        close(call(operator, x, y), exact, allowed, f"{name} in float32 against float64")


def check_deterministic(operator: Operator) -> None:
    """The same input gives the same bits, and the global random state is left alone."""
    x, y = image(operator), measurement(operator)
    state = torch.get_rng_state()
    for name, call in calls(operator).items():
        need(equal(call(operator, x, y), call(operator, x, y)), f"{name} of the same input differs from call to call")
    need(torch.equal(state, torch.get_rng_state()), "the global random state has moved")


def check_untouched(operator: Operator) -> None:
    """No map writes into its inputs or changes the operator's state."""
    x, y = image(operator), measurement(operator)
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    for name, call in calls(operator).items():
        x_copy, y_copy = x.clone(), copied(y)
        call(operator, x_copy, y_copy)
        need(equal(x_copy, x) and equal(y_copy, y), f"{name} changes its input")
    for key, value in operator.state_dict().items():
        need(torch.equal(value, before[key]), f"buffer '{key}' has changed")


def check_items(operator: Operator) -> None:
    """An item's result is the same alone and in a batch, whatever the other items are."""
    x, y = image(operator), measurement(operator)
    other_x, other_y = image(operator, seed=2), measurement(operator, seed=3)
    for name, call in calls(operator).items():
        together = call(operator, x, y)
        allowed = unit(operator) * (float(norms(together).max()) + _size(operator, call, x, y))
        for item in range(len(x)):
            alone = call(operator[item], x[item : item + 1], pick(y, [item]))
            close(pick(together, [item]), alone, allowed, f"{name}: item {item} in its batch against alone")
            mixed_x, mixed_y = other_x.clone(), copied(other_y)
            mixed_x[item] = x[item]
            for part, own in zip(parts(mixed_y), parts(y), strict=True):
                part[item] = own[item]
            mixed = call(operator, mixed_x, mixed_y)
            close(pick(mixed, [item]), alone, allowed, f"{name}: item {item} with other neighbours against alone")


def _size(operator: Operator, call: Callable[..., Any], x: Tensor, y: Any) -> float:
    """A bound on what rounding acts upon inside a map: |f| |input|, several inputs together."""
    result = norms(call(operator, x, y)).max()
    return float(result) + float(norms(x).max()) + float(norms(y).max())


def check_strides(operator: Operator) -> None:
    """A view with other strides gives the same as its contiguous copy."""
    x, y = image(operator), measurement(operator)
    wide_x = torch.stack([x, x], dim=-1)[..., 0]
    views = tuple(torch.stack([part, part], dim=-1)[..., 0] for part in parts(y))
    wide_y = views if isinstance(y, tuple) else views[0]
    for name, call in calls(operator).items():
        allowed = unit(operator) * _size(operator, call, x, y)
        close(call(operator, wide_x, wide_y), call(operator, x, y), allowed, f"{name} of a strided view")


def check_empty(operator: Operator) -> None:
    """A batch of no items gives a batch of no items."""
    x, y = image(operator, batch=0), measurement(operator, batch=0)
    for name, call in calls(operator).items():
        for part in parts(call(operator, x, y)):
            need(len(part) == 0, f"{name} of an empty batch has {len(part)} items")


def check_selection(operator: Operator) -> None:
    """operator[i] and operator[a:b] are the operators of those items."""
    assert operator.batch is not None
    last = operator.batch - 1
    for index, count in ((0, 1), (last, 1), (-1, 1), (slice(0, 2), min(2, operator.batch))):
        chosen = operator[index]
        need(chosen.batch in (count, None), f"operator[{index}] has batch {chosen.batch}, expected {count}")
        shapes = (chosen.in_shape, chosen.out_shape)
        need(shapes == (operator.in_shape, operator.out_shape), f"operator[{index}] maps {shapes[0]} to {shapes[1]}")
    need(equal(operator[-1](image(operator)[last:]), operator[last](image(operator)[last:])), "operator[-1] is not the last item's")


def check_copies(operator: Operator) -> None:
    """A pickled and a deep copy compute the same bits."""
    x, y = image(operator), measurement(operator)
    for kind, twin in (("pickled", pickle.loads(pickle.dumps(operator))), ("deep", copy.deepcopy(operator))):
        for name, call in calls(operator).items():
            need(equal(call(twin, x, y), call(operator, x, y)), f"{name} of a {kind} copy differs")


def check_device(operator: Operator) -> None:
    """Moved to the accelerator, the operator gives there what it gives here, to rounding in float64."""
    x, y = image(operator), measurement(operator)
    moved = copy.deepcopy(operator).to("cuda")
    there = tuple(part.cuda() for part in parts(y))
    for name, call in calls(operator).items():
        result = call(moved, x.cuda(), there if isinstance(y, tuple) else there[0])
        need(all(part.device.type == "cuda" for part in parts(result)), f"{name} of data on cuda gives {parts(result)[0].device}")
        back = tuple(part.cpu() for part in parts(result))
        wanted = call(operator, x, y)
        # Other sums in another order: what multiplies the rounding of the input is |f|, at most its Frobenius norm.
        allowed = unit(operator) * (1 + frobenius(wanted, x)) * (float(norms(x).max()) + float(norms(y).max()))
        close(back if isinstance(result, tuple) else back[0], wanted, allowed, f"{name} on cuda against the CPU")


def made_again(operator: Operator) -> Operator | None:
    """The operator from its recorded arguments; None where the constructor takes any number of parts."""
    parameters = signature_of(type(operator)).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return type(operator)(**copy.deepcopy(operator.arguments)).to(operator.device)


def check_state_dict(operator: Operator) -> None:
    """load_state_dict replaces everything, also in an operator that has been used: nothing derived from old buffers stays."""
    x, y = image(operator, dtype=torch.float32), measurement(operator, dtype=torch.float32)
    state = {key: value.clone() for key, value in operator.state_dict().items()}
    halved = {key: value / 2 if value.is_floating_point() or value.is_complex() else value for key, value in state.items()}
    for name, call in calls(operator).items():
        wanted, used, fresh = call(operator, x, y), copy.deepcopy(operator), made_again(operator) or copy.deepcopy(operator)
        call(used, x, y)
        used.load_state_dict(halved)
        fresh.load_state_dict(halved)
        pair = [tuple(part.nan_to_num() for part in parts(call(one, x, y))) for one in (used, fresh)]
        need(equal(*pair), f"{name} of a used operator ignores a loaded state")
        used.load_state_dict(state)
        need(equal(call(used, x, y), wanted), f"{name} differs after load_state_dict of its own state")


def check_arguments(operator: Operator) -> None:
    """The recorded constructor arguments make the same operator: what files rely on."""
    again = made_again(operator)
    if again is None:
        return
    x, y = image(operator), measurement(operator)
    for name, call in calls(operator).items():
        need(equal(call(again, x, y), call(operator, x, y)), f"{name} differs when the operator is made again from its arguments")


def check_capabilities(operator: Operator) -> None:
    """What is claimed can be called, what is not claimed raises CapabilityError."""
    x, y = image(operator), measurement(operator)
    attempts: dict[Capability, Callable[[], object]] = {
        Capability.ADJOINT: lambda: operator.adjoint(y),
        Capability.PINV: lambda: operator.pinv(y),
        Capability.PROX: lambda: operator.prox(x, y, 0.7),
        Capability.SVD: operator.svd,
    }
    for capability, attempt in attempts.items():
        claimed = operator.has(capability)
        try:
            attempt()
        except CapabilityError as error:
            need(not claimed, f"{capability.value} is claimed, but the call raises: {error}")
        else:
            need(claimed, f"{capability.value} is not among the capabilities, but the call works; a CapabilityError is due")


def check_repr(operator: Operator) -> None:
    """repr works and names the class."""
    name = type(operator).__name__
    need(name in repr(operator), f"repr does not name {name}: {operator!r}")


def check_range(operator: Operator) -> None:
    """Images in [0, 1] stay in output_range."""
    assert operator.output_range is not None
    low, high = operator.output_range
    slack = unit(operator) * max(1.0, abs(low), abs(high))
    rounded = 1e-6  # kernels given in single precision sum to 1 only that far
    noise = image(operator)
    for x in (torch.zeros_like(noise), torch.ones_like(noise), (noise > 0).to(noise.dtype), noise.sigmoid()):
        for part in parts(operator(x)):
            least, most = float(part.min()), float(part.max())
            need(
                low - slack - rounded <= least and most <= high + slack + rounded,
                f"a [0, 1] image goes to [{least:.6g}, {most:.6g}], output_range says [{low:g}, {high:g}]",
            )


def check_linear(operator: Operator) -> None:
    """H(a x + b z) = a H x + b H z and H 0 = 0."""
    x, z = image(operator), image(operator, seed=2)
    images = operator(x), operator(z)
    scale = frobenius(images[0], x) * float(2 * norms(x).max() + 3 * norms(z).max())
    wanted = tuple(2.0 * a - 3.0 * b for a, b in zip(parts(images[0]), parts(images[1]), strict=True))
    close(operator(2.0 * x - 3.0 * z), wanted, unit(operator) * scale, "H(2x - 3z) against 2 Hx - 3 Hz")
    need(all(bool((part == 0).all()) for part in parts(operator(torch.zeros_like(x)))), "H 0 is not 0: affine, not linear")


def check_adjoint(operator: Operator) -> None:
    """<H x, y> = <x, H^T y> for every item; complex products, and real images too, where y is complex."""
    x, y = image(operator), measurement(operator)
    image_of, back = operator(x), operator.adjoint(y)
    allowed = unit(operator) * (frobenius(image_of, x) + frobenius(back, y)) * norms(x) * norms(y)
    below((dot(image_of, y) - dot(x, back)).abs(), allowed, "<Hx, y> - <x, H^T y>")
    if operator.complex_output:
        real = x.real
        gap = (dot(operator(real), y) - dot(real.to(x.dtype), back)).real.abs()
        below(gap, allowed, "Re <Hx, y> - Re <x, H^T y> for a real image")


def check_differentiable(operator: Operator) -> None:
    """Autograd goes through: the derivative along a direction equals a central difference.

    Where the operator declares a surrogate, its gradient is not the derivative: it must be finite, and not 0 everywhere.

    With step h = eps^(1/3) both errors of the difference, curvature h^2 and rounding eps / h, are about 4e-11 for maps of
    order one; 1e-6 leaves room for large second derivatives.
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
    below((slope - numeric).abs(), 1e-6 * scale, "derivative by autograd against a central difference")


def check_mask(operator: Operator) -> None:
    """y = mask * x with mask 0 or 1."""
    mask = operator.mask
    need(isinstance(mask, Tensor), "MASK needs an attribute `mask`, a tensor")
    assert isinstance(mask, Tensor)
    need(bool(((mask == 0) | (mask == 1)).all()), "mask has values other than 0 and 1")
    x = image(operator)
    need(equal(operator(x), mask.to(x) * x), "H x is not mask * x")


CHECKS: tuple[Check, ...] = (
    check_shapes,
    check_dtypes,
    check_single_precision,
    check_deterministic,
    check_untouched,
    check_items,
    check_strides,
    check_copies,
    check_state_dict,
    check_arguments,
    check_capabilities,
    check_repr,
)
BY_CAPABILITY: dict[Capability, tuple[Check, ...]] = {
    Capability.LINEAR: (check_linear,),
    Capability.ADJOINT: (check_adjoint,),
    Capability.DIFFERENTIABLE: (check_differentiable,),
    Capability.MASK: (check_mask,),
    Capability.SVD: SVD_CHECKS,
    Capability.PINV: PINV_CHECKS,
    Capability.PROX: PROX_CHECKS,
}


def operator_checks(operator: Operator, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """The checks that apply, as (name, check); each is called with the operator and raises AssertionError.

    Args:
        operator: any operator; its capabilities choose the checks.
        expected_failures: reason by check name; such a check must fail.
    """
    chosen = list(CHECKS)
    chosen.append(check_empty if operator.batch is None else check_selection)
    if operator.output_range is not None:
        chosen.append(check_range)
    if torch.cuda.is_available():
        chosen.append(check_device)
    for capability, checks in BY_CAPABILITY.items():
        if operator.has(capability):
            chosen.extend(checks)
    return with_expected(named(*chosen), expected_failures)


def operator_cases(*operators: Operator, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every operator with every check that applies, for `pytest.mark.parametrize("operator, check", ...)`."""
    return build_cases(operators, operator_checks, expected_failures)
