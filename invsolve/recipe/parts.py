"""Objects from tables: a registered name with its arguments, checked and converted. A table inside a table is an object too.

    { name = "iterative-prox", tol = 1e-4, operator = { name = "padded-blur", boundary = "valid" } }
    { name = "stack", operators = [{ name = "mask" }, { name = "gaussian-blur" }] }

A list of tables where one operator is wanted is their composition, the first applied to the image first. An operator inside another is
made for the same image unless it says in_shape itself; in a composition each is made for what the one before it gives.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from invsolve.errors import ArgumentError, InputError, InvsolveError
from invsolve.io.images import TENSOR_FILES, read_image, read_tensor
from invsolve.noise import NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.plugins.arguments import bind, signature_of, spread
from invsolve.priors.base import Prior
from invsolve.recipe.config import Part, part_of
from invsolve.solver import Solver

# Annotations that are checked, and those that a TOML value of a type fits; whatever else is left to the constructor.
CHECKED = {bool, int, float, str, type(None), Tensor}
FITS = {bool: {bool}, int: {int, float, Tensor}, float: {float, Tensor}, str: {str}}
# What an argument may be made of by a table of its own.
INNER = {Operator: "operator", Prior: "prior", NoiseModel: "noise", Solver: "solver"}


class Paths(Protocol):
    """Where the file that holds the tables is: relative paths start there."""

    def path(self, name: str) -> Path:
        """A path in the file."""
        ...


def build(kind: Literal["operator", "noise", "prior", "solver"] | str, part: Part, paths: Paths, **extra: Any) -> Any:
    """One object by its name; `extra` holds arguments that the file may leave out, also for operators inside.

    Raises:
        UnknownNameError, ArgumentError, PluginError, InputError: as `Registry.build`, and for values of another type.
    """
    target, what = registry().load(kind, part.name), f"{kind} '{part.name}'"
    given = bound(target, what, part.arguments, extra)
    arguments = {name: made(value, name, what, target, paths, extra) for name, value in given.items()}
    try:
        return registry().build(kind, part.name, **arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvsolveError):
            raise
        raise InputError(f"{what} cannot be made with {arguments}: {error}") from error


def check(kind: str, part: Part, paths: Paths, **extra: Any) -> None:
    """Raise what `build` raises for names, arguments and their types, without making anything.

    Raises:
        UnknownNameError, ArgumentError, PluginError, InputError: as `build`.
    """
    target, what = registry().load(kind, part.name), f"{kind} '{part.name}'"
    for name, value in bound(target, what, part.arguments, extra).items():
        inner = inner_kind(target, name, value)
        if inner is None:
            converted(value, name, what, target, paths)
            continue
        for where, table in tables(value, f"{what}: {name}"):
            check(inner, part_of(table, where), paths, **extra)


def bound(target: Callable[..., Any], what: str, arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with what the target takes of `extra`, checked against its signature."""
    takes = signature_of(target).parameters
    given = {**{name: value for name, value in extra.items() if name in takes}, **arguments}
    for name, value in given.items():
        if name in takes and takes[name].kind is inspect.Parameter.VAR_POSITIONAL and not isinstance(value, list | tuple):
            raise ArgumentError(f"{what}: {name} must be a list; given {value!r:.80}")
    args, kwargs = spread(target, given)
    bind(target, what, args, kwargs)
    return given


def made(value: Any, name: str, what: str, target: Callable[..., Any], paths: Paths, extra: dict[str, Any]) -> Any:
    """An argument as the constructor wants it: the object of a table, those of a list, or the converted value."""
    inner = inner_kind(target, name, value)
    if inner is None:
        return converted(value, name, what, target, paths)
    where = f"{what}: {name}"
    if signature_of(target).parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL:
        return inside(inner, value, where, paths, extra)
    if getattr(target, "in_order", False):
        return tuple(in_order(value, where, paths, extra))
    return tuple(inside(inner, one, f"{where}.{index}", paths, extra) for index, one in enumerate(value))


def inside(kind: str, value: Any, where: str, paths: Paths, extra: dict[str, Any]) -> Any:
    """The object of a table; of a list of operators' tables their composition."""
    if kind == "operator" and isinstance(value, list) and value:
        return reduce(lambda inner, outer: outer @ inner, in_order(value, where, paths, extra))
    ((where, table),) = tables([value] if isinstance(value, list) and not value else value, where)
    return build(kind, part_of(table, where), paths, **extra)


