"""Settings chosen on draws from the prior: the truth is known there, and the problem at hand is one more draw if the prior fits.

    theta* = argmax_theta  1/N sum_j score(solve(y_j; theta), x_j),     x_j ~ p,  y_j = H x_j + n_j

by successive halving (Jamieson, Talwalkar 2016, arXiv 1502.07943): all candidates on a quarter of the draws, the better half on the next
quarter, the better half of these on the rest. All see the same draws and the same random streams, so differences are paired. The candidate
as given is carried to the end, so that what is chosen is never worse than it on the draws. A candidate that fails is never chosen.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from invsolve.bench.presets import Preset, Tuned
from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted
from invsolve.plugins.part import Part
from invsolve.predictive.budget import Budget, Purse
from invsolve.predictive.candidates import PRIOR, Candidate, portfolio, settings
from invsolve.predictive.draws import SIDE, Draws, Pool, chunk, draw, window
from invsolve.predictive.fit import Fit, fit
from invsolve.predictive.scores import Score, Scorer, numbers, scored
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solution import Solution, Status
from invsolve.solver import Solver
from invsolve.solvers.auto import Auto

MOST = 64  # candidates
AUTO = "auto"


@dataclass
class Trial:
    """A candidate and what it scored.

    Args:
        scores: of the first draws, as many as it was tried on.
        nfe: evaluations per draw, forward and backward.
        seconds: per draw.
        reason: why it failed, "" where it did not.
    """

    candidate: Candidate
    scores: list[float] = field(default_factory=list)
    nfe: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def label(self) -> str:
        """Of its candidate."""
        return self.candidate.label

    @property
    def score(self) -> float:
        """Mean over the draws that it was tried on; minus infinity where it failed."""
        return -float("inf") if self.reason or not self.scores else statistics.fmean(self.scores)


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
        """(evaluations, seconds, how far the leader then was below the chosen one, on the draws that it was tried on)."""
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
        first = "as given: nothing tried was better" if self.best is self.trials[0] else self.best.label
        gain = "" if self.best is self.trials[0] else f", {mean:.3g} ± {error:.2g} above what was given"
        doubt = "" if self.fit.fits else f". {self.fit.said}"
        return f"tuned by {self.for_} on {self.draws.origin}: {first}{gain}; {tried} tried in {self.seconds:.0f} s{doubt}"

    def solve(self, problem: Problem, **options: Any) -> Solution:
        """The chosen solver's solution; options as of `Solver.solve`."""
        return applied(self, problem, options)

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
        values = self.best.candidate.values
        inner = {name.removeprefix(PRIOR): value for name, value in values.items() if name.startswith(PRIOR)}
        name = registry().name_of("solver", self.solver)
        if name is None:
            raise InputError(f"{type(self.solver).__name__} is not registered, and a preset names its solver; register it first")
        believed = registry().name_of("prior", self.prior)
        plain = {key: value for key, value in self.solver.arguments.items() if isinstance(value, bool | int | float | str)}
        return Preset(
            solver=Part.model_validate({**plain, **{k: v for k, v in values.items() if not k.startswith(PRIOR)}, "name": name}),
            prior=Part.model_validate({"name": believed, **inner}) if inner and believed else None,
            tuned=Tuned(on=self.draws.origin[:200], by=f"predictive {self.for_}"[:200], trials=len(self.trials)),
            record={key: value for key, value in self.record().items() if value is not None and key != "regret"},
        )

    def save(self, path: str | Path) -> None:
        """Write the preset."""
        write_text(Path(path), self.preset().toml())

    def __repr__(self) -> str:
        return f"Tuning({self.why})"


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
    generator: int = 0,
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
        method: "random" or "grid".
        generator: seed of draws, settings and runs.
        side: of the window that stands for a large problem.
        cache: folder for draws, see `draw`.
        callback: called with every Trial after it was tried on some more draws; returning False ends the search.

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
    whole = problem
    if not isinstance(draws, Draws):
        problem = window(problem, side)
        draws = draw(problem, prior, draws, pool=pool, generator=generator, cache=cache)
        purse.nfe += draws.nfe * len(draws)
    race = Race(draws, score, generator, purse, callback)
    everyone = entered(race, chosen, prior, trials, names, method)
    best = race.run(everyone[0], everyone[1:])
    looked = fit(whole if draws.problem.operator.in_shape == whole.operator.in_shape else problem, draws)
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


def entered(race: Race, solver: Solver, prior: Prior, trials: int | None, names: Sequence[str], method: str) -> list[Trial]:
    """The trials: the first one tried already on some draws, so that it is known how many others the budget has room for.

    Raises:
        InputError: trials < 1, and what `settings` and `portfolio` raise.
    """
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool) or trials < 1):
        raise InputError(f"trials must be a whole number, at least 1; given {trials!r:.40}")
    problem = race.draws.problem
    found = portfolio(problem, prior) if isinstance(solver, Auto) else settings(solver, prior, problem, 1, names=names)
    first = Trial(found[0])
    race.advance(first, race.rungs[0], given=True)
    if not isinstance(solver, Auto):
        count = race.affordable(first) if trials is None else trials
        found = settings(solver, prior, problem, count, names=names, method=method, seed=race.seed)
    return [first, *(Trial(candidate) for candidate in found[1 : trials or MOST])]


