"""What objects hold, and what they were made with: for the keys of cells and of runs kept on disk."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 8
MODULE = ("_buffers", "_parameters", "_modules")
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype)


def state_hash(value: Any) -> str:
    """SHA-256 of every number, text, tensor and array that an object holds, directly or inside others: what it read from files is in it.

    Functions, devices, random generators and private mappings (caches, whose keys may be addresses in memory) are left out; objects that
    cannot be looked into count by their type.
    """
    digest = hashlib.sha256()
    _add(digest, value, DEPTH, set())
    return digest.hexdigest()


def _add(digest: Any, value: Any, depth: int, above: set[int]) -> None:
    """One value, with what kind of thing it is, so that no two different values look alike."""
    kind = type(value)
    digest.update(f"<{kind.__module__}.{kind.__qualname__}>".encode())
    if isinstance(value, PLAIN):
        digest.update(repr(value).encode())
    elif isinstance(value, Tensor):
        _add_tensor(digest, value)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode())
        if array.dtype != object:
            digest.update(np.ascontiguousarray(array).tobytes())
    elif depth and id(value) not in above:
        _add_inside(digest, value, depth - 1, above | {id(value)})
    digest.update(b";")


def _add_inside(digest: Any, value: Any, depth: int, above: set[int]) -> None:
    if isinstance(value, list | tuple):
        for part in value:
            _add(digest, part, depth, above)
    elif isinstance(value, set | frozenset):
        digest.update(repr(sorted(map(repr, value))).encode())
    elif isinstance(value, dict):
        for name, part in sorted(value.items(), key=lambda pair: repr(pair[0])):
            digest.update(repr(name).encode() + b"=")
            _add(digest, part, depth, above)
    elif not callable(value) or isinstance(value, nn.Module):
        held = getattr(value, "__dict__", {})
        kept = {name: part for name, part in held.items() if name in MODULE or not (name.startswith("_") and isinstance(part, dict))}
        _add_inside(digest, kept, depth + 1, above)


def _add_tensor(digest: Any, value: Tensor) -> None:
    digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
    if value.is_meta:
        return
    if value.layout != torch.strided:
        value = value.to_dense()
    plain = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    plain = plain.detach().cpu().contiguous()
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())


def shared_state(*values: Any) -> dict[str, str]:
    """What a solver must leave as it is, hashed by name: buffers, parameters and the public plain attributes of modules, and tensors.

    Private attributes may be caches, and what a mapping or a list holds too: they are left out.
    """
    found, number = {}, 0
    for value in values:
        if isinstance(value, nn.Module):
            for place, module in value.named_modules():
                for name, part in {**_own(module), **module._buffers, **module._parameters}.items():
                    found[".".join(filter(None, (type(value).__name__, place, name)))] = state_hash(part)
        else:
            found[f"measurement {number}"], number = state_hash(value), number + 1
    return found


def _own(module: nn.Module) -> dict[str, Any]:
    plain = (*PLAIN, Tensor, np.ndarray)

    def kept(value: Any) -> bool:
        return isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(part, plain) for part in value))

    return {name: value for name, value in vars(module).items() if not name.startswith("_") and kept(value)}


def made_hash(value: Any) -> str:
    """SHA-256 of what an object was made with, functions by their code, and of the numbers that it holds now; of no cache.

    A module counts by its arguments, its buffers, parameters and plain public numbers and texts, those of modules inside it too.
    """
    return state_hash(_made(value, ()))


def _made(value: Any, above: tuple[int, ...]) -> Any:
    """The same as plain data for `state_hash`."""
    if id(value) in above or isinstance(value, (*PLAIN, Tensor, np.ndarray)):
        return None if id(value) in above else value
    above = (*above, id(value))
    if isinstance(value, dict):
        return {name: _made(part, above) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_made(part, above) for part in value]
    held: dict[str, Any] = {"class": type(value).__qualname__}
    if isinstance(value, nn.Module):
        own = [{name: part for name, part in _own(module).items() if isinstance(part, PLAIN)} for module in value.modules()]
        held |= {"arguments": getattr(value, "arguments", None), "numbers": dict(value.state_dict()), "own": own}
    elif isinstance(code := getattr(value, "__code__", None), types.CodeType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        held |= {"code": list(code_texts(code)), "cells": cells, "defaults": value.__defaults__, "of": getattr(value, "__self__", None)}
    else:
        held |= {"repr": repr(value)} if not hasattr(value, "__dict__") else vars(value)
    return {name: _made(part, above) for name, part in held.items()}


def code_texts(code: types.CodeType) -> Iterator[str]:
    """A function's code with that of the functions in it, without lines and addresses."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} "
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from code_texts(value)
        else:
            yield repr(value)
