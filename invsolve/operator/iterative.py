"""Batched conjugate gradients, the power method, and the explicit approximations IterativeProx and IterativePinv.

All scalars are per item: an item's iterates do not depend on its batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import ConvergenceError, InputError
from invsolve.operator.algebra import Combined, Scaled, Stack, take_place
from invsolve.operator.contract import Capability, Operator
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import Measurement, column, minus, parts
from invsolve.operator.preconditioners import SPECTRA, divide
from invsolve.operator.windows import Window
from invsolve.rng import Rng


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> per item, (B,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


def cg(apply: Callable[[Tensor], Tensor], right: Tensor, x: Tensor, *, tol: float = 1e-6, max_iter: int = 500) -> tuple[Tensor, Tensor]:
    """x and the relative residuals (B,) of `conjugate_gradients`, as earlier releases gave them."""
    solved = conjugate_gradients(apply, right, x, tol=tol, max_iter=max_iter)
    return solved.x, solved.residual


@dataclass(frozen=True)
class Solved:
    """What an iteration found, item by item.

    Args:
        x: (B, ...).
        residual: |b - A x| / |b|, (B,), computed anew from x at the end.
        iterations: how many each item took, (B,).
        converged: whether the tolerance was reached, (B,), or the last digits of the precision.
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

    An item stops at |b - A x| <= tol |b| and is frozen there. The recursion's own residual drifts from b - A x by rounding; so
    where it stops, b - A x is computed anew, and where that is still too large the iteration starts again from it, as long as a
    start halves it. What cannot be halved any more counts as converged if it is rounding: |b - A x| <= 8 eps (|b| + |A| |x|),
    |A| from the directions passed. A tol below 4 eps counts as 4 eps.

    Args:
        apply: x -> A x.
        right: b, (B, ...).
        x: the start, (B, ...).
        tol: relative residual.
        max_iter: cap on the iterations of an item, all starts together.
        precondition: r -> M^-1 r, M symmetric positive definite and near A.

    References:
        Methods of Conjugate Gradients for Solving Linear Systems (Hestenes, Stiefel, 1952), J. Res. NBS 49(6); with a
        preconditioner: Iterative Methods for Sparse Linear Systems (Saad, 2003), algorithm 9.1; the rounding level: Accuracy
        and Stability of Numerical Algorithms (Higham, 2002), theorem 7.1.
    """
    eps, tiny = torch.finfo(right.real.dtype).eps, torch.finfo(right.real.dtype).tiny
    scale = inner(right, right).clamp_min(tiny)
    target = max(tol, 4 * eps) ** 2 * scale
    residual = right - apply(x)
    square = inner(residual, residual)
    count = torch.zeros(len(right), dtype=torch.long, device=right.device)
    largest = torch.zeros_like(square)  # of the quotients |A p| / |p|, squared: below |A|^2
    before = torch.full_like(square, torch.inf)
    while bool((active := (square > target) & (square < before / 4) & (count < max_iter)).any()):
        before = torch.where(active, square, before)
        x, count, largest = descend(apply, residual, x, active, target, count, largest, max_iter, precondition)
        residual = right - apply(x)
        square = inner(residual, residual)
    rounding = 8 * eps * (scale.sqrt() + (largest * inner(x, x)).sqrt())
    return Solved(x, (square / scale).sqrt(), count, (square <= target) | (square.sqrt() <= rounding))


def descend(
    apply: Callable[[Tensor], Tensor],
    residual: Tensor,
    x: Tensor,
    active: Tensor,
    target: Tensor,
    count: Tensor,
    largest: Tensor,
    max_iter: int,
    precondition: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One start of `conjugate_gradients` for the active items, until the recursion's residual is at its target: x, count, |A|^2."""
    tiny = torch.finfo(residual.real.dtype).tiny
    pulled = residual if precondition is None else precondition(residual)
    product = inner(residual, pulled)
    direction = pulled
    square = inner(residual, residual)
    while bool((active := active & (square > target) & (count < max_iter)).any()):
        count = count + active
        image = apply(direction)
        curvature = inner(direction, image)
        quotient = inner(image, image) / inner(direction, direction).clamp_min(tiny)
        largest = torch.where(active, torch.maximum(largest, quotient), largest)
        step = torch.where(active & (curvature > 0), product / curvature.clamp_min(tiny), 0.0)
        x = x + column(step, x) * direction
        residual = residual - column(step, x) * image
        square = torch.where(active, inner(residual, residual), square)
        pulled = residual if precondition is None else precondition(residual)
        following = inner(residual, pulled)
        ratio = torch.where(active, following / product.clamp_min(tiny), 0.0)
        direction = pulled + column(ratio, x) * direction
        product = torch.where(active, following, product)
    return x, count, largest


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
        strict: raise ConvergenceError where an item ends at max_iter without its tolerance; False warns (RuntimeWarning), since
            one coarse step inside a sampler need not end the run.
    """

    added: Capability
    carried: ClassVar[bool] = True  # whether W(H) @ D is W(H @ D), so that the capability is there for a prior of codes too
    door: ClassVar[str] = "tol=1e-4"  # how `which_solvers` writes it, see `Registry.add`

    def __init__(self, operator: Operator, tol: float = 1e-6, max_iter: int = 500, strict: bool = False) -> None:
        super().__init__(operator)
        operator.need(Capability.ADJOINT)
        if not (0 < tol < 1 and max_iter > 0):
            raise InputError(f"need 0 < tol < 1 and max_iter > 0; given tol={tol}, max_iter={max_iter}")
        self.tol, self.max_iter, self.strict = tol, max_iter, strict
        self.in_shape, self.out_shape = operator.in_shape, operator.out_shape
        self.complex_input, self.complex_output = operator.complex_input, operator.complex_output
        self.output_range = operator.output_range
        take_place(self, operator)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The operator's own and the added one."""
        return self.parts[0].capabilities | {self.added}

    def around(self, operator: Operator) -> Operator:
        """Another operator with the same capability by the same iteration."""
        return type(self)(operator, self.tol, self.max_iter, self.strict)

    def window(self, window: Window) -> Operator:
        """The window's operator with the same capability by the same iteration."""
        return self.around(self.parts[0].window(window))

    def __matmul__(self, other: Operator) -> Operator:
        """H @ D with the same capability by the same iteration; as it is where it has it, or no adjoint."""
        product = self.parts[0] @ other
        if not isinstance(product, Operator) or not product.has(Capability.ADJOINT) or product.has(self.added):
            return product
        return self.around(product)

    def select(self, items: range) -> Operator:
        """The wrapped operator of the items."""
        return self.around(self.parts[0].select(items))

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The operator's own."""
        return self.parts[0].supports

    @property
    def mask(self) -> Tensor:
        """The operator's own, where it is a mask."""
        return getattr(self.parts[0], "mask")  # noqa: B009 (of a class that the core does not name)

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
        bound: (B,), an upper bound on |x - prox|: tau |residual of the normal equations|, since H^T H + 1/tau >= 1/tau; infinite
            for tau = inf. The residual is x's own, computed to about eps (|H^T (y - H z)| + |H|^2 |x - z|) in x's precision.
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
    numbers, without state in the object. Where the tolerance is not reached within max_iter, a RuntimeWarning says how far it
    came; with strict=True that is an error.

    Args:
        operator: linear, with an adjoint.
        tol: relative residual at which an item's iteration stops.
        max_iter: cap on the iterations.
        preconditioner: takes H^T H for a convolution, see `invsolve.operator.preconditioners`: "circular", "symmetric" or "reflect" as the
            blur goes on at the edge ("symmetric" for zeros outside), also under a mask; None is plain CG.
        strict: raise ConvergenceError in place of the warning.
    """

    added = Capability.PROX

    @classmethod
    def examples(cls) -> list[Operator]:
        """Of a wide matrix, of a stack, and of one per image, to the last digits."""
        return [cls(one, 1e-14, 2000) for one in well_conditioned()]

    def __init__(
        self, operator: Operator, tol: float = 1e-6, max_iter: int = 500, preconditioner: str | None = None, strict: bool = False
    ) -> None:
        super().__init__(operator, tol, max_iter, strict)
        if preconditioner is not None and preconditioner not in SPECTRA:
            raise InputError(f"preconditioner must be {', '.join(map(repr, SPECTRA))} or None; given {preconditioner!r}")
        if preconditioner is not None and len(operator.in_shape) != 3:
            raise InputError(f"the preconditioners need images (C, H, W); {operator.label} takes {operator.in_shape}")
        self.preconditioner = preconditioner
        if preconditioner is not None:
            like = torch.zeros(0, dtype=torch.float64, device=operator.device)
            self.register_buffer("spectrum", SPECTRA[preconditioner](operator, like), persistent=False)

    def select(self, items: range) -> Operator:
        """The wrapped operator of the items."""
        return IterativeProx(self.parts[0].select(items), self.tol, self.max_iter, self.preconditioner, self.strict)

    def window(self, window: Window) -> Operator:
        """The window's operator with prox by the same iteration and the same kind of preconditioner."""
        return IterativeProx(self.parts[0].window(window), self.tol, self.max_iter, self.preconditioner, self.strict)

    def around(self, operator: Operator) -> Operator:
        """Another operator with prox by the same iteration, without the preconditioner, which is this one's."""
        return IterativeProx(operator, self.tol, self.max_iter, strict=self.strict)

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
        kind, spectrum = self.preconditioner, self.like("spectrum", z)
        return lambda r: divide(kind, spectrum, weight, r)

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """`solve_prox`'s x."""
        result = self.solve_prox(z, y, tau)
        settle(result, self)
        return result.x


