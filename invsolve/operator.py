"""The forward operator H of y = H(x) + n, and what it can do.

Capabilities are found, not claimed: a method that a class overrides is a capability, and exact consequences follow.

    svd    => linear, adjoint, pinv, prox           (closed form)
    linear => adjoint (by vector-Jacobian product), differentiable
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from inspect import isfunction
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from invsolve.arguments import Remembering, checked
from invsolve.errors import CapabilityError, InputError
from invsolve.guard import CHECKS, guarded
from invsolve.measurement import Measurement, column, mapped, parts
from invsolve.rng import Rng
from invsolve.svd import SVD

if TYPE_CHECKING:
    from invsolve.scipy_bridge import ScipyView

Shape = tuple[int, ...]


class Capability(StrEnum):
    """What a solver may ask of an operator; every one is exact."""

    LINEAR = "linear"
    ADJOINT = "adjoint"
    PINV = "pinv"
    SVD = "svd"
    PROX = "prox"
    MASK = "mask"
    DIFFERENTIABLE = "differentiable"


class Operator(nn.Module, metaclass=Remembering):
    """H: (B, *in_shape) -> (B, *out_shape).

    A subclass sets `in_shape` and `out_shape` (without batch), writes `forward`, and overrides `adjoint`, `pinv`, `svd` or
    `prox` where it knows them exactly. What no method can show is a trait: LINEAR, MASK (y = mask * x in the pixel basis,
    with `mask` as an attribute), DIFFERENTIABLE (nonlinear, but autograd goes through).

    Attributes:
        batch: number of items when parameters differ per item (buffers then lead with it), else None.
        output_range: the interval H maps [0, 1] images to where the output is image-like, else None: used to refuse data
            in another unit.
        complex_output: whether y is complex.
        complex_input: whether its images are: of what stands after another in a chain only, see `invsolve.complex_data`.
        channelwise: whether H does the same to every channel and mixes none (blurs, masks shared by the channels), and its spectrum,
            where it has one, is led by the channels.
        pointwise: whether H does the same at every pixel and mixes none (changes of colour), its spectrum laid out as the image.
        surrogate: what the gradient stands for where it is not the derivative (rounding has none); None where it is.
        expected_failures: conformance checks that are known to fail, with the reason (`invsolve.testing`); strict.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset()
    in_shape: Shape
    out_shape: Shape | tuple[Shape, ...]
    batch: int | None = None
    output_range: tuple[float, float] | None = None
    complex_output: bool = False
    complex_input: bool = False
    channelwise: bool = False
    pointwise: bool = False
    surrogate: str | None = None
    expected_failures: Mapping[str, str] = MappingProxyType({})
    arguments: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        """Wrap what the class defines of forward, adjoint, pinv and prox, so that their arguments are looked at; see `invsolve.guard`."""
        super().__init_subclass__(**options)
        for name in CHECKS:
            if isfunction(method := vars(cls).get(name)):
                setattr(cls, name, guarded(method, name))

    @abstractmethod
    def forward(self, x: Tensor) -> Measurement:
        """H(x): (B, *in_shape) -> (B, *out_shape)."""

    def _complete(self) -> None:
        """Called when the constructor is done: what every operator must have by then."""
        if "_buffers" not in vars(self):
            raise InputError(f"{type(self).__name__}.__init__ must begin with super().__init__()")
        for name in ("in_shape", "out_shape"):
            if not isinstance(getattr(self, name, None), tuple):
                raise InputError(f"{type(self).__name__}.__init__ must set self.{name}, a tuple without the batch, such as (3, 64, 64)")

    @guarded
    def adjoint(self, y: Measurement) -> Tensor:
        """H^T y, (B, *out_shape) -> (B, *in_shape), real; exact for a linear operator, by vector-Jacobian product unless overridden.

        Raises:
            CapabilityError: the operator is not linear.
        """
        self.need(Capability.ADJOINT)
        if self._overrides("svd") and isinstance(y, Tensor):
            return self.svd().adjoint(y)
        first = parts(y)[0]
        dtype = torch.promote_types(first.dtype, torch.complex32) if self.complex_input else first.real.dtype
        again = torch.is_grad_enabled() and first.requires_grad
        with torch.inference_mode(False), torch.enable_grad():  # under inference mode there would be no graph to go back through
            y = mapped(torch.clone, y) if first.is_inference() else y
            x = torch.zeros(first.shape[0], *self.in_shape, dtype=dtype, device=first.device, requires_grad=True)
            made = self(x)
            (gradient,) = torch.autograd.grad(parts(made), x, parts(mapped(Tensor.to, y, made)), create_graph=again)
        return gradient

    @guarded
    def pinv(self, y: Measurement) -> Tensor:
        """H^+ y: the minimum-norm least-squares solution, (B, *in_shape).

        Raises:
            CapabilityError: no closed form; `IterativePinv(H)` is the explicit approximation.
        """
        self.need(Capability.PINV)
        return self.svd().pinv(parts(y)[0])

    def svd(self) -> SVD:
        """H = U diag(s) V^T; see `invsolve.svd` for the contract. CapabilityError where there is no closed form."""
        raise self._lacks(Capability.SVD)

    @guarded
    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """argmin_x 1/2 |Hx - y|^2 + 1/(2 tau) |x - z|^2, (B, *in_shape); tau a float or (B,), inf for the projection.

        Raises:
            CapabilityError: no closed form; `IterativeProx(H)` is the explicit approximation.
        """
        self.need(Capability.PROX)
        return self.svd().prox(z, parts(y)[0], tau)

    def prox_sample(
        self, z: Tensor, y: Measurement, sigma_y: float | Tensor, r: float | Tensor, generator: int | torch.Generator | Rng | None = None
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

    def compose(self, inner: Operator) -> Operator | None:
        """What `self @ inner` is where that is more than two maps one after the other: an operator equal to it, else None."""
        del inner
        return None

    def composed_into(self, outer: Operator) -> Operator | None:
        """The same of `outer @ self`, asked where outer's `compose` does not know."""
        del outer
        return None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Traits, overridden methods and what follows exactly from them."""
        found = set(self.traits)
        found |= {Capability(name) for name in ("adjoint", "pinv", "svd", "prox") if self._overrides(name)}
        if Capability.SVD in found:
            found |= {Capability.LINEAR, Capability.ADJOINT, Capability.PINV, Capability.PROX}
        if Capability.LINEAR in found:
            found |= {Capability.ADJOINT, Capability.DIFFERENTIABLE}
        return frozenset(found)

    def has(self, capability: Capability) -> bool:
        """Whether the operator offers it exactly."""
        return capability in self.capabilities

    def need(self, capability: Capability) -> None:
        """Raise CapabilityError unless the operator offers it."""
        if not self.has(capability):
            raise self._lacks(capability)

    def _lacks(self, capability: Capability) -> CapabilityError:
        return CapabilityError(f"{self.label} has no {capability.value}; it provides: {listed(self.capabilities)}")

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Operator, name)

    @property
    def stacked(self) -> bool:
        """Whether y is a tuple."""
        return bool(self.out_shape) and isinstance(self.out_shape[0], tuple)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """The shapes of y's parts, one for a plain operator."""
        return self.out_shape if self.stacked else (self.out_shape,)  # pyright: ignore[reportReturnType]

    @property
    def complex_outputs(self) -> tuple[bool, ...]:
        """Whether y is complex, part by part."""
        return (self.complex_output,) * len(self.out_shapes)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """Per part of y: 1 where an entry is measured at all and 0 where a mask holds nothing; None where all are."""
        mask = getattr(self, "mask", None) if Capability.MASK in self.traits else None
        return (mask, *[None] * (len(self.out_shapes) - 1))

    @property
    def label(self) -> str:
        """The class name, for messages."""
        return type(self).__name__

    @property
    def T(self) -> Operator:  # noqa: N802 (the field's name)
        """The adjoint as an operator."""
        from invsolve.algebra import AdjointView

        return AdjointView(self)

    @property
    def device(self) -> torch.device | None:
        """Where the parameters live; None without any."""
        tensor = next(iter([*self.buffers(), *self.parameters()]), None)
        return None if tensor is None else tensor.device

    def like(self, name: str, x: Tensor) -> Tensor:
        """Buffer `name` in x's device and precision (complex stays complex), converted once and remembered."""
        buffer = getattr(self, name)
        dtype = x.real.dtype
        if buffer.is_complex():
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        if buffer.dtype == dtype and buffer.device == x.device and not buffer.is_inference():
            return buffer
        if buffer.requires_grad:
            return buffer.to(x.device, dtype)
        cache: dict[Any, tuple[Tensor, int, Tensor]] = vars(self).setdefault("_converted", {})  # pyright: ignore[reportAttributeAccessIssue]
        key = (name, dtype, x.device)
        held = cache.get(key)
        # load_state_dict writes into the same tensor: the version tells.
        version = 0 if buffer.is_inference() else buffer._version
        if held is None or held[0] is not buffer or held[1] != version:
            # A tensor made under inference mode could not take part in a later backward pass.
            with torch.inference_mode(False):
                cache[key] = held = (buffer, version, buffer.to(x.device, dtype, copy=buffer.is_inference()))
        return held[2]

    def __getitem__(self, index: int | slice) -> Operator:
        """The operator of one item (or some), for a batched operator; an unbatched one serves every item."""
        if self.batch is None:
            return self
        if not isinstance(index, slice) and not -self.batch <= index < self.batch:
            raise IndexError(f"{self.label} has parameters for {self.batch} items; there is no item {index}")
        rows = range(self.batch)[index]
        return self.select(rows if isinstance(rows, range) else range(rows, rows + 1))

    def __iter__(self) -> Iterator[Operator]:
        """The operators of the items, one after the other.

        Raises:
            CapabilityError: no parameters per item, so there is nothing to count through.
        """
        # Without this method Python would count without end, since an unbatched operator has an item for every index.
        if self.batch is None:
            raise CapabilityError(f"{self.label} has no parameters per item: it serves every batch and cannot be iterated over")
        return (self[item] for item in range(self.batch))

    def select(self, items: range) -> Operator:
        """The batched operator restricted to some items; CapabilityError by a class that does not say how."""
        raise CapabilityError(f"{self.label} has parameters for {self.batch} items but no select(); write it to slice its buffers")

    def __matmul__(self, other: Operator) -> Operator:
        from invsolve.structure import joined

        return joined(self, other) if isinstance(other, Operator) else NotImplemented

    def __add__(self, other: Operator) -> Operator:
        from invsolve.algebra import Sum

        return Sum(self, other) if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: float) -> Operator:
        from invsolve.algebra import Scaled

        return Scaled(self, factor) if isinstance(factor, Real | Tensor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Operator:
        return self * (1 / divisor if divisor else float("inf")) if isinstance(divisor, Real) else NotImplemented

    def __neg__(self) -> Operator:
        return self * -1.0

    def __sub__(self, other: Operator) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    @classmethod
    def examples(cls) -> list[Operator]:
        """Small instances that the conformance checks run on; the default is one on (3, 8, 8) images."""
        return [cls(in_shape=(3, 8, 8))]  # pyright: ignore[reportCallIssue]

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
        """Your function of a batch of images as an operator; see `invsolve.foreign.FunctionOperator`.

        Raises:
            InputError: f does not do what an operator must; says what it returned.
        """
        from invsolve.foreign import FunctionOperator

        return FunctionOperator(function, in_shape, linear, adjoint, pinv, prox)

    @staticmethod
    @checked
    def from_matrix(matrix: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> Operator:
        """y = A x for a tensor or array (m, n), (B, m, n) for one per image, or a sparse A; see `invsolve.matrix`.

        Raises:
            InputError: sizes that do not fit, complex or not finite entries.
        """
        from invsolve.matrix import matrix_operator

        return matrix_operator(matrix, in_shape, out_shape)

    @staticmethod
    @checked
    def from_scipy(foreign: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> Operator:
        """A scipy.sparse.linalg.LinearOperator, one of PyLops, or alike, as an operator; see `invsolve.scipy_bridge.ScipyOperator`.

        Raises:
            InputError: sizes that do not fit, no adjoint, or a wrong one.
        """
        from invsolve.scipy_bridge import ScipyOperator

        return ScipyOperator(foreign, in_shape, out_shape)

    def to_scipy(self, dtype: Any = None) -> ScipyView:
        """One item of a linear operator as a scipy.sparse.linalg.LinearOperator; see `invsolve.scipy_bridge.ScipyView`."""
        from invsolve.scipy_bridge import ScipyView

        return ScipyView(self, dtype)

    def extra_repr(self) -> str:
        """Shapes and what the operator can do."""
        stands = "" if self.surrogate is None else f", gradient {self.surrogate}"
        return f"{self.in_shape} -> {self.out_shape}, {listed(self.capabilities)}{stands}"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_converted"}


def listed(capabilities: frozenset[Capability]) -> str:
    """Capabilities by name, sorted."""
    return ", ".join(sorted(capability.value for capability in capabilities)) or "nothing"


def image_shape(in_shape: Any, what: str = "in_shape") -> Shape:
    """(C, H, W) as a tuple of positive ints.

    Raises:
        InputError: another rank or a non-positive size.
    """
    shape = tuple(int(side) for side in in_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{what} must be (channels, height, width), each at least 1; given {tuple(in_shape)}")
    return shape
