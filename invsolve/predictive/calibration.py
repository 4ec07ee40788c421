"""Intervals that hold what they say, whatever the sampler's own spread: conformal factors from draws.

    e_j(p) = |x_j(p) - m_j(p)| / w_j(p),    w^2 = s^2 + (s_rms / 10)^2

m and s are mean and standard deviation of the samples, x_j the truth of draw j. An interval m -+ k w with

    k = inf { k :  (sum_j L_j(k) + 1) / (N + 1) <= 1 - level },     L_j(k) = share of draw j's pixels with e_j > k

holds on average at least `level` of the pixels of the next draw: conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster 2022,
arXiv 2208.02814, theorem 1), exact for N draws and the problem at hand if these are exchangeable, that is under the prior. It is above
`level` by at most 1 / (N + 1) but for ties. Pixels come in groups that H alone defines (what a mask shows, what it hides), each with its
factor and its guarantee. Per pixel, k is the ceil((N + 1) level)-th smallest e_j(p): split conformal prediction (Vovk, Gammerman, Shafer
2005; for images Angelopoulos et al. 2022, arXiv 2202.05265), the same promise for each pixel, with noisier widths. So are intervals of a
number f(x), a region's mean say. A solver without spread has s = 0; then w = 1, and the width is that of its errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.digest import state_hash
from invsolve.predictive.draws import SIDE, Draws, Generator, Pool, chunk, differing, distinct, draw, seed_of, window
from invsolve.predictive.fit import Fit, look
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import derive
from invsolve.run.known import known
from invsolve.solution import Solution
from invsolve.solver import Solver

NEAR = 3  # pixels
FLOOR = 0.1  # of the rms spread: pixels on which all samples agree by chance
COUNT = 19  # draws: 90 % intervals hold at most 1 / 20 too many, 5 points
SAMPLES = 4  # of every draw: with 19 draws of 64 x 64 pixels and 30 steps a minute of two cores


@dataclass(frozen=True)
class Calibration:
    """What a solver did on draws whose truth is known.

    Args:
        draws: truths and measurements.
        mean, spread: of its samples, (N, *in_shape) each; the spread is w above.
        samples: (n, N, *in_shape), or (1, N, *in_shape) of plain runs.
        groups: of the pixels of a draw, whole numbers from 0, (N or 1, C, H, W).
        fit: whether the measurement at hand looks like the draws.
        solver: in words.
        seconds: that it took.
        own: the groups of the pixels of the problem at hand, where these are others than the draws'; see `of`.
    """

    draws: Draws
    mean: Tensor
    spread: Tensor
    samples: Tensor
    groups: Tensor
    fit: Fit
    solver: str
    seconds: float
    own: Tensor | None = None

    def __len__(self) -> int:
        return len(self.draws)

    @property
    def scores(self) -> Tensor:
        """e_j, (N, *in_shape)."""
        return ((self.draws.truths - self.mean).abs() / self.spread).nan_to_num(0.0)

    def factors(self, level: float = 0.9, *, rows: Sequence[int] | None = None) -> list[float]:
        """k of every group; `rows` are the draws it is taken from, all unless said.

        Raises:
            InputError: a level outside (0, 1), or one for which there are too few draws.
        """
        count = len(self) if rows is None else len(rows)
        return self._missing((count + 1) * (1 - refused(level, count)) - 1, rows)

    def _missing(self, allowed: float, rows: Sequence[int] | None = None) -> list[float]:
        """The least k of every group for which sum_j L_j(k) <= allowed."""
        chosen = list(range(len(self))) if rows is None else list(rows)
        scores, groups = self.scores[chosen], self.groups.expand_as(self.draws.truths)[chosen]
        out = []
        for group in range(int(self.groups.max()) + 1):
            inside = groups == group
            each = 1 / inside.flatten(1).sum(1).clamp_min(1).double()
            weights = each.reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores)[inside]
            ordered, order = scores[inside].sort(descending=True)
            # L is the weight of scores above k: the largest scores that may be missed, then the next one is k.
            missed = weights[order].cumsum(0)
            place = int((missed <= allowed + 1e-9).sum())
            out.append(float(ordered[min(place, len(ordered) - 1)]) if len(ordered) else 0.0)
        return out

    @property
    def random(self) -> bool:
        """Whether the solver draws: its samples differ."""
        return len(self.samples) > 1 and bool((self.samples[1:] != self.samples[:1]).any())

    def inflation(self, level: float = 0.9) -> list[float]:
        """By how much the samples' spread is too small, of every group: 1 for the exact posterior, where it is Gaussian.

        The quantile of e at `level`, as it is, over Student's quantile sqrt(1 + 1/n) t.

        Raises:
            InputError: a solver without spread.
        """
        count = len(self.samples)
        if not self.random:
            raise InputError("a solver without spread has none that could be too small; its intervals have one width, `factors`")
        quantile = float(stats.t.ppf((1 + refused(level, len(self))) / 2, count - 1)) * math.sqrt(1 + 1 / count)
        return [k / quantile for k in self._missing(len(self) * (1 - level))]

    def width(self, solution: Solution, level: float = 0.9, *, per: str = "group") -> Tensor:
        """Half the interval's width for every pixel of a solution, (B, *in_shape).

        Args:
            solution: of this solver, on a problem like that of the draws.
            level: of the interval.
            per: "group" or "pixel".

        Raises:
            InputError: another number of samples or another size than it was calibrated with, an unknown `per`.
        """
        mine, asked = 1 if solution.samples is None else solution.samples, len(self.samples)
        if mine != asked:
            raise InputError(f"calibrated with {asked} samples, the solution has {mine}: solve(..., samples={asked})")
        spread = spreads(solution)
        if per == "pixel":
            self.sized(spread)
            refused(level, len(self))
            place = min(len(self), math.ceil((len(self) + 1) * level - 1e-9))
            return spread * self.scores.sort(0).values[place - 1]
        if per != "group":
            raise InputError(f"per must be group or pixel; given {per!r:.40}")
        factors = torch.tensor(self.factors(level), dtype=spread.dtype, device=spread.device)
        own = self.groups[:1] if self.own is None else self.own
        if int(own.max()) >= len(factors):
            raise InputError("the image has pixels that a mask hides, and the draws' windows have none: take larger ones, side=256")
        try:
            return spread * factors[own.to(spread.device)].expand_as(spread)
        except RuntimeError:
            given = f"{tuple(own.shape)} do not fit images {tuple(spread.shape)}"
            raise InputError(f"the groups of pixels {given}: calibration.of(problem) is that of another problem's pixels") from None

    def interval(
        self, solution: Solution, level: float = 0.9, *, per: str = "group", groups: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(low, high), (B, *in_shape) each: the samples' mean -+ `width`."""
        half = self.width(solution, level, per=per)
        return solution.mean - half, solution.mean + half

    def coverage(self, level: float = 0.9) -> list[float]:
        """The share of pixels that intervals hold, of each draw, its factors taken from the others."""
        return self._held(level).flatten(1).double().mean(1).tolist()

    def covered(self, level: float = 0.9) -> list[tuple[str, float]]:
        """The same by where a pixel lies: in the middle and at the edge of what a mask hides, on smooth parts and on edges of the truth.

        The promise is made for each group of pixels as a whole, not for these: where the shares differ much, the spread does not follow
        the error. Only for draws (N, C, H, W).
        """
        if self.draws.truths.ndim != 4:
            return []
        held, out = self._held(level).double(), []
        for name, place in places(self.draws.truths, self.groups).items():
            inside = place.expand_as(held)
            if bool(inside.any()):
                out.append((name, float(held[inside].mean())))
        return out

    def _held(self, level: float) -> Tensor:
        """Whether the truth lies in its interval, of every pixel of every draw, factors taken from the other draws."""
        groups, out = self.groups.expand_as(self.draws.truths).cpu(), []
        for row in range(len(self)):
            others = [one for one in range(len(self)) if one != row]
            factors = torch.tensor(self.factors(level, rows=others), dtype=self.scores.dtype)
            out.append(self.scores[row].cpu() <= factors[groups[row]])
        return torch.stack(out)

    def number(self, solution: Solution, of: Callable[[Tensor], Tensor], level: float = 0.9) -> tuple[Tensor, Tensor, Tensor]:
        """(value, low, high) of a number of the image, (B,) each, such as a region's mean: split conformal.

        Args:
            solution: as for `width`.
            of: images (B, *in_shape) -> (B,).
            level: of the interval.

        Raises:
            InputError: as `width`; a function that gives something else than a number per image.
        """
        self.sized(solution.mean)
        truth = numbers(of, self.draws.truths)
        theirs = torch.stack([numbers(of, one) for one in self.samples])
        drawn = solution.x[None] if solution.samples is None else solution.x
        if len(drawn) != len(self.samples):
            raise InputError(f"calibrated with {len(self.samples)} samples, the solution has {len(drawn)}")
        mine = torch.stack([numbers(of, one) for one in drawn])
        count = len(self)
        refused(level, count)
        centre, spread = theirs.mean(0), deviation(theirs)
        plain = not bool(spread.any())  # no samples, or all alike: a width of its own
        scores = ((truth - centre).abs() / (torch.ones_like(spread) if plain else spread)).nan_to_num(0.0, posinf=math.inf)
        k = scores.sort().values[min(count, math.ceil((count + 1) * level - 1e-9)) - 1]
        middle, half = mine.mean(0), (k * (torch.ones_like(mine[0]) if plain else deviation(mine))).nan_to_num(0.0, posinf=math.inf)
        return middle, middle - half, middle + half

    def sized(self, images: Tensor) -> None:
        """Raise InputError unless images have the draws' size: a number of a window is none of the whole image.

        Raises:
            InputError: says so.
        """
        mine, theirs = tuple(images.shape[1:]), tuple(self.draws.truths.shape[1:])
        if mine != theirs:
            raise InputError(
                f"the draws are windows {theirs} of images {mine}; intervals per pixel and of regions need whole ones: side={max(mine)}"
            )

    def of(self, problem: Problem) -> Calibration:
        """The calibration for the pixels of another problem of the same kind: a large one, of which the draws were windows."""
        return replace(self, own=groups_of(problem))

    def record(self) -> dict[str, Any]:
        """As data, for `Solution.save`."""
        from invsolve.predictive.kept import record

        return record(self)

    def attach(self, solution: Solution) -> Solution:
        """The solution, whose `interval` is calibrated from now on.

        Raises:
            InputError: see `width`.
        """
        if repr(solution.solver) != self.solver:
            raise InputError(f"calibrated for {self.solver}; the solution is by {solution.solver!r}: other settings, other errors")
        self.width(solution, min(0.5, len(self) / (len(self) + 1)))
        return replace(solution, calibration=self)


