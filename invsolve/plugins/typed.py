"""Values of a file as a constructor's annotations want them, by pydantic's TypeAdapter: strict, in the terms that a file has.

Text and truth values are no numbers, a fraction is no whole number, NaN and infinity are no numbers at all; lists become tuples, or
tensors where the annotation says so; a path starts from the file's folder. What an annotation does not say is left to the constructor.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, ValidationInfo
from torch import Tensor

from invsolve.errors import ArgumentError
from invsolve.plugins.part import Part, plain

WHOLE, MAX_TEXT = 2**63, 100_000
LISTS = (list, Sequence, Iterable, set, frozenset)


def tensor(value: Any) -> Tensor:
    """A finite number, or rectangular lists of them or of truth values, as a tensor; a tensor as it is."""
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | list | tuple):
            raise TypeError
        made = torch.tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError("neither a number nor lists of equal length of numbers") from None
    if not torch.isfinite(made).all():
        raise ValueError("numbers must be finite, in float32 too")
    return made


def finite(value: Any) -> Any:
    """Whatever a file can hold, lists as tuples."""
    if not isinstance(value, Tensor):
        plain(value)
    return as_tuple(value)


def kept(value: Any) -> Any:
    """Whatever a file can hold, as it is."""
    plain(value)
    return value


def path(value: Any, info: ValidationInfo) -> Path:
    """Text as a path from the file's folder."""
    if not isinstance(value, str | Path):
        raise ValueError("a path is text")
    return Path(value) if info.context is None else info.context.path(str(value))


SIMPLE: dict[Any, Any] = {
    bool: Annotated[bool, Field(strict=True)],
    int: Annotated[int, Field(strict=True, ge=-WHOLE, lt=WHOLE)],
    float: Annotated[float, Field(strict=True, allow_inf_nan=False)],
    str: Annotated[str, Field(strict=True, max_length=MAX_TEXT)],
    Tensor: Annotated[Any, PlainValidator(tensor)],
    Path: Annotated[Any, PlainValidator(path)],
    Any: Annotated[Any, PlainValidator(finite)],
    inspect.Parameter.empty: Annotated[Any, PlainValidator(finite)],
}


def taken(hint: Any) -> Any:
    """An annotation as pydantic is to read it."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        # Numbers before tensors, lists before tensors where both may be: the constructor knows the precision. A text or a path is a path.
        several = [one for one in inner if one is not type(None) and not (one is str and Path in inner)]
        ordered = [taken(one) for one in sorted(several, key=lambda one: (one is Tensor, one is float))]
        either: Any = ordered[0] if len(ordered) == 1 else Annotated[Union[tuple(ordered)], Field(union_mode="left_to_right")]  # noqa: UP007
        return either | None if type(None) in inner else either
    if origin in LISTS or hint in LISTS:
        return tuple[taken(inner[0] if inner else Any), ...]
    if origin is tuple:
        return tuple[tuple(one if one is ... else taken(one) for one in inner)]
    if origin in (dict, Mapping):
        return dict[taken(inner[0]), Annotated[Any, PlainValidator(kept)] if inner[1] is Any else taken(inner[1])]
    return hint


@lru_cache(maxsize=1024)
def adapter(hint: Any) -> TypeAdapter[Any]:
    """The checks of an annotation; of one that pydantic cannot read, none but finite numbers."""
    try:
        return TypeAdapter(taken(hint), config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # annotations of strangers may be anything
        return TypeAdapter(SIMPLE[Any])


@lru_cache(maxsize=1024)  # every construction asks; what fails is asked again, since a name may be imported meanwhile
def hints(call: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, by parameter."""
    return get_type_hints(call, include_extras=True)


def hint_of(target: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter; Any where it says nothing that can be read."""
    call = target.__init__ if isinstance(target, type) else target if inspect.isroutine(target) else type(target).__call__
    try:
        return hints(call).get(name, Any)
    except Exception:  # it may name what is not imported
        return Any


def members(hint: Any) -> set[Any]:
    """The types of an annotation, a union's all; empty where it allows anything."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = [members(part) for part in get_args(hint)]
        return set().union(*inner) if all(inner) else set()
    return set() if hint is Any else {get_origin(hint) or hint}


def words(hint: Any) -> str:
    """An annotation for people: "Tensor or float", "list of int"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(sorted({words(one) for one in inner if one is not type(None) and not (one is str and Path in inner)}))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in LISTS or (origin is tuple and inner[1:] == (...,)):
        return f"list of {words(inner[0])}"
    if origin is tuple:
        return f"list of {len(inner)} {words(inner[0])}"
    named = {Any: "anything", Path: "a path", dict: "a table", Mapping: "a table", Part: "a part"}
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return named.get(hint, "a table")
    return named.get(origin or hint) or getattr(origin or hint, "__name__", str(hint))


def fitted(value: Any, name: str, what: str, target: Callable[..., Any], paths: Any = None) -> Any:
    """A value as the target's parameter wants it.

    Args:
        value: as a file gives it.
        name: the parameter.
        what: what the target is called in errors, such as "solver 'dps'".
        target: a class or function.
        paths: what tells a relative path's place, see `recipe.Paths`.

    Raises:
        ArgumentError: what the annotation has no place for.
    """
    hint = hint_of(target, name)
    try:
        return adapter(hint).validate_python(value, context=paths)
    except ValidationError as error:
        if isinstance(value, str) and Tensor in members(hint):
            example = f'{name} = {{ file = "{value:.60}" }}'
            raise ArgumentError(
                f"{what}: {name} must be {words(hint)}; given the text {value!r:.80}. A file with numbers is given as {example}"
            ) from None
        first = error.errors(include_url=False)[0]
        why = first["msg"].removeprefix("Value error, ").removesuffix(": ")
        known = first["type"].endswith(("_type", "_error")) and first["type"] != "value_error"
        raise ArgumentError(f"{what}: {name} must be {words(hint)}; given {value!r:.80}{'' if known else f' ({why})'}") from None


def as_tuple(value: Any) -> Any:
    """Lists as tuples, all the way down: solvers are frozen and compare by value."""
    return tuple(as_tuple(part) for part in value) if isinstance(value, list | tuple) else value