def in_order(several: list[Any], where: str, paths: Paths, extra: dict[str, Any]) -> list[Operator]:
    """The operators of a composition, each made for what the one before it gives."""
    found: list[Operator] = []
    for index, one in enumerate(several):
        shape = {"in_shape": found[-1].out_shape} if found else {}
        found.append(inside("operator", one, f"{where}.{index}", paths, {**extra, **shape}))
    return found


def tables(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table of a value that stands for objects, with its place.

    Raises:
        ArgumentError: something else than a table or a list of them.
    """
    if isinstance(value, Part):
        yield where, {"name": value.name, **value.arguments}
    elif isinstance(value, dict):
        yield where, value
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            yield from tables(one, f"{where}.{index}")
    else:
        name = where.rpartition(" ")[2]
        raise ArgumentError(f'{where} must be a table with a name, such as {name} = {{ name = "..." }}; given {value!r:.80}')


def inner_kind(target: Callable[..., Any], name: str, value: Any) -> str | None:
    """The kind of registered object that an argument is, by its annotation, or by its own name where there is none; else None."""
    hints = hinted(target, name)
    found = next((kind for cls, kind in INNER.items() if any(isinstance(hint, type) and issubclass(hint, cls) for hint in hints)), None)
    if found is not None or hints:
        return found
    named = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict) and "name" in one]
    return next((kind for kind in INNER.values() if name in (kind, f"{kind}s")), None) if named else None


def stated_shape(part: Part) -> tuple[int, ...] | None:
    """The in_shape that an operator's table gives, or the first one inside it that does."""
    if "in_shape" in part.arguments:
        return tuple(part.arguments["in_shape"])
    target = registry().load("operator", part.name)
    for name, value in part.arguments.items():
        if inner_kind(target, name, value) == "operator":
            shapes = (stated_shape(part_of(table, where)) for where, table in tables(value, name))
            found = next((shape for shape in shapes if shape is not None), None)
            if found is not None:
                return found
    return None


def converted(value: Any, name: str, what: str, target: Callable[..., Any], paths: Paths) -> Any:
    """A TOML value as the constructor wants it: lists become tuples (or tensors), { file = "..." } the tensor in it.

    Raises:
        ArgumentError: text, a truth value or a fraction where the annotation has no place for it.
    """
    if isinstance(value, dict) and set(value) == {"file"}:
        path = paths.path(str(value["file"]))
        return read_tensor(path) if path.suffix.lower() in TENSOR_FILES else read_image(path)[0]
    hints = hinted(target, name)
    if isinstance(value, list | tuple):
        return torch.tensor(value) if Tensor in hints and hints <= CHECKED else as_tuple(value)
    if isinstance(value, str) and Tensor in hints and not hints & {str, int, float}:
        example = f'{name} = {{ file = "{value}" }}'
        raise ArgumentError(f"{what}: {name} must be numbers; given the text {value!r}. A file with them is given as {example}")
    fits = FITS.get(type(value))
    if fits is None or not hints or not hints <= CHECKED or hints & fits:
        return value
    names = sorted(hint.__name__ for hint in hints if hint is not type(None))
    raise ArgumentError(f"{what}: {name} must be {' or '.join(names)}; given {value!r}")


def as_tuple(value: Any) -> Any:
    """Lists as tuples, all the way down: solvers are frozen and compare by value."""
    return tuple(as_tuple(part) for part in value) if isinstance(value, list | tuple) else value


def hinted(target: Callable[..., Any], name: str) -> set[Any]:
    """The types in a parameter's annotation, {} where it says nothing that can be checked."""
    call = target.__init__ if isinstance(target, type) else target if inspect.isroutine(target) else type(target).__call__
    try:
        hints = get_type_hints(call)
    except Exception:  # annotations of strangers may name what is not imported
        return set()
    return _members(hints.get(name, Any))


def _members(hint: Any) -> set[Any]:
    origin = get_origin(hint)
    if hint is Any:
        return set()
    if origin in (Union, types.UnionType):
        inner = [_members(part) for part in get_args(hint)]
        return set().union(*inner) if all(inner) else set()
    if origin is Literal:
        return {type(part) for part in get_args(hint)}
    return {origin or hint}
