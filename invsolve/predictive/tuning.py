"""Settings chosen on draws from the prior: the truth is known there, and the problem at hand is one more draw if the prior fits.

    theta* = argmax_theta  1/N sum_j score(solve(y_j; theta), x_j),     x_j ~ p,  y_j = H x_j + n_j

by successive halving (Jamieson, Talwalkar 2016, arXiv 1502.07943): all candidates on a quarter of the draws, the better half on the next
quarter, the better half of these on the rest. All see the same draws and the same random streams, so differences are paired. The candidate
as given is carried to the end and left only for one whose paired gain is above its standard error, so that what is chosen is never worse
than it on the draws. A candidate that fails is never chosen.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invsolve.bench.presets import Preset, Tuned
from invsolve.bench.study import Study
from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.plugins import registry
from invsolve.plugins.part import Part
from invsolve.predictive.budget import Budget, Purse
from invsolve.predictive.candidates import declared, level, portfolio, settings
from invsolve.predictive.draws import SIDE, Draws, Generator, Pool, draw, seed_of, window
from invsolve.predictive.fit import Fit, look
from invsolve.predictive.race import MOST, Race, Trial
from invsolve.predictive.scores import Scorer, scored
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.ranges import parted
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.solvers.auto import Auto

AUTO, OPTUNA = "auto", "optuna"


@dataclass(frozen=True)
class Tuning:
    """What was chosen, and how.

    Args:
        solver, prior: the chosen ones.
        trials: all candidates in the order of their making; trial 0 is what was given.
        best: the chosen trial.
        for_: by which score.
        draws: what they were tried on.
        fit: whether the measurement looks like the draws.
        budget: what could be spent.
        seconds, nfe: what was; nfe per image, over all of them, drawing included.
        curve: after each evaluation: (evaluations so far, seconds so far, trial 0, 1, ... that led).
        samples: per run, None for plain ones.
    """

    solver: Solver
    prior: Prior
    trials: tuple[Trial, ...]
    best: Trial
    for_: str
    draws: Draws
    fit: Fit
    budget: Budget
    seconds: float
    nfe: int
    curve: tuple[tuple[int, float, int], ...]
    samples: int | None = None

    @property
    def gain(self) -> tuple[float, float]:
        """(mean, standard error) of best - trial 0 on the draws; chosen by these numbers, so an upper end of what to expect."""
        pairs = [a - b for a, b in zip(self.best.scores, self.trials[0].scores, strict=False)]
        if not pairs or self.trials[0].reason:
            return float("nan"), float("nan")
        return statistics.fmean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")

    @property
    def regret(self) -> list[tuple[int, float, float]]:
        """(evaluations, seconds, how far the leader then was below the chosen one, on the draws that it was tried on).

        Leader and chosen one are what was given, unless another is better by more than a standard error (`race.settled`).
        """
        out = []
        for nfe, seconds, leader in self.curve:
            pairs = [a - b for a, b in zip(self.best.scores, self.trials[leader].scores, strict=False)]
            out.append((nfe, seconds, statistics.fmean(pairs) if pairs else float("nan")))
        return out

    @property
    def why(self) -> str:
        """In a sentence."""
        mean, error = self.gain
        tried = sum(bool(trial.scores) for trial in self.trials)
        first = self.best.label
        if self.best is self.trials[0]:
            first += (
                ": nothing else tried was better by more than its standard error" if tried > 1 else f": {self.budget} left no other try"
            )
        gain = "" if self.best is self.trials[0] else f", {mean:.3g}{'' if error != error else f' ± {error:.2g}'} above what was given"
        doubt = "" if self.fit.fits else f". {self.fit.said}"
        return f"tuned by {self.for_} on {self.draws.origin}: {first}{gain}; {tried} tried in {self.seconds:.0f} s{doubt}"

    def solve(self, problem: Problem, **options: Any) -> Solution:
        """The chosen solver's solution; options as of `Solver.solve`."""
        return replace(self.solver.solve(problem, self.prior, **options), why=self.why, tuning=self.record())

    def record(self) -> dict[str, Any]:
        """Everything but the images, as JSON data."""
        return {
            "for": self.for_,
            "draws": self.draws.origin,
            "count": len(self.draws),
            "fit": self.fit.record(),
            "budget": str(self.budget),
            "seconds": round(self.seconds, 3),
            "nfe": self.nfe,
            "samples": self.samples,
            "best": self.best.label,
            "gain": finite(self.gain),
            "tried": [
                {"label": one.label, "values": one.candidate.values, "scores": finite(one.scores), "nfe": one.nfe, "reason": one.reason}
                for one in self.trials
            ],
            "regret": [finite(point) for point in self.regret],
        }

    def preset(self) -> Preset:
        """The chosen setting as a file that suites name; of the portfolio, the chosen solver as it was tried."""
        own, inner = parted(self.best.candidate.values)
        name = registry().name_of("solver", self.solver)
        if name is None:
            raise InputError(f"{type(self.solver).__name__} is not registered, and a preset names its solver; register it first")
        believed = registry().name_of("prior", self.prior)
        other = self.prior is not self.trials[0].candidate.prior and believed is not None
        held = plain(self.prior) if other else inner
        return Preset(
            solver=Part.model_validate({**plain(self.solver), **own, "name": name}),
            prior=Part.model_validate({"name": believed, **held}) if believed and (inner or other) else None,
            tuned=Tuned(on=self.draws.origin[:200], by=f"predictive {self.for_}"[:200], trials=len(self.trials)),
            record=without_none({key: value for key, value in self.record().items() if key != "regret"}),
        )

    def save(self, path: str | Path) -> None:
        """Write the preset."""
        write_text(Path(path), self.preset().toml())

    def __repr__(self) -> str:
        return f"Tuning({self.why})"


