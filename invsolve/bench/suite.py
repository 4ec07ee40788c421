"""Suites: what is run, as a TOML file.

    data = "quick-photos"                                  # a data set, or { folder = "photos", crop = 128, first = 10 }, or
                                                           # { shape = [3, 32, 32], images = 2 } for drawings
    noise = { sigma = 0.05 }                               # name = "gaussian" unless said
    operator = [                                           # alternatives; what is not name, label or noise is a parameter
        { name = "gaussian-blur", sigma = 1.6 },
        { label = "holes after blur", chain = [{ name = "gaussian-blur" }, { name = "mask" }], noise = { sigma = 0.1 } },
        { name = "iterative-prox", label = "no rim", operator = { name = "padded-blur", kernel = [[0.5, 0.5]], boundary = "valid" } },
        { problem = "scanner", label = "scanner" },        # operator and noise of a folder that Problem.save wrote; with
                                                           # truth = "photo.png" its measurement too
    ]
    [[solver]]
    name = "adam-tv"
    label = "Adam-TV"
    prior = { name = "tv", weight = 0.02 }
    [solver.for."gaussian-blur"]                           # for one operator, by its label
    prior = { weight = 0.01 }

    metrics = ["psnr", { name = "psnr", label = "PSNR-Y", channel = "y", shave = 4 }, { name = "ssim", crop = 5, label = "SSIM crop 5" }]

    seeds = 3                                              # everything three times, with seeds 0, 1, 2 added to the run's

Includes, several data sets and noises, grids and presets: `invsolve.bench.language`. Operators, noises, priors and solvers are written as
in a problem file, `{ file = "mask.npy" }`, `chain` and `stack` too (`invsolve.recipe`); paths start from the suite's folder. Names resolve
through the registry only; unknown keys and parameters, and values of another type, are refused before anything is computed. `EXAMPLE` is
a suite that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, StringConstraints, model_validator

from invsolve.bench.language import Source, names_of, written
from invsolve.bench.own import OwnSuite, own_suite
from invsolve.bench.presets import Tuned
from invsolve.errors import InputError, UnknownNameError, did_you_mean
from invsolve.plugins import NAME, registry
from invsolve.plugins.interrupts import attempted
from invsolve.plugins.part import prior_part
from invsolve.recipe.config import DataEntry, alternatives, set_part
from invsolve.recipe.tables import Part, Table, lined, located, modelled, plain, read_toml

Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$", strict=True)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=80, strict=True)]
Entry = Part
METRICS: Any = ["psnr", "ssim", "haarpsi", "residual"]
ONCE: Any = [0]
SAVED = "problem"  # the name of an operator's entry that is a saved problem
EXAMPLE = """# Two operators, two solvers, own pictures: data = { folder = "photos", crop = 128 }. Run it: invsolve bench run FILE.
title = "An example"
data = { shape = [3, 32, 32], images = 2 }
noise = { sigma = 0.05 }
operator = [
    { name = "box-mask", label = "hole", box = 12 },
    { label = "blur, then SR x2", chain = [{ name = "gaussian-blur", sigma = 1.0 }, { name = "block-mean", factor = 2 }] },
]

[[solver]]
name = "adam-tv"
steps = 40
prior = { name = "tv", weight = 8.0 }

[[solver]]
name = "dps"
steps = 20
prior = { name = "gaussian", mean = 0.5, std = 0.25 }
"""


def _entry(default: str) -> BeforeValidator:
    """A bare string is a name; a table without a name is the default."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(convert)


def counted(value: Any) -> Any:
    """Seeds: 3 is [0, 1, 2].

    Raises:
        ValueError: a number below 1, or a seed twice.
    """
    if type(value) is int:
        if not 0 < value <= 1000:
            raise ValueError(f"seeds is a number from 1 to 1000, or a list; given {value}")
        return list(range(value))
    if isinstance(value, list) and len({repr(one) for one in value}) < len(value):
        raise ValueError(f"a seed stands twice: {value!r:.60}")
    return value


