"""One answer with what can be trusted of it: `certify` solves, calibrates, and says in its first line whether its intervals hold."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.predictive.calibration import COUNT, SAMPLES, Calibration, calibrate, groups_of, refused
from invsolve.predictive.draws import SIDE, Draws, Generator, Pool, distinct, draw, seed_of, window
from invsolve.predictive.ranks import Ranks, expected_coverage, simulated
from invsolve.predictive.split import Split, checked, split
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import derive
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.tiles.run import solve_tiled

SURE = 0.01  # below it, ranks are not those of the posterior
JUDGES = 3  # held pictures, from which on they are a verdict
LARGE = 160  # pixels a side, from which on an image is solved in pieces


@dataclass(frozen=True)
class Certificate:
    """What `certify` found.

    Args:
        problem: what was measured.
        solution: the answer; its `interval` is calibrated.
        calibration: by which.
        level: of the intervals.
        coverage: of the pixels of each draw by intervals calibrated on the others; () where one fewer is too few for the level.
        held: of held pictures, by the same intervals, in the group of pixels that fares worst; () without any.
        ranks: of some numbers of the image, () for plain runs.
        tarp: of the distance from a reference, None for plain runs.
        null: what H does not see at all, None where H is not linear.
        open: what H and the noise leave open; None without a noise level too.
    """

    problem: Problem
    solution: Solution
    calibration: Calibration
    level: float
    coverage: tuple[float, ...]
    held: tuple[float, ...] = ()
    ranks: tuple[Ranks, ...] = ()
    tarp: Ranks | None = None
    null: Split | None = None
    open: Split | None = None

    @property
    def doubts(self) -> list[str]:
        """Why nothing is certified; [] where nothing speaks against it."""
        found = [] if self.calibration.fit.fits else [self.calibration.fit.said]
        if len(self.held) >= JUDGES:
            mean, error = average(self.held)
            if mean + 2 * error < self.level:
                found.append(
                    f"ON HELD PICTURES the {self.level:.0%} intervals hold {mean:.1%} ± {error:.1%} of the pixels: "
                    "these pictures are not like the draws. Calibrate on pictures like yours, pool=FOLDER"
                )
        return found

    @property
    def certified(self) -> bool:
        """Whether the intervals' promise is made."""
        return not self.doubts

    @property
    def said(self) -> str:
        """The first line."""
        if self.doubts:
            return "NOT CERTIFIED. " + " ".join(self.doubts)
        return (
            f"CERTIFIED under the prior: the {self.level:.0%} intervals hold at least {self.level:.0%} of the pixels on average, over "
            f"images like those used here ({self.calibration.draws.origin}), measured in the same way."
        )

    def interval(self, level: float | None = None) -> tuple[Tensor, Tensor]:
        """(low, high) images, calibrated."""
        return self.solution.interval(self.level if level is None else level)

    def region(self, region: Tensor, level: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, low, high) of the mean over a region, (B,) each; a region is bool, true inside, (H, W) or (C, H, W)."""
        return self._number(lambda x: inside(x, region), level)

    def contrast(self, one: Tensor, other: Tensor, level: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, low, high) of how much brighter a region is than another: whether the difference is sure is whether 0 lies outside."""
        return self._number(lambda x: inside(x, one) - inside(x, other), level)

    def edges(self, level: float | None = None) -> tuple[Tensor, Tensor]:
        """(size, doubt) of the edges, (B, 1, H, W): the mean's steps between neighbours, and the half width of what a step may be.

        A step between two pixels is sure where their intervals do not meet: its size is above its doubt. Images with two sides only.
        """
        mean, half = self.solution.mean, self.calibration.width(self.solution, self.level if level is None else level)
        if mean.ndim != 4:
            raise InputError(f"edges are those of pictures (B, C, H, W); given {tuple(mean.shape)}")
        rows = torch.nn.functional.pad(mean.diff(dim=-2), (0, 0, 0, 1))
        columns = torch.nn.functional.pad(mean.diff(dim=-1), (0, 1))
        size = (rows.square() + columns.square()).mean(1, keepdim=True).sqrt()
        return size, 2 * half.square().mean(1, keepdim=True).sqrt()

    def apart(self, one: int, other: int) -> Tensor:
        """How far two samples differ, in widths of the interval, (B, *in_shape): above 1 they cannot both be right at this level."""
        if self.solution.samples is None:
            raise InputError("a plain run has no samples to compare: certify(..., samples=4)")
        count = self.solution.samples
        for index in (one, other):
            if not isinstance(index, int) or not 0 <= index < count:
                raise InputError(f"samples are counted from 0 to {count - 1}; given {index!r:.40}")
        half = self.calibration.width(self.solution, self.level)
        gap = (self.solution.x[one] - self.solution.x[other]).abs()
        return torch.where(gap > 0, gap / (2 * half), torch.zeros_like(gap))

    def _number(self, of: Any, level: float | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.calibration.number(self.solution, of, self.level if level is None else level)

    def rows(self) -> list[tuple[str, str]]:
        """What was found, a line each: (what, number)."""
        out = [
            ("first line", self.said),
            ("solver", self.calibration.solver),
            ("calibrated on", self.calibration.draws.origin),
            ("does y look like the draws", self.calibration.fit.said),
            ("widths", widths(self.calibration, self.level)),
            ("half width of the interval", self.half_width()),
        ]
        if self.solution.why:
            out.insert(2, ("chosen", self.solution.why))
        if self.coverage:
            mean, error = average(self.coverage)
            out.append((f"coverage of {self.level:.0%} intervals", f"{mean:.1%} ± {error:.1%} on draws left out one at a time"))
            for name, share in self.calibration.covered(self.level):
                out.append((f"coverage {name}", f"{share:.1%}"))
        if self.held:
            held, spread = average(self.held)
            few = "" if len(self.held) >= JUDGES else f"; fewer than {JUDGES} give no verdict"
            error = f" ± {spread:.1%}" if len(self.held) > 1 else ""
            out.append((f"coverage on {len(self.held)} held picture{'s' * (len(self.held) > 1)}", f"{held:.1%}{error}{few}"))
        for one in [*self.ranks, *([] if self.tarp is None else [self.tarp])]:
            verdict = "like draws of the posterior" if one.p >= SURE / (len(self.ranks) + 1) else one.said
            out.append((f"ranks of {one.name}", f"{verdict} (p = {one.p:.2g}; 90 % of its own intervals hold {one.covered(0.9):.0%})"))
        if self.null is not None:
            out.append(("energy in what H does not see", listed(self.null.share())))
        if self.open is not None:
            out.append(("energy that H and the noise leave to the prior", listed(self.open.share())))
        return out

    def half_width(self) -> str:
        """Of the pixels, in words; with a warning where it says nothing."""
        half = self.calibration.width(self.solution, self.level).flatten()
        truths = self.calibration.draws.truths
        spread = float(truths.max() - truths.min())
        share = float((half >= spread / 2).double().mean())
        said = "" if share < 0.01 else f"; OF {share:.0%} OF THE PIXELS IT IS AS WIDE AS ALL THAT PICTURES HOLD: take more draws or samples"
        return f"median {float(half.median()):.3g}, widest {float(half.max()):.3g}{said}"

    def text(self) -> str:
        """For a terminal."""
        (_, first), *rest = self.rows()
        wide = max(len(name) for name, _ in rest)
        return "\n".join([first, *(f"{name:{wide}}  {value}" for name, value in rest)])

    def save(self, path: str | Path) -> None:
        """Write the page: one file of HTML without a network.

        Raises:
            InputError: the place cannot be written.
        """
        from invsolve.predictive.page import page

        write_text(Path(path), page(self))

    def _repr_html_(self) -> str:
        from invsolve.predictive.page import body

        return body(self)

    def __repr__(self) -> str:
        return f"Certificate({self.said})"


def inside(x: Tensor, region: Tensor) -> Tensor:
    """The mean over a region, (B,)."""
    kept = checked(region, x).to(x.dtype)
    return (x * kept).flatten(1).sum(1) / kept.flatten(1).sum(1)


def average(values: tuple[float, ...]) -> tuple[float, float]:
    """(mean, standard error)."""
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def widths(calibration: Calibration, level: float) -> str:
    """The factors in words, of every group of pixels."""
    names = ("", "") if int(calibration.groups.max()) == 0 else (" where a mask shows the image", " where it hides it")
    factors = calibration.factors(level)
    if not calibration.random:
        return "; ".join(f"{k:.3g} on either side{name}" for k, name in zip(factors, names, strict=False))
    ratios = calibration.inflation(level)
    each = zip(factors, ratios, names, strict=False)
    return "; ".join(f"{k:.3g} times the samples' spread{name} (errors are {ratio:.2g} times what it says)" for k, ratio, name in each)


def listed(shares: Tensor) -> str:
    """Percentages."""
    return ", ".join(f"{float(one):.1%}" for one in shares[:8])


def certify(
    problem: Problem,
    prior: Prior,
    solver: Solver,
    *,
    level: float = 0.9,
    samples: int | None = SAMPLES,
    draws: int | Draws = COUNT,
    pool: Pool = None,
    held: Pool = None,
    generator: Generator = 0,
    side: int = SIDE,
    cache: str | Path | None = None,
    solution: Solution | None = None,
) -> Certificate:
    """Solve a problem, and say what of the answer can be trusted.

    Args:
        problem, prior, solver: as for `Solver.solve`; a large image is solved in pieces (`solve_tiled`).
        level: of the intervals.
        samples: of the answer and of every draw; None for plain runs, whose intervals have one width.
        draws: how many, or such as were made before; 90 % needs 9 at least.
        pool: see `draw`: pictures in place of the prior's draws.
        held: pictures that nothing was chosen on: where the intervals hold too little of these, nothing is certified.
        generator: seed.
        side: of the window that stands for a large problem.
        cache: folder for draws.
        solution: the answer, where the problem was solved already, with as many samples.

    Raises:
        InputError: too few draws for the level, and what `draw` and `Solver.solve` raise.
    """
    refused(level, draws if isinstance(draws, int) else len(draws))
    seed = seed_of(generator)
    calibration = calibrate(problem, prior, solver, samples=samples, draws=draws, pool=pool, generator=seed, side=side, cache=cache)
    small = window(problem, side)
    if solution is not None and (solution.solver != solver or solution.mean.shape != problem.image.shape):
        given = f"{type(solution.solver).__name__}'s, {tuple(solution.mean.shape)}"
        raise InputError(f"the solution is another's ({given}): it must be this solver's with these settings, of this problem")
    if solution is None:
        large = small is not problem and max(problem.operator.in_shape[1:]) > LARGE
        run = solve_tiled if large else solver.__class__.solve
        solution = run(solver, problem, prior, generator=seed, samples=samples)  # pyright: ignore[reportArgumentType]
    law = calibration.random
    linear = problem.operator.has(Capability.LINEAR)
    noisy = linear and Ability.SIGMA in problem.noise.abilities and bool((problem.sigma > 0).all())
    return Certificate(
        problem,
        calibration.attach(solution),
        calibration,
        level,
        tuple(calibration.coverage(level)) if len(calibration) > 1 and level <= (len(calibration) - 1) / len(calibration) else (),
        () if held is None else tuple(on_held(small, prior, solver, calibration, held, level, samples, seed)),
        tuple(simulated(calibration, seed=seed)) if law else (),
        expected_coverage(calibration, seed=seed) if law else None,
        split(problem, solution.mean) if linear else None,
        split(problem, solution.mean, noise=True, **moments(calibration)) if noisy else None,
    )


def moments(calibration: Calibration) -> dict[str, float]:
    """Mean and standard deviation of the draws' pixels."""
    truths = calibration.draws.truths
    return {"centre": float(truths.mean()), "spread": max(float(truths.std()), 1e-6)}


def on_held(
    problem: Problem,
    prior: Prior,
    solver: Solver,
    calibration: Calibration,
    held: Pool,
    level: float,
    samples: int | None,
    generator: int,
) -> list[float]:
    """The share of pixels that the intervals hold, of pictures that they were not calibrated on: at most as many as there are draws."""
    pictures = draw(problem, prior, len(calibration), pool=held, generator=derive(generator, "held"))
    first = distinct(pictures)  # pictures without room for several windows come again and again; each counts once
    pictures = Draws(pictures.truths[first], pictures.problem.rows(first), pictures.origin)
    solution = solver.solve(pictures.problem, prior, generator=derive(generator, "held", "solve"), samples=samples)
    half = calibration.of(pictures.problem).width(solution, level)
    kept = ((pictures.truths - solution.mean).abs() <= half).double()
    groups = groups_of(pictures.problem).expand_as(kept)
    shares = []
    for group in range(int(groups.max()) + 1):  # the promise is made for each; the worst one counts
        inside = (groups == group).double()
        shares.append(((kept * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)).tolist())
    return min(shares, key=statistics.fmean)
