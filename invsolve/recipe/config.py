"""A problem from a TOML file: one table per object, names through the registry, the other keys are constructor arguments.

    [data]                          # image, set, problem or shape
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

    operator = { name = "iterative-prox", tol = 1e-4, operator = { name = "padded-blur", kernel = [[0.25, 0.5, 0.25]] } }
    operator = { chain = [{ name = "gaussian-blur" }, { name = "mask" }] }

Suites have the same tables; there `operator` is a list of alternatives, `chain` and `stack` mean the same. `EXAMPLE` is a file that runs.
Overrides are dotted: solver.steps=100, operator.1.sigma=2, operator.operator.boundary=zero.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, Strict, model_validator

from invsolve.errors import InputError
from invsolve.plugins.part import prior_part
from invsolve.recipe.tables import MAX_NUMBERS, Part, Table, lined, located, modelled, part_of, read_toml, to_toml

__all__ = [
    "EXAMPLE",
    "Config",
    "Data",
    "DataEntry",
    "Part",
    "Run",
    "Table",
    "apply_override",
    "load_config",
    "make_config",
    "parse_value",
    "part_of",
]

Side = Annotated[int, Field(ge=1)]
EXAMPLE = """# A blurred photograph with holes, simulated and restored. Run it: invsolve run FILE (invsolve run --example > FILE).
[data]
set = "quick-photos"               # or image = "photo.png"
picture = "astronaut"
crop = [64, 64]                    # from the middle
simulate = true                    # degrade the picture first; false: the picture is the measurement

[operator]
chain = [                          # applied to the picture in this order
    { name = "gaussian-blur", sigma = 1.0 },
    { name = "mask", keep = 0.7 },
]

[noise]
sigma = 0.02                       # a standard deviation, for pictures in [0, 1]

[prior]
name = "tv"
weight = 8.0

[solver]
name = "adam-tv"
steps = 60

[run]
seed = 0
"""


def named(value: Any) -> Any:
    """A bare string is a name."""
    return {"name": value} if isinstance(value, str) else value


def _noise(value: Any) -> Any:
    return {"name": "gaussian", **value} if isinstance(value, dict) else named(value)


def alternatives(value: Any) -> Any:
    """One table, or one name, as a list of one; names in a list as tables.

    Raises:
        ValueError: neither, or nothing.
    """
    several = [value] if isinstance(value, dict | Part | str) else value
    if value is not None and not (isinstance(several, list) and several):
        raise ValueError(f'a table {{ name = "..." }}, a name, or a list of them is wanted; given {value!r:.60}')
    return None if several is None else [named(one) for one in several]


def sides(value: Any) -> Any:
    """A crop of a data set: a side or [height, width].

    Raises:
        ValueError: neither.
    """
    several = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if value is not None and not all(type(side) is int and side > 0 for side in several):
        raise ValueError(f"a side or [height, width], whole numbers above 0; given {value!r:.60}")
    return value


def window(value: Any) -> Any:
    """A crop of the image: a side is the height and the width.

    Raises:
        ValueError: no list of 2 or 4 whole numbers either.
    """
    several = (value, value) if type(value) is int else value
    if value is None or (isinstance(several, list | tuple) and len(several) in (2, 4) and all(type(one) is int for one in several)):
        return several
    raise ValueError(f"crop is a side, [height, width] or [top, left, height, width], whole numbers; given {value!r:.60}")


def set_part(value: Any) -> Any:
    """A data set in short: a bare string is its name, { folder = "photos" } the set `folder` with that path; a shape is `synthetic`'s."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict) or "name" in value:
        return value
    short = [key for key in ("folder", "zip", "npz") if key in value]
    if len(short) == 1:
        return {"name": short[0], "path": value[short[0]], **{key: inner for key, inner in value.items() if key != short[0]}}
    return value if short else {"name": "synthetic", **value}


class DataEntry(Part):
    """A data set with its parameters, and which of its pictures."""

    crop: Annotated[int | list[int] | None, BeforeValidator(sides)] = None
    """Side, or [height, width], of what is cut from the middle of every picture; an odd pixel stays at the bottom or right."""
    first: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Only so many pictures, in the set's order."""
    channels: Literal[1, 3] | None = None
    """1 makes pictures grey (0.299 R + 0.587 G + 0.114 B), 3 repeats grey ones; as they are unless said."""
    label: Annotated[str, Field(max_length=80, strict=True)] = ""
    """What a suite calls it; its name unless said."""


class Data(Table):
    """Where the numbers come from: an image, a picture of a data set, a saved problem, or nothing but a shape (plain sampling)."""

    image: str | None = None
    """A picture or tensor file, relative to this file."""
    set: Annotated[DataEntry, BeforeValidator(set_part)] | None = None
    """A data set, by its name or as in a suite: `set = "quick-photos"`, `set = { folder = "photos", crop = 128 }`."""
    picture: str | None = None
    """Which picture of the set, by its id; the first unless said."""
    problem: str | None = None
    """The folder of a saved problem (`Problem.save`), which brings its own operator and noise."""
    shape: Annotated[tuple[Side, Side, Side], Strict(False)] | None = None
    """(channels, height, width) of images to be drawn without a measurement."""
    batch: Annotated[int, Field(ge=1)] = 1
    """With shape: how many images."""
    simulate: bool = False
    """Degrade the image first, and report how near the result comes; false: the image is the measurement."""
    crop: Annotated[tuple[int, ...] | None, Strict(False), BeforeValidator(window)] = None
    """A side, or [height, width], from the middle (an odd pixel stays at the bottom or right), or [top, left, height, width]."""
    channels: Literal[1, 3] | None = None
    """1 makes the image grey, 3 repeats a grey one; as it is unless said."""
    dtype: Literal["float32", "float64"] = "float32"
    """The precision of everything."""

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        sources = ("image", "set", "problem", "shape")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of image, set, problem and shape; given {', '.join(given) or 'none'}")
        if self.shape is not None and math.prod(self.shape) * self.batch > MAX_NUMBERS:
            raise ValueError(f"{self.batch} images of shape {list(self.shape)} are more than {MAX_NUMBERS} numbers")
        pictures = ("image", "set")
        only = {"simulate": pictures, "crop": pictures, "channels": pictures, "batch": ("shape",), "picture": ("set",)}
        for key, fitting in only.items():
            if key in self.model_fields_set and given[0] not in fitting:
                raise ValueError(f"{key} goes with {' or '.join(fitting)}, not with {given[0]}")
        return self


