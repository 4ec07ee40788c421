"""Total variation: R(x) = sum |Dx| with forward differences, Neumann boundary, every channel for itself.

isotropic:  sum sqrt(dx^2 + dy^2)          anisotropic:  sum |dx| + |dy|          of volumes (C, D, H, W) with dz, too

The prox has no closed form. It is computed on the dual, where it is a projection: with P = tau p, |p| <= 1 per pixel,

    u = x - D^T P,     P <- project(Q + D u / 8),     Q = P + momentum,     gap = tau R(u) - <P, Du> >= |u - u*|^2 / 2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import ImageRegulariser, Prior
from invsolve.unit import whole

CHECK_EVERY = 8  # the gap costs as much as an iteration
MOST = 1_000_000  # iterations: more than anybody waits for


def differences(x: Tensor) -> Tensor:
    """(dy, dx) as (B, 2, C, H, W), of volumes (dz, dy, dx) as (B, 3, C, D, H, W): forward differences, 0 in the last of each axis."""
    axes = axes_of(x)
    out = torch.zeros(x.shape[0], len(axes), *x.shape[1:], dtype=x.dtype, device=x.device)
    for index, axis in enumerate(axes):
        torch.sub(beyond(x, axis), before(x, axis), out=before(out[:, index], axis))
    return out


def axes_of(x: Tensor) -> range:
    """The axes of a batch's pixels or voxels, counted from the last one."""
    return range(2 - x.ndim, 0)


def beyond(x: Tensor, axis: int) -> Tensor:
    """All but the first along an axis."""
    return x.narrow(axis, 1, x.shape[axis] - 1)


def before(x: Tensor, axis: int) -> Tensor:
    """All but the last along an axis."""
    return x.narrow(axis, 0, x.shape[axis] - 1)


def plus_divergence(x: Tensor, p: Tensor, out: Tensor) -> Tensor:
    """x - D^T p, written to `out`; the last row of p[:, 0] and the last column of p[:, 1] must be 0, of volumes likewise."""
    for index in range(p.shape[1]):
        torch.add(x if index == 0 else out, p[:, index], out=out)
    for index, axis in enumerate(axes_of(x)):
        beyond(out, axis).sub_(before(p[:, index], axis))
    return out


def sloped(x: Tensor) -> list[Tensor]:
    """dy and dx of `differences`, of volumes dz, too, made so that autograd goes through."""
    return [torch.nn.functional.pad(beyond(x, axis) - before(x, axis), (0, 0) * (-axis - 1) + (0, 1)) for axis in axes_of(x)]


def summed_squares(slopes: Sequence[Tensor]) -> Tensor:
    """dy^2 + dx^2, of volumes with dz^2."""
    return reduce(torch.add, [slope.square() for slope in slopes])


def steepest(x: Tensor) -> float:
    """A bound of |D|^2: 4 along every axis."""
    return 4.0 * len(axes_of(x))


