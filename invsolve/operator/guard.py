"""What every operator's methods are given is looked at in one place, whoever wrote the class: `Operator` wraps them.

Broadcasting would otherwise turn a measurement of another shape into a wrong image without a word. Only types, shapes and dtypes are
compared, some microseconds a call; no value is read, but a tau on the CPU.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import InputError, InvsolveError
from invsolve.operator.measurement import check_batch, check_kind, check_parts, check_real, check_shape, parts

if TYPE_CHECKING:
    from invsolve.operator.contract import Operator

ORDINARY = (torch.float32, torch.float64)
AUTOCAST = ("cpu", "cuda", "mps", "xpu")
NOTHING = nullcontext()


def check_y(operator: Operator, y: Any) -> None:
    """Raise InputError unless y is what H gives: floating, complex only where H's is, (B, *out_shape), with the operator's own B."""
    check_parts(operator, y)
    for part, kind in zip(parts(y), operator.complex_outputs, strict=True):
        check_kind("y", part, complex_too=kind, halves=True)
    check_batch(y, {"operator": own_batch(operator)})


def check_prox(operator: Operator, z: Any, y: Any, tau: Any) -> None:
    """For prox: z (B, *in_shape), y, and tau a number or one for each item, not negative."""
    check_shape(operator, "z", z, operator.in_shape)
    check_real(operator, "z", z)
    check_kind("z", z, complex_too=operator.complex_input, halves=True)
    check_y(operator, y)
    if z.shape[0] != parts(y)[0].shape[0]:
        raise InputError(f"batch sizes differ: z {len(z)}, y {len(parts(y)[0])}")
    check_tau(tau, z.shape[0])


def check_tau(tau: Any, batch: int) -> None:
    """Raise InputError unless tau is a real number or one for each of `batch` items, and not negative where that costs no waiting."""
    if not isinstance(tau, Tensor):
        if not isinstance(tau, Real):
            raise InputError(f"tau must be a number or a tensor of shape ({batch},); given {type(tau).__name__}")
        if not float(tau) >= 0:
            raise InputError(f"tau must not be negative or NaN; given {tau}")
        return
    if tau.is_complex():
        raise InputError(f"tau must be real; given {tau.dtype}")
    if tau.ndim and tau.numel() not in (1, batch):
        raise InputError(f"tau: one value for all items or one for each of {batch} is needed; given {tuple(tau.shape)}")
    if tau.device.type != "cpu":  # looking would wait for the device
        return
    try:
        allowed = bool((tau >= 0).all())
    except RuntimeError:  # under torch.vmap a tensor has no single value to look at
        return
    if not allowed:
        raise InputError(f"tau must not be negative or NaN; given {tau.tolist()}")


def check_image(operator: Operator, x: Any) -> None:
    """For forward: real, and as many images as the operator has parameters for. Shapes and dtypes are the operator's own to check."""
    check_real(operator, "x", x)
    if isinstance(x, Tensor) and x.ndim and own_batch(operator) not in (None, len(x)):
        wanted = ", ".join(map(str, (operator.batch, *operator.in_shape)))
        raise InputError(
            f"{operator.label} takes x of shape ({wanted}); given {tuple(x.shape)}: it has parameters for {operator.batch} items, "
            "and operator[i] is that of one"
        )


def own_batch(operator: Operator) -> int | None:
    """How many items the operator insists on; what has the parameters of one item, such as H[0], serves every batch."""
    return None if operator.batch == 1 else operator.batch


# As they were called.
check_back = check_inverse = check_y
check_items = check_image

CHECKS: dict[str, Callable[..., None]] = {
    "forward": check_image,
    "adjoint": check_y,
    "pinv": check_y,
    "prox": check_prox,
}


def guarded(method: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """A method of an operator, its own name or `name` one of CHECKS, with its arguments looked at first."""
    name = name or method.__name__
    check = CHECKS[name]
    count = len(inspect.signature(check).parameters) - 1
    names = tuple(inspect.signature(method).parameters)[1 : count + 1]

    @functools.wraps(method)
    def call(self: Operator, *args: Any, **options: Any) -> Any:
        given = args[:count] if len(args) >= count else (*args, *(options[key] for key in names[len(args) :] if key in options))
        if len(given) == count:  # else Python says what is missing
            try:
                check(self, *given)
            except InputError:
                if name != "forward":  # what the operator cannot do at all goes first
                    from invsolve.operator.contract import Capability

                    self.need(Capability(name))
                raise
        try:
            with exact(given):
                made = method(self, *args, **options)
        except (TypeError, RuntimeError) as error:
            kinds = {part.dtype for value in given[:2] for part in parts(value) if isinstance(part, Tensor)}
            if isinstance(error, InvsolveError) or self.complex_output or kinds <= set(ORDINARY):
                raise
            wanted = f"{self.label}.{name} computes with real numbers in float32 or float64"
            raise InputError(f"{wanted}; given {', '.join(sorted(map(str, kinds)))}: {error}") from error
        return made if name == "forward" or self.complex_input else real_image(self, name, made)

    return call


def exact(given: Sequence[Any]) -> AbstractContextManager[Any]:
    """What leaves torch.autocast, which would round products in a matrix or a convolution to 8 bits; nothing to enter without it."""
    first = parts(given[0])[:1] if given else ()
    kind = first[0].device.type if first and isinstance(first[0], Tensor) else "cpu"
    return torch.autocast(kind, enabled=False) if kind in AUTOCAST and torch.is_autocast_enabled(kind) else NOTHING


def real_image(operator: Operator, name: str, made: Any) -> Any:
    """What a way back gives, as the real image it must be: of H^* y the real part is the adjoint on real images.

    Raises:
        InputError: a complex image by pinv or prox, whose real part would be something else.
    """
    if not isinstance(made, Tensor) or not made.is_complex():
        return made
    if name == "adjoint":
        return made.real
    raise InputError(
        f"{operator.label}.{name} gave a complex image, and images are real: it must solve the problem over real images, where the "
        "normal matrix is Re H^* H; complex ones are real pairs, see AsComplex"
    )