def places(truths: Tensor, groups: Tensor) -> dict[str, Tensor]:
    """Where pixels lie, bool (N or 1, 1 or C, H, W) each, by a name in words."""
    hidden = (groups > 0).to(truths.dtype)
    near = torch.nn.functional.max_pool2d(1 - hidden, 2 * NEAR + 1, stride=1, padding=NEAR) > 0
    rows = torch.nn.functional.pad(truths.diff(dim=-2), (0, 0, 0, 1))
    columns = torch.nn.functional.pad(truths.diff(dim=-1), (0, 1))
    steps = (rows.square() + columns.square()).mean(1, keepdim=True)
    limits = torch.stack([one.flatten().quantile(torch.tensor([0.5, 0.9], dtype=one.dtype, device=one.device)) for one in steps])
    low, high = (limits[:, k].reshape(-1, 1, 1, 1) for k in (0, 1))
    return {
        f"within {NEAR} pixels of what a mask shows": (hidden > 0) & near,
        "further inside what it hides": (hidden > 0) & ~near,
        "on the smoother half of a picture": steps <= low,
        "on its sharpest tenth": steps > high,
    }


def deviation(values: Tensor) -> Tensor:
    """Standard deviation over the first axis; 0 of a single row."""
    return values.std(0) if len(values) > 1 else torch.zeros_like(values[0])


