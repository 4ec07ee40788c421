"""Small helpers for y, which is a tensor (B, *out_shape) or, for a Stack, a tuple of such tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import InputError

if TYPE_CHECKING:
    from invsolve.operator.contract import Operator

Measurement = Tensor | tuple[Tensor, ...]
FLOATS = (torch.float32, torch.float64)


def parts(y: Measurement) -> tuple[Tensor, ...]:
    """The tensors y consists of."""
    return y if isinstance(y, tuple) else (y,)


def mapped(function: Callable[..., Tensor], y: Measurement, *others: Any) -> Measurement:
    """function(part of y, parts of the others...), part by part: a tuple where y is one."""
    results = tuple(function(*those) for those in zip(parts(y), *map(parts, others), strict=True))
    return results if isinstance(y, tuple) else results[0]


def minus(a: Measurement, b: Measurement) -> Measurement:
    """a - b, part by part."""
    return mapped(torch.sub, a, b)


def flat(y: Measurement) -> Tensor:
    """(B, m): all measurements of an item in one row."""
    rows = [part.flatten(1) for part in parts(y)]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def column(value: float | Tensor, like: Tensor) -> Tensor:
    """A scalar or a (B,) tensor as something that multiplies like (B, ...) item by item.

    Raises:
        InputError: as many values as items are needed, or one.
    """
    value = torch.as_tensor(value, dtype=like.real.dtype, device=like.device)
    if value.ndim and like.ndim and value.numel() not in (1, like.shape[0]):
        raise InputError(f"one value for all items or one for each of {len(like)} is needed; given {tuple(value.shape)}")
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (like.ndim - 1))


def check_parts(operator: Operator, y: Any) -> None:
    """Raise InputError unless y is made of tensors of the shapes that the operator gives."""
    shapes = operator.out_shapes
    if operator.stacked != isinstance(y, tuple) or len(parts(y)) != len(shapes):
        wanted = f"a tuple of {len(shapes)} tensors" if operator.stacked else "one tensor"
        given = f"tuple of {len(y)}" if isinstance(y, tuple) else type(y).__name__
        raise InputError(f"{operator.label} gives {wanted}; y is {given}")
    for part, shape in zip(parts(y), shapes, strict=True):
        check_shape(operator, "y", part, shape)


def check_shape(operator: Operator, name: str, x: Any, shape: tuple[int, ...]) -> None:
    """Raise InputError unless x is a tensor (B, *shape)."""
    if not isinstance(x, Tensor):
        raise InputError(f"{name} must be a tensor, given {type(x).__name__}; torch.as_tensor makes one")
    if x.ndim != len(shape) + 1 or x.shape[1:] != shape:
        wanted = f"{operator.label} {'gives' if name == 'y' else 'takes'} {name} of shape (B, {', '.join(map(str, shape))})"
        hint = pair_hint(name, x, shape) or (f"; {name}[None] is a batch of one" if x.shape == shape else "")
        if not hint and name == "y" and operator.complex_output and shape and tuple(x.shape[1:]) == (2 * shape[0], *shape[1:]):
            hint = "; torch.complex(*y.chunk(2, dim=1)) makes complex numbers of real and imaginary channels"
        raise InputError(f"{wanted}; given {tuple(x.shape)}{hint}")


def check_real(operator: Operator, name: str, x: Any) -> None:
    """Raise InputError for a complex image where images are real, with the way to give it."""
    if not isinstance(x, Tensor) or not x.is_complex() or operator.complex_input:
        return
    shape = tuple(operator.in_shape)
    hint = pair_hint(name, x, shape)
    if not hint and tuple(x.shape[1:]) == shape:
        through = getattr(operator, "complex_images", f"H @ AsComplex({(2 * shape[0], *shape[1:])})")
        hint = (
            f". A complex image is a real one of twice the channels, torch.cat([{name}.real, {name}.imag], dim=1), for {through}; "
            f"if its imaginary part is 0, pass {name}.real"
        )
    hint = hint or f"; a complex image is a real one of twice the channels, and H takes (B, {', '.join(map(str, shape))})"
    raise InputError(f"{operator.label} takes real images; given {name} of {x.dtype}, {tuple(x.shape)}{hint}")


def pair_hint(name: str, x: Tensor, shape: tuple[int, ...]) -> str:
    """How complex numbers become the real pairs that are wanted, where x has as many of them, "" where it has not.

    Of x complex, or real with the two parts last, as torch.view_as_real has them.
    """
    if x.is_complex():
        for batch in (1, 0):
            own, more = tuple(x.shape[batch:]), "" if batch else "[None]"
            if own and (2 * own[0], *own[1:]) == shape:
                return f"; complex numbers go in as real pairs: torch.cat([{name}.real, {name}.imag], dim={batch}){more}"
            places = [axis for axis, side in enumerate(shape) if side == 2 and (*shape[:axis], *shape[axis + 1 :]) == own]
            if places:
                return f"; complex numbers go in as real pairs: torch.stack([{name}.real, {name}.imag], dim={places[0] + batch}){more}"
        return ""
    own = tuple(x.shape[1:])
    if own and own[-1] == 2:
        places = [axis for axis, side in enumerate(shape) if side == 2 and (*shape[:axis], *shape[axis + 1 :]) == own[:-1]]
        if places:
            return f"; the pair of real and imaginary part is axis {places[0] + 1}: {name}.movedim(-1, {places[0] + 1})"
        if (2 * own[0], *own[1:-1]) == shape:
            return f"; real and imaginary parts are channels here: torch.cat([{name}[..., 0], {name}[..., 1]], dim=1)"
    return ""


def check_kind(name: str, x: Tensor, *, complex_too: bool = False, halves: bool = False) -> None:
    """Raise InputError unless x is float32 or float64, or complex or in half precision where those are allowed."""
    if x.dtype in FLOATS:
        return
    if x.is_complex() and not complex_too:
        lost = f"pass {name}.real, if its imaginary part is 0"
        raise InputError(f"{name} is complex ({x.dtype}), but this operator's output is real; {lost}")
    if not (x.is_floating_point() or x.is_complex()) or (x.real.dtype not in FLOATS and not halves):
        hint = f"; 8-bit images: {name}.float() / 255" if x.dtype == torch.uint8 else f"; convert with {name}.float()"
        raise InputError(f"{name} must be float32 or float64, given {x.dtype}{hint}")


def check_batch(y: Measurement, others: dict[str, int | None]) -> None:
    """Raise InputError unless y's parts, and all others that have a batch, agree on its size."""
    found = [part.shape[0] for part in parts(y)]  # some microseconds less than len(part), at every call of an operator
    sizes = {key: size for key, size in others.items() if size is not None}
    if len({*found, *sizes.values()}) > 1:
        of_y = f"y {', '.join(map(str, dict.fromkeys(found)))}"
        raise InputError(f"batch sizes differ: {', '.join([of_y, *(f'{key} {size}' for key, size in sizes.items())])}")


def chosen(batch: int, index: Any, what: str) -> range:
    """The rows that `index`, a whole number or a slice, takes out of 0 ... batch - 1.

    Raises:
        InputError: it is neither.
        IndexError: there is no such item.
    """
    try:
        rows = range(batch)[index]
    except IndexError as error:
        raise IndexError(f"{what} holds {batch} items; there is no item {index}") from error
    except TypeError as error:
        given = f"{what} takes a whole number or a slice, [2] or [1:3]; given {type(index).__name__}"
        raise InputError(f"{given}. Several items in any order: .rows([2, 0, 1]) of a problem, .select([2, 0, 1]) of the others") from error
    return rows if isinstance(rows, range) else range(rows, rows + 1)