class Labelled(Part):
    """An entry with a label, by default its name; labels are unique in a suite."""

    label: Label = ""
    """What it is called in tables; its name unless said."""

    @model_validator(mode="before")
    @classmethod
    def _default_label(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "label" in values:
            return values
        joined = next((key for key in ("chain", "stack") if key in values), None)
        return {"label": values.get("name", joined), **values}


class OperatorEntry(Labelled):
    """An operator, or a saved problem, with a noise of its own."""

    noise: Annotated[Part, _entry("gaussian")] | None = None
    """The noise for this operator, in place of the suite's."""
    problem: Annotated[str, Field(strict=True)] | None = None
    """In place of a name: the folder of a saved problem (`Problem.save`). Its operator and noise measure the suite's pictures; with
    `truth` its own measurement is what the solvers see."""
    truth: Annotated[str, Field(strict=True)] | None = None
    """With problem: the picture file that its measurement was taken of; of several items a tensor file (B, C, H, W)."""
    data: Annotated[DataEntry, BeforeValidator(set_part)] | None = None
    """The pictures for this operator, in place of the suite's."""

    @model_validator(mode="before")
    @classmethod
    def _saved(cls, values: Any) -> Any:
        if isinstance(values, dict) and "problem" in values and "name" not in values:
            return {"label": str(values["problem"])[-80:], **values, "name": SAVED}
        return values

    @model_validator(mode="after")
    def _alone(self) -> OperatorEntry:
        if self.problem is not None and (self.arguments or self.name != SAVED):
            raise ValueError("a saved problem brings its own operator: leave out name and parameters")
        if self.truth is not None and (self.problem is None or self.noise is not None):
            raise ValueError("truth goes with problem, whose measurement has its own noise: leave out noise")
        return self


class SolverEntry(Labelled):
    """A solver with its prior."""

    prior: Annotated[Part, _entry(""), BeforeValidator(prior_part)]
    """The prior, by its name, with its parameters, or `{ file = "mine.safetensors" }`."""
    samples: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    """So many runs on independent streams, whose mean is the image: for metrics of samples, such as coverage."""
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict, alias="for")
    """What differs for single operators, by their label: parameters of the solver, and of the prior as `prior`."""
    tuned: Tuned | None = None
    """Where the parameters were tuned, where they were; a preset brings it."""
    tune: Annotated[str, StringConstraints(pattern=r"^[0-9]*\.?[0-9]+ ?(s|min|h|nfe)$", strict=True)] | None = None
    """A budget, "500 nfe" or "60s", within which the parameters are chosen on draws from the prior, for each operator; its cost counts."""

    def at(self, operator: str) -> tuple[dict[str, Any], Part]:
        """(solver parameters, prior) for the operator of this label.

        Raises:
            ValueError: the prior set for it is neither a name nor a table.
        """
        override = dict(self.overrides.get(operator, {}))
        prior = override.pop("prior", {})
        prior = prior_part(prior)
        if not isinstance(prior, dict):
            raise ValueError(f"prior must be a name or a table; given {prior!r:.60}")
        if prior.get("name", self.prior.name) == self.prior.name:
            prior = {**self.prior.arguments, **prior, "name": self.prior.name}
        return {**self.arguments, **override}, Part.model_validate(prior)

    def part(self, operator: str) -> Part:
        """The solver as set for the operator of this label."""
        return Part.model_validate({**self.at(operator)[0], "name": self.name})

    def settings(self, operator: str) -> str:
        """Whether it runs as it comes, as somebody set it, or as it was tuned, and where."""
        if self.tune is not None:
            return f"tuned on draws from the prior (predictive), {self.tune}"
        if self.tuned is not None:
            by = f" by {self.tuned.by}" if self.tuned.by else ""
            return f"tuned on {self.tuned.on}{by}" + (f", {self.tuned.trials} trials" if self.tuned.trials else "")
        return "set" if self.at(operator)[0] else "default"


