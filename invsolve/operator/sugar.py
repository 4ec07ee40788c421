"""What every operator has without writing it: algebra, one item, draws by the prox, and the ways in from functions, matrices and scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.operator.cache import converted
from invsolve.operator.capability import Capability
from invsolve.operator.measurement import Measurement, chosen, column, mapped
from invsolve.plugins.arguments import checked
from invsolve.rng import Rng

if TYPE_CHECKING:
    from invsolve.operator.contract import Operator
    from invsolve.operator.scipy import ScipyView


class Sugar:
    """The part of `Operator` that no operator overrides."""

    def __matmul__(self: Any, other: Operator) -> Operator:
        from invsolve.operator.structure import joined

        return joined(self, other) if isinstance(other, Sugar) else NotImplemented

    def __add__(self: Any, other: Operator) -> Operator:
        from invsolve.operator.algebra import Sum

        return Sum(self, other) if isinstance(other, Sugar) else NotImplemented

    def __mul__(self: Any, factor: float) -> Operator:
        from invsolve.operator.algebra import Scaled

        return Scaled(self, factor) if isinstance(factor, Real | Tensor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self: Any, divisor: float) -> Operator:
        return self * (1 / divisor if divisor else float("inf")) if isinstance(divisor, Real) else NotImplemented

    def __neg__(self: Any) -> Operator:
        return self * -1.0

    def __sub__(self: Any, other: Operator) -> Operator:
        return self + -other if isinstance(other, Sugar) else NotImplemented

    @property
    def T(self: Any) -> Operator:  # noqa: N802 (the field's name)
        """The adjoint as an operator."""
        from invsolve.operator.algebra import AdjointView

        return AdjointView(self)

    @staticmethod
    @checked
    def from_function(
        function: Callable[..., Any],
        in_shape: Sequence[int],
        linear: bool = True,
        *,
        adjoint: Callable[..., Any] | None = None,
        pinv: Callable[..., Any] | None = None,
        prox: Callable[..., Any] | None = None,
    ) -> Operator:
        """Your function of a batch of images as an operator; see `invsolve.operator.function.FunctionOperator`.

        Raises:
            InputError: f does not do what an operator must; says what it returned.
        """
        from invsolve.operator.function import FunctionOperator

        return FunctionOperator(function, in_shape, linear, adjoint, pinv, prox)

    @staticmethod
    @checked
    def from_matrix(matrix: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> Operator:
        """y = A x for a tensor or array (m, n), (B, m, n) for one per image, or a sparse A; see `invsolve.operator.matrix`.

        Raises:
            InputError: sizes that do not fit, complex or not finite entries.
        """
        from invsolve.operator.matrix import matrix_operator

        return matrix_operator(matrix, in_shape, out_shape)

    @staticmethod
    @checked
    def from_scipy(foreign: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> Operator:
        """A scipy.sparse.linalg.LinearOperator, one of PyLops, or alike, as an operator; see `invsolve.operator.scipy.ScipyOperator`.

        Raises:
            InputError: sizes that do not fit, no adjoint, or a wrong one.
        """
        from invsolve.operator.scipy import ScipyOperator

        return ScipyOperator(foreign, in_shape, out_shape)

    def to_scipy(self: Any, dtype: Any = None) -> ScipyView:
        """One item of a linear operator as a scipy.sparse.linalg.LinearOperator; see `invsolve.operator.scipy.ScipyView`."""
        from invsolve.operator.scipy import ScipyView

        return ScipyView(self, dtype)

    def prox_sample(
        self: Any,
        z: Tensor,
        y: Measurement,
        sigma_y: float | Tensor,
        r: float | Tensor,
        generator: int | torch.Generator | Rng | None = None,
    ) -> Tensor:
        """A draw x from exp(-|y - Hx|^2 / (2 sigma_y^2) - |x - z|^2 / (2 r^2)), (B, *in_shape); exact where prox is.

            x = prox(z + r n2, y + sigma_y n1, tau = r^2 / sigma_y^2),   n1, n2 standard normal

        sigma_y = 0 draws from the second factor on the least-squares solutions of H x = y.

        Args:
            z: (B, *in_shape).
            y: (B, *out_shape).
            sigma_y: noise level of y, a float or (B,), not negative.
            r: width about z, a float or (B,), positive.
            generator: seed, torch.Generator or Rng, one stream an item.

        Raises:
            CapabilityError: no prox.
            InputError: sigma_y negative, r not positive.

        References:
            Perturb and solve: Gaussian Sampling by Local Perturbations (Papandreou, Yuille, 2010), NeurIPS.
        """
        self.need(Capability.PROX)
        noise, width = (torch.as_tensor(value, dtype=z.real.dtype, device=z.device) for value in (sigma_y, r))
        if not (bool((noise >= 0).all()) and bool((width > 0).all())):
            raise InputError(f"prox_sample needs sigma_y >= 0 and r > 0; given {sigma_y} and {r}")
        rng = Rng.make(generator, range(len(z)), purpose="prox-sample")
        near = z + column(width, z) * rng.normal_like(z)
        # Rng's complex numbers have variance 1 in all; the density above has sigma_y^2 in each part.
        moved = mapped(lambda part: part + column(noise, part) * (2**0.5 if part.is_complex() else 1.0) * rng.normal_like(part), y)
        return self.prox(near, moved, torch.where(noise > 0, (width / noise).square(), torch.inf))

    @property
    def device(self: Any) -> torch.device | None:
        """Where the parameters live; None without any."""
        tensor = next(iter([*self.buffers(), *self.parameters()]), None)
        return None if tensor is None else tensor.device

    def like(self: Any, name: str, x: Tensor) -> Tensor:
        """Buffer `name` in x's device and precision (complex stays complex), converted once and remembered."""
        dtype = x.real.dtype
        buffer = getattr(self, name)
        if buffer.is_complex():
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        return converted(self, name, buffer, dtype, x.device)

    def __getitem__(self: Any, index: int | slice) -> Operator:
        """The operator of one item (or some), for a batched operator; an unbatched one serves every item."""
        if self.batch is None:
            return self
        return self.select(chosen(self.batch, index, self.label))

    def __iter__(self: Any) -> Iterator[Operator]:
        """The operators of the items, one after the other.

        Raises:
            CapabilityError: no parameters per item, so there is nothing to count through.
        """
        # Without this method Python would count without end, since an unbatched operator has an item for every index.
        if self.batch is None:
            raise CapabilityError(f"{self.label} has no parameters per item: it serves every batch and cannot be iterated over")
        return (self[item] for item in range(self.batch))