def numbers(of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A number per image, float64.

    Raises:
        InputError: something else.
    """
    found: Any = of(images)
    if not isinstance(found, Tensor) or found.shape != (len(images),):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"the function must give a number per image, a tensor ({len(images)},); given {given}")
    return found.detach().double().cpu()


def refused(level: float, count: int) -> float:
    """The level, where `count` draws suffice for it.

    Raises:
        InputError: outside (0, 1), or above count / (count + 1).
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1; given {level!r:.40}")
    if level > count / (count + 1) + 1e-12:
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise InputError(
            f"{count} draws can vouch for intervals up to {count / (count + 1):.2g}; for {level:g} it takes {needed} (draws={needed})"
        )
    return float(level)


def spreads(solution: Solution) -> Tensor:
    """w of a solution, (B, *in_shape): 1 where its samples do not differ at all."""
    if solution.samples is None or solution.samples < 2:
        return torch.ones_like(solution.mean)
    std = solution.x.std(0)
    size = std.flatten(1).square().mean(1).sqrt()
    alike = size <= 1e-6 * solution.x.abs().flatten(2).mean((0, 2))
    size = size.reshape(-1, *[1] * (std.ndim - 1))
    wide = (std.square() + (FLOOR * size).square()).sqrt()
    return torch.where(alike.reshape(size.shape), torch.ones_like(wide), wide)


def groups_of(problem: Problem) -> Tensor:
    """Which group a pixel belongs to, (B or 1, *in_shape): 0 what a mask shows, 1 what it hides; all 0 where H is no mask."""
    found = known(problem)
    if found is None or bool(found[0].all()) or not bool(found[0].any()):
        return torch.zeros_like(problem.image[:1], dtype=torch.long)
    return (~found[0]).long()


def alike(draws: Draws, problem: Problem) -> None:
    """Raise InputError unless the draws were measured as the problem was.

    Raises:
        InputError: another H or another noise.
    """
    for what in ("operator", "noise"):
        mine, theirs = getattr(draws.problem, what), getattr(problem, what)
        if state_hash(mine) != state_hash(theirs) and theirs.batch is None:
            raise InputError(
                f"the draws were measured with another {what}, {mine!r:.100}; the problem's is {theirs!r:.100}: draw for this one"
            )


def calibrate(
    problem: Problem,
    prior: Prior,
    solver: Solver,
    *,
    samples: int | None = SAMPLES,
    draws: int | Draws = COUNT,
    pool: Pool = None,
    generator: Generator = 0,
    side: int = SIDE,
    cache: str | Path | None = None,
) -> Calibration:
    """Run a solver on draws from the prior that are measured as the problem was.

    Args:
        problem: its H and noise are used, its y only to say whether it looks like the draws. Of a large one a window stands for the whole,
            and the guarantee is that of windows.
        prior, solver: as the problem will be solved.
        samples: per draw, as the problem will be solved; None for plain runs.
        draws: how many, or such as were made before.
        pool: pictures, or another prior, in place of draws; see `draw`. The guarantee is then that of pictures like these.
        generator: seed.
        side: of the window that stands for a large problem.
        cache: folder for draws.

    Raises:
        InputError: see `draw` and `Solver.solve`.
    """
    if not isinstance(problem, Problem) or not isinstance(solver, Solver):
        given = f"{type(problem).__name__}, {type(solver).__name__}"
        raise InputError(f"the order is problem, prior, solver, all of them objects; given {given}")
    solver.refuse(problem, prior)
    if differing(problem):
        raise InputError("the items differ in H, noise or context, and the promise is made for one of them: take problem[i], one at a time")
    seed, small = seed_of(generator), window(problem, side)
    if not isinstance(draws, Draws):
        # Other draws than those that `tune` with the same seed chose settings on: the promise is that of a solver chosen without them.
        draws = draw(small, prior, draws, pool=pool, generator=derive(seed, "calibration"), cache=cache)
    else:
        alike(draws, small)
    if pool is not None and (several := len(distinct(draws))) < len(draws):
        given = f"{several} of {len(draws)} differ"
        raise InputError(f"every draw must be another picture, and of those from the pool {given}; give more pictures, or ask fewer draws")
    limit = max(1, chunk(draws.problem) // (samples or 1))
    # Streams of their own: the draws must not share the noise of the run on the problem at hand.
    solution = solver.solve(draws.problem, prior, generator=derive(seed, "calibrate"), samples=samples, chunk=limit)
    every = solution.x[None] if solution.samples is None else solution.x
    return Calibration(
        draws,
        solution.mean,
        spreads(solution),
        every,
        groups_of(draws.problem),
        look(problem, draws, side),
        repr(solver),
        solution.seconds,
        groups_of(problem),
    )
