"""A solver on a large image, piece by piece."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import CompatibilityError, InputError
from invsolve.io.digest import made_hash
from invsolve.io.files import make_folder, write_text
from invsolve.noise import NoiseModel
from invsolve.operator import Operator, Shape
from invsolve.operator.measurement import Measurement, parts
from invsolve.operator.windows import Window
from invsolve.priors.base import Prior, same
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Solution, Status, Step
from invsolve.tiles.field import Field
from invsolve.tiles.layout import Layout, Tiles, laid

if TYPE_CHECKING:
    from invsolve.solver import Solver

# Pieces start at multiples of it: a network that halves the image four times then sees the same grid in all of them.
GRID = 16
CORNER = 240  # pixels: more than any kernel needs, and divided by every factor up to 6
PLAN = "pieces.json"


@dataclass(frozen=True)
class Large:
    """A problem that is made a window at a time, so that H of the whole image need not exist.

    Args:
        y: (B, C', H', W'), the whole measurement, or a tuple of such.
        shape: (C, H, W) of the image.
        operator: H of a window; called for each, but once for windows of one shape where it gives a `uniform` operator.
        noise: of y.
        context, check_range: as of `Problem`: the same for every window.
    """

    y: Measurement
    shape: Shape
    operator: Callable[[Window], Operator]
    noise: NoiseModel
    context: Mapping[str, Tensor] = field(default_factory=dict)
    check_range: bool = True
    made: dict[tuple[int, int], Operator] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, problem: Problem) -> Large:
        """The same of a Problem.

        Raises:
            InputError: y is no image, or one of several is none.
        """
        y, shape = problem.y, problem.operator.in_shape
        if any(part.ndim != 4 for part in parts(y)) or len(shape) != 3:
            raise InputError(f"pieces are cut from images (C, H, W) and y of the same kind; {problem.operator.label} is of another")
        return cls(y, shape, problem.operator.window, problem.noise, problem.context, problem.check_range)

    def at(self, window: Window) -> Operator:
        """H of a window."""
        found = self.made.get((window.height, window.width))
        if found is None:
            found = self.operator(window)
            if found.uniform:
                self.made[window.height, window.width] = found
        return found

    def piece(self, window: Window) -> Problem:
        """The problem of a window.

        Raises:
            InputError: y has no entries for what H of the window gives.
        """
        operator = self.at(window)
        found = [
            Window(place.top, place.left, *shape[-2:]).of(whole)
            for whole, shape, place in zip(parts(self.y), operator.out_shapes, map(window.over, operator.strides), strict=True)
        ]
        for whole, part, shape in zip(parts(self.y), found, operator.out_shapes, strict=True):
            if tuple(part.shape[1:]) != tuple(shape):
                raise InputError(f"y {tuple(whole.shape)} has no entries for {operator.label} of {window}: it gives {shape}")
        y = tuple(found) if isinstance(self.y, tuple) else found[0]
        return Problem(operator, y, self.noise, check_range=self.check_range, context=self.context)

    @cached_property
    def first(self) -> Operator:
        """H of a small window in the corner: what it says of its reach and its grid holds for all."""
        corner = (side if side < CORNER else CORNER for side in self.shape[1:])
        return self.operator(Window(0, 0, *corner))

    @property
    def step(self) -> int:
        """Windows start at multiples of it: the grid of networks and of the operator."""
        return math.lcm(GRID, self.first.period, self.first.stride)

    def layout(self, tiles: Tiles) -> Layout:
        """Where the pieces lie."""
        return laid(tiles, *self.shape[1:], reach=self.first.reach, step=self.step)


def solve_tiled(
    solver: Solver,
    problem: Problem | Large,
    prior: Prior,
    *,
    tiles: Tiles | None = None,
    generator: int | torch.Generator | None = None,
    samples: int | None = None,
    callback: Callable[[Step], bool | None] | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Solution:
    """Solve a large problem in pieces that overlap, in the memory of one piece beside y and the answer.

        x = sum_i w_i x_i,   x_i the answer of the window i,   sum_i w_i = 1

    Where the operator is local and the solver makes local steps, x is the whole image's answer up to what reaches over the margin of a
    piece (`Tiles.margin`): with a prox of H^T H + 1/tau at an edge that is none, an error falls by (sqrt(k) - 1) / (sqrt(k) + 1) every
    2 `reach` pixels, k = 1 + tau |H|^2 (Demko, Moss, Smith, 1984, Math. Comp. 43(168), theorem 2.4); a denoiser adds its own reach. Solvers
    with a step for the whole image (a norm of the residual, a rule to stop) take it piece by piece. What is drawn at a pixel is the same
    however the image is cut (`Field`).

    Args:
        solver: any; each piece is an ordinary `solve`.
        problem: a Problem whose operator has `window`, or a `Large`.
        prior: of images of any size, in the image's own space.
        tiles: how it is cut.
        generator, samples: as of `Solver.solve`.
        callback: sees the steps of all pieces, counted through, with the piece's own x; False ends the run as in `Solver.solve`.
        checkpoint: a folder that ended pieces are kept in; the same call, made again, goes on from there.
        options: others of `Solver.solve`, but `start`, `x_init`, `chunk` and `keep`.

    Raises:
        CapabilityError: the operator does not say what it is on a window.
        CompatibilityError: the solver chooses for the whole image; the prior lives in another space, or takes images of one shape, which
            the pieces do not have.
        InputError: what `Solver.solve` refuses, or a folder that holds another run.
    """
    for name in sorted({"start", "x_init", "chunk", "keep"} & set(options)):
        raise InputError(f"{name} belongs to a run in one piece, Solver.solve; pieces take: samples, throw, paste, budget_s, budget_nfe")
    large = problem if isinstance(problem, Large) else Large.of(problem)
    layout = plan(solver, large, prior, tiles)
    kept = Folder(checkpoint, generator, lambda: key_of(solver, large, layout, prior, samples, options)) if checkpoint else None
    seed = Rng.make(generator if kept is None or kept.seed is None else kept.seed, ()).seed
    if kept is not None:
        kept.begin(seed)
    run = Pieces(solver, large, prior, layout, seed, samples, callback, kept, options)
    return run.go()


def plan(solver: Solver, large: Large, prior: Prior, tiles: Tiles | None = None) -> Layout:
    """The pieces of a run.

    Raises:
        CapabilityError, CompatibilityError, InputError: as `solve_tiled` says.
    """
    if solver.whole:
        raise CompatibilityError(f"{type(solver).__name__} chooses for the whole image, and pieces would not agree; take another solver")
    layout = large.layout(tiles or Tiles())
    refuse_prior(large, layout, prior)
    return layout


@dataclass(frozen=True)
class Pieces:
    """A run of all pieces."""

    solver: Solver
    large: Large
    prior: Prior
    layout: Layout
    seed: int
    samples: int | None
    callback: Callable[[Step], bool | None] | None
    kept: Folder | None
    options: dict[str, Any]

    def go(self) -> Solution:
        """The pieces laid together."""
        lead = () if self.samples is None else (self.samples,)
        y = parts(self.large.y)[0]
        x = torch.zeros(*lead, len(y), *self.large.shape, dtype=y.real.dtype, device=y.device)
        last: Solution | None = None
        for index, solution in enumerate(self._solved()):
            window = self.layout.windows[index]
            window.of(x).add_(solution.x.to(x) * self.layout.weight(index, x))
            last = solution if last is None else added(last, solution)
        assert last is not None
        return replace(last, x=x, seed=self.seed, samples=self.samples)

    def _solved(self) -> Iterator[Solution]:
        """Each piece's solution, read or made."""
        callback, total = self._told, len(self.layout.windows)
        for index, window in enumerate(self.layout.windows):
            found = None if self.kept is None else self.kept.read(index, self.solver)
            if found is None:
                problem = self.large.piece(window)
                rng = Field(self.seed, problem.items, window, problem.operator.strides)
                told = None if callback is None else (lambda step, index=index, callback=callback: callback(step, index, total))
                found = self.solver.solve(problem, self.prior, generator=rng, samples=self.samples, callback=told, **self.options)
                if self.kept is not None and found.status not in (Status.STOPPED, Status.DIVERGED):
                    self.kept.write(index, found)
            if found.status == Status.STOPPED:
                callback = stopped
            yield replace(found, stats={}, trace=(), latent=None)

    def _told(self, step: Step, index: int, total: int) -> bool | None:
        """The callback on a step counted through all pieces (and all samples of a piece, which follow one another)."""
        if self.callback is None:
            return None
        ends = step.index + 1 >= step.total or step.converged
        through = index * step.total + (step.total - 1 if ends else step.index)
        return self.callback(replace(step, index=through, total=total * step.total, converged=False))


def stopped(step: Step, index: int, total: int) -> bool:
    """The callback that stops at once, so that there is an image of every piece."""
    del step, index, total
    return False


def added(one: Solution, other: Solution) -> Solution:
    """The counts of two pieces: what was spent together, per pixel what the dearer one took."""
    most = {name: max(getattr(one, name), getattr(other, name)) for name in ("steps", "nfe", "backward")}
    spent = {name: getattr(one, name) + getattr(other, name) for name in ("seconds", "network_seconds")}
    return replace(one, status=Status.worst([one.status, other.status]), **most, **spent)


def refuse_prior(large: Large, layout: Layout, prior: Prior) -> None:
    """Raise CompatibilityError for a prior that cannot be asked about a piece."""
    if not isinstance(prior, Prior):
        return  # the solver says it better
    shape = getattr(prior, "in_shape", None)
    made = {(large.shape[0], window.height, window.width) for window in layout.windows}
    if shape is not None and made != {tuple(shape)}:
        raise CompatibilityError(
            f"prior {type(prior).__name__} takes images of shape {tuple(shape)}, the pieces are {sorted(made)}: take one of any size"
        )
    if prior.space(large.piece(layout.windows[0]))[1] is not same:
        raise CompatibilityError(
            f"prior {type(prior).__name__} lives in a space of codes, whose images do not meet at an edge; take another"
        )


def key_of(solver: Solver, large: Large, layout: Layout, prior: Prior, samples: int | None, options: dict[str, Any]) -> dict[str, str]:
    """Digests of what the pieces depend on, by name."""
    values = {
        "solver": [repr(solver), solver],
        "operator": [large.shape, large.at(layout.windows[0]), large.at(layout.windows[-1])],
        "noise": large.noise,
        "y": [large.y if isinstance(large.y, Tensor) else list(large.y), dict(large.context)],
        "prior": prior,
        "tiles": repr(layout.windows),
        "options": [samples, options],
    }
    return {name: made_hash(value)[:16] for name, value in values.items()}


class Folder:
    """Where ended pieces are kept: a file with the key and the seed, and a folder a piece.

    Args:
        path: of the folder.
        generator: what the user gave as a seed.
        key: makes the digests of the run.

    Raises:
        InputError: it holds another run; what differs is named.
    """

    def __init__(self, path: str | Path, generator: Any, key: Callable[[], dict[str, str]]) -> None:
        self.path, self.key, self.seed = Path(path), key(), None
        plan = self.path / PLAN
        if not plan.exists():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise InputError(f"{self.path} is no folder of pieces; take a new or an empty one")
            return
        try:
            found = json.loads(plan.read_text())
            self.seed, held = int(found["seed"]), dict(found["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{plan} cannot be read: {error}; remove {self.path} to begin anew") from error
        different = [name for name, value in self.key.items() if held.get(name) != value]
        if isinstance(generator, int) and generator != self.seed:
            different.append("seed")
        if different:
            raise InputError(
                f"{self.path} holds another run ({', '.join(different)} differ); take another folder, or remove it to begin anew"
            )

    def begin(self, seed: int) -> None:
        """Write what the pieces belong to."""
        if self.seed is None:
            make_folder(self.path)
            write_text(self.path / PLAN, json.dumps({"seed": seed, "key": self.key}))
            self.seed = seed

    def read(self, index: int, solver: Solver) -> Solution | None:
        """A piece; None where it has not ended."""
        path = self.path / f"{index:05d}"
        return Solution.load(path, solver=solver) if path.exists() else None

    def write(self, index: int, solution: Solution) -> None:
        """Keep a piece."""
        solution.save(self.path / f"{index:05d}")
