"""The parts of a run: which (sample, item) pairs go together, and their answers joined again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from invsolve.solution import Solution, Status, Step

Rows = list[tuple[int, int]]  # (sample, item)


def partition(batch: int, samples: int | None, chunk: int | None) -> list[Rows]:
    """All pairs in parts of at most `chunk` images; a batch at a time for None."""
    size = batch if chunk is None else chunk
    rows = [(sample, item) for sample in range(samples or 1) for item in range(batch)]
    if size >= 2 * batch and batch:  # several samples at a time, whole batches of them
        size -= size % batch
    elif size < batch:  # never across two samples: the parts are slices of the problem
        size = min(size, batch)
    return list(pieces(rows, size, batch))


def pieces(rows: Rows, size: int, batch: int) -> Iterator[Rows]:
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


def placed(solutions: list[Solution], groups: list[list[int]], samples: int | None) -> Solution:
    """Runs of some items each, which `groups` names, as one of all: images, numbers and traces in the items' places."""
    count = samples or 1
    parts = [[(sample, item) for sample in range(count) for item in group] for group in groups]
    rows = [pair for part in parts for pair in part]
    order = sorted(range(len(rows)), key=rows.__getitem__)

    def flat(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or samples is None else tensor.flatten(0, 1)

    def ordered(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[order] if samples is None else tensor[order].unflatten(0, (count, -1))

    whole = joined([replace(one, x=flat(one.x), latent=flat(one.latent)) for one in solutions], solutions[0].seed, None, len(rows), parts)
    stats = {name: value[order] for name, value in whole.stats.items()}
    trace = tuple(step.select(order) for step in whole.trace)
    return replace(whole, x=ordered(whole.x), latent=ordered(whole.latent), stats=stats, trace=trace, samples=samples)


def joined(solutions: list[Solution], seed: int, samples: int | None, batch: int, parts: list[Rows]) -> Solution:
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
    seconds, network_seconds = (sum(getattr(one, name) for one in solutions) for name in ("seconds", "network_seconds"))
    shared = [name for name in first.stats if all(name in one.stats for one in solutions)]
    stats = {name: torch.cat([one.stats[name] for one in solutions]) for name in shared}
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
        stats=stats,
        seconds=seconds,
        network_seconds=network_seconds,
    )
