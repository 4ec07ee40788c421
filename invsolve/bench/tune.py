"""Tuning: settings of a solver are tried as cells of a suite, and the best become a preset that suites can name.

    score of a setting = mean over the pictures and operators of the metric, or without the truth of
        discrepancy:  |residual - 1|          the noise neither fitted nor missed
        sure:         Stein's estimate of the error of H x_hat

Trial 0 is the solver as the suite has it. Trials are cells like all others: a killed tuning goes on, and one with more trials begins where
the last one ended. A setting that fails on any picture is never chosen. With the truth, a suite's own pictures are refused: a table of them
would show how well they were learnt.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from invsolve.bench.environment import versions
from invsolve.bench.fairness import UNFINISHED
from invsolve.bench.plan import Workshop
from invsolve.bench.presets import Preset, Tuned
from invsolve.bench.runner import run
from invsolve.bench.score import gauges
from invsolve.bench.study import Study
from invsolve.bench.suite import SolverEntry, Suite
from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.plugins import registry
from invsolve.plugins.part import Part
from invsolve.priors.base import Regulariser
from invsolve.problem import Problem
from invsolve.ranges import Range, drawn, gridded, joint, parted

BLIND = {"discrepancy": "residual", "sure": "sure"}  # what needs no truth, and the metric it is made of
Method = Literal["random", "grid", "optuna"]


@dataclass(frozen=True)
class Trial:
    """A setting that was tried: its values, and the score of every picture; `score` is None where one failed."""

    label: str
    values: dict[str, Any]
    scores: tuple[float, ...]
    score: float | None


@dataclass(frozen=True)
class Tuning:
    """What a tuning found.

    Args:
        trials: trial 0 is the solver as the suite has it.
        best: the best of them.
        higher: whether more is better.
        preset: the best one's, to be written.
    """

    trials: list[Trial]
    best: Trial
    higher: bool
    preset: Preset

    @property
    def gain(self) -> tuple[float, float]:
        """(mean, standard error over pictures) of best - trial 0, signed so that above 0 is better; it was chosen by these numbers."""
        first = self.trials[0]
        if first.score is None:
            return math.nan, math.nan
        sign = 1 if self.higher else -1
        apart = [sign * (a - b) for a, b in zip(self.best.scores, first.scores, strict=True)]
        return statistics.fmean(apart), statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else math.nan


def tune(
    suite: Suite,
    solver: str,
    *,
    trials: int,
    out: str | Path,
    method: Method | str = "random",
    by: str = "psnr",
    names: Sequence[str] = (),
    seed: int = 0,
    on: str = "",
    replaced: bool = False,
    progress: bool = True,
    **options: Any,
) -> Tuning:
    """Tune a solver on a suite's pictures, and write `out`/preset.toml.

    Args:
        suite: whose operators, noise and pictures are used; `Suite.load(NAME, {"photos": "my/photos"})` gives it others.
        solver: its label or name in the suite.
        trials: how many settings, that of the suite (trial 0) included.
        out: folder of the cells.
        method: "random", "grid", or "optuna" (extra `optuna`), whose next setting depends on the last ones.
        by: a metric of the suite's language, whose better end is known, or "discrepancy" or "sure", which need no truth.
        names: only these of the declared ranges ("zeta", "prior.weight").
        seed: of the settings; measurements and runs have the suite's own.
        on: what the pictures are called in the preset; the data sets' labels unless said.
        replaced: whether the pictures are others than those that the suite's tables show.
        progress: as for `run`.
        options: further arguments of `run`.

    Raises:
        InputError: no one solver, trials < 2, an unknown method or metric; nothing declared; the suite's own pictures with a metric of the
            truth; operators whose noise differs where a range goes with it; every trial failed; no optuna.
        UnknownNameError: no such solver.
    """
    task = Task.make(suite, solver, by, names, trials, replaced)
    settings: list[dict[str, Any]] = [{}]
    if method == "optuna":
        rows = task.led(trials, seed, lambda found: task.tried(found, out, progress, options), settings)
    else:
        if method not in ("random", "grid"):
            raise InputError(f"method must be random, grid or optuna; given {method!r}")
        settings += (
            drawn(task.ranges, trials - 1, seed, task.sigma_x) if method == "random" else gridded(task.ranges, trials - 1, task.sigma_x)
        )
        rows = task.tried(settings, out, progress, options)
    found = [task.trial(index, values, rows) for index, values in enumerate(settings)]
    sound = [one for one in found if one.score is not None]
    if not sound:
        raise InputError(f"every trial failed; the first: {next(row['reason'] for row in rows if row['status'] in UNFINISHED)}")
    best = max(sound, key=lambda one: task.signed(one.score))
    preset = task.preset(best, found, method, seed, on)
    write_text(Path(out) / "preset.toml", preset.toml())
    return Tuning(found, best, task.higher, preset)


@dataclass(frozen=True)
class Task:
    """What is tuned, and how a setting is scored."""

    suite: Suite
    entry: SolverEntry
    by: str
    metric: str
    higher: bool
    ranges: dict[str, Any]
    sigma_x: float

    @classmethod
    def make(cls, suite: Suite, solver: str, by: str, names: Sequence[str], trials: int, replaced: bool) -> Task:
        """The task, checked."""
        chosen = suite.only(solvers=[solver])
        if len(chosen.solver) > 1:
            raise InputError(f"'{solver}' is several solvers of the suite; say one: {'; '.join(one.label for one in chosen.solver)}")
        if trials < 2:
            raise InputError(f"trials must be at least 2, the suite's own setting and another; given {trials}")
        if by not in BLIND and not replaced:
            raise InputError(
                f"by {by} a setting is chosen with the truth, and these are the pictures that the suite's tables show: give others, "
                "-d LABEL=FOLDER, or choose without the truth, --by discrepancy or --by sure"
            )
        metric = BLIND.get(by, by)
        (gauge,) = gauges(chosen.model_copy(update={"metrics": Suite.make({**chosen.plain(), "metrics": [metric]}).metrics}))
        if isinstance(gauge.metric, str):
            raise InputError(f"metric {by}: {gauge.metric}")
        higher = False if by in BLIND else gauge.metric.higher
        if higher is None or gauge.record["of_sets"]:
            raise InputError(f"{by} does not say which of two answers is better; take psnr, ssim, ..., discrepancy or sure")
        (entry,) = chosen.solver
        ranges = declared(entry, names)
        return cls(chosen, entry, by, metric, higher, ranges, level(chosen, ranges))

    def entries(self, settings: Sequence[dict[str, Any]]) -> list[SolverEntry]:
        """A solver of the suite for each setting; what is set for single operators gives way to what is tried."""
        out = []
        for index, values in enumerate(settings):
            table = self.entry.model_dump(by_alias=True, exclude_none=True)
            table.pop("tuned", None)
            own, inner = parted(values)
            table = {**table, **own, "label": label_of(index, values), "prior": {**table["prior"], **inner}}
            for override in table.get("for", {}).values():
                for name in own:
                    override.pop(name, None)
                if isinstance(override.get("prior"), dict):
                    override["prior"] = {name: value for name, value in override["prior"].items() if name not in inner}
            out.append(SolverEntry.model_validate(table))
        return out

    def tried(self, settings: Sequence[dict[str, Any]], out: str | Path, progress: bool, options: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of all settings; those that the folder has are not computed again."""
        metrics = Suite.make({**self.suite.plain(), "metrics": [self.metric]}).metrics
        made = self.suite.model_copy(update={"solver": self.entries(settings), "metrics": metrics})
        made._folder = self.suite._folder
        return run(made, out=out, progress=progress, **options)

    def trial(self, index: int, values: dict[str, Any], rows: list[dict[str, Any]]) -> Trial:
        """A setting's score."""
        label = label_of(index, values)
        mine = [row for row in rows if row["solver"] == label]
        numbers = [next(iter(row["metrics"].values())) for row in mine]
        sound = all(row["status"] not in UNFINISHED for row in mine) and all(one is not None and math.isfinite(one) for one in numbers)
        scores = tuple(abs(one - 1) if self.by == "discrepancy" else one for one in numbers) if sound and mine else ()
        return Trial(label, values, scores, statistics.fmean(scores) if scores else None)

    def signed(self, score: float | None) -> float:
        """More is better."""
        return -math.inf if score is None else score if self.higher else -score

    def led(self, trials: int, seed: int, rows_of: Callable[[list[dict[str, Any]]], Any], settings: list[dict[str, Any]]) -> Any:
        """Settings one after the other as optuna's sampler asks for them; they are added to the list, and the last rows returned."""
        study = Study.make(self.ranges, self.sigma_x, seed)
        rows: Any = []
        for index in range(1, trials):
            settings.append(study.ask())
            rows = rows_of(settings)
            score = self.trial(index, settings[-1], rows).score
            study.tell(None if score is None else self.signed(score))
        return rows

    def preset(self, best: Trial, found: list[Trial], method: str, seed: int, on: str) -> Preset:
        """The best setting as a file, with where it comes from."""
        own, inner = parted(best.values)
        shop = Workshop(self.suite, torch.device("cpu"))
        pictures = {one.sha256[:16] for operator in self.suite.operator for one in shop.pictures(operator)}
        labels = dict.fromkeys(name for operator in self.suite.operator for name in self.suite.data_names(operator)[:1])
        record = {
            "suite": self.suite.name,
            "operators": [one.label for one in self.suite.operator],
            "method": method,
            "seed": seed,
            "best": best.score,
            "first": found[0].score,
            "failed": sum(one.score is None for one in found),
            "tried": [{"values": one.values, "score": one.score} for one in found],
            "versions": versions(),
        }
        return Preset(
            solver=Part.model_validate({**self.entry.arguments, **own, "name": self.entry.name}),
            prior=Part.model_validate({"name": self.entry.prior.name, **inner}) if inner else None,
            tuned=Tuned(on=on or ", ".join(labels) or "saved measurements", by=self.by, trials=len(found), pictures=self.seen(pictures)),
            record={name: value for name, value in record.items() if value is not None},
        )

    def seen(self, pictures: set[str]) -> list[str]:
        """The pictures whose truth was looked at: none, without one."""
        return [] if self.by in BLIND else sorted(pictures)


