"""One call of `Solver.solve`: the loop over the steps, in one piece, in parts of bounded size, and for several samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import DivergedError, InputError
from invsolve.priors.base import Denoiser, Prior, a_denoiser, same
from invsolve.priors.meter import Meter
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Solution, Status, Step

if TYPE_CHECKING:
    from invsolve.solver import Solver


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Args:
        solver: the configuration.
        problem: what the solver sees: in the prior's own space.
        prior: what is believed.
        back: from that space to the image.
        outer: the problem of the image, as it was given.
        callback, keep, throw: see `Solver.solve`.
    """

    solver: Solver
    problem: Problem
    prior: Prior
    back: Callable[[Tensor], Tensor]
    outer: Problem
    callback: Callable[[Step], bool | None] | None
    keep: int
    throw: bool

    @property
    def elsewhere(self) -> bool:
        """Whether the prior lives in another space than the image."""
        return self.back is not same

    def whole(self, rng: Rng, start: Step | None) -> Solution:
        """The run in one piece."""
        from invsolve.solver import Counted

        prior: Any = self.prior
        if isinstance(prior, Denoiser):
            prior = Counted(a_denoiser(prior.given(self.problem), prior))
        meter, trace, status = Meter(), [], Status.FINISHED
        last = start if start is not None and start.index >= 0 else None  # a finished run, resumed, is its own answer
        blank, began = self.problem.image, time.perf_counter()
        for step in meter.watch(iter(self.solver.iterate(self.problem, prior, rng, start))):
            self._sound(step, blank)
            if not self._finite(step):
                status = Status.DIVERGED
                break
            last = step
            kept, told = self.keep and step.index % self.keep == 0, self.callback is not None
            shown = self._shown(step) if self.elsewhere and (kept or told) else step
            if kept:
                trace.append(shown.to("cpu"))
            if self.callback is not None and self.callback(shown) is False:
                status = Status.STOPPED
                break
            if step.converged:
                status = Status.CONVERGED
        if last is None and status != Status.DIVERGED:  # an image of zeros would pass for an answer
            raise InputError(f"{self.solver} gave no step: iterate must yield at least one")
        x = blank if last is None else self.solver.answer(last, status)
        rows, steps = max(1, len(x)), 0 if last is None else last.index + 1
        latent = x if self.elsewhere else None
        x = self._image(x) if self.elsewhere else x
        seconds, nfe, nbe = time.perf_counter() - began, -(-meter.forward // rows), -(-meter.backward // rows)
        return Solution(x, status, steps, nfe, seconds, meter.seconds, rng.seed, self.solver, tuple(trace), backward=nbe, latent=latent)

    def cut(self, rng: Rng, start: Step | None, samples: int | None, chunk: int | None) -> Solution:
        """The run in parts of at most `chunk` images (a batch at a time for None), all samples of it, joined."""
        batch = self.problem.batch
        size = batch if chunk is None else chunk
        rows = [(sample, item) for sample in range(samples or 1) for item in range(batch)]
        if size >= 2 * batch and batch:  # several samples at a time, whole batches of them
            size -= size % batch
        elif size < batch:  # never across two samples: the parts are slices of the problem
            size = min(size, batch)
        parts, solutions, run = list(pieces(rows, size, batch)), [], self
        for part in parts:
            solutions.append(run._piece(rng, start, part))
            if run is self and solutions[-1].status == Status.STOPPED:
                run = replace(self, callback=first_only)  # one step each, so that there is an image of everything
        return joined(solutions, rng.seed, samples, batch, parts)

    def _piece(self, rng: Rng, start: Step | None, rows: list[tuple[int, int]]) -> Solution:
        """The run of some (sample, item) pairs."""
        index = [item for _, item in rows]
        plain = index == list(range(self.problem.batch))
        streams = rng.chosen(rows)
        if plain:
            return self.whole(streams, start)
        ids = streams.items if len(set(index)) == len(index) else ()
        prior, outer = self.prior.select(index), self.outer.rows(index, ids)
        # A decoder with data per item is another one for other items.
        inner, back = (self.problem.rows(index, ids), self.back) if prior is self.prior else prior.space(outer)
        part = replace(self, problem=inner, prior=prior, back=back, outer=outer)
        return part.whole(streams, None if start is None else start.select(index))

    def _sound(self, step: Step, blank: Tensor) -> None:
        """Raise InputError for what is no Step of images: broadcasting would turn it into an answer."""
        if not isinstance(step, Step):
            raise InputError(f"{type(self.solver).__name__}.iterate must yield Steps; it gave a {type(step).__name__}")
        for name, value in (("x", step.x), ("x0_hat", step.x0_hat)):
            if not isinstance(value, Tensor) or value.shape != blank.shape or value.dtype != blank.dtype:
                given = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"{self.solver}: {name} of step {step.index} must be {tuple(blank.shape)} {blank.dtype}; it is {given}")

    def _finite(self, step: Step) -> bool:
        from invsolve.solver import finite

        if finite(step.x) if step.finite is None else step.finite:
            return True
        if self.throw:
            where = "" if step.sigma is None else f" at sigma {step.sigma:.4g}"
            raise DivergedError(
                f"{self.solver}: NaN or Inf in step {step.index} of {step.total}{where}; take a smaller step, or throw=False"
            )
        return False

    def _image(self, x: Tensor) -> Tensor:
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


