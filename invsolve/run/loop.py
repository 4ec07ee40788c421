"""The loop over a run's steps, and over its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior, a_denoiser, same
from invsolve.priors.meter import Meter
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.run.budget import Budget, Share
from invsolve.run.checkpoint import Checkpoint, Kept, Underway, key_of, taken_up
from invsolve.run.counted import Counted
from invsolve.run.known import pasted, seam
from invsolve.run.memory import halves, out_of_memory
from invsolve.run.parts import Rows, joined, partition
from invsolve.run.watch import Watch
from invsolve.solution import Solution, Status, Step

if TYPE_CHECKING:
    from invsolve.solver import Solver

MOST = 2**62  # of counts and seconds
CODE = "code"  # the state's name for x in the prior's own space


@dataclass(frozen=True)
class Options:
    """How a run is made, apart from what is solved; see `Solver.solve`."""

    callback: Callable[[Step], bool | None] | None = None
    keep: int = 0
    throw: bool = True
    samples: int | None = None
    chunk: int | None = None
    paste: bool = True
    budget_s: float | None = None
    budget_nfe: int | None = None
    checkpoint: Checkpoint | None = None

    def check(self, start: Step | None) -> None:
        """Raise InputError for what cannot be."""
        counts = (("samples", self.samples, 1), ("keep", self.keep, 0), ("chunk", self.chunk, 1), ("budget_nfe", self.budget_nfe, 1))
        for name, count, least in counts:
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not least <= count < MOST):
                raise InputError(f"{name} must be a whole number, at least {least}; given {count!r:.40}")
        for name, switch in (("throw", self.throw), ("paste", self.paste)):
            if not isinstance(switch, bool):
                raise InputError(f"{name} must be True or False; given {switch!r:.40}")
        seconds = self.budget_s
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < MOST):
            raise InputError(f"budget_s must be a number of seconds, above 0; given {seconds!r:.40}")
        if self.chunk is not None and start is not None:
            raise InputError("a kept Step belongs to a run in one piece; give start or chunk, not both")
        if self.checkpoint is not None and start is not None:
            raise InputError("a run kept on disk goes on from what is there; give start or checkpoint, not both")
        if self.callback is not None and not callable(self.callback):
            raise InputError(f"callback must be callable: callback(step) -> bool | None; given {type(self.callback).__name__}")


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Args:
        solver: the configuration.
        problem: what the solver sees: in the prior's own space.
        prior: what is believed.
        back: from that space to the image.
        outer: the problem of the image, as it was given.
        options: how it is made.
    """

    solver: Solver
    problem: Problem
    prior: Prior
    back: Callable[[Tensor], Tensor]
    outer: Problem
    options: Options = field(default_factory=Options)

    @property
    def elsewhere(self) -> bool:
        """Whether the prior lives in another space than the image."""
        return self.back is not same

    def go(self, generator: Any, start: Step | None) -> Solution:
        """All parts, joined: those that a folder holds already, then the others."""
        problem, options, checkpoint = self.problem, self.options, self.options.checkpoint
        batch, key, kept = problem.batch, {}, None
        if checkpoint is not None:
            begin = {name: getattr(options, name) for name in ("samples", "chunk", "keep", "paste", "throw")}
            begin["x_init"] = None if start is None else start.x
            key = key_of(self.solver, self.outer, self.prior, begin)
            kept = taken_up(checkpoint, key, self.solver)
        rng = Rng.make(kept.seed if kept is not None and generator is None else generator, problem.items)
        if kept is None:
            kept = Kept(checkpoint, key, rng.seed, partition(batch, options.samples, options.chunk))
            if checkpoint is not None:
                kept.write(first=True)
        elif kept.seed != rng.seed:
            raise InputError(f"{checkpoint.path} holds the run of seed {kept.seed}, not {rng.seed}")  # pyright: ignore[reportOptionalMemberAccess]
        self._parts(kept, rng, start)
        rows, solutions = zip(*kept.ended, strict=True)
        solutions = [moved(one, problem.image.device) for one in solutions]
        return joined(solutions, rng.seed, options.samples, batch, list(rows))

    def _parts(self, kept: Kept, rng: Rng, start: Step | None) -> None:
        """Run what the queue holds; a part that does not fit into memory is cut in two."""
        options, batch, run = self.options, self.problem.batch, self
        spent = sum(one.nfe * len(rows) for rows, one in kept.ended)
        left = sum(map(len, kept.queue)) + (len(kept.underway.rows) if kept.underway is not None else 0)
        budget = Budget(options.budget_s, options.budget_nfe, batch, left, spent)
        while kept.queue or kept.underway is not None:
            rows = kept.underway.rows if kept.underway is not None else kept.queue.pop(0)
            before = rng.chosen(rows).state()
            try:
                solution = run._piece(rng, start, rows, budget.share(len(rows)), kept)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or len(rows) < 2:
                    raise
                rng.chosen(rows).restore(before)
                kept.queue[:0], kept.underway = halves(rows, batch), None
                continue
            budget.used(len(rows), solution.nfe * len(rows))
            kept.end(rows, solution)
            if run is self and solution.status == Status.STOPPED:
                run = replace(self, options=replace(options, callback=first_only))  # one step each, so that there is an image of everything

    def _piece(self, rng: Rng, start: Step | None, rows: Rows, share: Share, kept: Kept) -> Solution:
        """The run of some (sample, item) pairs."""
        index = [item for _, item in rows]
        streams = rng.chosen(rows)
        if index == list(range(self.problem.batch)):
            return self.whole(streams, start, share, kept, rows)
        ids = streams.items if len(set(index)) == len(index) else ()
        prior, outer = self.prior.select(index), self.outer.rows(index, ids)
        # A decoder with data per item is another one for other items.
        inner, back = (self.problem.rows(index, ids), self.back) if prior is self.prior else prior.space(outer)
        part = replace(self, problem=inner, prior=prior, back=back, outer=outer)
        return part.whole(streams, None if start is None else start.select(index), share, kept, rows)

    def whole(self, rng: Rng, start: Step | None, share: Share, kept: Kept, rows: Rows) -> Solution:
        """One part in one piece."""
        prior: Any = self.prior
        if isinstance(prior, Denoiser):
            prior = Counted(a_denoiser(prior.given(self.problem), prior))
        meter, trace, status, watch = Meter(), [], Status.FINISHED, Watch(self.solver)
        blank, began = self.problem.image, time.perf_counter()
        if kept.underway is not None:
            start, began = kept.underway.step.to(blank.device), began - kept.underway.counts["seconds"]
            meter.resume(kept.underway.counts)
            rng.restore(kept.underway.streams)
            trace += kept.underway.trace
            share.counted = meter.forward
        last = start if start is not None and start.index >= 0 else None  # a finished run, resumed, is its own answer
        for step in meter.watch(iter(self.solver.iterate(self.problem, prior, rng, start))):
            self._sound(step, blank)
            fault = watch.fault(step)
            if fault:
                if self.options.throw:
                    raise watch.error(step, fault, None if last is None else self._image(last.x0_hat))
                status = Status.DIVERGED
                break
            last = step
            if self._told(step, trace) is False:
                status = Status.STOPPED
            elif step.converged:
                status = Status.CONVERGED
            elif share.over(meter.forward) and step.index + 1 < step.total:
                status = Status.BUDGET
            stops = status in (Status.STOPPED, Status.BUDGET)
            if kept.due(last=stops):
                counts = {**meter.counts(), "seconds": time.perf_counter() - began}
                kept.step(Underway(rows, step, rng.state(), counts, tuple(trace)))
            if stops:
                break
        if last is None and status != Status.DIVERGED:  # an image of zeros would pass for an answer
            raise InputError(f"{self.solver} gave no step: iterate must yield at least one")
        return self._answer(last, status, meter, rng, tuple(trace), watch, began)

    def _answer(
        self, last: Step | None, status: Status, meter: Meter, rng: Rng, trace: tuple[Step, ...], watch: Watch, began: float
    ) -> Solution:
        code = self.problem.image if last is None else self.solver.answer(last, status)
        rows, steps = max(1, len(code)), 0 if last is None else last.index + 1
        x = self._image(code)
        x = pasted(self.outer, x) if self.options.paste else x
        seconds, nfe, nbe = time.perf_counter() - began, -(-meter.forward // rows), -(-meter.backward // rows)
        stats = {name: value.detach() for name, value in last.stats.items()} if last is not None else {}
        if watch.still.any() and status == Status.FINISHED:
            stats["still"] = torch.tensor(watch.still, dtype=x.real.dtype, device=x.device)
        met = seam(self.outer, x)
        stats |= {} if met is None else {"seam": met}
        latent = code if self.elsewhere else None
        return Solution(
            x, status, steps, nfe, seconds, meter.seconds, rng.seed, self.solver, trace, backward=nbe, latent=latent, stats=stats
        )

    def _told(self, step: Step, trace: list[Step]) -> bool | None:
        """Keep the step if asked, and tell the callback; what it says."""
        options = self.options
        kept = bool(options.keep) and step.index % options.keep == 0
        if not kept and options.callback is None:
            return None
        shown = self._shown(step) if self.elsewhere else step
        if kept:
            trace.append(shown.to("cpu"))
        return None if options.callback is None else options.callback(shown)

    def _sound(self, step: Step, blank: Tensor) -> None:
        """Raise InputError for what is no Step of images: broadcasting would turn it into an answer."""
        if not isinstance(step, Step):
            raise InputError(f"{type(self.solver).__name__}.iterate must yield Steps; it gave a {type(step).__name__}")
        for name, value in (("x", step.x), ("x0_hat", step.x0_hat)):
            if not isinstance(value, Tensor) or value.shape != blank.shape or value.dtype != blank.dtype:
                given = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"{self.solver}: {name} of step {step.index} must be {tuple(blank.shape)} {blank.dtype}; it is {given}")

    def _image(self, x: Tensor) -> Tensor:
        if not self.elsewhere:
            return x
        with torch.no_grad():
            return self.back(x)

    def _shown(self, step: Step) -> Step:
        """A step with its images in the image's space; the codes are kept in its state, to go on from."""
        x, x0_hat = self._image(step.x), self._image(step.x0_hat)
        return replace(step, x=x, x0_hat=x0_hat, state={**step.state, CODE: step.x})


def first_only(step: Step) -> bool:
    """The callback that stops at once."""
    del step
    return False


def moved(solution: Solution, device: torch.device) -> Solution:
    """A solution read from a folder, where the problem is."""
    if solution.x.device == device:
        return solution
    latent = None if solution.latent is None else solution.latent.to(device)
    stats = {name: value.to(device) for name, value in solution.stats.items()}
    return replace(solution, x=solution.x.to(device), latent=latent, stats=stats)
