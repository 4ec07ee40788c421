"""Total generalised variation of second order: as total variation, but slopes cost nothing where they do not change.

    R(x) = min_w  sum |Dx - w| + ratio sum |Ew|,      E w = (dy wy, dx wx, (dx wy + dy wx) / 2)

with forward differences and Euclidean (Frobenius) norms per pixel and channel. w stands where Dx does, so that R is 0 for every plane.

Neither R nor its prox has a closed form. Both are a saddle point, over the slopes w (and the image u of the prox) and two duals,

    min_{u, w} max_{|p| <= tau, |q| <= tau ratio}  |u - x|^2 / 2 + <Du - w, p> + <Ew, q>

which is approached by the primal-dual hybrid gradient. Its certificate: every q with |q| <= ratio and |E^T q| <= 1 (both made so by a
factor) gives a lower bound, <Dx, E^T q> of R, and <x, t> - |t|^2 / 2 of the prox with t = tau D^T E^T q.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import ImageRegulariser, Prior
from invsolve.priors.tv import MOST, differences, plus_divergence
from invsolve.unit import whole

CHECK_EVERY = 10  # the gap costs as much as two iterations
# |D|^2, |E|^2 <= 8, so that |(Du - w, Ew)|^2 <= (17 + sqrt(33)) / 2 < 12
BOUND = 12.0
FIXED_BOUND = 9.0  # the same of w alone, (-w, Ew)
# Square root of the ratio of the primal steps to the dual ones: where the image is fixed (slopes are of the order of .1, duals of 1), and
# times sqrt(tau) where it is not (the fewest iterations at tau = .003, .03 and .3 of 0.1 to 1).
FIXED, FREE = 0.1, 0.07
ZERO = 1e-7  # of TV(x): what counts as none
RELAXED = 1.9  # over-relaxation, below 2


def strain(w: Tensor) -> Tensor:
    """E w, (B, 2, C, H, W) -> (B, 3, C, H, W), the mixed entry times sqrt(2); differences only between slopes that both exist."""
    out = torch.zeros(w.shape[0], 3, *w.shape[2:], dtype=w.dtype, device=w.device)
    wy, wx = w[:, 0], w[:, 1]
    out[:, 0, :, :-2] = wy[..., 1:-1, :] - wy[..., :-2, :]
    out[:, 1, :, :, :-2] = wx[..., 1:-1] - wx[..., :-2]
    mixed = wy[..., :-1, 1:] - wy[..., :-1, :-1] + wx[..., 1:, :-1] - wx[..., :-1, :-1]
    out[:, 2, :, :-1, :-1] = mixed / math.sqrt(2)
    return out


def strain_adjoint(q: Tensor) -> Tensor:
    """E^T q."""
    out = torch.zeros(q.shape[0], 2, *q.shape[2:], dtype=q.dtype, device=q.device)
    wy, wx, mixed = out[:, 0], out[:, 1], q[:, 2, :, :-1, :-1] / math.sqrt(2)
    wy[..., 1:-1, :] += q[:, 0, :, :-2]
    wy[..., :-2, :] -= q[:, 0, :, :-2]
    wx[..., 1:-1] += q[:, 1, :, :, :-2]
    wx[..., :-2] -= q[:, 1, :, :, :-2]
    wy[..., :-1, 1:] += mixed
    wy[..., :-1, :-1] -= mixed
    wx[..., 1:, :-1] += mixed
    wx[..., :-1, :-1] -= mixed
    return out


def sizes(p: Tensor) -> Tensor:
    """Euclidean norms per pixel and channel, (B, C, H, W)."""
    return p.square().sum(1).sqrt()


def within(p: Tensor, radius: Tensor) -> Tensor:
    """p onto the balls of a radius (B, 1, 1, 1)."""
    tiny = torch.finfo(p.dtype).tiny
    return p * (radius / torch.maximum(sizes(p), radius).clamp_min(tiny))[:, None]


class TotalGeneralisedVariation(ImageRegulariser):
    """Total generalised variation of second order: piecewise smooth images without the stairs of total variation.

        R(x) = min_w  sum |Dx - w| + ratio sum |Ew|;   images in [0, 1], sums over pixels and channels

    R is at most TV(x) (w = 0), and 0 for planes. Its value is the upper bound that the certificate holds to `tol`, its gradient the lower
    bound's, D^T E^T q, which is a subgradient to the same tolerance.

    Args:
        weight: in front of R, in the units of a negative log-likelihood; c / sigma, c = 0.5, the default at 0.05, being best of 0.3, 0.5
            and 0.7 for denoising photographs (29.2 dB with ratio 1, 29.1 with 2 and 4; `tv` has 29.1).
        ratio: price of a change of slope; 2 is usual, a large one leaves the distance to planes, a small one |second derivative|.
        tol: R and the prox stop an item once its duality gap is at most tol times its objective.
        max_iter: cap on the iterations of either; some hundred are usual.

    Raises:
        InputError: a weight that is negative or not finite, a ratio that is not positive and finite, tol outside (0, 1),
            max_iter no whole number from 1 to 1,000,000.

    References:
        Total Generalized Variation (Bredies, Kunisch, Pock, 2010), SIAM J. Imaging Sciences 3(3): TGV^2 with alpha_1 = 1, alpha_0 = ratio.
        A First-Order Primal-Dual Algorithm for Convex Problems with Applications to Imaging (Chambolle, Pock, 2011), algorithm 1, relaxed.
        Deviation: w has no value where Dx has none, at the last row and column, so that planes are free up to the border.
    """

    costly: ClassVar[bool] = True  # its prox takes hundreds of iterations

    def __init__(self, weight: float = 10.0, ratio: float = 1.0, tol: float = 1e-4, max_iter: int = 3000) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight must be finite and not negative; given {weight}")
        if not 0 < ratio < math.inf:
            raise InputError(f"ratio must be positive and finite; given {ratio}")
        if not 0 < tol < 1:
            raise InputError(f"tol must lie in (0, 1); given {tol}")
        self.weight, self.ratio, self.tol, self.max_iter = float(weight), float(ratio), float(tol), whole("max_iter", max_iter, MOST)

    def value(self, x: Tensor) -> Tensor:
        """R(x), (B,), to tol R + 1e-7 TV; differentiable by the subgradient of the lower bound."""
        with torch.no_grad():
            still, one = x.detach(), torch.ones_like(x.detach()[:, :1, :1, :1])
            state = torch.cat([torch.zeros_like(still)[:, None].expand(-1, 5, -1, -1, -1), differences(still)], 1)
            _, state = self._descend(still, one, still, state, max(self.tol, 16 * torch.finfo(x.dtype).eps), fixed=True)
            slope = self._lower(still, one, state[:, 2:5], fixed=True)[0]
            value = self._primal(still, one, still, state[:, 5:], fixed=True)
        return value + (slope * (x - still)).flatten(1).sum(1)

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """argmin_u R(u) + |u - x|^2 / (2 tau) to the tolerance; tau a float or (B,), finite."""
        return self.prox_with_dual(x, tau)[0]

    @torch.no_grad()
    def prox_with_dual(self, x: Tensor, tau: float | Tensor, dual: Tensor | None = None, tol: float | None = None) -> tuple[Tensor, Tensor]:
        """The prox, and (p, q, w), (B, 7, C, H, W), that the next call may start from, p and q in units of tau.

        Args:
            x: (B, C, H, W).
            tau: a float or (B,), finite and not negative.
            dual: of an earlier call on a similar x.
            tol: another relative gap than the prior's.

        Raises:
            InputError: tau is negative or not finite, or the dual has another shape.
        """
        radius = column(tau, x).expand(x.shape[0], 1, 1, 1)
        if not bool((torch.isfinite(radius) & (radius >= 0)).all()):
            raise InputError(f"tau must be finite and not negative; given {tau}")
        shape = (x.shape[0], 7, *x.shape[1:])
        if dual is not None and dual.shape != shape:
            raise InputError(f"the dual must have shape {shape}; given {tuple(dual.shape)}")
        tol, scale = max(self.tol if tol is None else tol, 16 * torch.finfo(x.dtype).eps), radius[:, None]
        state = x.new_zeros(shape) if dual is None else torch.cat([dual[:, :5] * scale, dual[:, 5:]], 1)
        u = x if dual is None else plus_divergence(x, state[:, :2], torch.empty_like(x))
        u, state = self._descend(x, radius, u, state, tol, fixed=False)
        return torch.where(radius > 0, u, x), torch.cat([state[:, :5] / torch.where(scale > 0, scale, 1.0), state[:, 5:]], 1)

    def _primal(self, x: Tensor, radius: Tensor, u: Tensor, w: Tensor, *, fixed: bool) -> Tensor:
        """tau (sum |Du - w| + ratio sum |Ew|) (+ |u - x|^2 / 2), (B,)."""
        total = (radius * (sizes(differences(u) - w) + self.ratio * sizes(strain(w)))).flatten(1).sum(1)
        return total if fixed else total + (u - x).flatten(1).square().sum(1) / 2

    def _lower(self, x: Tensor, radius: Tensor, q: Tensor, *, fixed: bool) -> tuple[Tensor, Tensor]:
        """(t = D^T E^T q, the lower bound (B,)) with the best factor on q that keeps |E^T q| <= tau; |q| <= tau ratio as it is."""
        p = strain_adjoint(q)
        t = -plus_divergence(torch.zeros_like(x), p, torch.empty_like(x))
        tiny = torch.finfo(x.dtype).tiny
        most = (radius[:, 0, 0, 0] / sizes(p).flatten(1).amax(1).clamp_min(tiny)).clamp_max(1)
        along, square = (x * t).flatten(1).sum(1), t.flatten(1).square().sum(1)
        best = torch.where(along > 0, most, 0.0) if fixed else torch.minimum((along / square.clamp_min(tiny)).clamp_min(0), most)
        return column(best, t) * t, best * along - (0.0 if fixed else best.square() * square / 2)

    def _descend(self, x: Tensor, radius: Tensor, u: Tensor, state: Tensor, tol: float, *, fixed: bool) -> tuple[Tensor, Tensor]:
        """(u, (p, q, w)) from what is given, u held where it is fixed; an item that meets the tolerance is taken out of the batch."""
        out, ends = u.clone(), state.clone()
        rows = torch.arange(len(x), device=x.device)
        floor = ZERO * sizes(differences(x)).flatten(1).sum(1) if fixed else torch.zeros_like(radius[:, 0, 0, 0])
        for index in range(self.max_iter + 1):
            if index % CHECK_EVERY == 0 or index == self.max_iter:
                primal = self._primal(x, radius, u, state[:, 5:], fixed=fixed)
                gap = primal - self._lower(x, radius, within(state[:, 2:5], self.ratio * radius), fixed=fixed)[1]
                going = (gap > torch.maximum(tol * primal, floor)) & (index < self.max_iter)
                if not bool(going.all()):
                    out[rows[~going]], ends[rows[~going]] = u[~going], state[~going]
                    rows, x, radius, u, state, floor = (one[going] for one in (rows, x, radius, u, state, floor))
                if not len(rows):
                    break
            u, state = self._iterated(x, radius, u, state, fixed=fixed)
        return out, ends

    def _iterated(self, x: Tensor, radius: Tensor, u: Tensor, state: Tensor, *, fixed: bool) -> tuple[Tensor, Tensor]:
        """One relaxed step of the primal-dual hybrid gradient."""
        p, q, w = state[:, :2], state[:, 2:5], state[:, 5:]
        balance = torch.full_like(radius, FIXED) if fixed else (FREE * radius.rsqrt()).clamp(0.03, 3.0)
        norm = math.sqrt(FIXED_BOUND if fixed else BOUND)
        down, up = balance / norm, 1 / (balance[:, None] * norm)
        w_new = w + down[:, None] * (p - strain_adjoint(q))
        u_new = u if fixed else (plus_divergence(u, down[:, None] * p, torch.empty_like(u)) + down * x) / (1 + down)
        u_ahead, w_ahead = 2 * u_new - u, 2 * w_new - w
        p_new = within(p + up * (differences(u_ahead) - w_ahead), radius)
        q_new = within(q + up * strain(w_ahead), self.ratio * radius)
        return torch.lerp(u, u_new, RELAXED), torch.lerp(state, torch.cat([p_new, q_new, w_new], 1), RELAXED)

    @classmethod
    def examples(cls) -> list[Prior]:
        """A rough one, since every check of a solver runs it."""
        return [cls(weight=1.0, tol=0.5, max_iter=20)]
