"""Suites: what is run, as a TOML file.

    data = "quick-photos"                                  # or { name = "synthetic", images = 2 }, or { shape = [3, 32, 32], images = 2 }
    noise = { sigma = 0.05 }                               # name = "gaussian" unless said
    operator = [{ name = "gaussian-blur", sigma = 1.6 }]   # what is not name or label is a parameter
    [[solver]]
    name = "adam-tv"
    label = "Adam-TV"
    prior = { name = "tv", weight = 0.02 }
    [solver.for."gaussian-blur"]                           # for one operator, by its label
    prior = { weight = 0.01 }

A parameter { file = "mask.npy" } is the tensor in that file, and an operator made of others takes their tables, both as in a problem
file (`invsolve.recipe`). Several operators are alternatives; one after the other they are a chain:

    operator = [
        { name = "chain", label = "holes after blur", operators = [{ name = "gaussian-blur" }, { name = "mask" }] },
        { name = "iterative-prox", label = "valid blur", tol = 1e-4, operator = { name = "padded-blur", boundary = "valid" } },
    ]

Names resolve through the registry only; unknown keys and parameters, and values of another type, are refused before anything is computed.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from invsolve.errors import InputError, UnknownNameError, did_you_mean
from invsolve.plugins import NAME, registry
from invsolve.recipe.config import Part

MAX_BYTES = 1_000_000
Name = Annotated[StrictStr, StringConstraints(pattern=f"^{NAME.pattern}$")]
Label = Annotated[StrictStr, StringConstraints(min_length=1, max_length=80)]


def _plain(value: Any) -> Any:
    """A parameter that TOML and JSON have in common: text, truth value, finite number, or a list or table of them."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"a parameter must be text, true/false, a finite number or a list of them; given {value!r}")


class Entry(BaseModel):
    """A registered name with its parameters: every key that is not a field."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Name

    @model_validator(mode="after")
    def _check_parameters(self) -> Entry:
        _plain(self.parameters)
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(self.model_extra or {})

    @property
    def part(self) -> Part:
        """What `invsolve.recipe` builds."""
        return Part.model_validate({**self.parameters, "name": self.name})


class Labelled(Entry):
    """An entry with a label, by default its name; labels are unique in a suite."""

    label: Label = ""

    @model_validator(mode="before")
    @classmethod
    def _default_label(cls, values: Any) -> Any:
        return {"label": values.get("name"), **values} if isinstance(values, dict) else values


def _entry(default: str) -> BeforeValidator:
    """A bare string is a name; a table without a name is the default."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(convert)


class SolverEntry(Labelled):
    """A solver with its prior; `for` holds what differs for single operators, by label."""

    prior: Annotated[Entry, _entry("")]
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict, alias="for")

    def at(self, operator: str) -> tuple[dict[str, Any], Entry]:
        """(solver parameters, prior) for the operator of this label."""
        override = dict(self.overrides.get(operator, {}))
        prior = override.pop("prior", {})
        prior = {"name": prior} if isinstance(prior, str) else prior
        if prior.get("name", self.prior.name) == self.prior.name:
            prior = {**self.prior.parameters, **prior, "name": self.prior.name}
        return {**self.parameters, **override}, Entry.model_validate(prior)


class Suite(BaseModel):
    """What is run: every operator x picture x solver, all solvers on the same measurement."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Name = "unnamed"
    title: Annotated[StrictStr, StringConstraints(max_length=200)] = ""
    data: Annotated[Entry, _entry("synthetic")]
    noise: Annotated[Entry, _entry("gaussian")]
    operator: Annotated[list[Labelled], Field(min_length=1)]
    solver: Annotated[list[SolverEntry], Field(min_length=1)]
    metrics: Annotated[list[Name], Field(min_length=1)] = ["psnr", "ssim", "haarpsi"]
    dtype: Literal["float32", "float64"] = "float32"
    _folder: Path = PrivateAttr(default=Path())

    def path(self, name: str) -> Path:
        """A path in the suite, relative to its file."""
        return self._folder / Path(name).expanduser()

    @model_validator(mode="after")
    def _check_labels(self) -> Suite:
        for kind, entries in (("operator", self.operator), ("solver", self.solver)):
            labels = [entry.label for entry in entries]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f'{kind} label used twice: {", ".join(twice)}; give each its own: label = "..."')
        known = [entry.label for entry in self.operator]
        for entry in self.solver:
            for label, values in entry.overrides.items():
                if label not in known:
                    raise ValueError(f"solver '{entry.label}' has settings for no operator '{label}'{did_you_mean(label, known)}")
                _plain(values)
                entry.at(label)
        return self

    @classmethod
    def load(cls, source: str | Path) -> Suite:
        """A suite by its registered name, or from a TOML file.

        Raises:
            UnknownNameError: neither; near names are given.
            InputError: not TOML, or keys and values that no suite has, each named.
        """
        names = registry().names("suite")
        if str(source) in names:
            return cls.parse(Path(registry().load("suite", str(source))), str(source))
        path = Path(source)
        if not path.is_file():
            near = did_you_mean(str(source), names) or f"; there are: {', '.join(names)}"
            raise UnknownNameError(f"no suite and no file '{source}'{near}")
        return cls.parse(path)

    @classmethod
    def parse(cls, path: Path, name: str | None = None) -> Suite:
        """A suite from a file; without a name it is called as the file is.

        Raises:
            InputError: as for `load`.
        """
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.name} has more than {MAX_BYTES} bytes; no suite is that large")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} is not TOML: {error}") from None
        given = name or path.stem.lower()
        suite = cls.make({"name": given if NAME.fullmatch(given) else "unnamed", **values}, path.name)
        suite._folder = path.parent
        return suite

    @classmethod
    def make(cls, values: dict[str, Any], what: str = "suite") -> Suite:
        """A suite from plain values.

        Raises:
            InputError: what is wrong, key by key.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [f"  - {'.'.join(map(str, one['loc'])) or 'suite'}: {one['msg']}" for one in error.errors()]
            raise InputError("\n".join([f"{what} is no suite:", *lines])) from None

    def plain(self) -> dict[str, Any]:
        """The values, as JSON or TOML would hold them."""
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class SuiteListing:
    """A registered suite, for lists; `error` says why its file cannot be read."""

    name: str
    summary: str
    plugin: str
    title: str = ""
    operators: tuple[str, ...] = ()
    solvers: tuple[str, ...] = ()
    error: str = ""


def list_suites() -> list[SuiteListing]:
    """All registered suites by name; imports no operator, prior or solver."""
    return [_listing(entry) for entry in registry().of("suite")]


def _listing(entry: Any) -> SuiteListing:
    try:
        suite = Suite.parse(Path(entry.load()), entry.name)
    except Exception as error:
        return SuiteListing(entry.name, entry.summary, entry.plugin, error=str(error))
    operators, solvers = (tuple(one.label for one in group) for group in (suite.operator, suite.solver))
    return SuiteListing(entry.name, entry.summary, entry.plugin, suite.title, operators, solvers)
