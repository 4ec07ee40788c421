"""Batched conjugate gradients, the power method, and the explicit approximations IterativeProx and IterativePinv.

All scalars are per item: an item's iterates do not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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


def cg(apply: Callable[[Tensor], Tensor], right: Tensor, x: Tensor, *, tol: float = 1e-6, max_iter: int = 500) -> tuple[Tensor, Tensor]:
    """Solve A x = b for symmetric positive semi-definite A, item by item.

    Stops an item at |b - A x| <= tol |b|, and freezes it there; returns x and the relative residuals (B,).

    Args:
        apply: x -> A x.
        right: b, (B, ...).
        x: the start, (B, ...).
        tol: relative residual.
        max_iter: cap on the iterations.

    References:
        Methods of Conjugate Gradients for Solving Linear Systems (Hestenes, Stiefel, 1952).
    """
    residual = right - apply(x)
    direction = residual.clone()
    scale = inner(right, right).clamp_min(torch.finfo(right.real.dtype).tiny)
    square = inner(residual, residual)
    for _ in range(max_iter):
        active = square > tol**2 * scale
        if not bool(active.any()):
            break
        image = apply(direction)
        curvature = inner(direction, image)
        step = torch.where(active & (curvature > 0), square / curvature.clamp_min(torch.finfo(square.dtype).tiny), 0.0)
        x = x + column(step, x) * direction
        residual = residual - column(step, x) * image
        following = inner(residual, residual)
        ratio = torch.where(active, following / square.clamp_min(torch.finfo(square.dtype).tiny), 0.0)
        direction = residual + column(ratio, x) * direction
        square = torch.where(active, following, square)
    return x, (square / scale).sqrt()


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


class IterativeProx(Wrapped):
    """H with prox by conjugate gradients on (H^T H + 1/tau) d = H^T (y - H z), x = z + d, to a relative residual tol.

    An approximation that must be asked for: the error of d is at most tol (1 + tau |H|^2) relative.
    """

    added = Capability.PROX

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """argmin_x 1/2 |Hx - y|^2 + 1/(2 tau) |x - z|^2 to tolerance; tau a float or (B,); inf is the limit from z."""
        weight = column(1 / torch.as_tensor(tau, dtype=z.real.dtype, device=z.device), z)
        if bool(torch.isinf(weight).any()):
            raise InputError(f"{self.label}.prox needs tau > 0; given {tau}")
        right = self.adjoint(minus(y, self(z)))
        step, _ = cg(lambda x: self.normal(x) + weight * x, right, torch.zeros_like(z), tol=self.tol, max_iter=self.max_iter)
        return z + step


class IterativePinv(Wrapped):
    """H with pinv by conjugate gradients on H^T H x = H^T y from 0, which tends to the minimum-norm solution."""

    added = Capability.PINV

    def pinv(self, y: Measurement) -> Tensor:
        """H^+ y to tolerance."""
        right = self.adjoint(y)
        x, _ = cg(self.normal, right, torch.zeros_like(right), tol=self.tol, max_iter=self.max_iter)
        return x


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
