"""The solver contract: a frozen dataclass of hyperparameters and one generator, `iterate`, that reads like the paper.

Everything else (checks, random streams, timing, callbacks, tracing, counting of network evaluations, samples) happens once,
in `solve`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import CompatibilityError, InputError, ask
from invsolve.noise import Ability, NoiseModel
from invsolve.operator import Capability
from invsolve.operator.guard import AUTOCAST
from invsolve.operator.measurement import mapped, parts
from invsolve.plugins.arguments import Remembering, checked, refuse_plain_types, signature_of
from invsolve.plugins.former import without
from invsolve.priors.base import Denoiser, Prior, Regulariser, no_prior
from invsolve.problem import NoMeasurement, Problem, check_tensor
from invsolve.ranges import Ranges
from invsolve.rng import Rng
from invsolve.run import CODE, Checkpoint, Options, Run
from invsolve.run import Counted as Counted
from invsolve.solution import Solution, Status, Step

Callback = Callable[[Step], bool | None]
# More steps than anybody waits for; the grids of noise levels are made before the first one.
MAX_STEPS = 1_000_000
FEW_STEP = "takes answers of the prior for means; those of a few-step map are draws. latino, cm4ir and few-step take such a prior as it is"


@dataclass(frozen=True)
class Requires:
    """What a solver asks for; checked before anything is computed.

    Args:
        operator: capabilities, all of them.
        prior: the prior is an instance of one of these.
        noise: abilities of the noise model, all of them; or, as before there were abilities, classes of which it is an instance of one.
        gradient: the prior must be differentiable.
        prox: a Regulariser must have its prox.
        measurement: False for samplers that take no measurement at all.
        mean: whether the prior's answers are taken for means E[x0 | x]; False where a few-step map serves as it is.
    """

    operator: frozenset[Capability] = frozenset()
    prior: tuple[type[Prior], ...] = (Denoiser,)
    noise: frozenset[Ability] | tuple[type[NoiseModel], ...] = frozenset({Ability.SIGMA})
    gradient: bool = False
    prox: bool = False
    measurement: bool = True
    mean: bool = True

    @property
    def asks_prior(self) -> bool:
        """Whether a prior is looked at: where any kind will do, none is."""
        return self.prior != (Prior,)


class Solver(metaclass=Remembering):
    """Base of all solvers: a subclass is a frozen dataclass, sets `requires` and writes `iterate`.

    Attributes:
        requires: what it asks for.
        declared_bias: how far its law may be from the posterior where that is known (Gaussian priors on small problems, its default
            settings): {"mean": posterior standard deviations, "cov": relative error of the covariance, "trace": (lowest, highest) ratio of
            the total variance, "white": the same of white priors alone, where more can be said}. What is not said must only be nearer than
            the prior. What other settings say is `stated_bias`.
        moves: whether a problem that is moved by a grey, y and prior, has the answer moved by it, to rounding: what starts about the
            prior's centre and cuts only where the prior has a `clip` does.
        adaptive: whether the number of network evaluations depends on the state, so that samples need not cost the same.
        selects: which iterate is the answer: the last one, or the first that meets the noise ("discrepancy"). No solver sees the truth.
        whole: whether it chooses once for the whole image (one of several particles, a length of all steps), so that pieces of a large one
            would choose differently.
        silent: whether it yields its answer only, so that a callback cannot stop it on the way.
        ranges: where good values of its hyperparameters are looked for, by name; see `invsolve.ranges`. Costs (steps) are none of them.
        unreached: lines of `iterate` and of the methods it calls that no example reaches, by a piece of their text, with the reason.
        expected_failures: conformance checks that are known to fail, with the reason; strict.
    """

    requires: ClassVar[Requires]
    declared_bias: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    moves: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    selects: ClassVar[str] = "last iterate"
    whole: ClassVar[bool] = False
    silent: ClassVar[bool] = False
    ranges: ClassVar[Ranges] = MappingProxyType({})
    unreached: ClassVar[Mapping[str, str]] = MappingProxyType({})
    arguments: dict[str, Any]

    @abstractmethod
    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The algorithm: yields a Step per iteration, the last one's x (or x0_hat, as the docstring says) being the answer.

        `start` is a Step to go on from (index -1 for a user's x_init): begin at start.index + 1 with start.x and start.state.
        """

    def _complete(self) -> None:
        steps = self.arguments.get("steps")
        if isinstance(steps, int) and not isinstance(steps, bool) and steps < 1:
            raise InputError(f"steps must be a whole number, at least 1; given {steps}")
        if isinstance(steps, int) and steps > MAX_STEPS:
            raise InputError(f"steps must be at most {MAX_STEPS}; given {steps:.3g}")
        refuse_plain_types(type(self), self.arguments)

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """What else does not fit, for one solver: overridden where a grid or a hyperparameter has needs of its own."""
        return []

    def mismatches(self, problem: Problem, prior: Prior) -> list[str]:
        """Every reason why this solver cannot solve this problem with this prior; [] if it can."""
        if isinstance(prior, Prior):
            try:
                problem = prior.space(problem)[0]
            except InputError as error:  # it lives elsewhere, and not where this problem's images come from
                return [str(error)]
        return [
            *operator_gaps(self, problem, prior),
            *prior_gaps(self, problem, prior),
            *noise_gaps(self, problem),
            *self._own(problem, prior),
        ]

    def _own(self, problem: Problem, prior: Prior) -> list[str]:
        return self.gaps(problem, prior) if isinstance(prior, self.requires.prior) else []

    @checked
    def solve(
        self,
        problem: Problem,
        prior: Prior,
        *,
        generator: int | torch.Generator | Rng | None = None,
        samples: int | None = None,
        x_init: Tensor | None = None,
        callback: Callback | None = None,
        keep: int = 0,
        throw: bool = True,
        start: Step | None = None,
        chunk: int | None = None,
        paste: bool = True,
        budget_s: float | None = None,
        budget_nfe: int | None = None,
        checkpoint: str | Path | Checkpoint | None = None,
        tune: Any = None,
    ) -> Solution:
        """Solve the problem.

        Args:
            problem: what was measured.
            prior: what is believed.
            generator: seed of the run: an int (0 too), a torch.Generator, an Rng or None (a fresh seed, recorded).
            samples: n runs on independent streams, stacked in front; sample 0 equals the plain run. Their spread is what the solver's law
                makes it: at the defaults a fifth to two thirds of the error (`Solution.std`).
            x_init: the image (or, for samplers, the state at the first noise level) to start from; a code where the prior lives in a
                space of codes.
            callback: called with every Step, whose tensors are the run's own (copy before writing); returning False stops the run. In a
                run of several parts (see chunk) it sees the steps of each, and False ends them all: parts that had ended are as they are,
                the one that was going on stops there, those not begun make their first step only (the callback not being asked), so that
                x has an image for every item and sample; the status is "stopped".
            keep: every keep-th Step goes to Solution.trace, on the CPU; 0 keeps none. A Step of the trace has all images, (B, ...), or
                (n B, ...) with samples: the batch of the first sample, then that of the second; a part that ended earlier stays in it at
                its last kept Step.
            throw: raise DivergedError on NaN, Inf or growth without end; False returns the last good iterate, status "diverged".
            start: a kept Step to go on from, with an Rng at its position.
            chunk: at most so many images at a time, items and samples counted alike: bounds the memory. The answer is that of the runs
                of the parts, problem[0:chunk] and so on, joined. None: a batch at a time, so that each sample is a part. A part for which
                memory does not suffice is made in halves, with the same answer; a callback sees its steps again.
            paste: whether the pixels that a mask shows without noise are y's in the answer, to the bit.
            budget_s, budget_nfe: seconds, or network evaluations per item over all samples, that may be taken: each part stops before a
                step that would pass its share, with what it has, status "budget"; the first step of each is always made. A sampler with
                as many steps as it can afford gives a better picture than one that is stopped.
            checkpoint: a folder that the run is kept in, so that the same call goes on where it was stopped; see `Checkpoint`.
            tune: a budget ("60s", "5000 nfe", seconds) within which this solver's settings, `Auto`'s solver, are chosen beforehand on draws
                from the prior that are measured as the problem was, or a `Tuning` made before: see `invsolve.predictive.tune`.

        Raises:
            CompatibilityError: the problem or the prior lacks something; every gap is listed.
            InputError: no Problem, x_init of another shape, samples, chunk or a budget < 1, keep < 0 (or no whole number), an unusable
                generator or callback, a prior whose `given` returns no Denoiser, a checkpoint of another run.
            DivergedError: an iterate is not finite, or grows without end.
        """
        where = checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        options = Options(callback, keep, throw, samples, chunk, paste, budget_s, budget_nfe, where)
        if tune is not None:
            options.check(start)
            if isinstance(problem, Problem) and isinstance(prior, Prior):
                self._start(prior.space(problem)[0], x_init, start)  # what is refused is refused before the search
            chosen = self._tuned(problem, prior, tune, generator, samples)
            others = {"x_init": x_init, "start": start, "callback": callback, "keep": keep, "throw": throw, "chunk": chunk, "paste": paste}
            bounds = {"budget_s": budget_s, "budget_nfe": budget_nfe, "checkpoint": checkpoint}
            return chosen.solve(problem, generator=generator, samples=samples, **others, **bounds)
        with ExitStack() as left:
            if torch.is_inference_mode_enabled():  # no gradient can be taken in there; without one, nothing is lost by leaving it
                left.enter_context(torch.inference_mode(False))
                left.enter_context(torch.no_grad())
            for kind in AUTOCAST:  # a prior has a precision of its own; the rest is exact
                if torch.is_autocast_enabled(kind):
                    left.enter_context(torch.autocast(kind, enabled=False))
            return self._solve(problem, prior, generator, x_init, start, options)

    def _solve(
        self, problem: Problem, prior: Prior, generator: Any, x_init: Tensor | None, start: Step | None, options: Options
    ) -> Solution:
        if not isinstance(problem, Problem):
            raise InputError(f"problem must be a Problem, given {type(problem).__name__}; the order is solve(problem, prior)")
        self.refuse(problem, prior)
        options.check(start)
        if any(part.is_inference() for part in parts(problem.y)):  # such tensors cannot be kept for a backward pass
            problem = replace(problem, y=mapped(torch.clone, problem.y))
        if self.requires.mean and self.requires.asks_prior and getattr(prior, "few_step", False):
            ask(f"{type(self).__name__} {FEW_STEP}")
        inner, back = prior.space(problem)
        solution = Run(self, inner, prior, back, problem, options).go(generator, self._start(inner, x_init, start))
        notify(problem, solution)
        return solution

    def _tuned(self, problem: Problem, prior: Prior, tune: Any, generator: Any, samples: int | None) -> Any:
        """What the tuning chose; what this solver cannot do at all is said first."""
        from invsolve.plugins import registry

        if not isinstance(problem, Problem):
            raise InputError(f"problem must be a Problem, given {type(problem).__name__}; the order is solve(problem, prior)")
        self.refuse(problem, prior)
        seed = generator if isinstance(generator, int) and not isinstance(generator, bool) else 0
        return registry().tuned(self, problem, prior, tune, {"generator": seed, "samples": samples})

    def refuse(self, problem: Problem, prior: Prior) -> None:
        """Raise CompatibilityError where this solver cannot solve the problem with the prior; every gap is listed.

        Raises:
            CompatibilityError: says so.
        """
        if gaps := self.mismatches(problem, prior):
            raise self._refusal(problem, prior, gaps)

    def _refusal(self, problem: Problem, prior: Prior, gaps: list[str]) -> CompatibilityError:
        from invsolve.plugins import registry
        from invsolve.which import doors

        lines = [f"{type(self).__name__} cannot solve this problem:", *(f"  - {gap}" for gap in gaps)]
        if not isinstance(prior, Prior):
            return CompatibilityError("\n".join(lines))
        own = registry().name_of("solver", self)  # where it could at its defaults, its settings are at fault
        able = [name for name in registry().solvers_for(problem, prior) if name != own]
        lines.append(f"Installed solvers that can: {', '.join(able) or 'none'}")
        lines += [f"Or give it {door} in place of H" for door in doors(self.requires.operator, problem, prior)]
        return CompatibilityError("\n".join(lines))

    def _start(self, problem: Problem, x_init: Tensor | None, start: Step | None) -> Step | None:
        if x_init is None and start is None:
            return None
        image = problem.image
        if start is not None and not isinstance(start, Step):
            raise InputError(f"start must be a kept Step, such as solution.trace[-1]; given {type(start).__name__}")
        if x_init is None:
            assert start is not None
            if CODE in start.state:  # shown as an image
                start = replace(start, x=start.state[CODE], x0_hat=start.state[CODE])
            if start.x.shape != image.shape or start.x.dtype != image.dtype:
                given = f"{tuple(start.x.shape)} and {start.x.dtype}"
                raise InputError(
                    f"start belongs to another problem: its x has {given}, an image here {tuple(image.shape)} and {image.dtype}"
                )
            return start.to(image.device)
        if start is not None:
            raise InputError("give x_init or start, not both")
        if not isinstance(x_init, Tensor) or x_init.shape != image.shape or x_init.device != image.device:
            given = (tuple(x_init.shape), x_init.device) if isinstance(x_init, Tensor) else type(x_init).__name__
            raise InputError(f"x_init must have shape {tuple(image.shape)} on {image.device}; given {given}")
        check_tensor("x_init", x_init)
        x = x_init.detach().to(image.dtype).clone()
        return Step(-1, 0, x, x)

    def stated_bias(self) -> Mapping[str, Any]:
        """`declared_bias` of these settings: the class's where all but the number of steps is as by default, else {}, nothing.

        Overridden where more can be said of other settings, such as a limit that does not depend on them; x >= 0 (`positive`) left out.
        """
        plain = (field.name == "steps" or getattr(self, field.name) == field.default for field in fields(self))  # pyright: ignore
        return self.declared_bias if all(plain) else {}

    def warmed(self, image: Tensor, prior: Any, rng: Rng) -> Step:
        """Where the run begins that is to go on from an image: the image itself; samplers add the noise of their first level."""
        del prior, rng
        return Step(-1, 0, image, image)

    def answer(self, step: Step, status: Status) -> Tensor:
        """The image in the last step: x0_hat when a sampler was stopped on its way, else x."""
        return step.x0_hat if status in (Status.STOPPED, Status.BUDGET, Status.DIVERGED) else step.x

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """Problems and priors of its own that the conformance checks solve besides those they choose by what it requires; float64."""
        return []

    @classmethod
    def examples(cls) -> list[Solver]:
        """Small instances for the conformance checks: steps cut to 8 where there are steps."""
        names = {field.name for field in fields(cls)}  # pyright: ignore[reportArgumentType]
        return [cls(**({"steps": 8} if "steps" in names else {}))]


