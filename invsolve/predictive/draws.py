"""Images whose truth is known, measured as the user's own was: what settings are chosen on and intervals are calibrated by.

    x_j ~ p(x),   y_j = H(x_j) + n_j,   j = 1 ... N

with the prior's p, or a pool of pictures in its place, and the problem's own H and noise. If the prior fits, (x, y) of the problem at hand
and the (x_j, y_j) are exchangeable, which is all that the guarantees of `calibration.py` stand on; `fit.py` asks whether y contradicts it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.data.sets import folder, with_channels
from invsolve.errors import CapabilityError, CompatibilityError, InputError
from invsolve.io.digest import state_hash
from invsolve.io.files import make_folder
from invsolve.io.images import load_image, read_tensor
from invsolve.io.writing import write_image
from invsolve.operator.windows import Window
from invsolve.plugins import load_prior, registry
from invsolve.plugins.arguments import signature_of
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import NoMeasurement, Problem, refuse_unmeasured
from invsolve.rng import Rng, derive
from invsolve.solvers.diffusion.heun import Heun
from invsolve.solvers.flow.few_step import FewStep
from invsolve.tiles.run import Large

# A prior that ends below this level of noise has pictures left in what a sampler would start from.
START = 2.0
FEW = FewStep(steps=2)  # of a few-step map
SAMPLER, COST = Heun(steps=18), 35  # and its evaluations; the sampler of Karras et al. 2022
SIDE = 64  # of the window that a large problem is represented by
PLACES = 7  # of a window along each side
PIXELS = 2**20  # values of images at a time
HELD = 8  # sets of draws that are kept in memory
Generator = int | torch.Generator | Rng | None
Pool = Prior | Tensor | str | Path | Sequence[Any] | None

_held: OrderedDict[str, Tensor] = OrderedDict()


@dataclass(frozen=True)
class Draws:
    """Truths and their measurements.

    Args:
        truths: (N, *in_shape).
        problem: of N items, y_j = H x_j + n_j.
        origin: where the truths come from, in words.
        nfe: network evaluations per truth that drawing takes, 0 where none does.
        held: whether they were at hand from before, so that nothing was evaluated.
    """

    truths: Tensor
    problem: Problem
    origin: str
    nfe: int = 0
    held: bool = False

    def __len__(self) -> int:
        return len(self.truths)

    def part(self, first: int, last: int) -> Draws:
        """Those from first on, before last."""
        return replace(self, truths=self.truths[first:last], problem=self.problem[first:last])


def draw(
    problem: Problem, prior: Prior, count: int = 8, *, pool: Pool = None, generator: Generator = 0, cache: str | Path | None = None
) -> Draws:
    """Draw truths and measure them as the problem was measured.

    Args:
        problem: whose H and noise are used; its y is not looked at. Where items have an H, a noise level or a context of their own, draw j
            takes that of item j modulo their number.
        prior: what is drawn from, with Heun's sampler in 18 steps (Karras et al. 2022), or exactly where it has a `sample` of its own.
        count: how many.
        pool: in place of the prior another one to draw from or its name, pictures (N, C, H, W) in [0, 1], or files or a folder of
            pictures, of which windows at random places are taken.
        generator: seed of the truths and of their noise.
        cache: a folder in which truths drawn from a prior are kept, by a hash of the prior, the shape, the seed and the context.

    Raises:
        InputError: count < 1, nothing is measured, no prior that can be drawn from and no pool, pictures that are too small.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a Problem, given {type(problem).__name__}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"draws must be a whole number, at least 1; given {count!r:.40}")
    if isinstance(problem.operator, NoMeasurement):
        raise InputError("the problem has no measurement, so that there is nothing to tune or to certify")
    refuse_unmeasured(problem)
    seed, several = seed_of(generator), differing(problem)
    if several and count < problem.batch:
        raise InputError(f"the {problem.batch} items differ in H, noise or context, so that each needs draws: give at least that many")
    template = problem.rows([index % problem.batch for index in range(count)])
    source = prior if pool is None else named(pool, template)
    if isinstance(source, Prior):
        truths, origin, nfe, held = from_prior(template, source, seed, cache)
    else:
        truths, origin, nfe, held = *from_pictures(template, source, seed), 0, False
    rng = Rng(seed, range(count), purpose="predictive")
    try:
        measured = Problem.simulate(template.operator, truths, template.noise, generator=rng, check_range=False, context=template.context)
    except InputError as error:
        raise InputError(f"{origin} cannot be measured as the problem was: {error}. Give pictures that can, pool=FOLDER") from error
    return Draws(truths, measured, origin, nfe, held)


