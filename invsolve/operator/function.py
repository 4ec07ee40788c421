"""Somebody's function as an operator: what it gives is found by probes when the operator is made, and what does not hold is named.

    H = Operator.from_function(f, (3, 64, 64))                 # linear, H^T by vector-Jacobian product
    H = Operator.from_function(f, (3, 64, 64), linear=False)   # differentiable where autograd goes through f

f is never handed our tensors, only copies of them: one that writes into its input changes nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator.contract import Capability, Operator, Shape
from invsolve.operator.measurement import Measurement, check_kind, check_shape, mapped
from invsolve.operator.probing import Probe

Function = Callable[..., Any]


class LinearMap(torch.autograd.Function):
    """x -> A x with the gradient A^H g, for code that autograd cannot follow; any number of times differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A x."""
        ctx.maps, ctx.real = (ahead, back), not x.is_complex()
        return ahead(x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A^H g, its real part for a real x."""
        ahead, back = ctx.maps
        result: Tensor = LinearMap.apply(gradient, back, ahead)  # pyright: ignore[reportAssignmentType]
        return (result.real if ctx.real and result.is_complex() else result), None, None


def linear_map(x: Tensor, ahead: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
    """ahead(x), with `back` as its transpose for autograd."""
    return LinearMap.apply(x, ahead, back)  # pyright: ignore[reportReturnType]


def checked_shape(shape: Any, what: str) -> Shape:
    """A shape without the batch as a tuple of positive ints.

    Raises:
        InputError: anything else.
    """
    given = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    if not given or any(isinstance(side, bool) or not isinstance(side, Integral) or side < 1 for side in given):
        raise InputError(f"{what} must be whole numbers, at least 1, without the batch, such as (3, 64, 64); given {shape!r:.80}")
    return tuple(map(int, given))


class FunctionOperator(Operator):
    """H(x) = f(x) for a function of a batch of images; made by `Operator.from_function`.

    Out shape, dtype, item independence, determinism, the claim of linearity, the adjoint, pinv and prox (if given) and whether autograd
    goes through are found by calling f ten to thirty times on two random images when the operator is made. That is a probe, no proof:
    `invsolve.testing.operator_cases(H)` looks further.

    A function that is an nn.Module is part of the operator: it moves with `.to()`, and is in the state_dict. Pickling works where f
    can be pickled: a module, or a function at the top level of a file; not a lambda.

    Images are real. f may return complex numbers (`complex_output`); what adjoint, pinv and prox then return is taken as its real part,
    which is right for an adjoint y -> f^H y, and is tried for the other two. Complex images: `H @ AsComplex((2 C, H, W))`.

    Args:
        function: (B, *in_shape) -> (B, *out_shape), float32 to float32 and float64 to float64 (or complex), item by item.
        in_shape: (C, H, W), or the out_shape of an operator that comes before it.
        linear: whether f is linear; False makes it DIFFERENTIABLE where autograd goes through it.
        adjoint: y -> f^T y where you know it, or where autograd does not go through f.
        pinv: y -> f^+ y, where you know it exactly.
        prox: (z, y, tau) -> argmin_x 1/2 |f(x) - y|^2 + 1/(2 tau) |x - z|^2, tau a float or (B,), where you know it exactly.

    Raises:
        InputError: what f returned, and what it should.
    """

    out_shape: Shape

    def __init__(
        self,
        function: Function,
        in_shape: Sequence[int],
        linear: bool = True,
        adjoint: Function | None = None,
        pinv: Function | None = None,
        prox: Function | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(linear, bool):
            raise InputError(f"linear must be True or False; given {linear!r:.80} (the output's shape is found by trying)")
        for what, given in (("f", function), ("adjoint", adjoint), ("pinv", pinv), ("prox", prox)):
            if (given is not None and not callable(given)) or (given is None and what == "f"):
                raise InputError(f"{what} must be a function; given {type(given).__name__}")
            if given is not None and not linear and what in ("adjoint", "pinv"):
                raise InputError(f"a function with linear=False has no {what}; leave it out, or claim linear=True")
        self.in_shape = checked_shape(in_shape, "in_shape")
        self.function, self.linear = function, linear
        self.own_adjoint, self.own_pinv, self.own_prox = adjoint, pinv, prox
        probe = Probe(function, self.in_shape, self.linear)
        self.out_shape, self.complex_output = probe.out_shape, probe.complex_output
        self.reuses, self.followed = probe.reuses, probe.followed()
        self.probed = probe.x.dtype
        if self.linear and adjoint is None and not self.followed:
            raise InputError(f"autograd does not go through {probe.name} (it leaves torch, or detaches): give adjoint=, y -> f^T y")
        self._check_own(probe)

    def _check_own(self, probe: Probe) -> None:
        """Shapes of what was given besides f, and whether it is what it must be, as far as random images show."""
        x, y = probe.x, probe.white_output()
        tau = torch.tensor([0.5, 2.0], dtype=x.real.dtype, device=x.device)
        given = {"adjoint": (self.own_adjoint, (y,)), "pinv": (self.own_pinv, (y,)), "prox": (self.own_prox, (x, y, tau))}
        for what, (own, arguments) in given.items():
            if own is None:
                continue
            back = real_part(probe.call(own, what, *arguments))
            if not isinstance(back, Tensor) or back.shape != x.shape or back.dtype != x.dtype:
                returned = f"{tuple(back.shape)} and {back.dtype}" if isinstance(back, Tensor) else type(back).__name__
                raise InputError(f"{what} must return images of shape {tuple(x.shape)} and {x.dtype}; it returned {returned}")
            if what == "adjoint":
                probe.check_adjoint(y, back)
            elif what == "pinv":
                probe.check_pinv(own)
            else:
                probe.check_prox(back, x, y, tau)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What was claimed and found."""
        found = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE} if self.linear else set()
        found |= {Capability.DIFFERENTIABLE} if self.followed else set()
        found |= {Capability.PINV} if self.own_pinv is not None else set()
        found |= {Capability.PROX} if self.own_prox is not None else set()
        return frozenset(found)

    @property
    def label(self) -> str:
        """The function's name, for messages."""
        return f"from_function({getattr(self.function, '__name__', type(self.function).__name__)})"

    def forward(self, x: Tensor) -> Tensor:
        """f(x)."""
        check_shape(self, "x", x, self.in_shape)
        check_kind("x", x, halves=True)
        if not len(x):
            dtype = torch.promote_types(x.dtype, torch.complex64) if self.complex_output else x.dtype
            return x.new_zeros((0, *self.out_shape), dtype=dtype)
        if self.followed or not self.linear:
            return self._evaluate(x)
        return linear_map(x, self._evaluate, self._back)

    def _evaluate(self, x: Tensor) -> Tensor:
        try:
            y = self.function(x.clone())
        except Exception as error:
            error.add_note(f"in {self.label}, which was given {x.dtype} on {x.device}, and probed with {self.probed} when it was made")
            raise
        if not isinstance(y, Tensor) or y.shape != (len(x), *self.out_shape) or y.real.dtype != x.real.dtype:
            given = f"{tuple(y.shape)} and {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"{self.label} returned {given} for {tuple(x.shape)} and {x.dtype}; out_shape is {self.out_shape}")
        return y.clone() if self.reuses else y

    def _back(self, y: Tensor) -> Tensor:
        assert self.own_adjoint is not None
        return real_part(self.own_adjoint(y.clone()))

    def adjoint(self, y: Measurement) -> Tensor:
        """f^T y: the one that was given, else by vector-Jacobian product."""
        self.need(Capability.ADJOINT)
        assert isinstance(y, Tensor)
        if not len(y):
            return y.new_zeros((0, *self.in_shape), dtype=y.real.dtype)
        return super().adjoint(y) if self.own_adjoint is None else linear_map(y, self._back, self._evaluate)

    def pinv(self, y: Measurement) -> Tensor:
        """The one that was given."""
        self.need(Capability.PINV)
        assert self.own_pinv is not None
        assert isinstance(y, Tensor)
        if not len(y):
            return y.new_zeros((0, *self.in_shape), dtype=y.real.dtype)
        return real_part(self.own_pinv(y.clone()))

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """The one that was given."""
        self.need(Capability.PROX)
        assert self.own_prox is not None
        if not len(z):
            return z.clone()
        return real_part(self.own_prox(z.clone(), mapped(torch.clone, y), tau.clone() if isinstance(tau, Tensor) else tau))

    def extra_repr(self) -> str:
        """The function, shapes and abilities."""
        shown = "" if isinstance(self.function, nn.Module) else f"{self.label}, "
        return f"{shown}{super().extra_repr()}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """A mirror image."""
        return [cls(mirrored, (3, 4, 5))]


def real_part(x: Any) -> Any:
    """The real part of a complex tensor, anything else as it is."""
    return x.real if isinstance(x, Tensor) and x.is_complex() else x


def mirrored(x: Tensor) -> Tensor:
    """Left to right: the example."""
    return x.flip(-1)