def looked(x: Tensor, going: Tensor) -> tuple[bool, bool]:
    """(whether x is finite, whether an item of `going` (B,) is true), in one read: every read makes the host wait for the device."""
    sound, on = torch.stack([x.detach().sum().isfinite(), going.any()]).cpu().tolist()
    return sound, on


def operator_gaps(solver: Solver, problem: Problem, prior: Any = None) -> list[str]:
    """Missing capabilities, and a measurement where none is wanted: samplers of the prior alone take one that the prior looks at."""
    operator, requires = problem.operator, solver.requires
    empty = isinstance(operator, NoMeasurement)
    if getattr(prior, "sees_y", False) and requires.asks_prior:
        twice = f"prior {type(prior).__name__} has looked at y, which this solver would count a second time; take ddim, ddpm, heun, ..."
        return [twice] if requires.measurement else []
    if not requires.measurement:
        return [] if empty else ["it takes no measurement; use Problem.unconditional(shape, batch)"]
    if empty:
        return ["the problem has no measurement; ddim, heun, dpm-solver and other samplers of the prior alone take it"]
    has = ", ".join(sorted(capability.value for capability in operator.capabilities))
    missing = sorted(capability.value for capability in requires.operator - operator.capabilities)
    return [f"operator {operator.label} lacks '{name}' (it has: {has})" for name in missing]