def seed_of(generator: Any) -> int:
    """The seed of whatever `Solver.solve` takes as a generator; None is a fresh one.

    Raises:
        InputError: none of these.
    """
    return generator.seed if isinstance(generator, Rng) else Rng.make(generator, (0,)).seed


def differing(problem: Problem) -> bool:
    """Whether items have an H, a noise level or a context of their own."""
    return problem.batch > 1 and (problem.operator.batch is not None or problem.noise.batch is not None or bool(problem.context))


def named(pool: Pool, problem: Problem) -> Pool:
    """The prior of that name, with the problem's channels, where the text names one and no file; else what was given.

    Raises:
        InputError: text that is neither.
    """
    if not isinstance(pool, str) or Path(pool).exists():
        return pool
    if pool in registry().names("prior"):
        channels = problem.operator.in_shape[0]
        takes = "channels" in signature_of(registry().load("prior", pool)).parameters
        return load_prior(pool, channels=channels) if takes else load_prior(pool)
    raise InputError(f"pool {pool!r:.80} is no file, no folder and no prior; priors are {', '.join(registry().names('prior'))}")


def distinct(draws: Draws) -> list[int]:
    """The rows of the draws that are no copies of earlier ones."""
    same = (draws.truths[:, None] == draws.truths[None]).flatten(2).all(2)
    return [row for row in range(len(draws)) if not bool(same[row, :row].any())]


def from_prior(template: Problem, prior: Prior, seed: int, cache: str | Path | None) -> tuple[Tensor, str, int, bool]:
    """(truths, origin, evaluations each, whether they were at hand) drawn from a prior."""
    image, name = template.image, type(prior).__name__
    other = "give pictures in place of its draws, pool=FOLDER, or another prior to draw from, pool='natural'"
    if not isinstance(prior, Denoiser):
        raise InputError(f"{name} is a penalty and cannot be drawn from; {other}")
    if prior.sees_y:
        raise InputError(f"{name} looks at a measurement and has no draws of its own; {other}")
    exact = getattr(prior, "sample", None)
    if callable(exact):
        drawn = exact(template.operator.in_shape, Rng(seed, template.items, purpose="draws"), image)
        return drawn.to(image), f"{len(image)} exact draws from {name}", 0, False  # pyright: ignore[reportAttributeAccessIssue]
    if prior.sigma_range[1] < START:
        raise InputError(f"{name} is good for noise up to {prior.sigma_range[1]:g}, too little to draw pictures from; {other}")
    facts = (state_hash(prior), tuple(image.shape[1:]), image.dtype, seed, state_hash(dict(template.context)))
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    held = kept(key, cache)
    sampler, way, cost = (FEW, "in two calls", 2) if prior.few_step else (SAMPLER, f"by Heun's sampler in {SAMPLER.steps} steps", COST)
    origin = f"{len(image)} draws from {name} {way}"
    if held is not None and held.shape[1:] == image.shape[1:] and len(held) >= len(image):  # draw j is the same in any number of them
        return held[: len(image)].to(image), origin, cost, True
    plain = Problem.unconditional(image.shape[1:], len(image), dtype=image.dtype, device=image.device, context=template.context)
    try:
        solution = sampler.solve(plain, prior, generator=derive(seed, "draws"), chunk=chunk(plain))
    except CompatibilityError as error:
        raise InputError(f"{name} cannot be drawn from here: {error}; {other}") from error
    clipped = solution.x if prior.clip is None else solution.x.clamp(*prior.clip)
    keep(key, clipped, cache)
    return clipped, origin, cost, False


