"""The solver that the tables recommend for a problem and a prior, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.run.known import known
from invsolve.run.parts import placed
from invsolve.solution import Solution, Step
from invsolve.solver import Requires, Solver


@dataclass(frozen=True)
class Choice:
    """A solver and the reason for it."""

    solver: Solver
    why: str


@dataclass(frozen=True)
class Rule:
    """One line of what is recommended: taken where it holds and the solver fits.

    Args:
        name: of the solver, in the registry.
        holds: of a problem and a prior; the items of the problem share the operator and the noise.
        why: said with the answer.
        options: what the tables give it and its defaults do not.
    """

    name: str
    holds: Callable[[Problem, Prior], bool]
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)


def noisy(problem: Problem, prior: Prior) -> bool:
    """Whether y may be a noisy image, and the prior a denoiser."""
    del problem
    return isinstance(prior, Denoiser)


def denoises(problem: Problem, prior: Prior) -> bool:
    """Whether the prior is a network or another denoiser."""
    del problem
    return isinstance(prior, Denoiser)


def maps(problem: Problem, prior: Prior) -> bool:
    """Whether the prior is a few-step map."""
    del problem
    return isinstance(prior, Denoiser) and prior.few_step


def quiet(problem: Problem, prior: Prior) -> bool:
    """Whether the prior is a denoiser and the noise, in units of the image, at most LOUD."""
    if not isinstance(prior, Denoiser) or Ability.SIGMA not in problem.noise.abilities:
        return False
    return not problem.batch or float(problem.sigma_x.max()) <= LOUD * (1 + 1e-3)


def hidden(problem: Problem, prior: Prior) -> bool:
    """Whether a mask hides a part of the image, and the prior is a denoiser."""
    return isinstance(prior, Denoiser) and known(problem) is not None


def surroundings(problem: Problem, prior: Prior) -> tuple[float, float] | None:
    """(share of the pixels that a mask hides, share of those with a known one among their eight neighbours), of the first item.

    None where there is no mask, nothing is hidden, or the prior is no denoiser.
    """
    found = known(problem) if isinstance(prior, Denoiser) and problem.image.ndim == 4 else None
    if found is None:
        return None
    shown = found[0][:1].to(problem.image.dtype)
    near = torch.nn.functional.max_pool2d(shown, 3, stride=1, padding=1)
    missing = float((1 - shown).sum())
    return (missing / shown.numel(), float(((1 - shown) * near).sum()) / missing) if missing else None


def scattered(problem: Problem, prior: Prior) -> bool:
    """Whether nine in ten of the pixels that a mask hides have a known one among their eight neighbours."""
    found = surroundings(problem, prior)
    return found is not None and found[1] >= NEAR


def wide(problem: Problem, prior: Prior) -> bool:
    """Whether a mask hides more than a third of the image in large pieces: few of those pixels have a known neighbour."""
    found = surroundings(problem, prior)
    return found is not None and found[0] > WIDE and found[1] < FAR


def counted(problem: Problem, prior: Prior) -> bool:
    """Whether y are counts, and the prior a regulariser."""
    return isinstance(prior, Regulariser) and Ability.SIGMA not in problem.noise.abilities


def regularised(problem: Problem, prior: Prior) -> bool:
    """Whether the prior is a regulariser and H linear."""
    return isinstance(prior, Regulariser) and problem.operator.has(Capability.LINEAR)


def penalised(problem: Problem, prior: Prior) -> bool:
    """Whether the prior is a regulariser."""
    del problem
    return isinstance(prior, Regulariser)


LONG = {"steps": 20}
NEAR = 0.9  # at 30 % of the pixels known it is .94, at 10 % .57
# Of 64 x 64: a box of 36 x 36 hides .32, and spectral is .9 dB better; a corner of 40 x 40 hides .39, and CCDF is .5 dB better. In pieces
# as wide the share with a known neighbour is .03 to .1, in a grid with one pixel in 4 x 4 it is .53.
WIDE, FAR = 0.35, 0.4
LOUD = 0.4  # at .2 (means of 4 x 4 with sigma_y .05) half-quadratic steps are as good as DiffPIR's draws, at .8 2.4 dB worse
# The first that holds and fits. The numbers are means over 8 dev pictures, 64 x 64, noise .01 and .05, at 20 evaluations, the prior
# `natural`, of PSNR (benchmarks/results/auto.md); HaarPSI agrees.
RULES = (
    Rule("latino", maps, "a few-step map: its answers are draws and no means, and are taken as they are"),
    Rule("one-shot", noisy, "y is the image with white noise: one evaluation is the posterior mean, nothing is left to sample for"),
    Rule("admm", scattered, "a mask whose missing pixels have known neighbours: .6 dB above a covariance per frequency", options=LONG),
    Rule("ccdf", wide, "a mask that hides large parts: what is made up looks like a picture, .5 dB above a covariance per frequency"),
    Rule("spectral", hidden, "a mask: a covariance per frequency fills a box .5 dB better than DiffPIR, missing pixels 2 dB"),
    Rule("hqs", quiet, "a linear operator with a closed-form data step, little noise: .2 dB above DiffPIR's draws on blurs", options=LONG),
    Rule("diffpir", denoises, "a linear operator with a closed-form data step: the best of the tables' samplers where noise is large"),
    Rule("spectral", denoises, "a linear operator without a closed-form data step: DiffPIR's step with H and its adjoint alone"),
    Rule("dps", denoises, "H is not linear, or the noise has no sigma: a gradient through the network serves everything smooth"),
    Rule("rl-tv", counted, "counts: expectation maximisation keeps x positive"),
    Rule("pdhg-tv", regularised, "a convex problem: primal-dual steps, stopped by the duality gap"),
    Rule("hqs", regularised, "a linear operator and a regulariser: half-quadratic splitting"),
    Rule("fista", regularised, "a linear operator and a regulariser with a prox"),
    Rule("lbfgs", penalised, "H is not linear: L-BFGS goes down from y, where Adam leaves it (jpeg: 12 dB below y)"),
    Rule("adam-tv", penalised, "any differentiable H and any regulariser: Adam on the objective"),
)


def unserved(problem: Problem, prior: Prior) -> list[str]:
    """Why none of the rules that hold serves, solver by solver."""
    names = dict.fromkeys(rule.name for rule in RULES if rule.holds(problem, prior))
    found = [(name, attempted(lambda name=name: registry().load("solver", name)().mismatches(problem, prior))) for name in names]
    return [f"{name}: {gap}" for name, gaps in found for gap in (gaps if isinstance(gaps, list) else [str(gaps)])]


@dataclass(frozen=True)
class Auto(Solver):
    """Solve by what the tables of this project recommend: the first rule that holds and whose solver fits.

    The answer says which solver it was (`Solution.solver`) and why (`Solution.why`). It looks at what H, the noise and the prior can do
    and at no pixel of y, so that every item of a batch is solved as it would be alone: where operators or noise of the items' own ask for
    several solvers, by each in turn (`Solution.solver` is then this one). It is after the best picture; `samples=` of a solver that gives
    the same one every time are alike: for draws name a sampler, `spectral` or `diffpir`.

    Args:
        steps: of the solver chosen; None for its own, or as many as `budget_nfe` has evaluations for, where those are fewer: but with a
            checkpoint, where the run is stopped and can go on.

    Raises:
        InputError: steps is no whole number, at least 1.

    References:
        The tables of this project (benchmarks/results: quick.md, defaults.md, inpainting.md, auto.md).
    """

    requires: ClassVar[Requires] = Requires(prior=(Denoiser, Regulariser), noise=frozenset())
    expected_failures: ClassVar[Mapping[str, str]] = {
        "check_divergence": "pdhg-tv, which it takes for TV, works with the gradient and its dual alone, so a broken value never shows",
        "check_perturbed_operator": "a mask is known for one by its capability: the same numbers as a plain matrix are another rule's",
    }
    unreached: ClassVar[Mapping[str, str]] = {
        "yield from": "a solve is the chosen solver's own, which the answer names",
        "return []": "an item that no rule serves is refused before",
    }
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps must be a whole number, at least 1, or None; given {self.steps!r}")

    def choose(self, problem: Problem, prior: Prior) -> Choice | None:
        """The solver and the reason, of the first item where the items have their own; None where no rule serves an item."""
        found = self._groups(problem, prior)
        return found[0][0] if found else None

    def _groups(self, problem: Problem, prior: Prior) -> list[tuple[Choice, list[int]]]:
        """Choices, each with its items; none where an item has no choice."""
        every = list(range(problem.batch))
        shared = problem.operator.batch is None and problem.noise.batch is None
        parts = [problem] if shared or not every else [problem[item] for item in every]
        choices = [next(self._fitting(part, prior if part is problem else prior.select([item])), None) for item, part in enumerate(parts)]
        found: dict[str, tuple[Choice, list[int]]] = {}
        for item, choice in enumerate(choices):
            if choice is None:
                return []
            found.setdefault(choice.why, (choice, []))[1].extend(every if len(parts) == 1 else [item])
        return list(found.values())

    def _fitting(self, problem: Problem, prior: Prior) -> Iterator[Choice]:
        for rule in RULES:
            if not rule.holds(problem, prior):
                continue
            solver = attempted(lambda rule=rule: self._made(registry().load("solver", rule.name), rule))
            if isinstance(solver, Solver) and not solver.mismatches(problem, prior):
                yield Choice(solver, f"{rule.name}: {rule.why}")

    def _made(self, cls: Callable[..., Solver], rule: Rule) -> Solver:
        solver: Any = cls(**rule.options)
        if self.steps is None or "steps" not in {field.name for field in fields(solver)}:
            return solver
        return replace(solver, steps=self.steps)

    def mismatches(self, problem: Problem, prior: Prior) -> list[str]:
        """What no rule serves."""
        return super().mismatches(problem, prior) or ([] if self.choose(problem, prior) is not None else unserved(problem, prior))

    def _solve(self, problem: Problem, prior: Prior, generator: Any, x_init: Tensor | None, start: Step | None, options: Any) -> Solution:
        groups = self._groups(problem, prior) if isinstance(problem, Problem) and isinstance(prior, Prior) else []
        if not groups:
            return super()._solve(problem, prior, generator, x_init, start, options)
        if len(groups) > 1:
            return self._apart(groups, problem, prior, generator, x_init, start, options)
        choice = groups[0][0]
        solver = self._within(choice.solver, prior, options)
        return replace(solver._solve(problem, prior, generator, x_init, start, options), why=choice.why)

    def _apart(
        self, groups: Any, problem: Problem, prior: Prior, generator: Any, x_init: Tensor | None, start: Step | None, options: Any
    ) -> Solution:
        """Each group by its solver, with the streams, the start and the share of the time that are its items'."""
        options.check(start)
        if start is not None:
            raise InputError("a kept Step belongs to one solver, and the items of this problem ask for several; solve problem[i] each")
        self._start(prior.space(problem)[0], x_init, start)
        found, kept = [], options.checkpoint
        rng = None if generator is None and kept is not None else Rng.make(generator, problem.items)  # the folder may hold a seed
        for index, (choice, items) in enumerate(groups):
            seconds = None if options.budget_s is None else options.budget_s * len(items) / problem.batch
            place = None if kept is None else replace(kept, path=Path(kept.path) / f"solver{index}")
            own = replace(options, budget_s=seconds, checkpoint=place)
            part = problem.rows(items, [problem.items[item] for item in items])
            streams = None if rng is None else rng.chosen([(0, item) for item in items])
            solver = self._within(choice.solver, prior, options)
            found.append(solver._solve(part, prior.select(items), streams, None if x_init is None else x_init[items], None, own))
            rng = Rng(found[0].seed, problem.items) if rng is None else rng
        why = "; ".join(f"items {', '.join(map(str, items))}: {choice.why}" for choice, items in groups)
        return replace(placed(found, [items for _, items in groups], options.samples), solver=self, why=why)

    def _within(self, solver: Any, prior: Prior, options: Any) -> Solver:
        """The solver with no more steps than its share of `budget_nfe` has evaluations: a whole run beats a part of a longer one."""
        budget = None if options.checkpoint is not None else options.budget_nfe
        if self.steps is not None or not isinstance(budget, int) or budget < 1 or not isinstance(prior, Denoiser):
            return solver
        own = getattr(solver, "steps", None)
        share = max(1, budget // (options.samples or 1))
        return replace(solver, steps=share) if isinstance(own, int) and own > share else solver

    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The chosen solver's own, the first item's where the items have their own."""
        yield from self._groups(problem, prior)[0][0].solver.iterate(problem, prior, rng, start)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Few steps of whatever fits."""
        return [cls(steps=8)]
