"""Objects from tables: a registered name with its arguments, checked and converted. A table inside a table is an object too.

    { name = "iterative-prox", tol = 1e-4, operator = { name = "padded-blur", kernel = [[0.25, 0.5, 0.25]] } }
    { stack = [{ name = "mask" }, { chain = [{ name = "gaussian-blur" }, { name = "block-mean" }] }] }

Problem files, suites and the shell build by it. `chain` and `stack` are written out, or by name (name = "chain", operators = [...]). A
list of tables where one operator is wanted is their composition, the first applied to the image first. An operator inside another is
made for the same image unless it says in_shape itself; in a composition each is made for what the one before it gives.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import reduce
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol

from invsolve.errors import ArgumentError, ConstructorError, InputError, InvsolveError
from invsolve.io.images import TENSOR_FILES, load_image, read_tensor
from invsolve.noise import NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.plugins.arguments import bind, shown, signature_of, spread
from invsolve.plugins.interrupts import attempted
from invsolve.plugins.part import Part, prior_part, written_out
from invsolve.plugins.typed import fitted, hint_of, members
from invsolve.priors.base import Prior
from invsolve.recipe.tables import MAX_NUMBERS, part_of, whole, within
from invsolve.solver import Solver

# What an argument may be made of by a table of its own.
INNER = {Operator: "operator", Prior: "prior", NoiseModel: "noise", Solver: "solver"}


class Paths(Protocol):
    """Where the file that holds the tables is: relative paths start there."""

    def path(self, name: str) -> Path:
        """A path in the file."""
        ...


def build(kind: Literal["operator", "noise", "prior", "solver"] | str, part: Part, paths: Paths, /, **extra: Any) -> Any:
    """One object by its name; `extra` holds arguments that the file may leave out, also for operators inside.

    Raises:
        UnknownNameError, ArgumentError, PluginError, InputError: as `Registry.build`, and for values of another type.
    """
    target, what = registry().load(kind, part.name), f"{kind} '{part.name}'"
    given = bound(target, what, part.arguments, extra)
    written = part.arguments
    arguments = {name: made(value, name, what, target, paths, extra) if name in written else value for name, value in given.items()}
    sides = arguments.get("in_shape") or ()
    if isinstance(sides, tuple) and all(type(side) is int for side in sides) and prod(sides) > MAX_NUMBERS:
        raise InputError(f"{what}: an image has at most {MAX_NUMBERS} numbers (2 GiB in float32); given in_shape={list(sides)}")
    try:
        return registry().build(kind, part.name, **arguments)
    except InvsolveError as error:
        raise within(error, what) from error
    except Exception as error:  # whatever Python, torch or a stranger makes of what passed the types
        raise ConstructorError(f"{what} cannot be made with {shown(arguments)}: {type(error).__name__}: {error!s:.300}") from error


def check(kind: str, part: Part, paths: Paths, /, **extra: Any) -> None:
    """Raise what `build` raises for names, arguments and their types, without making anything.

    Raises:
        UnknownNameError, ArgumentError, PluginError, InputError: as `build`.
    """
    target, what = registry().load(kind, part.name), f"{kind} '{part.name}'"
    for name, value in bound(target, what, part.arguments, extra).items():
        if name not in part.arguments:
            continue
        inner = inner_kind(target, name, value)
        if inner is None:
            converted(value, name, what, target, paths)
            continue
        for where, table in tables(value, f"{what}: {name}"):
            check(inner, inner_part(inner, table, where), paths, **extra)


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
    return build(kind, inner_part(kind, table, where), paths, **extra)


def inner_part(kind: str, table: dict[str, Any], where: str) -> Part:
    """A table inside another one as a part; a prior's may name weights by { file = ... }."""
    return part_of(prior_part(table) if kind == "prior" else table, where)


def in_order(several: list[Any], where: str, paths: Paths, extra: dict[str, Any]) -> list[Operator]:
    """The operators of a composition, each made for what the one before it gives."""
    found: list[Operator] = []
    for index, one in enumerate(several):
        shape = {"in_shape": found[-1].out_shape} if found else {}
        place = f"{where}.{index}"
        try:
            found.append(inside("operator", one, place, paths, {**extra, **shape}))
        except InvsolveError as error:
            raise within(error, place) from error
    return found