@dataclass
class Race:
    """Successive halving on draws."""

    draws: Draws
    score: Score
    seed: int
    purse: Purse
    callback: Callable[[Trial], bool | None] | None = None
    curve: list[tuple[int, float, int]] = field(default_factory=list)
    stopped: bool = False

    @property
    def rungs(self) -> list[int]:
        """How many draws a candidate has seen after each rung: a quarter, half, all."""
        count = len(self.draws)
        return sorted({max(1, -(-count // 4)), max(1, -(-count // 2)), count})

    def affordable(self, first: Trial) -> int:
        """How many candidates the rest of the budget has room for: each costs half of all draws on average."""
        cost = (first.nfe if self.purse.budget.nfe is not None else first.seconds) or 1e-6
        spread = self.rungs
        kept, whole, before = 1.0, 0.0, 0
        for rung in spread:
            whole += kept * (rung - before)
            kept, before = kept / 2, rung
        return max(1, min(MOST, int((self.purse.left - cost * (len(self.draws) - spread[0])) / (cost * whole))))

    def advance(self, trial: Trial, count: int, *, given: bool = False) -> None:
        """Try a candidate on its next draws, up to `count` in all."""
        part, one = self.draws.part(len(trial.scores), count), trial.candidate
        if not len(part) or trial.reason:
            return
        limit = max(1, chunk(part.problem) // (self.score.samples or 1))

        # What was given is tried whatever it takes; others may take what is left.
        within = None if given or self.purse.budget.seconds is None else max(1e-3, self.purse.left)

        def solved() -> Solution:
            return one.solver.solve(part.problem, one.prior, generator=self.seed, samples=self.score.samples, chunk=limit, budget_s=within)

        found = attempted(solved)
        if isinstance(found, BaseException):
            trial.reason = f"{type(found).__name__}: {found}"[:300]
            return
        if found.status is Status.BUDGET:
            trial.reason = "it was not done when the budget was spent"
            return
        trial.nfe, trial.seconds = float(found.nfe + found.backward), found.seconds / len(part)
        self.purse.nfe += (found.nfe + found.backward) * len(part)
        trial.scores += numbers(self.score, found, part.truths)
        if self.callback is not None and self.callback(trial) is False:
            self.stopped = True

    def cost(self, trial: Trial, first: Trial) -> float:
        """Of a draw: as measured, or as its steps and gradients let expect beside the first one's."""
        known = trial if trial.scores else first
        measured = known.nfe if self.purse.budget.nfe is not None else known.seconds
        return measured * (1.0 if trial.scores else work(trial.candidate.solver) / work(first.candidate.solver))

    def leader(self, everyone: list[Trial]) -> int:
        """Which trial is ahead: of those that have seen most draws."""
        sound = [one for one in everyone if one.scores and not one.reason]
        seen = max((len(one.scores) for one in sound), default=0)
        ahead = max((one for one in sound if len(one.scores) == seen), key=lambda one: one.score, default=everyone[0])
        return next(index for index, one in enumerate(everyone) if one is ahead)

    def run(self, first: Trial, rest: list[Trial]) -> Trial:
        """All rungs; the best of those that saw every draw.

        Raises:
            InputError: every candidate failed.
        """
        everyone, alive = [first, *rest], list(rest)
        for index, rung in enumerate(self.rungs):
            self.advance(first, rung, given=True)
            self.note(everyone)
            going = []
            for trial in alive:
                if self.stopped or self.purse.left < self.cost(trial, first) * (rung - len(trial.scores)):
                    continue
                self.advance(trial, rung)
                self.note(everyone)
                going += [] if trial.reason else [trial]
            going.sort(key=lambda one: -one.score)
            alive = going if index == len(self.rungs) - 1 else going[: -(-len(going) // 2)]
        final = [one for one in everyone if not one.reason and len(one.scores) == len(self.draws)]
        if not final:
            reasons = "; ".join(f"{one.label}: {one.reason}" for one in everyone[:3] if one.reason)
            raise InputError(f"every candidate failed on the draws. {reasons}")
        return max(final, key=lambda one: one.score)  # the first of equals: what was given

    def note(self, everyone: list[Trial]) -> None:
        """A point of the curve."""
        self.curve.append((self.purse.nfe, self.purse.seconds, self.leader(everyone)))


def work(solver: Solver) -> float:
    """Evaluations that a solver may be expected to take: a backward pass costs two."""
    steps = getattr(solver, "steps", None)
    return (steps if isinstance(steps, int) else 20) * (3.0 if solver.requires.gradient else 1.0)


def applied(tuning: Tuning, problem: Problem, options: dict[str, Any]) -> Solution:
    """The solution by a tuning's choice, with its record."""
    solution = tuning.solver.solve(problem, tuning.prior, **options)
    return replace(solution, why=tuning.why, tuning=tuning.record())
