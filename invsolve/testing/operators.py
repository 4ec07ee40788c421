"""Conformance of operators: what every operator promises, chosen by its capabilities.

    for operator, check in operator_cases(MyOperator((1, 8, 8))):
        check(operator)                      # raises AssertionError with what was found and what is allowed

With pytest: `@pytest.mark.parametrize("operator, check", operator_cases(*MyOperator.examples()))`. Tolerances are derived in
`invsolve.testing.probes`; products are taken per item, since an operator that mixes the items of a batch symmetrically, such
as x - mean over the batch, passes a dot test over the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import Measurement, parts
from invsolve.testing.cases import Check, Checks, build_cases, chosen, declared, need
from invsolve.testing.gradients import check_differentiable, check_gradients, check_inference
from invsolve.testing.inverse import PINV_CHECKS, PROX_CHECKS, SVD_CHECKS, check_prox_sample
from invsolve.testing.larger import larger_check, resizable
from invsolve.testing.objects import OBJECT_CHECKS, check_selection, made_again
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
from invsolve.testing.world import kept, unmoved, worlds

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
    """The same input gives the same bits, and the global random state is left alone, whatever it is."""
    x, y = image(operator), measurement(operator)
    kept = torch.get_rng_state()
    try:
        for seed, (name, call) in enumerate(calls(operator).items()):
            # A state that no call has left behind: an operator that seeds the generator anew would else find what it has left.
            state = torch.Generator().manual_seed(7919 + seed).get_state()
            torch.default_generator.set_state(state)
            need(equal(call(operator, x, y), call(operator, x, y)), f"{name} of the same input differs from call to call")
            need(torch.equal(state, torch.get_rng_state()), f"{name} moves the global random state")
    finally:
        torch.default_generator.set_state(kept)


def check_untouched(operator: Operator) -> None:
    """No map writes into its inputs, changes the operator's state or the process' (generators, default dtype, threads, modes)."""
    x, y = image(operator), measurement(operator)
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    for world in worlds("operator"):
        with kept():
            world.place()
            for name, call in calls(operator).items():
                x_copy, y_copy = x.clone(), copied(y)
                with unmoved(name):
                    call(operator, x_copy, y_copy)
                need(equal(x_copy, x) and equal(y_copy, y), f"{name} changes its input")
    for key, value in operator.state_dict().items():
        need(torch.equal(value, before[key]), f"buffer '{key}' has changed")


def check_default_dtype(operator: Operator) -> None:
    """What an operator computes in float64 is the same to rounding whatever torch's default dtype is, also made under it."""
    x, y = image(operator), measurement(operator)
    known = {name: (call(operator, x, y), unit(operator) * _size(operator, call, x, y)) for name, call in calls(operator).items()}
    for dtype in DTYPES:
        with kept():
            torch.set_default_dtype(dtype)
            for done, twin in (("used", operator), ("made", made_again(operator))):
                for name, call in calls(operator).items():
                    if twin is None:
                        continue
                    what = f"{name} of an operator {done} where the default dtype is {dtype}"
                    close(call(twin, x, y), known[name][0], known[name][1], what)


def check_flags(operator: Operator) -> None:
    """complex_output says whether y is complex, part by part; channelwise and pointwise that channels or pixels are treated alike."""
    x = image(operator)
    y = operator(x)
    for index, (part, kind) in enumerate(zip(parts(y), operator.complex_outputs, strict=True)):
        found = "complex" if part.is_complex() else "real"
        need(part.is_complex() == kind, f"part {index} of y is {found}, complex_output says {'complex' if kind else 'real'}")
    allowed = unit(operator) * _size(operator, calls(operator)["forward"], x, y)
    for flag, dims, first in (("channelwise", (1,), (slice(0, 1), ...)), ("pointwise", (2, 3), (slice(None), slice(0, 1), slice(0, 1)))):
        if not getattr(operator, flag):
            continue
        (only,), kind = parts(y), "channel" if flag == "channelwise" else "pixel"
        close(operator(x.flip(dims)), only.flip(dims), allowed, f"{flag} is declared, but the {kind}s turned round do not turn y round:")
        other, place = x.clone(), (slice(None), *first)
        other[place] = -x[place]
        wanted, found = only.clone(), operator(other)
        wanted[place] = parts(found)[0][place]
        close(found, wanted, allowed, f"{flag} is declared, but a {kind} of y depends on another {kind} of x:")


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
    """<H x, y> = <x, H^T y> for every item, the real part where y is complex; H^T y is a real image."""
    x, y = image(operator), measurement(operator)
    image_of, back = operator(x), operator.adjoint(y)
    allowed = unit(operator) * (frobenius(image_of, x) + frobenius(back, y)) * norms(x) * norms(y)
    need(back.dtype == x.dtype, f"adjoint gives {back.dtype} for images of {x.dtype}")
    below((dot(image_of, y) - dot(x, back)).abs(), allowed, "<Hx, y> - <x, H^T y>")