def chunk(problem: Problem) -> int:
    """How many images go through a network at a time."""
    return max(1, PIXELS // max(1, problem.image[0].numel()))


def kept(key: str, cache: str | Path | None) -> Tensor | None:
    """What was drawn before, in this process or into this folder."""
    if key in _held:
        _held.move_to_end(key)
        return _held[key]
    if cache is None:
        return None
    file = Path(cache) / f"{key[:32]}.safetensors"
    try:
        found = read_tensor(file) if file.is_file() else None
    except InputError:  # torn or foreign: drawn again
        return None
    return found if found is not None and found.ndim > 1 and bool(found.isfinite().all()) else None


def keep(key: str, truths: Tensor, cache: str | Path | None) -> None:
    """Keep what was drawn, in memory and in the folder where one is given."""
    _held[key] = truths.cpu()
    while len(_held) > HELD:
        _held.popitem(last=False)
    if cache is not None:
        make_folder(Path(cache))
        write_image(Path(cache) / f"{key[:32]}.safetensors", truths.cpu())


def from_pictures(template: Problem, source: Any, seed: int) -> tuple[Tensor, str]:
    """(truths, origin): windows of the problem's size at random places of the pictures, one after the other."""
    shape, image = template.operator.in_shape, template.image
    if isinstance(source, Tensor) and tuple(source.shape[1:]) == tuple(shape) and len(source):
        chosen = source[[index % len(source) for index in range(len(image))]].to(image)
        return chosen, f"{len(image)} of {len(source)} images of a pool"
    if len(shape) != 3:
        raise InputError(f"a pool of files holds pictures, and the problem's images are {tuple(shape)}; give a tensor (N, ...) of such")
    pictures = list(read(source))
    found: list[Tensor] = []
    places = Rng(seed, range(len(image)), purpose="pool").uniform((2,), image)
    for index in range(len(image)):
        picture = with_channels(pictures[index % len(pictures)].to(image), shape[0], "a picture of the pool")
        room = [side - size for side, size in zip(picture.shape[-2:], shape[-2:], strict=True)]
        if min(room) < 0:
            raise InputError(f"a picture of the pool has {tuple(picture.shape[-2:])} pixels, fewer than the problem's {shape[-2:]}")
        top, left = (min(int(float(u) * (free + 1)), free) for u, free in zip(places[index], room, strict=True))
        found.append(picture[:, top : top + shape[-2], left : left + shape[-1]])
    return torch.stack(found), f"{len(image)} windows of {len(pictures)} pictures of a pool"


def read(source: Any) -> list[Tensor]:
    """The pictures of a pool, (C, H, W) each.

    Raises:
        InputError: none, or nothing that can be read as one.
    """
    if isinstance(source, Tensor):
        found = list(source) if source.ndim == 4 else [source]
    elif isinstance(source, str | Path):
        place = Path(source)
        found = [picture.image for picture in folder(place)] if place.is_dir() else [load_image(place)]
    elif isinstance(source, Sequence):
        found = [one if isinstance(one, Tensor) else load_image(one) for one in source]
    else:
        raise InputError(f"pool is a prior, pictures (N, C, H, W), files, or a folder of pictures; given {type(source).__name__}")
    if not found or any(one.ndim != 3 or not one.numel() for one in found):
        raise InputError("a pool must hold at least one picture (C, H, W)")
    return found


def window(problem: Problem, side: int = SIDE) -> Problem:
    """The problem of a window of at most side x side pixels that stands for a large one; the problem itself where it is small or cannot
    be cut.

    Of masks, the window that shows and hides pixels and whose hidden share is nearest to the whole's; larger ones where none does both.
    """
    shape = problem.operator.in_shape
    if len(shape) != 3 or max(shape[1:]) <= side or problem.operator.batch is not None:
        return problem
    try:
        large = Large.of(problem)
        step = large.step
        size = [min(extent, max(step, side // step * step)) for extent in shape[1:]]
        rows, columns = (
            sorted({(extent - one) * k // (PLACES - 1) // step * step for k in range(PLACES)})
            for extent, one in zip(shape[1:], size, strict=True)
        )
        wanted = hidden(problem)
        middle = [rows[len(rows) // 2]], [columns[len(columns) // 2]]
        searched = (rows, columns) if wanted else middle
        pieces = [large.piece(Window(top, left, *size)) for top in searched[0] for left in searched[1]]
    except CapabilityError:  # an operator that does not say how it is cut
        return problem
    both = [piece for piece in pieces if not wanted or 0 < hidden(piece) < 1]
    if not both:
        return window(problem, 2 * side)
    return min(both, key=lambda piece: abs(hidden(piece) - wanted))


def hidden(problem: Problem) -> float:
    """The share of y's entries that a mask does not measure; 0 without one."""
    supports = [one for one in problem.operator.supports if one is not None]
    return 1 - sum(float(one.double().mean()) for one in supports) / len(supports) if supports else 0.0