def plain(part: Solver | Prior) -> dict[str, Any]:
    """The arguments that it was made with, as far as a file holds them."""
    return {name: value for name, value in part.arguments.items() if isinstance(value, bool | int | float | str)}


def without_none(value: Any) -> Any:
    """Tables and lists without what TOML has no word for."""
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return [without_none(one) for one in value if one is not None] if isinstance(value, list) else value


def finite(values: Sequence[float]) -> list[float | None]:
    """Numbers that JSON and TOML hold; None in place of others."""
    return [float(value) if abs(float(value)) < float("inf") else None for value in values]


def tune(
    problem: Problem,
    prior: Prior,
    solver: Solver | str = AUTO,
    *,
    budget: str | float | Budget = "60s",
    nfe: int | None = None,
    for_: str | Scorer = "psnr",
    draws: int | Draws = 8,
    pool: Pool = None,
    samples: int | None = None,
    trials: int | None = None,
    names: Sequence[str] = (),
    method: str = "random",
    generator: Generator = 0,
    side: int = SIDE,
    cache: str | Path | None = None,
    callback: Callable[[Trial], bool | None] | None = None,
) -> Tuning:
    """Choose a solver's settings, or a solver, on draws from the prior that are measured as the problem was.

    Args:
        problem: its H and noise are used; its y only to say whether it looks like the draws. Of a large one a window stands for the whole.
        prior: what is drawn from and believed.
        solver: whose ranges are searched; the name of one; "auto" (or `Auto`): the best of several solvers at their defaults.
        budget: "60s", "2min", "5000 nfe", or seconds. With seconds the number of candidates depends on the machine.
        nfe: evaluations in place of seconds.
        for_: "psnr", "perception" (HaarPSI), "calibration" (CRPS of samples), or a function (Solution, truth) -> (B,), more is better.
        draws: how many, or such as were made before.
        pool: see `draw`; needed for priors that cannot be drawn from.
        samples: per run; None for plain runs (4 for calibration).
        trials: how many candidates; None: as many as the budget allows.
        names: only these of the declared ranges.
        method: "random", "grid", or "optuna" (extra `optuna`), whose next setting depends on the last ones.
        generator: seed of draws, settings and runs.
        side: of the window that stands for a large problem.
        cache: folder for draws, see `draw`.
        callback: called with every Trial after it was tried on some more draws; returning False ends the search: only what was given
            is still tried on the rest, without a call.

    Raises:
        InputError: arguments of another kind, no ranges, a prior that cannot be drawn from and no pool, every candidate failed.
    """
    purse, score = Purse(Budget.make(budget, nfe)), scored(for_, samples)
    chosen = registry().load("solver", solver)() if isinstance(solver, str) else solver
    if not isinstance(chosen, Solver):
        raise InputError(f"solver must be a solver, the name of one, or 'auto'; given {type(solver).__name__}")
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a Problem, given {type(problem).__name__}; the order is tune(problem, prior, solver)")
    chosen.refuse(problem, prior)
    seed = seed_of(generator)
    if not isinstance(draws, Draws):
        draws = draw(window(problem, side), prior, draws, pool=pool, generator=seed, cache=cache)
        purse.nfe += draws.nfe * len(draws)
    race = Race(draws, score, seed, purse, callback)
    everyone = entered(race, chosen, prior, trials, names, method)
    led = method == OPTUNA and not isinstance(chosen, Auto)
    best = race.led(everyone, study(race, chosen, prior, names), trials or MOST) if led else race.run(everyone)
    looked = look(problem, draws, side)
    return Tuning(
        best.candidate.solver,
        best.candidate.prior,
        tuple(everyone),
        best,
        score.name,
        draws,
        looked,
        purse.budget,
        purse.seconds,
        purse.nfe,
        tuple(race.curve),
        score.samples,
    )


def study(race: Race, solver: Solver, prior: Prior, names: Sequence[str]) -> Study:
    """Optuna's, of the declared ranges.

    Raises:
        InputError: no optuna, and what `declared` and `level` raise.
    """
    ranges = declared(solver, prior, names)
    return Study.make(ranges, level(race.draws.problem, ranges), race.seed)


def entered(race: Race, solver: Solver, prior: Prior, trials: int | None, names: Sequence[str], method: str) -> list[Trial]:
    """The trials: the first one tried already on some draws, so that it is known how many others the budget has room for.

    Raises:
        InputError: trials < 1, and what `settings` and `portfolio` raise.
    """
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool) or trials < 1):
        raise InputError(f"trials must be a whole number, at least 1; given {trials!r:.40}")
    if isinstance(names, str):
        raise InputError(f"names is a list of hyperparameters, such as ['zeta']; given {names!r:.40}")
    if isinstance(solver, Auto) and (names or method != "random"):
        raise InputError("names and method choose settings of one solver; auto compares several at their defaults")
    problem = race.draws.problem
    found = portfolio(problem, prior) if isinstance(solver, Auto) else settings(solver, prior, problem, 1, names=names)
    first = Trial(found[0])
    race.advance(first, race.rungs[0], given=True)
    if not isinstance(solver, Auto) and method != OPTUNA:
        count = race.affordable(first) if trials is None else trials
        found = settings(solver, prior, problem, count, names=names, method=method, seed=race.seed)
    return [first, *(Trial(candidate) for candidate in found[1 : trials or MOST])]