class Run(Table):
    """How it is run."""

    seed: int = 0
    """Of the simulated noise and of the solver; 0 is a seed."""
    device: str = "cpu"
    """"cpu", "cuda", ..."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """How many posterior samples; the result is their mean."""
    out: str | None = None
    """The result: .png, .tif, .npy or .safetensors, or a folder with everything; FILE_restored.png beside the file unless said."""
    bits: Literal[8, 16, 32] | None = None
    """Of the picture: 8 or (grey) 16 for .png; 8, 16 or 32, floats as they are, for .tif. 8 for .png, 32 for .tif unless said."""
    tune: str | float | None = None
    """A budget, "60s" or "5000 nfe", within which the solver's settings are chosen on draws from the prior; solver "auto": the solver."""
    frame: bool = False
    """Keep only what lies in the measurement's frame, where the restored image is larger by a blur's kernel."""
    grid: str | None = None
    """Other solvers on the same problem, SOLVER or SOLVER/PRIOR with commas, shown beside the result in FILE_grid.png."""


class Config(Table):
    """The whole file, checked; `invsolve.cli.setup` makes the objects."""

    data: Data
    """Where the numbers come from."""
    operator: Annotated[list[Part], BeforeValidator(alternatives), Field(min_length=1)] | None = None
    """What was measured; several tables [[operator]] are one after the other, as `chain` is."""
    noise: Annotated[Part, BeforeValidator(_noise)] | None = None
    """The noise; `gaussian` without a name, and `sigma = "auto"` estimates its level."""
    prior: Annotated[Part, BeforeValidator(prior_part)]
    """What is believed of images: a registered prior, or `{ file = "mine.safetensors" }`, weights that `invsolve weights inspect` knows."""
    solver: Annotated[Part, BeforeValidator(named)]
    """What solves the problem."""
    run: Run = Run()
    """How it is run."""
    _folder: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _needs(self) -> Config:
        image = self.data.image is not None or self.data.set is not None
        for key in ("operator", "noise"):
            present = getattr(self, key) is not None
            if image and not present:
                raise ValueError(f"an image needs the table [{key}]")
            if not image and present:
                raise ValueError(f"[{key}] goes with data.image; a saved problem or a bare shape brings its own")
        return self

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self._folder

    def path(self, name: str) -> Path:
        """A path in the file, relative to the file."""
        return located(self._folder, name)

    def lined(self, error: BaseException, part: Part, *place: int | str) -> str:
        """A fault of a part with the line of the file; without one where overrides have changed what the file says."""
        return lined(str(error), self._text, place, part)

    def toml(self) -> str:
        """A problem file that means the same: what differs from the defaults, paths of files in full."""
        from invsolve.recipe.parts import in_full

        values = self.model_dump(mode="json", exclude_unset=True)
        data, run = values["data"], values.get("run", {})
        for table, keys in ((data, ("image", "problem")), (run, ("out",))):
            table.update({key: os.path.abspath(self.path(table[key])) for key in keys if table.get(key) is not None})
        data.update({"set": in_full("dataset", data["set"], self)} if data.get("set") else {})
        values |= {kind: in_full(kind, values[kind], self) for kind in ("operator", "noise", "prior", "solver") if values.get(kind)}
        if len(values.get("operator") or ()) == 1:
            (values["operator"],) = values["operator"]
        return to_toml(values)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a problem file.

    Args:
        path: the TOML file, at most 1 MB.
        overrides: "table.key=value", the value as TOML would read it, else as text.

    Raises:
        InputError: not TOML, an unknown table or key, a value of another type, a malformed override.
    """
    values, text = read_toml(path, "problem file")
    return make_config(values, overrides, folder=Path(path).parent, what=str(path), text=text)


def make_config(
    values: dict[str, Any], overrides: Sequence[str] = (), *, folder: Path | None = None, what: str = "problem", text: str = ""
) -> Config:
    """A Config from plain tables.

    Args:
        values: the tables.
        overrides: as for `load_config`.
        folder: what relative paths start from; the current folder if None.
        what: what to call it in errors.
        text: the file that they come from, for the lines of faults.

    Raises:
        InputError: as for `load_config`.
    """
    values = _copied(values)
    for override in overrides:
        apply_override(values, override)
    config = modelled(Config, values, f"{what} is not usable:", text)
    config._folder, config._text = folder or Path(), "" if overrides else text
    return config


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


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
    except (ValueError, RecursionError):
        return text.strip()
    return parsed["value"] if set(parsed) == {"value"} else text.strip()