class Suite(Table):
    """What is run: every operator x picture x solver, all solvers on the same measurement."""

    name: Name = "unnamed"
    """What the suite is called; as the file is unless said."""
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    """One line for lists and reports."""
    data: Annotated[DataEntry, BeforeValidator(set_part)] | None = None
    """The pictures: a data set by its name (`invsolve list dataset`), { folder = "photos" }, { zip = ... }, { npz = ... }, or drawings
    { shape = [3, 32, 32], images = 2 }. May be left out where every operator is a saved problem with its truth."""
    noise: Annotated[Part, _entry("gaussian")] | None = None
    """The noise, `gaussian` without a name; may be left out where every operator has its own."""
    operator: Annotated[list[OperatorEntry], BeforeValidator(alternatives), Field(min_length=1)]
    """The operators: alternatives, each with every solver."""
    solver: Annotated[list[SolverEntry], BeforeValidator(alternatives), Field(min_length=1)]
    """The solvers, each with its prior."""
    metrics: Annotated[list[Annotated[Labelled, _entry("")]], BeforeValidator(alternatives), Field(min_length=1, validate_default=True)] = (
        METRICS
    )
    """What is measured: names (`invsolve list metric`), or tables with parameters and a label."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=10**9)]], BeforeValidator(counted), Field(min_length=1, max_length=1000)] = ONCE
    """How often everything is repeated, noise and sampling anew: a number, or a list of what is added to the run's seed."""
    dtype: Literal["float32", "float64"] = "float32"
    """The precision of everything."""
    _folder: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    def path(self, name: str) -> Path:
        """A path in the suite, relative to its file."""
        return located(self._folder, name)

    @model_validator(mode="after")
    def _check_labels(self) -> Suite:
        for kind, entries in (("operator", self.operator), ("solver", self.solver), ("metric", self.metrics)):
            labels = [entry.label for entry in entries]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f'{kind} label used twice: {", ".join(twice)}; give each its own: label = "..."')
        known = [entry.label for entry in self.operator]
        for entry in self.solver:
            for label, values in entry.overrides.items():
                if label not in known:
                    raise ValueError(f"solver '{entry.label}' has settings for no operator '{label}'{did_you_mean(label, known)}")
                if "name" in values:
                    raise ValueError(f"solver '{entry.label}' for '{label}': name stays {entry.name}; another solver is a table of its own")
                plain(values, f"solver '{entry.label}' for '{label}'")
                entry.at(label)
        bare = [entry.label for entry in self.operator if entry.noise is None and entry.problem is None]
        if self.data is None and any(entry.truth is None and entry.data is None for entry in self.operator):
            raise ValueError(
                'data is missing: give data = "quick-photos", data = { folder = "photos" } or drawings, { shape = [3, 32, 32] }'
            )
        if self.noise is None and bare:
            raise ValueError(f"noise is missing: give noise = {{ sigma = 0.05 }}, or one to each operator ({', '.join(bare)})")
        return self

    @classmethod
    def load(cls, source: str | Path, given: Mapping[str, str] | None = None) -> Suite:
        """A suite by its registered name, or from a TOML file.

        Args:
            source: the name or the file.
            given: folders, zip or npz files in the place of its data sets, by their label: {"faces": "my/faces"}.

        Raises:
            UnknownNameError: neither; near names are given.
            InputError: one that runs itself, see `invsolve.bench.own`.
            InputError: not TOML, or keys and values that no suite has, each named.
        """
        names = registry().names("suite")
        if own_suite(str(source)) is not None:
            raise InputError(f"suite '{source}' runs itself and is no list of parts: invsolve bench run {source}")
        if str(source) in names:
            return cls.parse(Path(registry().load("suite", str(source))), str(source), given)
        path = Path(source)
        if not path.is_file():
            near = did_you_mean(str(source), names) or f"; there are: {', '.join(names)}"
            raise UnknownNameError(f"no suite and no file '{source}'{near}")
        return cls.parse(path, given=given)

    @classmethod
    def parse(cls, path: Path, name: str | None = None, given: Mapping[str, str] | None = None) -> Suite:
        """A suite from a file; without a name it is called as the file is.

        Raises:
            InputError: as for `load`.
        """
        values, text = read_toml(path, "suite")
        called = name or path.stem.lower()
        whole = {"name": called if NAME.fullmatch(called) else "unnamed", **values}
        return cls.make(whole, path.name, text, source=Source(path.parent, given or {}, (str(path.resolve()),)))

    @classmethod
    def make(cls, values: dict[str, Any], what: str = "suite", text: str = "", *, source: Source | None = None) -> Suite:
        """A suite from plain values; `text` is the file, for the lines of faults.

        Args:
            values: the tables.
            what: what it is called in errors.
            text: the file that they come from.
            source: where that file is, and the pictures that the user gives.

        Raises:
            InputError: what is wrong, key by key.
        """
        source = source or Source()
        try:
            whole = written(values, source)
        except InputError as error:
            raise InputError(f"{what} is no suite:\n  - {error}") from None
        moved = any(whole.get(key) != values.get(key) and isinstance(values.get(key), list) for key in ("operator", "solver", "metrics"))
        text = "" if moved and any(len(whole[key]) != len(values.get(key, ())) for key in ("operator", "solver") if key in whole) else text
        suite = modelled(cls, whole, f"{what} is no suite:", text)
        suite._text, suite._folder = text, source.folder
        return suite

    @classmethod
    def stored(cls, values: dict[str, Any], what: str) -> Suite:
        """A suite as `plain` wrote it: nothing in it is read from other files.

        Raises:
            InputError: what is wrong, key by key.
        """
        return modelled(cls, values, f"{what} is no suite:")

    def only(self, solvers: Sequence[str] = (), data: Sequence[str] = (), operators: Sequence[str] = ()) -> Suite:
        """The suite with some of its solvers, data sets and operators: by label or registered name, or a pattern such as "SR*".

        Raises:
            UnknownNameError: a name that nothing in the suite has; what it has is listed.
            InputError: nothing is left.
        """
        chosen = picked("operator", self.operator, operators, lambda one: [one.label, one.name])
        if data:
            chosen = picked("data set", chosen, data, self.data_names)
        kept = picked("solver", self.solver, solvers, lambda one: [one.label, one.name])
        labels = {one.label for one in chosen}
        kept = [one.model_copy(update={"overrides": {key: value for key, value in one.overrides.items() if key in labels}}) for one in kept]
        if not chosen or not kept:
            raise InputError("nothing of the suite is left: the names fit different parts of it; invsolve bench plan shows all")
        made = self.model_copy(update={"operator": chosen, "solver": kept})
        made._folder, made._text = self._folder, ""
        return made

    def data_of(self, operator: OperatorEntry) -> DataEntry | None:
        """The pictures of an operator: its own, else the suite's; None where a saved measurement brings its truth."""
        return None if operator.truth is not None else operator.data or self.data

    def data_names(self, operator: OperatorEntry) -> list[str]:
        """What the pictures of an operator are found by: label, registered name, the last part of the path."""
        data = self.data_of(operator)
        return [] if data is None else names_of({"label": data.label, "name": data.name, **data.arguments})

    def lined(self, error: BaseException, part: Part, *place: int | str) -> str:
        """A fault of a part with the line of the file, where there is one."""
        return lined(str(error), self._text, place, part)

    def plain(self) -> dict[str, Any]:
        """The values, as JSON or TOML would hold them."""
        return {"data": None, "noise": None, **self.model_dump(mode="json", by_alias=True, exclude_none=True)}


def picked(what: str, entries: list[Any], wanted: Sequence[str], names: Callable[[Any], list[str]]) -> list[Any]:
    """The entries that one of the wanted names or patterns fits; all without any."""
    known = dict.fromkeys(name for one in entries for name in names(one))
    for one in wanted:
        if not any(name == one or fnmatchcase(name, one) for name in known):
            near = did_you_mean(one, list(known)) or ""
            raise UnknownNameError(f"the suite has no {what} '{one}'{near}; there are: {'; '.join(known) or 'none'}")
    return [one for one in entries if not wanted or any(name == key or fnmatchcase(name, key) for name in names(one) for key in wanted)]


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
    own = attempted(entry.load)
    if isinstance(own, OwnSuite):
        return SuiteListing(entry.name, entry.summary, entry.plugin, own.title, own.operators, own.solvers)
    suite = attempted(lambda: Suite.parse(Path(entry.load()), entry.name))
    if isinstance(suite, BaseException):
        return SuiteListing(entry.name, entry.summary, entry.plugin, error=str(suite))
    operators, solvers = (tuple(one.label for one in group) for group in (suite.operator, suite.solver))
    return SuiteListing(entry.name, entry.summary, entry.plugin, suite.title, operators, solvers)