def label_of(index: int, values: dict[str, Any]) -> str:
    """What a trial is called in the rows."""
    return f"trial {index}: {', '.join(f'{name} {value}' for name, value in values.items()) or 'as in the suite'}"[:80]


def declared(entry: SolverEntry, names: Sequence[str]) -> dict[str, Any]:
    """The ranges of a solver, and as `prior.NAME` those of its regulariser.

    Raises:
        InputError: neither declares any, or not the named ones.
    """
    solver, prior = registry().load("solver", entry.name), registry().load("prior", entry.prior.name)
    regular = isinstance(prior, type) and issubclass(prior, Regulariser)
    found = joint(solver.ranges, prior.ranges if regular else None, names)
    if not found:
        raise InputError(f"solver {entry.name} with prior {entry.prior.name} declares no range to look in: its class attribute `ranges`")
    return found


def level(suite: Suite, ranges: dict[str, Any]) -> float:
    """The noise in units of the image, where a range goes with it: one of all operators.

    Raises:
        InputError: it differs between them by more than a hundredth.
    """
    if not any(isinstance(one, Range) and one.unit for one in ranges.values()):
        return 1.0
    shop, found = Workshop(suite, torch.device("cpu")), {}
    for operator in suite.operator:
        picture = shop.pictures(operator)[0]
        problem = shop.measured(operator, picture) or Problem.simulate(
            shop.operator(operator, picture, device=torch.device("cpu")), picture.image[None].float(), shop.noise(operator), generator=0
        )
        found[operator.label] = float(problem.sigma_x.mean())
    if max(found.values()) > 1.01 * min(found.values()):
        each = ", ".join(f"{label} {value:.3g}" for label, value in found.items())
        with_unit = ", ".join(name for name, one in ranges.items() if isinstance(one, Range) and one.unit)
        raise InputError(f"{with_unit} goes with the noise in units of the image, which differs ({each}): tune one at a time, -o OPERATOR")
    return next(iter(found.values()))


def table(tuning: Tuning, most: int = 8) -> Iterator[tuple[str, ...]]:
    """The best trials, a row each, trial 0 always among them: label, score, its standard error over pictures."""
    ranked = sorted(tuning.trials, key=lambda one: (one.score is None, -(one.score or 0) if tuning.higher else (one.score or 0)))
    shown = ranked[:most] if tuning.trials[0] in ranked[:most] else [*ranked[: most - 1], tuning.trials[0]]
    for one in shown:
        spread = statistics.stdev(one.scores) / len(one.scores) ** 0.5 if len(one.scores) > 1 else math.nan
        yield one.label, "failed" if one.score is None else f"{one.score:.4f}", f"{spread:.4f}"
