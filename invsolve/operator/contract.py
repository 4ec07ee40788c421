"""The forward operator H of y = H(x) + n, and what it can do.

Capabilities are found, not claimed: a method that a class overrides is a capability, and exact consequences follow.

    svd    => linear, adjoint, pinv, prox           (closed form)
    linear => adjoint (by vector-Jacobian product), differentiable

This file is what somebody who writes an operator must know; what every operator has besides (`@`, `+`, `H[i]`, `from_matrix`, ...)
is in `sugar.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from inspect import isfunction
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError
from invsolve.operator.cache import PLACE
from invsolve.operator.capability import MAX_PIXELS, MAX_VOXELS, Capability, Shape, closure, listed
from invsolve.operator.guard import CHECKS, guarded
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve.operator.sugar import Sugar
from invsolve.operator.svd import SVD
from invsolve.operator.windows import Window
from invsolve.plugins.arguments import Remembering

__all__ = ["Capability", "Operator", "Shape", "image_shape", "listed"]


class Operator(Sugar, nn.Module, metaclass=Remembering):
    """H: (B, *in_shape) -> (B, *out_shape).

    A subclass sets `in_shape` and `out_shape` (without batch), writes `forward`, and overrides `adjoint`, `pinv`, `svd` or
    `prox` where it knows them exactly. What no method can show is a trait: LINEAR, MASK (y = mask * x in the pixel basis,
    with `mask` as an attribute), DIFFERENTIABLE (nonlinear, but autograd goes through).

    Attributes:
        batch: number of items when parameters differ per item (buffers then lead with it), else None.
        output_range: the interval H maps [0, 1] images to where the output is image-like, else None: used to refuse data
            in another unit.
        complex_output: whether y is complex.
        complex_input: whether its images are: of what stands after another in a chain only, see `invsolve.operator.complex_data`.
        channelwise: whether H does the same to every channel and mixes none (blurs, masks shared by the channels), and its spectrum,
            where it has one, is led by the channels.
        pointwise: whether H does the same at every pixel and mixes none (changes of colour), its spectrum laid out as the image.
        uniform: whether H does the same wherever the image is cut, so that H of a window is the same class with the window's shape.
        reach: how many pixels away an entry of y looks from its place; beyond it, nothing changes an entry.
        stride: pixels of the image per entry of y, along a side.
        period: windows start at multiples of it, and have such sizes unless they end where the image does.
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
    uniform: bool = False
    reach: int = 0
    stride: int = 1
    period: int = 1
    surrogate: str | None = None
    expected_failures: Mapping[str, str] = MappingProxyType({})
    arguments: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        """Wrap what the class defines of forward, adjoint, pinv and prox, so that their arguments are looked at; see `guard.py`."""
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
        """H = U diag(s) V^T; see `invsolve.operator.svd` for the contract. CapabilityError where there is no closed form."""
        raise self._lacks(Capability.SVD)

    @guarded
    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """argmin_x 1/2 |Hx - y|^2 + 1/(2 tau) |x - z|^2, (B, *in_shape); tau a float or (B,), inf for the projection.

        Raises:
            CapabilityError: no closed form; `IterativeProx(H)` is the explicit approximation.
        """
        self.need(Capability.PROX)
        return self.svd().prox(z, parts(y)[0], tau)

    def guess(self, y: Measurement) -> Tensor | None:
        """An image to begin from, (B, *in_shape), for an H that is not linear and whose y is no image; None where it knows none.

        Every solver that walks from a first image asks for it, so it depends on an item's own y alone, and neither on its batch nor on y's
        unit; it need not fit y, only lie where going downhill ends well.
        """
        del y
        return None

    def compose(self, inner: Operator) -> Operator | None:
        """What `self @ inner` is where that is more than two maps one after the other: an operator equal to it, else None."""
        del inner
        return None

    def composed_into(self, outer: Operator) -> Operator | None:
        """The same of `outer @ self`, asked where outer's `compose` does not know."""
        del outer
        return None

    def window(self, window: Window) -> Operator:
        """H of a window of the image, whose entries are y's from (top, left) / stride on: equal to H's own, but for those that look over
        an edge of the window which is none of the image. There it goes on as the class says of edges.

        Raises:
            CapabilityError: the class does not say; it is neither `uniform` nor overrides this.
        """
        if not self.uniform:
            raise CapabilityError(f"{self.label} does not say what it is on a part of the image, so that pieces cannot be solved alone")
        made = type(self)(**{**self.arguments, "in_shape": (self.in_shape[0], window.height, window.width)})
        return made if self.device is None else made.to(self.device)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each measurement; `stride` is a common multiple."""
        return (self.stride,) * len(self.out_shapes)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Traits, overridden methods and what follows exactly from them."""
        return closure(frozenset(self.traits), tuple(filter(self._overrides, ("adjoint", "pinv", "svd", "prox"))))

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

    def select(self, items: range) -> Operator:
        """The batched operator restricted to some items; CapabilityError by a class that does not say how."""
        raise CapabilityError(f"{self.label} has parameters for {self.batch} items but no select(); write it to slice its buffers")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Small instances that the conformance checks run on; the default is one on (3, 8, 8) images."""
        return [cls(in_shape=(3, 8, 8))]  # pyright: ignore[reportCallIssue]

    def extra_repr(self) -> str:
        """Shapes and what the operator can do."""
        stands = "" if self.surrogate is None else f", gradient {self.surrogate}"
        return f"{self.in_shape} -> {self.out_shape}, {listed(self.capabilities)}{stands}"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != PLACE}


def image_shape(in_shape: Any, what: str = "in_shape", *, volumes: bool = False) -> Shape:
    """(C, H, W) as a tuple of positive ints.

    Args:
        in_shape: the sides.
        what: how they are called in errors.
        volumes: whether (C, D, H, W) will do, too: D slices of H x W pixels.

    Raises:
        InputError: another rank, a non-positive size, or more pixels than a picture has that is read.
    """
    shape = tuple(int(side) for side in in_shape)
    if volumes and len(shape) == 4 and min(shape) >= 1:
        if math.prod(shape) > MAX_VOXELS:
            raise InputError(f"{what}: a volume has at most {MAX_VOXELS} numbers; given {' x '.join(map(str, shape))}: cut it into parts")
        return shape
    if len(shape) != 3 or min(shape) < 1:
        if volumes:
            what += " must be (channels, height, width), or (channels, depth, height, width) of a volume, each at least 1; given"
            raise InputError(f"{what} {tuple(in_shape)}")
        raise InputError(f"{what} must be (channels, height, width), each at least 1; given {tuple(in_shape)}")
    if shape[1] * shape[2] > MAX_PIXELS:
        raise InputError(f"{what}: an image has at most {MAX_PIXELS} pixels; given {shape[1]} x {shape[2]}: cut it into parts that overlap")
    return shape
