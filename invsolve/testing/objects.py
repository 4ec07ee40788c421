"""Conformance of operators as objects: what moves with them, what is copied, saved, selected and made again."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from invsolve.errors import CapabilityError
from invsolve.noise import NoiseModel
from invsolve.operator import Capability, Operator
from invsolve.operator.cache import PLACE
from invsolve.operator.measurement import mapped, parts
from invsolve.plugins.arguments import signature_of
from invsolve.priors.base import Prior
from invsolve.testing.cases import Check, need
from invsolve.testing.probes import calls, close, equal, frobenius, image, measurement, norms, unit

# What a module holds beside its attributes: torch's own tables, the constructor's arguments, converted copies of buffers.
Made = TypeVar("Made", bound=Operator | Prior | NoiseModel)
TABLES = {"_parameters", "_buffers", "_modules", "arguments", PLACE}


def strays(value: Any, where: str, depth: int = 3) -> Iterator[str]:
    """Where floating tensors hide in an attribute: itself, or within lists, tuples and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield where
    elif depth and isinstance(value, list | tuple | dict):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strays(one, f"{where}[{key!r}]", depth - 1)


def check_buffers(module: Operator | Prior | NoiseModel) -> None:
    """Every floating tensor is a buffer or a parameter, so that .to(device or dtype), copies and state_dict reach it.

    This is asked of an object that has just been made: what it converts or factors in use, and renews, is its own affair.
    """
    module = made_again(module) or module
    found = [
        where
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if key not in TABLES
        for where in strays(value, ".".join(filter(None, (name, key))))
    ]
    need(not found, f"held outside the buffers: {', '.join(found)}; use register_buffer, for what is derived from buffers too")


def check_device(operator: Operator) -> None:
    """Moved to the accelerator, the operator gives there what it gives here, to rounding in float64.

    Where there is no accelerator, torch's device `meta` stands in: shapes without values, on which a tensor that stayed on the
    CPU is refused like on any other device. A map that needs values (of numpy, of .item()) cannot be followed there.
    """
    elsewhere = "cuda" if torch.cuda.is_available() else "meta"
    x, y = image(operator), measurement(operator)
    moved = copy.deepcopy(operator)
    for call in calls(moved).values():
        call(moved, x, y)  # what it remembers of a first use must not bind it to the CPU
    moved = moved.to(elsewhere)
    there = x.to(elsewhere), mapped(lambda part: part.to(elsewhere), y)
    for name, call in calls(operator).items():
        try:
            result = call(moved, *there)
        except Exception as error:
            if elsewhere == "meta" and needs_values(error):
                continue
            raise AssertionError(f"{name} on {elsewhere}: {type(error).__name__}: {error}") from error
        found = {part.device.type for part in parts(result)}
        need(found == {elsewhere}, f"{name} of data on {elsewhere} gives {', '.join(sorted(found))}")
        if elsewhere != "meta":
            wanted = call(operator, x, y)
            # Other sums in another order: what multiplies the rounding of the input is |f|, at most its Frobenius norm.
            allowed = unit(operator) * (1 + frobenius(wanted, x)) * (float(norms(x).max()) + float(norms(y).max()))
            close(mapped(Tensor.cpu, result), wanted, allowed, f"{name} on {elsewhere} against the CPU")


def needs_values(error: Exception) -> bool:
    """Whether a map failed on `meta` only because there are no values to read."""
    return isinstance(error, NotImplementedError) or any(words in str(error) for words in ("meta tensor", "convert meta device"))


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


def made_again(operator: Made) -> Made | None:
    """The operator (or prior) from its recorded arguments; None where the constructor takes any number of parts."""
    parameters = signature_of(type(operator)).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return type(operator)(**copy.deepcopy(operator.arguments)).to(getattr(operator, "device", None))


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


OBJECT_CHECKS: tuple[Check, ...] = (
    check_copies,
    check_buffers,
    check_device,
    check_state_dict,
    check_arguments,
    check_capabilities,
    check_repr,
)
