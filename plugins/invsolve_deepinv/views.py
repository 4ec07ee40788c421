"""Our operators as deepinv's physics, so that deepinv's optimisers, samplers and tests run on them.

deepinv's prox_l2(z, y, gamma) = argmin gamma/2 |Ax - y|^2 + 1/2 |x - z|^2 is our prox with tau = gamma.
"""

from __future__ import annotations

from typing import Any

import deepinv
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, NoiseModel, NoNoise, PoissonNoise
from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve_deepinv.recast import ours, theirs

physics = deepinv.physics


def to_deepinv(operator: Operator, noise: NoiseModel | None = None) -> Any:
    """The operator as a deepinv physics: Physics, LinearPhysics or DecomposablePhysics, as its capabilities are.

    A, A_adjoint, A_vjp, A_dagger, prox_l2 and the singular system are the operator's own; what it lacks is deepinv's (A_dagger and
    prox_l2 by its iterations). A Stack's y becomes a deepinv TensorList. The operator is shared, not copied: `physics.to(device)`
    moves it. `physics.mask` holds s in torch's default precision, since deepinv's samplers mix it with their iterates.

    Args:
        operator: any operator; with parameters per image, any deepinv code that keeps to one batch of them takes it.
        noise: GaussianNoise, PoissonNoise or NoNoise, passed on as the physics' noise model; None for no noise.

    Raises:
        InputError: no Operator, or another noise model.
    """
    if not isinstance(operator, Operator):
        raise InputError(f"to_deepinv takes an invsolve Operator; given {type(operator).__name__}")
    model = noise_model(noise)
    if operator.has(Capability.SVD) and not operator.stacked:
        made: Any = DecomposableView(operator)
    else:
        made = LinearView(operator) if operator.has(Capability.ADJOINT) else View(operator)
    made.noise_model = model
    return made


def noise_model(noise: NoiseModel | None) -> Any:
    """deepinv's noise model of the same law."""
    if noise is None or isinstance(noise, NoNoise):
        return physics.ZeroNoise()
    if isinstance(noise, GaussianNoise):
        return physics.GaussianNoise(sigma=noise.sigma.to(torch.get_default_dtype()))
    if isinstance(noise, PoissonNoise):
        return physics.PoissonNoise(gain=noise.gain)
    raise InputError(f"deepinv has the same law for GaussianNoise, PoissonNoise and NoNoise; given {noise}")


class Viewed:
    """What every view has: the operator, its forward map, and its items. A mixin before deepinv's classes."""

    operator: Operator

    def hold(self, operator: Operator) -> None:
        """Called when deepinv's constructor is done."""
        self.operator = operator
        self.img_size = operator.in_shape

    @property
    def batch(self) -> int | None:
        """The operator's: how many images it has parameters for."""
        return self.operator.batch

    def select(self, items: range) -> Any:
        """The view of some items' operator."""
        return to_deepinv(self.operator.select(items))

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802 (deepinv's name)
        """H(x)."""
        return theirs(self.operator(x))

    def A_vjp(self, x: Tensor, v: Any) -> Tensor:  # noqa: N802
        """J(x)^T v: the adjoint of a linear operator, else by autograd (torch.func, as deepinv has it,
        refuses autograd functions whose forward takes a context)."""
        if self.operator.has(Capability.ADJOINT):
            return self.operator.adjoint(ours(v))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(parts(self.operator(leaf)), leaf, parts(ours(v)))
        return gradient

    def noise(self, x: Any, **options: Any) -> Any:
        """Noise on every part of y."""
        model: Any = self.noise_model  # pyright: ignore[reportAttributeAccessIssue]
        return theirs(mapped(lambda part: model(part, **options), ours(x)))


class View(Viewed, physics.Physics):
    """A nonlinear operator."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.hold(operator)


class LinearView(Viewed, physics.LinearPhysics):
    """A linear operator."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.hold(operator)

    def A_adjoint(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """H^T y."""
        return self.operator.adjoint(ours(y))

    def A_dagger(self, y: Any, **options: Any) -> Tensor:  # noqa: N802
        """H^+ y where it is closed, else deepinv's iteration."""
        return self.operator.pinv(ours(y)) if self.operator.has(Capability.PINV) else super().A_dagger(y, **options)

    def prox_l2(self, z: Any, y: Any, gamma: Any, **options: Any) -> Tensor:
        """prox with tau = gamma where it is closed, else deepinv's iteration."""
        if self.operator.has(Capability.PROX):
            return self.operator.prox(point(z, self.operator, ours(y)), ours(y), per_item(gamma))
        return super().prox_l2(z, y, gamma, **options)


class DecomposableView(LinearView, physics.DecomposablePhysics):
    """A linear operator with its singular system: U and V as ours, mask = s of shape (1 or B, *spec)."""

    def __init__(self, operator: Operator) -> None:
        physics.DecomposablePhysics.__init__(self)
        self.hold(operator)
        self.recompute()
        self.mask = self.mask.to(torch.get_default_dtype())

    def recompute(self) -> None:
        """mask = s in the operator's own precision."""
        s = self.operator.svd().s.detach()
        self.mask = s.clone() if self.operator.batch is not None else s[None].clone()

    def A_adjoint_A(self, x: Tensor, **_options: Any) -> Tensor:  # noqa: N802
        """H^T H x, not through the rounded mask."""
        return self.operator.adjoint(self.operator(x))

    def A_A_adjoint(self, y: Tensor, **_options: Any) -> Any:  # noqa: N802
        """H H^T y."""
        return self.operator(self.operator.adjoint(y))

    def U(self, x: Tensor) -> Tensor:  # noqa: N802
        """Spectrum to measurement."""
        return self.operator.svd().U(x)

    def U_adjoint(self, x: Tensor) -> Tensor:  # noqa: N802
        """Measurement to spectrum."""
        return self.operator.svd().Ut(x)

    def V(self, x: Tensor) -> Tensor:  # noqa: N802
        """Spectrum to image."""
        return self.operator.svd().V(x)

    def V_adjoint(self, x: Tensor) -> Tensor:  # noqa: N802
        """Image to spectrum."""
        return self.operator.svd().Vt(x)


def point(z: Any, operator: Operator, y: Measurement) -> Tensor:
    """deepinv writes a constant image as a number, and 0 as None."""
    first = parts(y)[0]
    return z if isinstance(z, Tensor) else first.new_full((len(first), *operator.in_shape), float(z or 0.0))


def per_item(gamma: Any) -> Any:
    """deepinv writes a step per item as (B, 1, 1, 1)."""
    return gamma.flatten() if isinstance(gamma, Tensor) and gamma.ndim > 1 else gamma


__all__ = ["DecomposableView", "LinearView", "View", "to_deepinv"]
