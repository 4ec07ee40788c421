"""The solver contract: a frozen dataclass of hyperparameters and one generator, `iterate`, that reads like the paper.

Everything else (checks, random streams, timing, callbacks, tracing, counting of network evaluations, samples) happens once,
in `solve`.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.arguments import Remembering, checked, signature_of
from invsolve.errors import CompatibilityError, DivergedError, InputError
from invsolve.measurement import mapped, parts
from invsolve.noise import GaussianNoise, NoiseModel, NoNoise
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.problem import NoMeasurement, Problem, check_tensor
from invsolve.rng import Rng
from invsolve.solution import Solution, Status, Step

Callback = Callable[[Step], bool | None]


@dataclass(frozen=True)
class Requires:
    """What a solver asks for; checked before anything is computed.

    Args:
        operator: capabilities, all of them.
        prior: the prior is an instance of one of these.
        noise: the noise is an instance of one of these.
        gradient: the prior must be differentiable.
        prox: a Regulariser must have its prox.
        measurement: False for samplers that take no measurement at all.
    """

    operator: frozenset[Capability] = frozenset()
    prior: tuple[type[Prior], ...] = (Denoiser,)
    noise: tuple[type[NoiseModel], ...] = (GaussianNoise, NoNoise)
    gradient: bool = False
    prox: bool = False
    measurement: bool = True


class Counted(Denoiser):
    """A denoiser that counts its calls and their time, for one run; it looks like the one inside."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner
        self.take_after(inner)
        self.calls, self.seconds = 0, 0.0

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The inner denoiser's estimate, in x's dtype.

        Raises:
            InputError: it has another shape than x.
        """
        start = time.perf_counter()
        out = self.inner(x, sigma)
        self.calls += 1
        self.seconds += time.perf_counter() - start
        if out.shape != x.shape:  # broadcasting would turn it into an image
            name = type(self.inner).__name__
            raise InputError(f"prior {name} must return images of shape {tuple(x.shape)}; it gave {tuple(out.shape)}")
        return out.to(x.dtype)

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The inner denoiser's grid."""
        return self.inner.sigmas(steps, grid, sigma_max)