def check_items(made: Operator | NoiseModel, count: int, what: str) -> None:
    """Raise where an operator or a noise was made for another number of images.

    Raises:
        InputError: it has a value for each of several images, and there are not so many.
    """
    if made.batch not in (None, 1, count):
        raise InputError(f"{what} has a value for each of {made.batch} images, and there {'is' if count == 1 else 'are'} {count}; give one")


def tables(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table of a value that stands for objects, with its place.

    Raises:
        ArgumentError: something else than a table or a list of them.
    """
    if isinstance(value, Part):
        yield where, {"name": value.name, **value.arguments}
    elif isinstance(value, dict):
        yield where, written_out(value)
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            yield from tables(one, f"{where}.{index}")
    else:
        name = where.rpartition(" ")[2]
        raise ArgumentError(f'{where} must be a table with a name, such as {name} = {{ name = "..." }}; given {value!r:.80}')


def inner_kind(target: Callable[..., Any], name: str, value: Any) -> str | None:
    """The kind of registered object that an argument is, by its annotation, or by its own name where there is none; else None."""
    hints = members(hint_of(target, name))
    found = next((kind for cls, kind in INNER.items() if any(isinstance(hint, type) and issubclass(hint, cls) for hint in hints)), None)
    if found is not None or hints:
        return found
    several = value if isinstance(value, list) else [value]
    named = [one for one in several if isinstance(one, dict) and "name" in written_out(one)]
    return next((kind for kind in INNER.values() if name in (kind, f"{kind}s")), None) if named else None


def in_full(kind: str, value: Any, paths: Paths) -> Any:
    """A part's table (or a list of them) whose paths and { file = ... } no longer depend on where the file is."""
    if isinstance(value, list):
        return [in_full(kind, one, paths) for one in value]
    if not isinstance(value, dict):
        return value
    value = prior_part(value) if kind == "prior" else written_out(value)
    target = attempted(lambda: registry().load(kind, value["name"]))

    def full(name: str, one: Any) -> Any:
        if isinstance(one, dict) and set(one) == {"file"} and isinstance(one["file"], str):
            return {"file": os.path.abspath(paths.path(one["file"]))}
        if isinstance(target, BaseException):
            return one
        if isinstance(one, str) and Path in members(hint_of(target, name)):
            return whole(paths.path(one))
        inner = inner_kind(target, name, one)
        return one if inner is None else in_full(inner, one, paths)

    return {name: full(name, one) for name, one in value.items()}


def stated_shape(part: Part) -> tuple[int, ...] | None:
    """The in_shape that an operator's table gives, or the first one inside it that does."""
    target = registry().load("operator", part.name)
    if "in_shape" in part.arguments:
        return fitted(part.arguments["in_shape"], "in_shape", f"operator '{part.name}'", target)
    for name, value in part.arguments.items():
        if inner_kind(target, name, value) == "operator":
            shapes = (stated_shape(part_of(table, where)) for where, table in tables(value, name))
            found = next((shape for shape in shapes if shape is not None), None)
            if found is not None:
                return found
    return None


def converted(value: Any, name: str, what: str, target: Callable[..., Any], paths: Paths | None) -> Any:
    """A TOML value as the constructor wants it: by its annotation, see `typed`; { file = "..." } is the tensor in the file.

    Raises:
        ArgumentError: what the annotation has no place for.
        InputError: a file that cannot be read.
    """
    if isinstance(value, dict) and set(value) == {"file"}:
        if not isinstance(value["file"], str):
            raise ArgumentError(f'{what}: {name} = {{ file = "..." }} takes the name of a file; given {value["file"]!r:.80}')
        path = Path(value["file"]) if paths is None else paths.path(value["file"])
        return read_tensor(path) if path.suffix.lower() in TENSOR_FILES else load_image(path)
    return fitted(value, name, what, target, paths)
