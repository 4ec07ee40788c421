"""Batched conjugate gradients, the power method, and the explicit approximations IterativeProx and IterativePinv.

All scalars are per item: an item's iterates do not depend on its batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.algebra import Combined
from invsolve.errors import InputError
from invsolve.measurement import Measurement, column, minus, parts
from invsolve.operator import Capability, Operator
from invsolve.rng import Rng


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> per item, (B,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


@dataclass(frozen=True)
class Solved:
    """What an iteration found, item by item.

    Args:
        x: (B, ...).
        residual: |b - A x| / |b|, (B,); of the preconditioned system's own recursion, so to rounding.
        iterations: how many each item took, (B,).
        converged: whether the tolerance was reached, (B,).
    """

    x: Tensor
    residual: Tensor
    iterations: Tensor
    converged: Tensor


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    x: Tensor,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Solved:
    """Solve A x = b for symmetric positive semi-definite A, item by item.

    An item stops at |b - A x| <= tol |b| and is frozen there. A tolerance below 4 eps of the dtype cannot be reached and counts
    as 4 eps.

    Args:
        apply: x -> A x.
        right: b, (B, ...).
        x: the start, (B, ...).
        tol: relative residual.
        max_iter: cap on the iterations.
        precondition: r -> M^-1 r, M symmetric positive definite and near A.

    References:
        Methods of Conjugate Gradients for Solving Linear Systems (Hestenes, Stiefel, 1952), J. Res. NBS 49(6); with a
        preconditioner: Iterative Methods for Sparse Linear Systems (Saad, 2003), algorithm 9.1.
    """
    tiny = torch.finfo(right.real.dtype).tiny
    tol = max(tol, 4 * torch.finfo(right.real.dtype).eps)
    residual = right - apply(x)
    scale = inner(right, right).clamp_min(tiny)
    square = inner(residual, residual)
    pulled = residual if precondition is None else precondition(residual)
    product = inner(residual, pulled)
    direction = pulled
    count = torch.zeros(len(right), dtype=torch.long, device=right.device)
    for _ in range(max_iter):
        active = square > tol**2 * scale
        if not bool(active.any()):
            break
        count = count + active
        image = apply(direction)
        curvature = inner(direction, image)
        step = torch.where(active & (curvature > 0), product / curvature.clamp_min(tiny), 0.0)
        x = x + column(step, x) * direction
        residual = residual - column(step, x) * image
        square = torch.where(active, inner(residual, residual), square)
        pulled = residual if precondition is None else precondition(residual)
        following = inner(residual, pulled)
        ratio = torch.where(active, following / product.clamp_min(tiny), 0.0)
        direction = pulled + column(ratio, x) * direction
        product = torch.where(active, following, product)
    return Solved(x, (square / scale).sqrt(), count, square <= tol**2 * scale)


def cg(apply: Callable[[Tensor], Tensor], right: Tensor, x: Tensor, *, tol: float = 1e-6, max_iter: int = 500) -> tuple[Tensor, Tensor]:
    """`conjugate_gradients` without a preconditioner: x and the relative residuals (B,)."""
    solved = conjugate_gradients(apply, right, x, tol=tol, max_iter=max_iter)
    return solved.x, solved.residual


def circular_spectrum(operator: Operator, like: Tensor, probes: int = 8, seed: int = 0) -> Tensor:
    """About the eigenvalues of H^T H if it were a convolution on the torus, (B or 1, C, H, W // 2 + 1), not negative.

    The mean over a few places of the response of H^T H to a unit impulse there, moved to the origin, each channel on its own:
    exact for circular blurs, near for other boundaries and for masks on top. It preconditions, and is never an answer.

    Args:
        operator: linear, on images (C, H, W).
        like: gives dtype and device.
        probes: number of places.
        seed: of the places.
    """
    channels, height, width = operator.in_shape
    batch = operator.batch or 1
    draws = Rng(seed, (0,), purpose="probes").uniform((probes, 2), torch.empty(0, dtype=torch.float64))[0]
    # From the middle half of each side: near an edge the response is not that of a convolution.
    places = ((0.25 + 0.5 * draws) * torch.tensor([height, width])).long().tolist()
    mean = torch.zeros(batch, channels, height, width, dtype=like.dtype, device=like.device)
    for row, place in places:
        for channel in range(channels):
            impulse = torch.zeros(batch, channels, height, width, dtype=like.dtype, device=like.device)
            impulse[:, channel, row, place] = 1
            response = operator.adjoint(operator(impulse))[:, channel]
            mean[:, channel] += response.roll((-row, -place), (-2, -1)) / len(places)
    return torch.fft.rfft2(mean).real.clamp_min(0)


def norm(operator: Operator, like: Tensor, *, iterations: int = 100, seed: int = 0) -> Tensor:
    """The largest singular value of a linear operator, (B,), by the power method on H^T H (a lower bound that converges from below).

    Args:
        operator: linear, with an adjoint.
        like: any (B, ...) tensor: gives batch, dtype and device.
        iterations: products with H^T H.
    """
    operator.need(Capability.ADJOINT)
    # Every item starts from the same vector: its answer must not depend on its place in the batch.
    x = Rng(seed, [0] * len(like), purpose="norm").normal(operator.in_shape, like)
    size = torch.ones(len(like), dtype=like.real.dtype, device=like.device)
    for _ in range(iterations):
        x = x / column(inner(x, x).sqrt().clamp_min(torch.finfo(size.dtype).tiny), x)
        x = operator.adjoint(operator(x))
        size = inner(x, x).sqrt()
    return size.sqrt()


class Wrapped(Combined):
    """An operator with one capability added by iteration; everything else is the operator's own.

    Args:
        operator: linear, with an adjoint.
        tol: relative residual at which an item's iteration stops.
        max_iter: cap on the iterations.
    """

    added: Capability

    def __init__(self, operator: Operator, tol: float = 1e-6, max_iter: int = 500) -> None:
        super().__init__(operator)
        operator.need(Capability.ADJOINT)
        if not (0 < tol < 1 and max_iter > 0):
            raise InputError(f"need 0 < tol < 1 and max_iter > 0; given tol={tol}, max_iter={max_iter}")
        self.tol, self.max_iter = tol, max_iter
        self.in_shape, self.out_shape = operator.in_shape, operator.out_shape
        self.complex_output, self.output_range = operator.complex_output, operator.output_range

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The operator's own and the added one."""
        return self.parts[0].capabilities | {self.added}

    def select(self, items: range) -> Operator:
        """The wrapped operator of the items."""
        return type(self)(self.parts[0].select(items), self.tol, self.max_iter)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The operator's own."""
        return self.parts[0].supports

    def forward(self, x: Tensor) -> Measurement:
        """H x."""
        return self.parts[0](x)

    def adjoint(self, y: Measurement) -> Tensor:
        """H^T y."""
        return self.parts[0].adjoint(y)

    def svd(self):  # noqa: ANN201 (the base's type)
        """The operator's own."""
        return self.parts[0].svd()

    def pinv(self, y: Measurement) -> Tensor:
        """The operator's own."""
        return self.parts[0].pinv(y)

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """The operator's own."""
        return self.parts[0].prox(z, y, tau)

    def normal(self, x: Tensor) -> Tensor:
        """H^T H x."""
        return self.parts[0].adjoint(self.parts[0](x))


@dataclass(frozen=True)
class ProxResult:
    """prox by iteration, and how good it is.

    Args:
        x: (B, *in_shape).
        bound: (B,), an upper bound on |x - prox| up to rounding: tau |residual of the normal equations|, since H^T H + 1/tau >= 1/tau;
            infinite for tau = inf.
        residual: relative residual, (B,).
        iterations: (B,).
        converged: whether tol was reached, (B,).
    """

    x: Tensor
    bound: Tensor
    residual: Tensor
    iterations: Tensor
    converged: Tensor


class IterativeProx(Wrapped):
    """H with prox by conjugate gradients on (H^T H + 1/tau) d = H^T (y - H z), x = z + d, to a relative residual tol.

    An approximation that must be asked for: the error of d is at most tol (1 + tau |H|^2) relative, and `solve_prox` bounds it in
    numbers. Where the tolerance is not reached within max_iter, a RuntimeWarning says how far it came.

    Args:
        operator: linear, with an adjoint.
        tol: relative residual at which an item's iteration stops.
        max_iter: cap on the iterations.
        preconditioner: "circular" treats H^T H as a convolution (see `circular_spectrum`): many times fewer iterations for masks on
            top of circular blurs, about half for blurs with zeros outside; it does not help where the boundary reflects. None
            is plain CG.
    """

    added = Capability.PROX

    def __init__(self, operator: Operator, tol: float = 1e-6, max_iter: int = 500, preconditioner: str | None = None) -> None:
        super().__init__(operator, tol, max_iter)
        if preconditioner not in (None, "circular"):
            raise InputError(f'preconditioner must be "circular" or None; given {preconditioner!r}')
        if preconditioner is not None and len(operator.in_shape) != 3:
            raise InputError(f"the circular preconditioner needs images (C, H, W); {operator.label} takes {operator.in_shape}")
        self.preconditioner = preconditioner
        if preconditioner is not None:
            like = torch.zeros(0, dtype=torch.float64, device=operator.device)
            self.register_buffer("spectrum", circular_spectrum(operator, like), persistent=False)

    def select(self, items: range) -> Operator:
        """The wrapped operator of the items."""
        return IterativeProx(self.parts[0].select(items), self.tol, self.max_iter, self.preconditioner)

    def solve_prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> ProxResult:
        """argmin_x 1/2 |Hx - y|^2 + 1/(2 tau) |x - z|^2 with its error bound; tau a float or (B,); inf is the limit from z.

        Raises:
            InputError: tau is 0, negative or NaN.
        """
        size = torch.as_tensor(tau, dtype=z.real.dtype, device=z.device)
        if not bool((size > 0).all()):
            raise InputError(f"{self.label}.prox needs tau > 0; given {tau}")
        weight = column(1 / size, z)
        right = self.adjoint(minus(y, self(z)))
        solved = conjugate_gradients(
            lambda x: self.normal(x) + weight * x,
            right,
            torch.zeros_like(z),
            tol=self.tol,
            max_iter=self.max_iter,
            precondition=self._preconditioner(z, weight),
        )
        bound = size * solved.residual * inner(right, right).sqrt()
        return ProxResult(z + solved.x, bound, solved.residual, solved.iterations, solved.converged)

    def _preconditioner(self, z: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor] | None:
        """r -> (C + 1/tau)^-1 r; none for tau = inf, where it would move the limit away from the solution nearest to z."""
        if self.preconditioner is None or not bool((weight > 0).all()):
            return None
        denominator = self.like("spectrum", z) + weight

        def apply(r: Tensor) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(r) / denominator, s=r.shape[-2:])

        return apply

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """`solve_prox`'s x."""
        result = self.solve_prox(z, y, tau)
        warn_unless(result.converged, result.residual, self)
        return result.x


