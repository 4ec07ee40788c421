"""PDHG with total variation: any linear operator, no inner loop, and a certificate of how far the objective is from its minimum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import Measurement, column, flat, mapped
from invsolve.operator.preconditioners import divide
from invsolve.priors.base import Prior
from invsolve.priors.tv import GradientNorm, differences, plus_divergence, steepest
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver, looked
from invsolve.solvers.ranges import need_count
from invsolve.solvers.splitting.common import keep, pulls
from invsolve.solvers.start import laplace_spectrum
from invsolve.solvers.variational.common import first_image, objective, objective_gaps

CHECK_EVERY = 10  # the gap costs a transform and a product
RELAXED = 1.9  # over-relaxation, below 2
SLACK = 1.1  # |H|^2 may be larger than the power method found


@dataclass(frozen=True)
class PDHGTV(Solver):
    """Minimise nll(y, Hx) + weight TV(x) by the primal-dual hybrid gradient, stopped by the duality gap.

        min_x max_{q, |p| <= c}  <Kx - b, q> - |q|^2 / 2 + <Dx, p>,   K = H / |H|,  b = y / |H|,  c = weight sigma_x^2
        x' = x - s (K^T q + D^T p)  (cut at 0 for positive=True);   q' = (q + r (K(2x' - x) - b)) / (1 + r);   p' = proj(p + r' D(2x' - x))

    and all three are moved 1.9 times as far, until the gap is at most tol times the objective.

    The certificate is a dual point (q, p) with K^T q + D^T p = 0 and |p| <= c, whose value -|q|^2 / 2 - <q, b> no objective falls below.
    The iterates miss it a little. q is made orthogonal to what H makes of a constant channel; what K^T q + D^T p is then sums to 0 in every
    channel, so that it is D^T of a gradient field, which a cosine transform finds and p loses; (q, p) is multiplied by the best factor
    that keeps |p| <= c. With x >= 0 only K^T q + D^T p >= 0 is needed, and what is lost is what lies below 0.

    Args:
        steps: at most so many; each costs a product with H, one with H^T, a gradient and a divergence.
        tol: an item stops where the objective is within this share of its minimum, proved. 0 never stops.
        ratio: of the primal to the dual steps; None for 1 / (4 sigma_x), in [1, 200].
        positive: x >= 0.

    Raises:
        InputError: steps < 1, tol negative, ratio not positive.

    References:
        A First-Order Primal-Dual Algorithm for Convex Problems with Applications to Imaging (Chambolle, Pock, 2011), algorithm 1; relaxed
        as in On the Ergodic Convergence Rates of a First-Order Primal-Dual Algorithm (Chambolle, Pock, 2016).
        Deviations: in least squares of the image, so that nothing depends on the unit of y; the certificate is ours: the gap at the
        iterates is infinite, since x is not bounded.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), prior=(GradientNorm,))
    expected_failures: ClassVar[Mapping[str, str]] = {
        "check_divergence": "the dual is projected here, a spoilt prox is not met, a spoilt value shows in the objective and the gap only"
    }
    steps: int = 2000
    tol: float = 1e-4
    ratio: float | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        need_count(self, "steps")
        if not 0 <= self.tol < math.inf:
            raise InputError(f"tol must be finite and not negative; given {self.tol}")
        if self.ratio is not None and not 0 < self.ratio < math.inf:
            raise InputError(f"ratio must be positive and finite, or None; given {self.ratio}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """No noise, or an unusable weight."""
        assert isinstance(prior, GradientNorm)
        return objective_gaps(problem, prior)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: GradientNorm, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: the objective, and the gap as a share of it (where it was computed last), per item."""
        if start is not None and start.converged:
            yield start
            return
        dual = Dual(problem, prior, positive=self.positive)
        state = start.state if start is not None else {}
        x = first_image(problem, start)
        x = x.clamp_min(0) if self.positive else x
        free, p = state.get("free", x), state.get("p", torch.zeros_like(differences(x)))
        q = dual.unflat(state["q"]) if "q" in state else mapped(torch.zeros_like, problem.y)
        active = state.get("active", torch.ones(len(x), dtype=torch.bool, device=x.device))
        gap = state.get("gap", torch.ones_like(problem.sigma_x.expand(len(x))))  # 0 is a lower bound
        for index in range(0 if start is None else start.index + 1, self.steps):
            shown, moved = self._moved(dual, free, q, p)
            free, p = keep(active, moved[0], free), keep(active, moved[2], p)
            q = mapped(lambda new, old, a=active: keep(a, new, old), moved[1], q)
            x = keep(active, shown, x)
            if index % CHECK_EVERY == CHECK_EVERY - 1 or index == self.steps - 1:
                gap = keep(active, dual.gap(x, q, p), gap)
                active = active & ~(gap <= self.tol)
            finite, going = looked(x, active)
            kept = {"free": free, "p": p, "q": flat(q), "active": active, "gap": gap}
            stats = {"objective": objective(problem, prior, x), "gap": gap}
            yield Step(index, self.steps, x, x, stats=stats, state=kept, converged=not going, finite=finite)
            if not going:
                return

    def _moved(self, dual: Dual, x: Tensor, q: Measurement, p: Tensor) -> tuple[Tensor, tuple[Tensor, Measurement, Tensor]]:
        """x', and x, q and p moved."""
        sigma = dual.problem.sigma_x.clamp_min(torch.finfo(x.dtype).eps)
        ratio = (1 / (4 * sigma)).clamp(1, 200) if self.ratio is None else torch.full_like(sigma, self.ratio)
        # s (r |K|^2 + r' |D|^2) <= 1, half of it each
        down = column(ratio / math.sqrt(2 * SLACK), x)
        up = column(math.sqrt(2 * SLACK) / (2 * SLACK * ratio), x)
        new = x - down * dual.back(q, p)
        new = new.clamp_min(0) if self.positive else new
        ahead = 2 * new - x
        seen = mapped(lambda q, k, b: (q + column(up.flatten(), q) * (k - b)) / (1 + column(up.flatten(), q)), q, dual.seen(ahead), dual.b)
        climbed = dual.prior.project(p + SLACK / steepest(x) * up[:, None] * differences(ahead), column(dual.pull, x))
        q = mapped(lambda old, new: torch.lerp(old, new, RELAXED), q, seen)
        return new, (torch.lerp(x, new, RELAXED), q, torch.lerp(p, climbed, RELAXED))

    @classmethod
    def examples(cls) -> list[Solver]:
        """Twelve steps as they come, and with a ratio of one's own and x >= 0."""
        return [cls(steps=12), cls(steps=12, ratio=3.0, positive=True)]


class Dual:
    """The problem in units of the image, and its certificate."""

    def __init__(self, problem: Problem, prior: GradientNorm, *, positive: bool) -> None:
        self.problem, self.prior, self.positive = problem, prior, positive
        self.pull = pulls(problem, prior)
        self.b = mapped(lambda part: part / column(problem.gain, part), problem.y)
        image = problem.image
        channels = torch.eye(image.shape[1], dtype=image.dtype, device=image.device)
        # K of every constant channel, and the inverse of their products; a channel that is not seen is left alone
        self.flats = [self.seen(one.reshape(1, -1, *[1] * (image.ndim - 2)).expand_as(image)) for one in channels]
        grams = torch.stack([torch.stack([inner(one, two) for two in self.flats], 1) for one in self.flats], 1)
        self.inverse = torch.linalg.pinv(grams, hermitian=True)

    def seen(self, x: Tensor) -> Measurement:
        """K x."""
        return mapped(lambda part: part / column(self.problem.gain, part), self.problem.operator(x))

    def back(self, q: Measurement, p: Tensor) -> Tensor:
        """K^T q + D^T p."""
        through = self.problem.operator.adjoint(q) / column(self.problem.gain, p[:, 0])
        return through - plus_divergence(torch.zeros_like(through), p, torch.empty_like(through))

    def unflat(self, rows: Tensor) -> Measurement:
        """q of its rows."""
        sizes = [part[0].numel() for part in ([self.b] if isinstance(self.b, Tensor) else self.b)]
        pieces = list(rows.split(sizes, 1))
        return mapped(lambda part: pieces.pop(0).reshape(part.shape).to(part.dtype), self.b)

    def gap(self, x: Tensor, q: Measurement, p: Tensor) -> Tensor:
        """(objective - lower bound) / objective, (B,)."""
        off = flat(mapped(torch.sub, self.seen(x), self.b)).abs()
        primal = off.square().sum(1) / 2 + self.pull * self.prior.value(x)
        return (primal - self.lower(q, p)) / primal.clamp_min(torch.finfo(x.dtype).tiny)

    def lower(self, q: Measurement, p: Tensor) -> Tensor:
        """The value of the dual point that (q, p) is made to, (B,)."""
        p = self.prior.project(p.clone(), column(self.pull, p[:, 0]))  # a relaxed step may have left the ball
        means = torch.stack([inner(one, q) for one in self.flats], 1)  # sums over the channels of K^T q
        lost = means.clamp_max(0) if self.positive else means
        shares = torch.einsum("bij,bj->bi", self.inverse, lost)
        for one, share in zip(self.flats, shares.unbind(1), strict=True):
            q = mapped(lambda part, k, s=share: part - column(s, part) * k, q, one)
        rest = self.back(q, p)
        p = p - differences(potential(rest - self._allowed(rest)))
        norm, tiny = self.prior.dual_norm(p), torch.finfo(rest.dtype).tiny
        most = (self.pull / norm.clamp_min(tiny)).clamp_max(1e6)
        along, square = -inner(q, self.b), flat(q).abs().square().sum(1)
        best = torch.minimum((along / square.clamp_min(tiny)).clamp_min(0), most)
        return best * along - best.square() * square / 2

    def _allowed(self, rest: Tensor) -> Tensor:
        """What K^T q + D^T p may be: nothing, or with x >= 0 what is not negative and has the same sums."""
        axes = tuple(range(2, rest.ndim))
        sums = rest.sum(axes, keepdim=True).clamp_min(0)
        if not self.positive:
            return torch.zeros_like(rest)
        above = rest.clamp_min(0)
        return above * sums / above.sum(axes, keepdim=True).clamp_min(torch.finfo(rest.dtype).tiny)


def inner(one: Measurement, two: Measurement) -> Tensor:
    """The real inner product per item, (B,)."""
    return (flat(one).conj() * flat(two)).sum(1).real


def potential(rest: Tensor) -> Tensor:
    """u with D^T D u = rest, for a rest whose channels sum to 0, by a cosine transform (the mirror image's Fourier transform)."""
    spectrum = laplace_spectrum(rest)
    spectrum[(0,) * spectrum.ndim] = torch.inf
    return divide("symmetric", spectrum, torch.zeros_like(spectrum[(0,) * spectrum.ndim]), rest)