class Solver(metaclass=Remembering):
    """Base of all solvers: a subclass is a frozen dataclass, sets `requires` and writes `iterate`."""

    requires: ClassVar[Requires]
    arguments: dict[str, Any]

    @abstractmethod
    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The algorithm: yields a Step per iteration, the last one's x (or x0_hat, as the docstring says) being the answer.

        `start` is a Step to go on from (index -1 for a user's x_init): begin at start.index + 1 with start.x and start.state.
        """

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """What else does not fit, for one solver: overridden where a grid or a hyperparameter has needs of its own."""
        return []

    def mismatches(self, problem: Problem, prior: Prior) -> list[str]:
        """Every reason why this solver cannot solve this problem with this prior; [] if it can."""
        return [*operator_gaps(self, problem), *prior_gaps(self, problem, prior), *noise_gaps(self, problem), *self._own(problem, prior)]

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
    ) -> Solution:
        """Solve the problem.

        Args:
            problem: what was measured.
            prior: what is believed.
            generator: seed of the run: an int (0 too), a torch.Generator, an Rng or None (a fresh seed, recorded).
            samples: n runs on independent streams, stacked in front; sample 0 equals the plain run.
            x_init: the image (or, for samplers, the state at the first noise level) to start from.
            callback: called with every Step, whose tensors are the run's own (copy before writing); returning False stops the run.
            keep: every keep-th Step goes to Solution.trace, on the CPU; 0 keeps none.
            throw: raise DivergedError on NaN or Inf; False returns the last finite iterate, status "diverged".
            start: a kept Step to go on from, with an Rng at its position.

        Raises:
            CompatibilityError: the problem or the prior lacks something; every gap is listed.
            InputError: no Problem, x_init of another shape, samples < 1, keep < 0, an unusable generator or callback.
            DivergedError: an iterate is not finite.
        """
        if torch.is_inference_mode_enabled():  # no gradient can be taken in there; without one, nothing is lost by leaving it
            with torch.inference_mode(False), torch.no_grad():
                kwargs: dict[str, Any] = {"generator": generator, "samples": samples, "x_init": x_init, "callback": callback}
                return self.solve(problem, prior, **kwargs, keep=keep, throw=throw, start=start)
        if not isinstance(problem, Problem):
            raise InputError(f"problem must be a Problem, given {type(problem).__name__}; the order is solve(problem, prior)")
        gaps = self.mismatches(problem, prior)
        if gaps:
            raise self._refusal(problem, prior, gaps)
        for name, count, least in (("samples", samples, 1), ("keep", keep, 0)):
            if count is not None and (not isinstance(count, int) or count < least):
                raise InputError(f"{name} must be a whole number, at least {least}; given {count!r}")
        if callback is not None and not callable(callback):
            raise InputError(f"callback must be callable: callback(step) -> bool | None; given {type(callback).__name__}")
        if any(part.is_inference() for part in parts(problem.y)):  # such tensors cannot be kept for a backward pass
            problem = replace(problem, y=mapped(torch.clone, problem.y))
        start = self._start(problem, x_init, start)
        first = Rng.make(generator, problem.items)
        rngs = [first, *(Rng(first.seed, problem.items, sample) for sample in range(1, samples or 1))]
        runs = [self._run(problem, prior, rng, start, callback, keep, throw) for rng in rngs]
        solution = runs[0] if samples is None else join(runs)
        notify(problem, solution)
        return solution

    def _refusal(self, problem: Problem, prior: Prior, gaps: list[str]) -> CompatibilityError:
        from invsolve.plugins import registry
        from invsolve.which import doors

        able = registry().solvers_for(problem, prior)
        lines = [f"{type(self).__name__} cannot solve this problem:", *(f"  - {gap}" for gap in gaps)]
        lines.append(f"Installed solvers that can: {', '.join(able) or 'none'}")
        lines += [f"Or give it {door} in place of H" for door in doors(self.requires.operator, problem.operator)]
        return CompatibilityError("\n".join(lines))

    def _start(self, problem: Problem, x_init: Tensor | None, start: Step | None) -> Step | None:
        if x_init is None and start is None:
            return None
        image = problem.image
        if start is not None and not isinstance(start, Step):
            raise InputError(f"start must be a kept Step, such as solution.trace[-1]; given {type(start).__name__}")
        if x_init is None:
            assert start is not None
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

    def _run(
        self, problem: Problem, prior: Prior, rng: Rng, start: Step | None, callback: Callback | None, keep: int, throw: bool
    ) -> Solution:
        counted = Counted(prior) if isinstance(prior, Denoiser) else prior
        trace: list[Step] = []
        status = Status.FINISHED
        last = start if start is not None and start.index >= 0 else None  # a finished run, resumed, is its own answer
        began = time.perf_counter()
        for step in self.iterate(problem, counted, rng, start):
            if not finite(step.x):
                status = Status.DIVERGED
                if throw:
                    where = "" if step.sigma is None else f" at sigma {step.sigma:.4g}"
                    raise DivergedError(
                        f"{self}: NaN or Inf in step {step.index} of {step.total}{where}; take a smaller step, or throw=False"
                    )
                break
            last = step
            if keep and step.index % keep == 0:
                trace.append(step.to("cpu"))
            if callback is not None and callback(step) is False:
                status = Status.STOPPED
                break
            if step.converged:
                status = Status.CONVERGED
        seconds = time.perf_counter() - began
        x = problem.image if last is None else self.answer(last, status)
        calls, inside = (counted.calls, counted.seconds) if isinstance(counted, Counted) else (0, 0.0)
        steps = 0 if last is None else last.index + 1
        return Solution(x, status, steps, calls, seconds, inside, rng.seed, self, tuple(trace))

    def answer(self, step: Step, status: Status) -> Tensor:
        """The image in the last step: x0_hat when a sampler was stopped on its way, else x."""
        return step.x0_hat if status in (Status.STOPPED, Status.DIVERGED) else step.x

    @classmethod
    def examples(cls) -> list[Solver]:
        """Small instances for the conformance checks: steps cut to 8 where there are steps."""
        names = {field.name for field in fields(cls)}  # pyright: ignore[reportArgumentType]
        return [cls(**({"steps": 8} if "steps" in names else {}))]


def finite(x: Tensor) -> bool:
    """Whether x is finite, by its sum: NaN and Inf survive a sum, and one that overflows is as good as diverged.

    One pass over x in place of three; the check is made after every step.
    """
    return math.isfinite(abs(complex(x.sum())) if x.is_complex() else float(x.sum()))


def operator_gaps(solver: Solver, problem: Problem) -> list[str]:
    """Missing capabilities, and a measurement where none is wanted."""
    operator, requires = problem.operator, solver.requires
    empty = isinstance(operator, NoMeasurement)
    if not requires.measurement:
        return [] if empty else ["it takes no measurement; use Problem.unconditional(shape, batch)"]
    if empty:
        return ["the problem has no measurement; ddim, ddpm and heun sample from the prior alone"]
    has = ", ".join(sorted(capability.value for capability in operator.capabilities))
    missing = sorted(capability.value for capability in requires.operator - operator.capabilities)
    gaps = [f"operator {operator.label} lacks '{name}' (it has: {has})" for name in missing]
    if operator.complex_output and Capability.SVD in requires.operator:
        gaps.append(f"operator {operator.label} gives complex data, and the spectrum here is real")
    return gaps


def prior_gaps(solver: Solver, problem: Problem, prior: Prior) -> list[str]:
    """Wrong kind of prior, no prox, no gradient, other channels, another device."""
    requires = solver.requires
    wanted = " or ".join(kind.__name__ for kind in requires.prior)
    if not isinstance(prior, Prior):
        return [f"prior must be a {wanted}, given {type(prior).__name__}; invsolve.priors.as_denoiser wraps a network"]
    if not isinstance(prior, requires.prior):
        return [f"prior {type(prior).__name__} is not a {wanted}"]
    gaps = []
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
            hint = f"; make it with channels={channels}" if "channels" in signature_of(type(prior)).parameters else ""
            gaps.append(f"prior {name} takes {prior.channels}-channel images, the operator {channels}-channel ones{hint}")
        if prior.in_shape is not None and prior.in_shape != problem.operator.in_shape:
            gaps.append(f"prior {type(prior).__name__} takes images of shape {prior.in_shape}, the operator {problem.operator.in_shape}")
    device = parts(problem.y)[0].device
    if prior.device is not None and prior.device.type != device.type:
        gaps.append(f"devices differ: y on {device}, operator on {problem.operator.device or device}, prior on {prior.device}")
    return gaps


def noise_gaps(solver: Solver, problem: Problem) -> list[str]:
    """A noise model the solver has no formula for."""
    requires = solver.requires
    if not requires.measurement or isinstance(problem.noise, requires.noise):
        return []
    wanted = ", ".join(kind.__name__ for kind in requires.noise)
    return [f"noise {type(problem.noise).__name__} is not one of: {wanted}"]


def join(runs: list[Solution]) -> Solution:
    """Several runs as one Solution with samples."""
    order = list(Status)
    worst = max((run.status for run in runs), key=order.index)
    total = {name: sum(getattr(run, name) for run in runs) for name in ("nfe", "seconds", "network_seconds")}
    x = torch.stack([run.x for run in runs])
    first = runs[0]
    return Solution(x, worst, runs[-1].steps, seed=first.seed, solver=first.solver, trace=first.trace, samples=len(runs), **total)


def notify(problem: Problem, solution: Solution) -> None:
    """Tell the plug-ins that watch."""
    from invsolve.plugins import registry

    registry().finished(problem, solution)
