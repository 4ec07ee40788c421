"""TOML as checked tables: one reader with limits, one text for every fault, one writer.

Problem files, suites and training configs are read by it. A table is a pydantic model; what it does not know is refused with the near
name, and a fault names the key by its path, the line of the file, what was given and what is allowed.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from invsolve.errors import InputError, InvsolveError, did_you_mean
from invsolve.io.files import regular_file
from invsolve.plugins import KINDS, registry
from invsolve.plugins.part import MAX_DEPTH, Part, plain

MAX_BYTES = 1_000_000
MAX_PATH = 4096
# hub:OWNER/NAME/FILE@REVISION, diffusers:FOLDER: what a plug-in reads by a word of its own. One letter is a drive.
ADDRESS = re.compile(r"(?P<word>[a-z]{2,16}):(?!//)(?P<place>.+)")
MAX_NUMBERS = 2**29  # of an image, or of the pictures of a data set: 2 GiB in float32
# A key of more parts than any model has: the TOML reader takes quadratic time and memory for those.
DOTTED = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""")
HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
KEYS = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
WORD = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
NO_TABLE = ("model_type", "model_attributes_type", "dict_type")  # pydantic's names of what is no table
NAMED = re.compile(rf"""\b(?:{"|".join(KINDS)}) '[^']*'""")  # a part by its name, which may be that of an argument
Model = TypeVar("Model", bound=BaseModel)


class Table(BaseModel):
    """A table whose keys are all known, and whose values are of their types: "5" and true are no numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def part_of(values: Any, where: str) -> Part:
    """A table inside another one as a Part.

    Raises:
        InputError: no name, or one that is none.
    """
    try:
        return values if isinstance(values, Part) else Part.model_validate(values)
    except ValidationError as error:
        raise InputError("; ".join(f"{where}.{fault}" for fault in faults(error, Part))) from None


def read_toml(path: str | Path, what: str, limit: int = MAX_BYTES) -> tuple[dict[str, Any], str]:
    """The tables of a TOML file, and its text.

    Args:
        path: the file.
        what: what it is called in errors, such as "problem file".
        limit: bytes that no such file exceeds.

    Raises:
        InputError: no such file, too large, too deep, not TOML, or numbers beyond TOML's 64 bits.
    """
    file = regular_file(path, what)
    try:
        if file.stat().st_size > limit:
            raise InputError(f"{file} has more than {limit} bytes; no {what} is that large")
        text = file.read_text(encoding="utf-8")
        if DOTTED.search(text):
            raise InputError(f"{file}: a key of more than {MAX_DEPTH} parts; no {what} has that")
        values = tomllib.loads(text)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # numbers and nestings beyond all measure, too
        raise InputError(f"{file} is not TOML: {error!s:.200}") from None
    try:
        plain(values)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    return values, text


def modelled(model: type[Model], values: Any, heading: str, text: str = "") -> Model:
    """Values as a model.

    Args:
        model: what they must be.
        values: as TOML gives them.
        heading: the first line of the error, which all faults follow.
        text: the file, for the lines of the faults.

    Raises:
        InputError: what is wrong, key by key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"  - {fault}" for fault in faults(error, model, text)]
        raise InputError("\n".join([heading, *dict.fromkeys(lines)])) from None


def faults(error: ValidationError, model: type[BaseModel], text: str = "") -> Iterator[str]:
    """A line for each fault: the key's path, what is wrong, what was given, the near name, the line in the file."""
    for one in error.errors(include_url=False):
        place = ".".join(map(str, one["loc"]))
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            known = keys_at(model, one["loc"][:-1])
            message = f"no such key{did_you_mean(str(one['loc'][-1]), known) or '; there are: ' + ', '.join(known)}"
        elif one["type"] == "missing":
            message = "missing"
        elif one["type"] in NO_TABLE:
            message = f"a table is wanted, such as {{ key = value }} (given {one['input']!r:.60})"
        elif one["type"] == "string_pattern_mismatch" and place.endswith("name"):
            message = no_name(str(one["input"]), one["loc"])
        elif one["type"] != "value_error":
            message = f"{message} (given {one['input']!r:.60})"
        line = line_of(text, one["loc"])
        yield f"{place}: {message}" * bool(place) + message * (not place) + (f" (line {line})" if line else "")


def no_name(given: str, place: tuple[int | str, ...]) -> str:
    """What to say of a text that cannot be a registered name: the near names of the kind that its place says, else of all kinds."""
    kinds = [kind for kind in KINDS if kind in place] or KINDS
    near = did_you_mean(given, [name for kind in kinds for name in registry().names(kind)])
    return f"{given!r:.60} is no name; names are in small letters, digits, '.', '_' and '-'{near}"


def keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at a place may have; a step that is no field is a choice within the table before it."""
    found = [model]
    for step in place:
        fields = [field for one in found for name, field in one.model_fields.items() if step in (name, field.alias)]
        tagged = [one for one in found if any(step in get_args(field.annotation) for field in one.model_fields.values())]
        found = [deeper for field in fields for deeper in models(field.annotation)] or tagged or found
    return [field.alias or name for one in dict.fromkeys(found) for name, field in one.model_fields.items() if not field.exclude]


def models(hint: Any) -> list[type[BaseModel]]:
    """The models within a type: itself, the members of a union or a list."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [one for part in get_args(hint) for one in models(part)]


def line_of(text: str, place: tuple[int | str, ...]) -> int | None:
    """The line of a file where a key stands, else that of the value it is in; None for neither."""
    best, line, table, counts = 0, None, [], {}
    for number, row in enumerate(text.splitlines(), 1):
        header, keys = HEADER.match(row), KEYS.match(row)
        if header:
            table = [part.strip("\"'") for part in WORD.findall(header[2])]
            if header[1] == "[[":
                counts[tuple(table)] = counts.get(tuple(table), -1) + 1
            path = table
        elif keys:
            path = table + [part.strip("\"'") for part in WORD.findall(keys[1])]
        else:
            continue
        depth = reached(path, place, counts)
        if depth > best:
            best, line = depth, number
    return line


def lined(message: str, text: str, place: tuple[int | str, ...], part: Part) -> str:
    """A fault of a part with the line it is in: that of the one argument that the message names, else that of the part."""
    said = NAMED.sub("", message)
    named = [key for key in part.arguments if re.search(rf"'{re.escape(key)}'|(?<![\w-]){re.escape(key)} must ", said)]
    line = line_of(text, (*place, *named) if len(named) == 1 else place)
    return message if line is None else f"{message} (line {line})"


def within(error: InvsolveError, what: str) -> InvsolveError:
    """An error of the same kind with the part that it is of in front, unless it begins with that already."""
    text = str(error)
    # A plug-in's own kind may take other arguments: the nearest of ours stands for it.
    kind = next(one for one in type(error).__mro__ if one.__module__ == InvsolveError.__module__)
    return kind(text if text.startswith(what) else f"{what}: {text}")


def reached(path: list[str], place: tuple[int | str, ...], counts: dict[tuple[str, ...], int]) -> int:
    """How many steps of a place a path of keys goes along, 0 if it leads elsewhere."""
    at = 0
    for index, key in enumerate(path):
        if at >= len(place) or place[at] != key:
            return 0
        at += 1
        if at < len(place) and isinstance(place[at], int):
            if counts.get(tuple(path[: index + 1]), place[at]) != place[at]:
                return 0
            at += 1
    return at


def located(folder: Path, name: str) -> Path:
    """A path in a file, relative to the file's folder; an address word:PLACE stays one, its place relative to it where it is there.

    Raises:
        InputError: what no path can be, or the home of nobody.
    """
    if len(name) > MAX_PATH or "\0" in name or any(len(part) > 255 for part in Path(name).parts):
        raise InputError(f"{name!r:.60} is no path: at most {MAX_PATH} characters, 255 a part, none of them NUL")
    try:
        path, address = folder / Path(name).expanduser(), ADDRESS.fullmatch(name)
        if address is None or path.exists():
            return path
        place = folder / Path(address["place"]).expanduser()
        return Path(f"{address['word']}:{place}" if place.exists() else name)
    except RuntimeError as error:
        raise InputError(f"{name!r:.60} is no path: {error}") from None


def whole(path: Path) -> str:
    """A path, or the place of an address, from the root on; an address of what is not here as it is."""
    address = ADDRESS.fullmatch(str(path))
    if address is None or path.exists():
        return os.path.abspath(path)
    return f"{address['word']}:{os.path.abspath(address['place'])}" if Path(address["place"]).exists() else str(path)


def to_toml(values: dict[str, Any]) -> str:
    """Tables as TOML text: one section for each table at the top, what is inside them in line; None is left out.

    Args:
        values: text, truth values, numbers, lists and tables.
    """
    bare = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in bare.items()]
    for key, table in values.items():
        if isinstance(table, dict):
            rows = [f"{_key(name)} = {_value(value)}" for name, value in table.items() if value is not None]
            lines += [*([""] if lines else []), f"[{_key(key)}]", *rows]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool | int) else repr(float(value))