def check_supports(operator: Operator) -> None:
    """Where `supports` says 0 nothing is measured: y is 0 there but for rounding, whatever the image; it is 0 or 1, of y's shape."""
    supports, x = operator.supports, image(operator)
    need(len(supports) == len(operator.out_shapes), f"supports has {len(supports)} parts, y {len(operator.out_shapes)}")
    for y in (operator(x), operator(x.abs().clamp_max(1))):
        for part, support in zip(parts(y), supports, strict=True):
            if support is None:
                continue
            need(bool(((support == 0) | (support == 1)).all()), "supports has values other than 0 and 1")
            try:
                held = torch.where(support.bool(), 0, part)
            except RuntimeError as error:
                raise AssertionError(f"supports of shape {tuple(support.shape)} does not fit y of {tuple(part.shape)}") from error
            need(held.shape == part.shape, f"supports of shape {tuple(support.shape)} does not fit y of {tuple(part.shape)}")
            allowed = unit(operator) * float(norms(y).max())
            below(norms(held), allowed, "y where supports says that nothing is measured, against 0,")


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
    check_default_dtype,
    check_flags,
    check_items,
    check_strides,
    check_supports,
    check_inference,
    *OBJECT_CHECKS,
)
BY_CAPABILITY: dict[Capability, tuple[Check, ...]] = {
    Capability.LINEAR: (check_linear, check_gradients),
    Capability.ADJOINT: (check_adjoint,),
    Capability.DIFFERENTIABLE: (check_differentiable,),
    Capability.MASK: (check_mask,),
    Capability.SVD: SVD_CHECKS,
    Capability.PINV: PINV_CHECKS,
    Capability.PROX: PROX_CHECKS,
}
# Laws of draws do not know the size; of many pixels some lie within a step of a kink (saturation), where a difference is no derivative.
AT_ONE_SIZE = (check_gradients, check_differentiable, check_prox_sample)
EVERY = (
    *CHECKS,
    check_empty,
    check_selection,
    check_range,
    *(check for checks in BY_CAPABILITY.values() for check in checks),
    larger_check((), ()),
)


def operator_checks(operator: Operator, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """The checks that apply, as (name, check); each is called with the operator and raises AssertionError.

    Args:
        operator: any operator; its capabilities choose the checks. What its class declares as `expected_failures` must fail.
        expected_failures: reason by check name; such a check must fail too.
    """
    checks = [*CHECKS, check_empty if operator.batch is None else check_selection]
    if operator.output_range is not None:
        checks.append(check_range)
    for capability, those in BY_CAPABILITY.items():
        if operator.has(capability):
            checks.extend(those)
    if resizable(operator):
        again = [check_shapes, check_flags, *(check for check in checks if check not in (*CHECKS, *AT_ONE_SIZE))]
        checks.append(larger_check(again, {*declared(operator), *(expected_failures or {})}))
    return chosen(operator, checks, EVERY, expected_failures)


def operator_cases(*operators: Operator, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every operator with every check that applies, for `pytest.mark.parametrize("operator, check", ...)`."""
    return build_cases(operators, operator_checks, expected_failures)
