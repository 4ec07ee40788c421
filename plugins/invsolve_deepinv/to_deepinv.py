"""Our operators as deepinv's physics, so that deepinv's optimisers, samplers and tests run on them.

deepinv's prox_l2(z, y, gamma) = argmin gamma/2 |Ax - y|^2 + 1/2 |x - z|^2 is our prox with tau = gamma.
"""

from __future__ import annotations

from typing import Any

import deepinv
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, NoiseModel, NoNoise
from invsolve.operator import Capability, Operator
from invsolve_deepinv.recast import ours, theirs

physics = deepinv.physics


def to_deepinv(operator: Operator, noise: NoiseModel | None = None) -> Any:
    """The operator as a deepinv physics: Physics, LinearPhysics or DecomposablePhysics, as its capabilities are.

    A, A_adjoint, A_dagger, prox_l2 and the singular system are the operator's own; what it lacks is deepinv's (A_dagger and prox_l2
    by its iterations, A_vjp by autograd). A Stack's y becomes a deepinv TensorList. The operator is shared, not copied.

    Args:
        operator: any operator.
        noise: GaussianNoise or NoNoise, passed on as the physics' noise model; None for no noise.

    Raises:
        InputError: no Operator, another noise model, or a noise level per item.
    """
    if not isinstance(operator, Operator):
        raise InputError(f"to_deepinv takes an invsolve Operator; given {type(operator).__name__}")
    if operator.has(Capability.SVD) and not operator.complex_output:
        made: Any = DecomposableView(operator)
    else:
        made = LinearView(operator) if operator.has(Capability.LINEAR) else View(operator)
    made.noise_model = noise_model(noise)
    return made


def noise_model(noise: NoiseModel | None) -> Any:
    """deepinv's noise model of the same law."""
    if noise is None or isinstance(noise, NoNoise):
        return physics.ZeroNoise()
    if isinstance(noise, GaussianNoise) and noise.batch is None:
        return physics.GaussianNoise(sigma=float(noise.sigma))
    raise InputError(f"only GaussianNoise with one level and NoNoise are passed on; given {noise}")


class View(physics.Physics):
    """A nonlinear operator; deepinv's A_vjp goes through it by autograd."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.img_size = operator.in_shape

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802 (deepinv's name)
        """H(x)."""
        return theirs(self.operator(x))


class LinearView(physics.LinearPhysics):
    """A linear operator."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.img_size = operator.in_shape

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802
        """H x."""
        return theirs(self.operator(x))

    def A_adjoint(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """H^T y."""
        return self.operator.adjoint(ours(y))

    def A_dagger(self, y: Any, **options: Any) -> Tensor:  # noqa: N802
        """H^+ y where it is closed, else deepinv's iteration."""
        return self.operator.pinv(ours(y)) if self.operator.has(Capability.PINV) else super().A_dagger(y, **options)

    def prox_l2(self, z: Tensor, y: Any, gamma: Any, **options: Any) -> Tensor:
        """prox with tau = gamma where it is closed, else deepinv's iteration."""
        if self.operator.has(Capability.PROX):
            return self.operator.prox(z, ours(y), per_item(gamma))
        return super().prox_l2(z, y, gamma, **options)


class DecomposableView(physics.DecomposablePhysics):
    """A linear operator with its singular system."""

    def __init__(self, operator: Operator) -> None:
        s = operator.svd().s
        mask: Any = s if operator.batch is not None else s[None]
        super().__init__(mask=mask)
        self.operator = operator
        self.img_size = operator.in_shape

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802
        """H x."""
        return self.operator(x)

    def A_adjoint(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """H^T y."""
        return self.operator.adjoint(y)

    def A_dagger(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """H^+ y."""
        return self.operator.pinv(y)

    def prox_l2(self, z: Tensor, y: Any, gamma: Any, **_options: Any) -> Tensor:
        """prox with tau = gamma."""
        return self.operator.prox(z, y, per_item(gamma))

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


def per_item(gamma: Any) -> Any:
    """deepinv writes a step per item as (B, 1, 1, 1)."""
    return gamma.flatten() if isinstance(gamma, Tensor) and gamma.ndim > 1 else gamma


__all__ = ["DecomposableView", "LinearView", "View", "to_deepinv"]