def prior_gaps(solver: Solver, problem: Problem, prior: Prior) -> list[str]:
    """Wrong kind of prior, no prox, no gradient, other channels, another device."""
    requires = solver.requires
    wanted = " or ".join(kind.__name__ for kind in requires.prior)
    if not isinstance(prior, Prior):
        return [f"prior must be a {wanted}, {no_prior(prior)}"]
    if not isinstance(prior, requires.prior):
        return [f"prior {type(prior).__name__} is not a {wanted}"]
    gaps = prior.gaps(problem)
    if prior.batch not in (None, problem.batch):
        held = f"prior {type(prior).__name__} holds data for {prior.batch} items"
        gaps.append(f"{held}, the problem has {problem.batch}; prior[i] takes some")
    if requires.prox and isinstance(prior, Regulariser) and not prior.has_prox:
        gaps.append(f"prior {type(prior).__name__} has no prox")
    if isinstance(prior, Denoiser):
        if requires.gradient and not prior.differentiable:
            gaps.append(f"prior {type(prior).__name__} is not differentiable")
        if requires.gradient and any(weight.is_inference() for weight in prior.parameters()):
            gaps.append(f"prior {type(prior).__name__} was made under torch.inference_mode(), so it has no gradient; make it outside")
        channels = problem.operator.in_shape[0]
        if prior.channels is not None and prior.channels != channels:
            name = type(prior).__name__
            possible = channels in prior.made_with and "channels" in signature_of(type(prior)).parameters
            hint = f"; make it with channels={channels}" if possible else ""
            gaps.append(f"prior {name} takes {prior.channels}-channel images, the operator {channels}-channel ones{hint}")
        if prior.in_shape is not None and prior.in_shape != problem.operator.in_shape:
            gaps.append(f"prior {type(prior).__name__} takes images of shape {prior.in_shape}, the operator {problem.operator.in_shape}")
    device = parts(problem.y)[0].device
    if prior.device is not None and prior.device.type != device.type:
        gaps.append(f"devices differ: y on {device}, operator on {problem.operator.device or device}, prior on {prior.device}")
    return gaps


def noise_gaps(solver: Solver, problem: Problem) -> list[str]:
    """A noise model that lacks what the solver needs of it."""
    return asked_noise(solver.requires, problem.noise) if solver.requires.measurement else []


def asked_noise(requires: Requires, noise: NoiseModel) -> list[str]:
    """What a noise model lacks of what is asked for."""
    if isinstance(requires.noise, frozenset):
        missing = sorted(ability.value for ability in requires.noise - noise.abilities)
        return [f"noise {type(noise).__name__} lacks '{name}' (it has: {noise.listed})" for name in missing]
    if not requires.noise or isinstance(noise, requires.noise):
        return []
    return [f"noise {type(noise).__name__} is not one of: {', '.join(kind.__name__ for kind in requires.noise)}"]


def notify(problem: Problem, solution: Solution) -> None:
    """Tell the plug-ins that watch."""
    from invsolve.plugins import registry

    registry().finished(problem, solution)


without(
    __name__,
    {"finite": "bool(x.isfinite().all())", "join": "solve(..., samples=n), which joins the runs, or torch.stack([run.x for run in runs])"},
)
