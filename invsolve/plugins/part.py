"""A part of a file: a registered name with the arguments of its constructor, as plain data."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from invsolve.plugins.entries import NAME, is_path

MAX_DEPTH = 32

# Compositions may be written out by the name of what joins them: { chain = [...] }.
WRITTEN_OUT = {"chain": "operators", "stack": "operators"}


class Part(BaseModel):
    """A registered name with its constructor arguments: every key that is not a field.

    `{ chain = [...] }` is `{ name = "chain", operators = [...] }`: H_n @ ... @ H_1, the first sees the image; `{ stack = [...] }` are
    several operators on the same image.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$", strict=True)]
    """A registered name, see `invsolve list`; the other keys are the arguments of its constructor, see `invsolve info`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return written_out(values)

    @model_validator(mode="after")
    def _plain(self) -> Part:
        plain(self.arguments)
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor arguments as written."""
        return dict(self.model_extra or {})

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments, by the name that suites gave them."""
        return self.arguments


def written_out(values: Any) -> Any:
    """A table { chain = [...] } or { stack = [...] } with the name and the key that stand for it; anything else as it is."""
    joins = [key for key in WRITTEN_OUT if key in values] if isinstance(values, dict) and "name" not in values else []
    if len(joins) != 1:
        return values
    (key,) = joins
    return {"name": key, WRITTEN_OUT[key]: values[key], **{name: value for name, value in values.items() if name != key}}


def prior_part(value: Any) -> Any:
    """A prior in short: a bare string is a name, or the path of weights; { file = "mine.safetensors" } is the prior `file` of that path."""
    if isinstance(value, str):
        return {"name": "file", "path": value} if is_path(value) else {"name": value}
    if isinstance(value, dict) and "file" in value and "name" not in value:
        return {"name": "file", "path": value["file"], **{key: inner for key, inner in value.items() if key != "file"}}
    return value


def plain(value: Any, where: str = "", depth: int = 0) -> None:
    """Raise ValueError for what JSON and a constructor cannot take: numbers that are not finite or over 64 bits, deep nesting."""
    if isinstance(value, dict | list | tuple):
        if depth > MAX_DEPTH:
            raise ValueError(f"{where[:80]}... is nested deeper than {MAX_DEPTH}")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            plain(inner, f"{where}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: whole numbers go from -2^63 to 2^63 - 1; given one of {value.bit_length()} bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: a number must be finite; given {value!r}")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{where}: text, true or false, a finite number, a list or a table; given {type(value).__name__} {value!s:.60}")