class GradientNorm(ImageRegulariser):
    """Base: R(x) = sum of norms of the differences Dx, with its prox by the fast gradient projection on the dual.

    Attributes:
        joined: the axes of Dx, (B, 2, C, H, W) or of volumes (B, 3, C, D, H, W), that a norm takes together, counted without B: (0,) the
            directions of a pixel and channel, (0, 1) those of all channels, () none.
    """

    volumes = True
    joined: tuple[int, ...] = (0,)

    def __init__(self, weight: float, tol: float, max_iter: int) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight must be finite and not negative; given {weight}")
        if not 0 < tol < 1:
            raise InputError(f"tol must lie in (0, 1); given {tol}")
        self.weight, self.tol, self.max_iter = float(weight), float(tol), whole("max_iter", max_iter, MOST)

    def value(self, x: Tensor) -> Tensor:
        """R(x), (B,), exact; where a gradient vanishes the subgradient 0 is taken, so autograd never gives NaN."""
        slopes = sloped(x)
        if not self.joined:
            return reduce(torch.add, [slope.abs() for slope in slopes]).flatten(1).sum(1)
        square = self._joined_channels(summed_squares(slopes))
        safe = torch.where(square > 0, square, 1.0)
        return torch.where(square > 0, safe.sqrt(), 0.0).flatten(1).sum(1)

    def smooth_value(self, x: Tensor, width: float) -> Tensor:
        """sum sqrt(norm^2 + width^2) - width, (B,): below R by at most width for every norm."""
        slopes = sloped(x)
        squares = [slope.square() for slope in slopes] if not self.joined else [self._joined_channels(summed_squares(slopes))]
        return sum(((square + width**2).sqrt() - width).flatten(1).sum(1) for square in squares)  # pyright: ignore[reportReturnType]

    def _joined_channels(self, square: Tensor) -> Tensor:
        return square.sum(1, keepdim=True) if 1 in self.joined else square

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """argmin_u R(u) + |u - x|^2 / (2 tau) to the tolerance; tau a float or (B,), finite."""
        return self.prox_with_dual(x, tau)[0]

    @torch.no_grad()
    def prox_with_dual(self, x: Tensor, tau: float | Tensor, dual: Tensor | None = None, tol: float | None = None) -> tuple[Tensor, Tensor]:
        """The prox, and the dual p (B, 2, C, H, W) that the next call may start from; nothing is kept in the prior itself.

        Args:
            x: (B, C, H, W).
            tau: a float or (B,), finite and not negative.
            dual: p of an earlier call on a similar x.
            tol: another relative gap than the prior's.

        Raises:
            InputError: tau is negative or not finite, or the dual has another shape.
        """
        radius = self._radius(x, tau)
        shape = (x.shape[0], len(axes_of(x)), *x.shape[1:])
        if dual is not None and dual.shape != shape:
            raise InputError(f"the dual must have shape {shape}; given {tuple(dual.shape)}")
        scaled = torch.zeros(shape, dtype=x.dtype, device=x.device) if dual is None else self.project(dual * radius[:, None], radius)
        u, scaled = self._descend(x, radius, scaled, max(self.tol if tol is None else tol, 4 * torch.finfo(x.dtype).eps))
        safe = torch.where(radius > 0, radius, 1.0)[:, None]
        return u, scaled / safe

    @torch.no_grad()
    def gap(self, x: Tensor, tau: float | Tensor, dual: Tensor) -> Tensor:
        """The relative duality gap of u = x - tau D^T p, (B,): what the stopping rule looks at."""
        radius = self._radius(x, tau)
        scaled = self.project(dual * radius[:, None], radius)
        return self._gap(x, plus_divergence(x, scaled, torch.empty_like(x)), scaled, radius)

    def _radius(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """tau as (B, 1, ..., 1), with as many axes as x."""
        radius = column(tau, x).expand(x.shape[0], *[1] * (x.ndim - 1))
        if not bool((torch.isfinite(radius) & (radius >= 0)).all()):
            raise InputError(f"tau must be finite and not negative; given {tau}")
        return radius

    def project(self, p: Tensor, radius: Tensor) -> Tensor:
        """p, (B, 2, C, H, W), onto the ball of the dual norm with the given radius (B, 1, 1, 1), norm by norm and in place."""
        if not self.joined:
            edge = radius[:, None]
            return torch.clamp(p, -edge, edge, out=p)
        size = self._size(p)
        # radius / max(size, radius) is 1 inside the ball; the tiny number keeps 0 / 0 of radius 0 away
        factor = torch.div(radius, size.clamp_min_(radius.clamp_min(torch.finfo(p.dtype).tiny)), out=size)
        p *= factor[:, None]
        return p

    def dual_norm(self, p: Tensor) -> Tensor:
        """The largest dual norm of p per item, (B,): p is in the ball of that radius."""
        size = self._size(p) if self.joined else p.abs()
        return size.flatten(1).amax(1) if size.numel() else size.flatten(1).sum(1)

    def _size(self, p: Tensor) -> Tensor:
        """The norms, (B, C or 1, H, W); without joined axes the sum of absolute values, per pixel."""
        if not self.joined:
            return p.abs().sum(1)
        square = p[:, 0].square()
        for one in p.unbind(1)[1:]:
            square.addcmul_(one, one)
        return self._joined_channels(square).sqrt_()

    def _gap(self, x: Tensor, u: Tensor, scaled: Tensor, radius: Tensor) -> Tensor:
        """(tau R(u) - <P, Du>) / (tau R(u) + |u - x|^2 / 2) per item; summed per pixel, so that it does not cancel."""
        slope = differences(u)
        size = self._size(slope) * radius
        primal = size.flatten(1).sum(1) + (u - x).square().flatten(1).sum(1) / 2
        gap = (size - self._joined_channels((slope * scaled).sum(1))).flatten(1).sum(1)
        return torch.where(primal > 0, gap / primal.clamp_min(torch.finfo(x.dtype).tiny), 0.0)

    def _descend(self, x: Tensor, radius: Tensor, scaled: Tensor, tol: float) -> tuple[Tensor, Tensor]:
        """FGP from the dual `scaled`; an item that meets the tolerance is taken out of the working batch."""
        out, dual = torch.empty_like(x), scaled
        rows = torch.arange(len(x), device=x.device)
        room = Room(x, radius, scaled)
        for index in range(self.max_iter + 1):
            old, ahead, new = room.duals
            if index % CHECK_EVERY == 0 or index == self.max_iter:
                room.descend(old)
                u = room.u
                going = self._gap(x, u, old.p, radius) > tol if index < self.max_iter else torch.zeros_like(rows, dtype=torch.bool)
                if not bool(going.all()):
                    done = ~going
                    out[rows[done]], dual[rows[done]] = u[done], old.p[done]
                    rows, x, radius = rows[going], x[going], radius[going]
                    room = Room(x, radius, old.p[going], ahead.p[going])
                    old, ahead, new = room.duals
                if not len(rows):
                    break
            room.descend(ahead)
            self._climb(room, ahead)
            torch.lerp(old.p, ahead.p, 1 + index / (index + 6), out=new.p)  # extrapolated: beyond `ahead`
            room.duals = (ahead, new, old)
        return out, dual

    def _climb(self, room: Room, dual: Slopes) -> None:
        """p <- project(p + D u / 8) in place, `project` in the room's memory."""
        room.climb(dual)
        if not self.joined:
            torch.clamp(dual.p, -room.edge, room.edge, out=dual.p)
            return
        square = torch.square(dual.parts[0], out=room.size)
        for one in dual.parts[1:]:
            square.addcmul_(one, one)
        size = self._joined_channels(square).sqrt_().clamp_min_(room.least)
        dual.p.mul_(torch.div(room.radius, size, out=size).unsqueeze(1))


class Room:
    """The working memory of the prox, and its views, made once: on small images a view costs as much as the arithmetic."""

    def __init__(self, x: Tensor, radius: Tensor, old: Tensor, ahead: Tensor | None = None) -> None:
        self.x, self.u, self.step = x, torch.empty_like(x), 1 / steepest(x)
        self.radius, self.edge, self.least = radius, radius[:, None], radius.clamp_min(torch.finfo(x.dtype).tiny)
        self.size = torch.empty_like(x)
        self.duals = (Slopes(old.clone()), Slopes((old if ahead is None else ahead).clone()), Slopes(torch.empty_like(old)))
        self.beyond = [beyond(self.u, axis) for axis in axes_of(x)]
        self.before = [before(self.u, axis) for axis in axes_of(x)]

    def descend(self, dual: Slopes) -> None:
        """u <- x - D^T p, as `plus_divergence`."""
        for index, part in enumerate(dual.parts):
            torch.add(self.u if index else self.x, part, out=self.u)
        for ahead, inside in zip(self.beyond, dual.inside, strict=True):
            ahead.sub_(inside)

    def climb(self, dual: Slopes) -> None:
        """p <- p + D u / 8 in place; 8 bounds |D|^2, and 12 that of a volume."""
        for inside, ahead, behind in zip(dual.inside, self.beyond, self.before, strict=True):
            inside.add_(ahead, alpha=self.step).add_(behind, alpha=-self.step)


class Slopes:
    """A dual p, (B, 2, C, H, W), its components, and of each what is not at its far edge."""

    def __init__(self, p: Tensor) -> None:
        self.p, self.parts = p, p.unbind(1)
        self.inside = [before(part, axis) for part, axis in zip(self.parts, axes_of(self.parts[0]), strict=True)]


class TotalVariation(GradientNorm):
    """Total variation as a regulariser, with its prox by the fast gradient projection on the dual.

        objective of the solvers: |y - Hx|^2 / (2 sigma^2) + weight R(x),   images in [0, 1], sums over pixels and channels

    Args:
        weight: in front of R, in the units of a negative log-likelihood; 1/2 |y - Hx|^2 + lam R(x) of the literature has
            lam = weight sigma^2. Scale it as c / sigma: for photographs c = 0.6 was best for denoising and for a missing box,
            0.3 for a blur of 1.6 pixels, 0.1 for 4 x 4 means (PSNR, sigma 0.025 to 0.1). The default is c = 0.4 at 0.05.
        isotropic: Euclidean norm of the gradient of a pixel; False: the sum of its absolute components.
        tol: the prox stops an item once its duality gap is at most tol times its objective R(u) + |u - x|^2 / (2 tau).
        max_iter: cap on the iterations of the prox.

    Raises:
        InputError: a weight that is negative or not finite, tol outside (0, 1), max_iter no whole number from 1 to 1,000,000.

    References:
        Nonlinear total variation based noise removal algorithms (Rudin, Osher, Fatemi, 1992).
        Fast Gradient-Based Algorithms for Constrained Total Variation Image Denoising and Deblurring Problems (Beck, Teboulle,
        2009), FGP. Deviations: no box constraint; the stopping rule is the duality gap; every item stops on its own; the momentum
        is (k - 1) / (k + 5) of On the Convergence of the Iterates of FISTA (Chambolle, Dossal, 2015), a fifth fewer iterations.
    """

    def __init__(self, weight: float = 8.0, isotropic: bool = True, tol: float = 1e-4, max_iter: int = 1000) -> None:
        super().__init__(weight, tol, max_iter)
        self.isotropic = bool(isotropic)
        self.joined = (0,) if self.isotropic else ()

    @classmethod
    def examples(cls) -> list[Prior]:
        """Both kinds."""
        return [cls(), cls(isotropic=False)]


class VectorialTV(GradientNorm):
    """Vectorial (colour) total variation: one norm for the differences of all channels of a pixel, so that their edges lie together.

        R(x) = sum over pixels of sqrt(sum over channels of dx^2 + dy^2)

    Of a grey image it is the isotropic total variation. Of a complex image as a pair, (2, H, W) or (2, D, H, W) with the real part first
    (`AsComplex`), it is the total variation of complex numbers, sum sqrt(|dx z|^2 + |dy z|^2): it sees magnitude and phase together, and
    no turn of the phase of the whole image changes it.

    Args:
        weight: in front of R, in the units of a negative log-likelihood; c / sigma. For denoising photographs c = 0.8 was best at sigma
            0.05 (29.75 dB, where `tv` has 29.11 at its best, 0.5). The default is that.
        tol: the prox stops an item once its duality gap is at most tol times its objective R(u) + |u - x|^2 / (2 tau).
        max_iter: cap on the iterations of the prox.

    Raises:
        InputError: a weight that is negative or not finite, tol outside (0, 1), max_iter no whole number from 1 to 1,000,000.

    References:
        Fast Dual Minimization of the Vectorial Total Variation Norm and Applications to Color Image Processing (Bresson, Chan, 2008),
        Inverse Problems and Imaging 2(4): the Frobenius norm of the Jacobian. The prox as in `TotalVariation`.
    """

    joined = (0, 1)

    def __init__(self, weight: float = 16.0, tol: float = 1e-4, max_iter: int = 1000) -> None:
        super().__init__(weight, tol, max_iter)
