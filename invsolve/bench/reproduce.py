"""Published rows: their settings run with the user's checkpoint and pictures, and whether the numbers come out.

    title = "DiffPIR, table 7: FFHQ, noise .05"
    source = "arXiv:2305.08995, table 7"
    wants = "the FFHQ network"                      # the checkpoint, given as --prior
    data = { label = "faces", wants = "100 validation faces of FFHQ", crop = 256, first = 100 }
    noise = { sigma = 0.05 }
    [[row]]
    label = "SR x4"
    operator = { name = "bicubic", factor = 4 }
    solver = { name = "diffpir", steps = 100, authors = true }
    metric = "psnr"
    value = 26.64                                   # as printed: its last digit is its precision
    images = 100
    [[row.erratum]]                                 # what may explain a difference: another setting, which is run where there is one
    name = "E6"
    says = "..."
    solver = { authors = false }

With our mean m and spread s over n pictures, and the printed value p of N pictures, whose spread is taken to be s, too,

    noise = 2 s sqrt(1 / n + 1 / N),   "reproduced" if |m - p| <= noise + half a last digit, and "not" otherwise

"within noise" stands for "reproduced" where the noise is more than `tolerance`: so few pictures could not have shown a difference.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from invsolve.bench.fairness import UNFINISHED
from invsolve.bench.language import Source
from invsolve.bench.own import OwnSuite, own_suite
from invsolve.bench.suite import Suite
from invsolve.errors import InputError, UnknownNameError
from invsolve.plugins import registry
from invsolve.plugins.part import Part, prior_part
from invsolve.recipe.config import named
from invsolve.recipe.tables import Table, modelled, read_toml

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, strict=True)]
Verdict = Literal["reproduced", "within noise", "not reproduced", "no answer"]


class Erratum(Table):
    """What may explain that a published number does not come out."""

    name: Text
    """What it is called."""
    says: Text
    """What was done in place of what was written, in a sentence."""
    solver: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the solver that are set as the erratum says; {} for one that cannot be run."""
    operator: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the operator, likewise."""
    noise: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the noise, likewise."""

    @property
    def runs(self) -> bool:
        """Whether it is a setting."""
        return bool(self.solver or self.operator or self.noise)


class Row(Table):
    """A published number and its setting."""

    label: Text
    """What tables call it."""
    operator: Annotated[Part, BeforeValidator(named)]
    """The operator."""
    solver: Annotated[Part, BeforeValidator(named)]
    """The solver, as the published code ran it."""
    metric: Annotated[Part, BeforeValidator(named)] = Part(name="psnr")
    """What was measured."""
    value: Annotated[str, StringConstraints(pattern=r"^-?\d+(\.\d+)?$")]
    """The number as it is printed, in text: "26.60" has two digits."""
    images: Annotated[int, Field(ge=1)]
    """Of how many pictures it is the mean."""
    noise: dict[str, Any] | None = None
    """The noise, where it is not the table's."""
    erratum: list[Erratum] = Field(default_factory=list)
    """What may explain a difference."""

    @property
    def half_digit(self) -> float:
        """Half of the last printed digit."""
        return 0.5 * 10.0 ** -len(self.value.partition(".")[2])


class Published(Table):
    """A table of published rows."""

    title: Text
    """One line."""
    source: Text
    """The paper and the table."""
    wants: Text
    """The checkpoint that it was made with."""
    data: dict[str, Any]
    """The pictures, as in a suite."""
    noise: dict[str, Any]
    """The noise."""
    tolerance: Annotated[float, Field(gt=0)] = 0.5
    """The difference that matters, in units of the metric."""
    row: Annotated[list[Row], Field(min_length=1)]
    """The rows."""


@dataclass(frozen=True)
class PublishedTable(OwnSuite):
    """A table of published rows among the suites, by the path of its file: `invsolve bench reproduce NAME --prior FILE`."""

    path: Path = Path()
    title: str = ""  # pyright: ignore[reportIncompatibleVariableOverride]

    def run(self, out: Path, *, seed: int = 0, fresh: bool = False, limit: float | None = None) -> tuple[Path, bool]:
        """Not without a checkpoint.

        Raises:
            InputError: always.
        """
        raise InputError(f"'{self.path.stem}' is a table of published rows: invsolve bench reproduce {self.path.stem} --prior CHECKPOINT")

    def check(self, entry: Any, out: Path, *, limit: float | None = None) -> tuple[Path, bool]:
        """Nothing to check a solver with.

        Raises:
            InputError: always.
        """
        raise InputError(f"'{self.path.stem}' is a table of published rows, and no check of a solver")


def load(table: str | Path) -> tuple[Published, Path]:
    """A table by its registered name or from a file, and its folder.

    Raises:
        UnknownNameError: neither.
        InputError: no table of published rows.
    """
    found = own_suite(str(table))
    path = found.path if isinstance(found, PublishedTable) else Path(table)
    if not path.is_file():
        known = [name for name in registry().names("suite") if isinstance(own_suite(name), PublishedTable)]
        raise UnknownNameError(f"no table of published rows and no file '{table}'; there are: {', '.join(known) or 'none'}")
    values, text = read_toml(path, "table of published rows")
    return modelled(Published, values, f"{path.name} is no table of published rows:", text), path.parent


