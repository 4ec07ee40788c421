"""Objects as plain data: an operator, a noise model or a solver is its registered name and the arguments it was made with.

Nothing here imports by a path found in a file: names go through the registry, those of combinations (H @ G, H + G, ...) too.
Tensors are kept apart, in a pool that becomes the safetensors file.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, InvsolveError
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.plugins.arguments import spread

# What files of the first releases call a composition that keeps an SVD.
FORMER: dict[str, str] = dict.fromkeys(("rotated", "embedded", "colour-after", "colour-before"), "structured")
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)}


NESTED = ("solver", "prior")  # what arguments of a solver may be besides operators and numbers


class ForeignError(InvsolveError):
    """Something that no registered name and plain arguments can make again."""


@dataclass
class Pool:
    """Tensors by key; equal ones are kept once. Complex ones are stored as pairs of reals.

    Args:
        tensors: what there is already.
        trusted: the claims of what is made of them are not compared with their size: they come from this program, not from a file.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    trusted: bool = False
    _seen: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def add(self, key: str, value: Tensor) -> dict[str, Any]:
        """Keep a tensor; returns the reference that `take` understands."""
        value = value.detach().cpu().resolve_conj().resolve_neg()
        reference: dict[str, Any] = {"tensor": key}
        if value.is_complex():
            value, reference["complex"] = torch.view_as_real(value), True
        value = value.contiguous().clone()
        digest = hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).digest() if value.numel() else b""
        same = (str(value.dtype), tuple(value.shape), digest)
        if same in self._seen:
            reference["tensor"] = self._seen[same]
        else:
            self._seen[same] = key
            self.tensors[key] = value
        return reference

    def take(self, reference: Any) -> Tensor:
        """The tensor behind a reference.

        Raises:
            InputError: it is not there or malformed.
        """
        if not isinstance(reference, Mapping) or not isinstance(reference.get("tensor"), str):
            raise InputError(f"expected a reference to a tensor, found {reference!r:.80}")
        key = reference["tensor"]
        if key not in self.tensors:
            raise InputError(f"tensor '{key}' is missing")
        value = self.tensors[key]
        if not reference.get("complex"):
            return value.clone()
        if value.dtype not in (torch.float32, torch.float64) or value.ndim < 1 or value.shape[-1] != 2:
            raise InputError(f"tensor '{key}' does not hold complex numbers")
        return torch.view_as_complex(value.clone())


