"""A problem from a TOML file: one table per object, names through the registry, the other keys are constructor arguments.

    [data]                          # image, problem or shape
    image = "photo.png"             # relative to this file
    simulate = true                 # degrade the image first; false: the image is the measurement
    crop = [128, 128]               # (height, width) from the middle, or (top, left, height, width)
    [operator]                      # or [[operator]] several times: applied to the image in this order
    name = "gaussian-blur"
    sigma = 1.5                     # in_shape is taken from the image
    [noise]
    sigma = 0.05                    # name = "gaussian" unless said
    [prior]
    name = "tv"
    [solver]
    name = "adam-tv"
    [run]
    seed = 0
    out = "restored.png"

An argument { file = "mask.npy" } is the tensor in that file. An operator made of others takes their tables, see `invsolve.recipe`:

    operator = { name = "iterative-prox", tol = 1e-4, operator = { name = "padded-blur", boundary = "valid" } }

Overrides are dotted: solver.steps=100, operator.1.sigma=2, operator.operator.boundary=zero.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from invsolve.errors import InputError, did_you_mean
from invsolve.io.files import regular_file
from invsolve.plugins import NAME

MAX_BYTES = 1_000_000


class Table(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A registered name with its constructor arguments: every key that is not `name`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor arguments as written."""
        return dict(self.model_extra or {})


def part_of(values: Any, where: str) -> Part:
    """A table inside another one as a Part.

    Raises:
        InputError: no name, or one that is none.
    """
    try:
        return values if isinstance(values, Part) else Part.model_validate(values)
    except ValidationError as error:
        raise InputError("; ".join(f"{where}.{_fault(one)}" for one in error.errors())) from None


def _default_name(value: Any) -> Any:
    return {"name": "gaussian", **value} if isinstance(value, dict) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict | Part) else value


class Data(Table):
    """Where the numbers come from: an image, a saved problem, or nothing but a shape (unconditional sampling)."""

    image: str | None = None
    problem: str | None = None
    shape: tuple[StrictInt, StrictInt, StrictInt] | None = None
    batch: Annotated[StrictInt, Field(ge=1)] = 1
    simulate: StrictBool = False
    crop: tuple[StrictInt, ...] | None = None
    channels: Literal[1, 3] | None = None
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        given = [name for name in ("image", "problem", "shape") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of image, problem and shape; given {', '.join(given) or 'none'}")
        if self.crop is not None and len(self.crop) not in (2, 4):
            raise ValueError("crop is [height, width] or [top, left, height, width]")
        only = {"simulate": "image", "crop": "image", "channels": "image", "batch": "shape"}
        for key, source in only.items():
            if key in self.model_fields_set and given != [source]:
                raise ValueError(f"{key} goes with {source}, not with {given[0]}")
        return self


class Run(Table):
    """How it is run: seed, device ("cpu", "cuda", ...), number of samples, and the file or folder for the result."""

    seed: StrictInt = 0
    device: str = "cpu"
    samples: Annotated[StrictInt, Field(ge=1)] | None = None
    out: str | None = None


class Config(Table):
    """The whole file, checked; `invsolve.recipe.setup` makes the objects."""

    data: Data
    operator: Annotated[list[Part], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    noise: Annotated[Part, BeforeValidator(_default_name)] | None = None
    prior: Part
    solver: Part
    run: Run = Run()
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _needs(self) -> Config:
        image = self.data.image is not None
        for key in ("operator", "noise"):
            present = getattr(self, key) is not None
            if image and not present:
                raise ValueError(f"an image needs the table [{key}]")
            if not image and present:
                raise ValueError(f"[{key}] goes with data.image; a saved problem or a bare shape brings its own")
        return self

    def path(self, name: str) -> Path:
        """A path in the file, relative to the file."""
        return self.folder / Path(name).expanduser()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a problem file.

    Args:
        path: the TOML file, at most 1 MB.
        overrides: "table.key=value", the value as TOML would read it, else as text.

    Raises:
        InputError: not TOML, an unknown table or key, a value of another type, a malformed override.
    """
    file = regular_file(path, "problem file")
    if file.stat().st_size > MAX_BYTES:
        raise InputError(f"{file} has more than {MAX_BYTES} bytes; no problem file is that large")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not TOML: {error}") from error
    return make_config(values, overrides, folder=file.parent, what=str(file))


def make_config(values: dict[str, Any], overrides: Sequence[str] = (), *, folder: Path | None = None, what: str = "problem") -> Config:
    """A Config from plain tables.

    Args:
        values: the tables.
        overrides: as for `load_config`.
        folder: what relative paths start from; the current folder if None.
        what: what to call it in errors.

    Raises:
        InputError: as for `load_config`.
    """
    if "folder" in values:
        raise InputError(f"{what}: no table [folder]; there are: {', '.join(_tables())}")
    values = _copied(values)
    for override in overrides:
        apply_override(values, override)
    try:
        return Config.model_validate({**values, "folder": folder or Path()})
    except ValidationError as error:
        raise InputError("\n".join([f"{what} is not usable:", *(f"  - {_fault(one)}" for one in error.errors())])) from None


def _tables() -> list[str]:
    return [name for name in Config.model_fields if name != "folder"]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _fault(error: Any) -> str:
    """One line: where, what, and the near name for a key that does not exist."""
    where = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        known = {"data": list(Data.model_fields), "run": list(Run.model_fields)}.get(where[0], _tables()) if len(where) > 1 else _tables()
        return f"{'.'.join(where)}: no such key{did_you_mean(where[-1], known) or '; there are: ' + ', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        message = "missing"
    given = error.get("input")
    shown = f" (given {given!r:.60})" if error["type"] not in ("missing", "value_error") else ""
    return f"{'.'.join(where)}: {message}{shown}" if where else f"{message}{shown}"


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set "a.b.c=value" in nested tables, in place; a number steps into a list.

    Raises:
        InputError: no "=", an empty key, a step into something that is no table.
    """
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or len(keys) < 2 or not all(keys):
        raise InputError(f"an override reads table.key=value, such as solver.steps=100; given {override!r}")
    place: Any = values
    for key in keys[:-1]:
        place = _entered(place, key, override)
    if isinstance(place, list):
        raise InputError(f"{override!r}: {'.'.join(keys[:-1])} is a list; name an entry and its key, such as operator.0.sigma=1")
    place[keys[-1]] = parse_value(text)


def _entered(place: Any, key: str, override: str) -> Any:
    if isinstance(place, list):
        if not key.isdecimal() or int(key) >= len(place):
            raise InputError(f"{override!r}: '{key}' is none of the entries 0 .. {len(place) - 1}")
        return place[int(key)]
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise InputError(f"{override!r}: '{key}' is {inner!r}, not a table")
    return inner


def parse_value(text: str) -> Any:
    """A value as TOML reads it (3, 0.5, true, [1, 2], "text"), else the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return parsed["value"] if set(parsed) == {"value"} else text.strip()
