"""A solver after another: the answer of one is where the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.io.digest import made_hash
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior, a_denoiser
from invsolve.priors.tv import TotalVariation
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Status, Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.diffpir import DiffPIR
from invsolve.solvers.splitting.hqs import HQS
from invsolve.solvers.variational.adam_tv import AdamTV

FIRST, THEN = HQS(), DiffPIR(sigma_max=0.5)
STAGE = "stage"  # the state's name for how many steps had been made when the second solver began, -1 before


def needs_of(first: Solver, then: Solver, prior: Prior | None) -> Requires:
    """What both ask for; of the prior what the second asks for, and the first as well where it has none of its own."""
    a, b = first.requires, then.requires
    kinds = tuple(kind for kind in b.prior if prior is not None or any(issubclass(kind, other) for other in a.prior))
    noise = b.noise if not isinstance(a.noise, frozenset) or not isinstance(b.noise, frozenset) else a.noise | b.noise
    shared = prior is None
    return Requires(a.operator | b.operator, kinds, noise, b.gradient or (shared and a.gradient), b.prox or (shared and a.prox))


@dataclass(frozen=True)
class WarmStart(Solver):
    """Solve by `first`, then by `then` from where that ended.

    A sampler begins at its first noise level: at x + sigma z, x the first one's answer. Its default level is meant for a start that knows
    nothing; give one at which the first answer is still seen, such as DiffPIR(sigma_max=0.5). `SDEdit` takes the answer as its guide, every
    other solver as its first iterate.

    Args:
        first: whose answer is begun from.
        then: whose answer is the answer.
        first_prior: of the first solver, where it has another one, such as TotalVariation(); None: the same for both.

    Raises:
        InputError: not two solvers; one of them takes no measurement; first_prior is not a prior.

    `WarmStart(WarmStart(a, b), c)` is a chain of three.

    References:
        Come-Closer-Diffuse-Faster (Chung et al., 2022), arXiv:2112.05146, begins a diffusion from another method's answer; SDEdit (Meng et
        al., 2022), arXiv:2108.01073, from a guide. Here any solver, and any after it.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    first: Solver = FIRST
    then: Solver = THEN
    first_prior: Prior | None = field(default=None, compare=False)
    believed: str = field(default="", init=False, repr=False)  # what the prior is, for comparisons: modules are only equal to themselves

    def __post_init__(self) -> None:
        for name, one in (("first", self.first), ("then", self.then)):
            if not isinstance(one, Solver):
                raise InputError(f"{name} must be a solver, such as HQS(); given {type(one).__name__}")
            if not one.requires.measurement:
                raise InputError(f"{name} must be a solver of problems; {type(one).__name__} takes no measurement")
        if self.first_prior is not None and not isinstance(self.first_prior, Prior):
            raise InputError(f"first_prior must be a prior, such as TotalVariation(), or None; given {type(self.first_prior).__name__}")
        object.__setattr__(self, "believed", "" if self.first_prior is None else made_hash(self.first_prior))
        object.__setattr__(self, "requires", needs_of(self.first, self.then, self.first_prior))

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """What either does not fit, said of which."""
        own = self.first_prior
        found = [f"first, {type(self.first).__name__}: {gap}" for gap in self.first.mismatches(problem, prior if own is None else own)]
        return [*found, *(f"then, {type(self.then).__name__}: {gap}" for gap in self.then.mismatches(problem, prior))]

    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last step is the second solver's."""
        before = -1 if start is None or STAGE not in start.state else int(start.state[STAGE].amax())
        if before < 0:
            last = None
            for step in self.first.iterate(problem, self._firsts(problem, prior), rng, start):
                last = step
                total = step.total + self._length(self.then)
                yield replace(step, total=total, converged=False, state=self._state(step, -1))
            last = start if last is None else last
            assert last is not None, f"{self.first} gave no step"
            x, before = self.first.answer(last, Status.FINISHED), last.index + 1
            begin = self.then.warmed(x, prior, rng)
        else:
            assert start is not None
            begin = replace(start, index=start.index - before, state={name: value for name, value in start.state.items() if name != STAGE})
        for step in self.then.iterate(problem, prior, rng, begin):
            yield replace(step, index=step.index + before, total=step.total + before, state=self._state(step, before))

    def _firsts(self, problem: Problem, prior: Any) -> Any:
        """The first solver's prior, for this problem."""
        own = self.first_prior
        return prior if own is None else a_denoiser(own.given(problem), own) if isinstance(own, Denoiser) else own

    @staticmethod
    def _length(solver: Solver) -> int:
        return int(getattr(solver, "steps", 0)) or 1

    @staticmethod
    def _state(step: Step, stage: int) -> dict[str, Any]:
        return {**step.state, STAGE: torch.full((len(step.x),), stage, device=step.x.device)}

    @classmethod
    def examples(cls) -> list[Solver]:
        """Few steps of each; with a prior of its own."""
        return [cls(HQS(steps=3), DiffPIR(steps=5, sigma_max=0.5)), cls(AdamTV(steps=3), DiffPIR(steps=5), TotalVariation(4.0))]


def warm_start(first: Solver, then: Solver, first_prior: Prior | None = None) -> WarmStart:
    """`then` from where `first` ends; see `WarmStart`."""
    return WarmStart(first, then, first_prior)