def encode(value: Any, pool: Pool, key: str) -> Any:
    """A value as JSON data.

    Raises:
        ForeignError: a kind of value that cannot be written as data.
    """
    if isinstance(value, PurePath):  # read from anywhere: what it starts from is not written
        return os.path.abspath(value)
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, complex):
        return {"complex": [encode(value.real, pool, key), encode(value.imag, pool, key)]}
    if isinstance(value, Tensor) and value.layout is not torch.strided:
        entries = value.detach().to_sparse_coo().coalesce()
        parts = (pool.add(f"{key}.indices", entries.indices()), pool.add(f"{key}.values", entries.values()))
        return {"sparse": [*parts, list(value.shape)]}
    if isinstance(value, Tensor):
        return pool.add(key, value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {"array": pool.add(key, torch.from_numpy(np.ascontiguousarray(value)))}
    if isinstance(value, tuple | list):
        items = [encode(item, pool, f"{key}.{index}") for index, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {"dict": {name: encode(item, pool, f"{key}.{name}") for name, item in value.items()}}
    if isinstance(value, torch.dtype) and value in DTYPES.values():
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, Operator):
        return {"object": describe("operator", value, pool, key)}
    for kind in NESTED:
        if registry().name_of(kind, value) is not None:
            return {kind: describe(kind, value, pool, key)}
    raise ForeignError(f"{key}: a {type(value).__name__} cannot be written as data")


def decode(data: Any, pool: Pool) -> Any:
    """The value that `encode` wrote.

    Raises:
        InputError: not something `encode` writes.
    """
    if data is None or isinstance(data, bool | str | int | float):
        return data
    if isinstance(data, list):
        return [decode(item, pool) for item in data]
    if isinstance(data, dict) and "tensor" in data:
        return pool.take(data)
    if isinstance(data, dict) and len(data) == 1:
        ((tag, inner),) = data.items()
        reader = READERS.get(tag)
        if reader is not None:
            try:
                return reader(inner, pool)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
                if isinstance(error, InvsolveError):
                    raise
                raise InputError(f"malformed value {data!r:.80}") from error
    raise InputError(f"unknown value {data!r:.80}")


READERS: dict[str, Callable[[Any, Pool], Any]] = {
    "float": lambda inner, pool: float({"inf": "inf", "-inf": "-inf", "nan": "nan"}[inner]),
    "complex": lambda inner, pool: complex(decode(inner[0], pool), decode(inner[1], pool)),
    "array": lambda inner, pool: pool.take(inner).numpy(),
    "sparse": lambda inner, pool: torch.sparse_coo_tensor(pool.take(inner[0]), pool.take(inner[1]), inner[2], check_invariants=True),
    "tuple": lambda inner, pool: tuple(decode(item, pool) for item in inner),
    "dict": lambda inner, pool: {name: decode(item, pool) for name, item in inner.items()},
    "dtype": lambda inner, pool: DTYPES[inner],
    "object": lambda inner, pool: rebuild("operator", inner, pool),
    "solver": lambda inner, pool: rebuild("solver", inner, pool),
    "prior": lambda inner, pool: rebuild("prior", inner, pool),
}


def describe(kind: str, value: Any, pool: Pool, key: str) -> dict[str, Any]:
    """{"name": ..., "arguments": {...}} of an operator, noise model or solver.

    A class may say itself how it is made: `recipe`, (a registered name, its arguments).

    Raises:
        ForeignError: its class is not in the registry, or an argument cannot be written.
    """
    name, made = getattr(value, "recipe", (None, {}))
    if name is None:
        name = registry().name_of(kind, value)
        if name is None or registry().load(kind, name) is not type(value):
            raise ForeignError(f"{type(value).__name__} is not a registered {kind}")
        made = {one.name: getattr(value, one.name) for one in fields(value) if one.init} if is_dataclass(value) else value.arguments
    return {"name": name, "arguments": {one: encode(given, pool, f"{key}.{one}") for one, given in made.items()}}


def rebuild(kind: str, data: Any, pool: Pool) -> Any:
    """The object that `describe` described. ("core" in place of "name" is how files of the first releases name the core's own.)

    Raises:
        InputError: malformed, or arguments that the class refuses.
        UnknownNameError: a name that is not in the registry.
    """
    given = data.get("arguments") if isinstance(data, dict) else None
    if not isinstance(given, dict) or not (set(data) == {"name", "arguments"} or set(data) == {"core", "arguments"}):
        raise InputError(f"malformed {kind} {data!r:.80}")
    name = data.get("name", data.get("core"))
    if not isinstance(name, str) or ("core" in data and kind != "operator"):
        raise InputError(f"no {kind} {name!r:.80}")
    target = registry().load(kind, FORMER.get(name, name) if "core" in data else name)
    arguments = {one: decode(item, pool) for one, item in given.items()}
    if kind == "operator" and not pool.trusted:
        refuse_claims(name, arguments, pool)
    try:
        args, kwargs = spread(target, arguments)
        return target(*args, **kwargs)
    except InvsolveError:
        raise
    except Exception as error:  # whatever a class does with nonsense, the caller hears that the file is at fault
        raise InputError(f"{kind} '{name}' cannot be made from its stored arguments: {error}") from error


# What an operator may claim of an image is measured by the tensors that lie beside it: a few bytes claim any shape. Super-resolution by
# 16 and a measurement of one number in 4096 are more than anybody does.
SIDE, LEAST_SIDE, NUMBERS, LEAST_NUMBERS = 16, 256, 4096, 1 << 20


def refuse_claims(name: str, arguments: Mapping[str, Any], pool: Pool) -> None:
    """Raise InputError for shapes far beyond what the tensors of the file could have measured, before memory is taken for them.

    Raises:
        InputError: names the argument, the claim and what is allowed.
    """
    held = [value for value in pool.tensors.values() if value.numel()]
    side = max(LEAST_SIDE, SIDE * max((max(value.shape, default=1) for value in held), default=1))
    numbers = max(LEAST_NUMBERS, NUMBERS * sum(value.numel() for value in held))
    for argument, value in arguments.items():
        if not isinstance(value, tuple | list) or len(value) < 2 or not all(isinstance(one, int) for one in value):
            continue
        if max(value) > side or math.prod(value) > numbers:
            allowed = f"sides of at most {side} and {numbers} numbers fit the tensors of the file"
            raise InputError(f"operator '{name}' claims {argument} = {tuple(value)!s:.100}, which its file cannot have measured: {allowed}")