@dataclass(frozen=True)
class Outcome:
    """A row, run.

    Args:
        label, metric, printed: of the row.
        mean, noise, count: ours; None and 0 where nothing was solved.
        verdict: see the module.
        explains: the errata whose setting gives the printed number, where the row's own does not.
        suspects: errata that are no setting, or did not give it.
        reason: why there is no answer.
    """

    label: str
    metric: str
    printed: str
    mean: float | None
    noise: float | None
    count: int
    verdict: Verdict
    explains: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    reason: str = ""

    @property
    def text(self) -> str:
        """In a line."""
        if self.mean is None or self.noise is None:
            return f"{self.label}: no answer: {self.reason}"
        ours = f"{self.metric} {self.mean:.4g} +- {self.noise:.2g} on {self.count} pictures, printed {self.printed}"
        why = "".join(f"; explained by {one}" for one in self.explains) or "".join(f"; known: {one}" for one in self.suspects)
        return f"{self.label}: {self.verdict} ({ours}){why if self.verdict == 'not reproduced' else ''}"


def reproduce(
    table: str | Path,
    prior: str | dict[str, Any],
    *,
    out: str | Path,
    given: Mapping[str, str] | None = None,
    rows: Sequence[str] = (),
    first: int | None = None,
    progress: bool = True,
    **options: Any,
) -> list[Outcome]:
    """Run the rows of a table, and of those that do not come out the errata that are settings.

    Args:
        table: a registered table or a file.
        prior: the checkpoint: a path, a registered prior, or a table as in a suite, { file = "ffhq.pt", range = [-1, 1] }.
        out: folder of the cells.
        given: pictures by the label of the data set.
        rows: only these, by label.
        first: only so many pictures.
        progress, options: as for `run`.

    Raises:
        UnknownNameError: no such table or row.
        InputError: what a suite of the row is refused for; pictures that are not there.
    """
    from invsolve.bench.runner import run

    published, folder = load(table)
    unknown = [one for one in rows if one not in [row.label for row in published.row]]
    if unknown:
        raise UnknownNameError(f"no row '{unknown[0]}'; there are: {'; '.join(row.label for row in published.row)}")
    source = Source(folder, dict(given or {}))

    def tried(row: Row, erratum: Erratum | None) -> list[dict[str, Any]]:
        made = suite_of(published, row, erratum, prior, source, first)
        return run(made, out=Path(out) / made.name, progress=progress, **options)

    return [judged(published, row, lambda erratum, row=row: tried(row, erratum)) for row in published.row if not rows or row.label in rows]


def suite_of(
    published: Published, row: Row, erratum: Erratum | None, prior: str | dict[str, Any], source: Source, first: int | None
) -> Suite:
    """The suite of a row, set as an erratum says."""
    changes = erratum or Erratum(name="none", says="none")
    operator = {**row.operator.arguments, **changes.operator, "name": row.operator.name, "label": row.label}
    label = row.solver.name if erratum is None else f"{row.solver.name}, {erratum.name}"
    solver = {**row.solver.arguments, **changes.solver, "name": row.solver.name, "label": label, "prior": prior_part(prior)}
    name = "".join(sign if sign.isalnum() else "-" for sign in f"{row.label}-{row.solver.name}".lower()).strip("-")[:60]
    values = {
        "name": name,
        "title": published.title,
        "data": {**published.data, **({"first": first} if first is not None else {})},
        "noise": {**(row.noise or published.noise), **changes.noise},
        "operator": [operator],
        "solver": [solver],
        "metrics": [row.metric.model_dump()],
    }
    return Suite.make(values, f"row '{row.label}'", source=source)


def judged(published: Published, row: Row, tried: Any) -> Outcome:
    """A row's outcome; errata are run where it does not come out."""
    found = compared(published, row, tried(None))
    if found.verdict != "not reproduced":
        return found
    runs = {one.name: one for one in row.erratum if one.runs}
    right = [name for name, one in runs.items() if compared(published, row, tried(one)).verdict in ("reproduced", "within noise")]
    explains = tuple(f"{name}: {runs[name].says}" for name in right)
    suspects = tuple(f"{one.name}: {one.says}" for one in row.erratum if one.name not in right)
    return Outcome(found.label, found.metric, found.printed, found.mean, found.noise, found.count, found.verdict, explains, suspects)


def compared(published: Published, row: Row, rows: list[dict[str, Any]]) -> Outcome:
    """Our number beside the printed one."""
    label, metric = f"{row.label}, {row.solver.name}", row.metric.name
    values = [value for one in rows if one["status"] not in UNFINISHED and (value := next(iter(one["metrics"].values()))) is not None]
    if len(values) < len(rows) or len(values) < 2:
        reason = next((one["reason"] for one in rows if one["reason"]), "two pictures at least are needed, for the noise")
        return Outcome(label, metric, row.value, None, None, len(values), "no answer", reason=reason)
    mean, noise = statistics.fmean(values), 2 * statistics.stdev(values) * (1 / len(values) + 1 / row.images) ** 0.5
    near = abs(mean - float(row.value)) <= noise + row.half_digit
    verdict: Verdict = "not reproduced" if not near else "within noise" if noise > published.tolerance else "reproduced"
    return Outcome(label, metric, row.value, mean, noise, len(values), verdict)