def warn_unless(converged: Tensor, residual: Tensor, wrapped: Wrapped) -> None:
    """RuntimeWarning where an item's iteration ended early."""
    if not bool(converged.all()):
        warnings.warn(
            f"{type(wrapped).__name__}({wrapped.parts[0].label}): {int((~converged).sum())} of {len(converged)} items stopped at "
            f"max_iter = {wrapped.max_iter} with a relative residual of up to {float(residual.max()):.1e}, not {wrapped.tol:g}; "
            "raise max_iter or tol",
            RuntimeWarning,
            stacklevel=3,
        )


class IterativePinv(Wrapped):
    """H with pinv by conjugate gradients on H^T H x = H^T y from 0, which tends to the minimum-norm solution."""

    added = Capability.PINV

    def pinv(self, y: Measurement) -> Tensor:
        """H^+ y to tolerance."""
        right = self.adjoint(y)
        solved = conjugate_gradients(self.normal, right, torch.zeros_like(right), tol=self.tol, max_iter=self.max_iter)
        warn_unless(solved.converged, solved.residual, self)
        return solved.x


def matrix(operator: Operator, dtype: torch.dtype = torch.float64) -> Tensor:
    """A linear operator as a dense (m, n) matrix, or (B, m, n) for a batched one: for tests and small problems."""
    size = math.prod(operator.in_shape)
    batch = operator.batch or 1
    columns = []
    for unit in torch.eye(size, dtype=dtype):
        y = operator(unit.reshape(1, *operator.in_shape).expand(batch, *operator.in_shape))
        columns.append(torch.cat([part.flatten(1) for part in parts(y)], dim=1))
    dense = torch.stack(columns, dim=-1)
    return dense if operator.batch else dense[0]
