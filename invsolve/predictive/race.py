"""Candidates tried on draws: all on the same ones, the better ones on more; see `tuning.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from invsolve.bench.study import Study
from invsolve.errors import InputError
from invsolve.plugins.interrupts import attempted
from invsolve.predictive.budget import Purse
from invsolve.predictive.candidates import Candidate, tried
from invsolve.predictive.draws import Draws, chunk
from invsolve.predictive.scores import Score, numbers
from invsolve.solution import Solution, Status
from invsolve.solver import Solver

MOST = 64  # candidates


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

    def __post_init__(self) -> None:
        self.reason = self.reason or self.candidate.reason

    @property
    def label(self) -> str:
        """Of its candidate."""
        return self.candidate.label

    @property
    def score(self) -> float:
        """Mean over the draws that it was tried on; minus infinity where it failed."""
        return -float("inf") if self.reason or not self.scores else statistics.fmean(self.scores)


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
        scores = attempted(lambda: numbers(self.score, found, part.truths))
        if isinstance(scores, BaseException) or not all(map(math.isfinite, scores)):
            fault = scores if isinstance(scores, BaseException) else "it is not finite"
            trial.reason = f"its score by {self.score.name}: {fault}"[:300]
            return
        trial.scores += scores
        if self.callback is not None and not self.stopped and self.callback(trial) is False:
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
        ahead = settled([one for one in sound if len(one.scores) == seen], everyone[0])
        return next(index for index, one in enumerate(everyone) if one is ahead)

    def run(self, everyone: list[Trial]) -> Trial:
        """All rungs; the best of those that saw every draw.

        Raises:
            InputError: every candidate failed.
        """
        first, alive = everyone[0], everyone[1:]
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
        return self.best(everyone)

    def led(self, everyone: list[Trial], study: Study, most: int) -> Trial:
        """One candidate after the other, on all draws, as the study asks for them; they are added to `everyone`."""
        first = everyone[0]
        self.advance(first, len(self.draws), given=True)
        self.note(everyone)
        while len(everyone) < most and not self.stopped and self.purse.left >= self.cost(first, first) * len(self.draws):
            trial = Trial(tried(first.candidate.solver, first.candidate.prior, study.ask()))
            everyone.append(trial)
            self.advance(trial, len(self.draws))
            self.note(everyone)
            # One that fails is told as the worst so far: the sampler learns nothing of trials without a value, and would ask there again.
            study.tell(min((one.score for one in everyone if one.scores and not one.reason), default=None) if trial.reason else trial.score)
        return self.best(everyone)

    def best(self, everyone: list[Trial]) -> Trial:
        """The best of those that saw every draw; what was given, unless that one is better by more than a standard error.

        Raises:
            InputError: every candidate failed.
        """
        final = [one for one in everyone if not one.reason and len(one.scores) == len(self.draws)]
        if not final:
            reasons = "; ".join(f"{one.label}: {one.reason}" for one in everyone[:3] if one.reason)
            raise InputError(f"every candidate failed on the draws. {reasons}")
        return settled(final, everyone[0])

    def note(self, everyone: list[Trial]) -> None:
        """A point of the curve."""
        self.curve.append((self.purse.nfe, self.purse.seconds, self.leader(everyone)))


def settled(found: list[Trial], given: Trial) -> Trial:
    """The best of those whose mean gain on what was given, over the draws that both were tried on, is more than its standard error.

    What was given where there is none: the best of several has the luckiest noise, and what was given (a default, say) is knowledge of
    more pictures than the draws are. With a single draw there is no standard error, and any gain will do.
    """
    ahead = [one for one in found if one is not given and surely(one, given)]
    return max(ahead, key=lambda one: one.score, default=given)


def surely(one: Trial, given: Trial) -> bool:
    """Whether a trial is ahead of what was given by more than a standard error; of what failed, it is."""
    pairs = [mine - theirs for mine, theirs in zip(one.scores, given.scores, strict=False)]
    if given.reason or not pairs:
        return True
    error = statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else 0.0
    return statistics.fmean(pairs) > error


def work(solver: Solver) -> float:
    """Evaluations that a solver may be expected to take: a backward pass costs two."""
    steps = getattr(solver, "steps", None)
    return (steps if isinstance(steps, int) else 20) * (3.0 if solver.requires.gradient else 1.0)