CODE = "code"  # the state's name for x in the prior's own space


def pieces(rows: list[tuple[int, int]], size: int, batch: int) -> Iterator[list[tuple[int, int]]]:
    """The pairs in runs of at most `size`; a run smaller than a batch never reaches into the next sample."""
    if not rows:
        yield []
        return
    if size >= batch:
        for first in range(0, len(rows), size):
            yield rows[first : first + size]
        return
    for sample in range(0, len(rows), batch):
        for first in range(sample, sample + batch, size):
            yield rows[first : min(first + size, sample + batch)]


def joined_traces(traces: list[tuple[Step, ...]]) -> tuple[Step, ...]:
    """The traces of several runs as one of all their images, in the runs' order; a run that ended earlier stays at its last kept Step."""
    if not all(traces):
        return ()
    longest = max(traces, key=lambda trace: trace[-1].index)
    return tuple(
        joined_step([next((one for one in reversed(trace) if one.index <= step.index), trace[0]) for trace in traces]) for step in longest
    )


def joined_step(steps: list[Step]) -> Step:
    """The Steps of several runs as one of all their images: rows after rows; numbers and states that all of them have."""
    last = max(steps, key=lambda step: step.index)

    def rows(name: str) -> dict[str, Tensor]:
        held = [getattr(step, name) for step in steps]
        shared = [key for key in held[0] if all(key in one for one in held)]
        return {key: torch.cat([one[key] for one in held]) for key in shared}

    x, x0_hat = (torch.cat([getattr(step, name) for step in steps]) for name in ("x", "x0_hat"))
    return replace(last, x=x, x0_hat=x0_hat, stats=rows("stats"), state=rows("state"), converged=all(step.converged for step in steps))


def joined(solutions: list[Solution], seed: int, samples: int | None, batch: int, parts: list[list[tuple[int, int]]]) -> Solution:
    """Several runs as one Solution: images in their places, counts and times added, the worst status."""
    first, count = solutions[0], samples or 1

    def gathered(tensors: list[Tensor]) -> Tensor:
        whole = torch.cat(tensors)
        whole = whole.reshape(count, batch, *whole.shape[1:])
        return whole[0] if samples is None else whole

    share = [len(part) / max(1, batch) for part in parts]  # of a batch: counts are per item
    nfe, backward = (
        round(sum(getattr(one, name) * part for one, part in zip(solutions, share, strict=True))) for name in ("nfe", "backward")
    )
    total = {name: sum(getattr(one, name) for one in solutions) for name in ("seconds", "network_seconds")}
    latent = None if first.latent is None else gathered([one.latent for one in solutions if one.latent is not None])
    return Solution(
        gathered([one.x for one in solutions]),
        Status.worst(one.status for one in solutions),
        max(one.steps for one in solutions),
        nfe,
        seed=seed,
        solver=first.solver,
        trace=joined_traces([one.trace for one in solutions]),
        samples=samples,
        backward=backward,
        latent=latent,
        **total,
    )