def settle(result: Solved | ProxResult, wrapped: Wrapped) -> None:
    """RuntimeWarning, or ConvergenceError for a strict operator, where an item's iteration ended early."""
    early = ~result.converged
    if not bool(early.any()):
        return
    message = (
        f"{type(wrapped).__name__}({wrapped.parts[0].label}): {int(early.sum())} of {len(early)} items stopped after "
        f"{int(result.iterations[early].max())} iterations (max_iter = {wrapped.max_iter}) with a relative residual of up to "
        f"{float(result.residual[early].max()):.1e}, not {wrapped.tol:g}; raise max_iter or tol"
    )
    if wrapped.strict:
        raise ConvergenceError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def well_conditioned() -> list[Operator]:
    """Operators for examples: without tau the iteration finds every digit only of what has no singular values near 0."""
    wide, *_ = MatrixOperator.examples()
    wave = torch.arange(3 * 4 * 6, dtype=torch.float64).mul(1.7).sin().reshape(3, 4, 6)
    return [wide, Stack(wide, Scaled(wide, -0.5)), MatrixOperator(2 * torch.eye(4, 6) + 0.5 * wave, (1, 3, 2), (1, 2, 2))]


class IterativePinv(Wrapped):
    """H with pinv by conjugate gradients on H^T H x = H^T y from 0, which tends to the minimum-norm solution."""

    added = Capability.PINV

    @classmethod
    def examples(cls) -> list[Operator]:
        """Of a wide matrix, of a stack, and of one per image, to the last digits."""
        return [cls(one, 1e-14, 2000) for one in well_conditioned()]

    def solve_pinv(self, y: Measurement) -> Solved:
        """H^+ y with its residual: the error is at most residual |H^T y| / s^2, s the least singular value above 0."""
        right = self.adjoint(y)
        return conjugate_gradients(self.normal, right, torch.zeros_like(right), tol=self.tol, max_iter=self.max_iter)

    def pinv(self, y: Measurement) -> Tensor:
        """`solve_pinv`'s x."""
        solved = self.solve_pinv(y)
        settle(solved, self)
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
