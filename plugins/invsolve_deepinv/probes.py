"""Experiments on a deepinv physics in float64: what it really can do, on fixed random probes of a few images.

A property counts as holding when its residual is below TOLERANCE of the size of what is compared: far above the rounding of
float64 on the way (about 1e-13), far below what buffers computed in float32 leave (1e-7). So a system that is only good to
single precision is not passed on as exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import Measurement, flat, mapped, parts
from invsolve.operator.svd import SVD
from invsolve_deepinv.complex_physics import OneByOne, Pairs
from invsolve_deepinv.recast import chosen, ours, sizes, theirs

TOLERANCE = 1e-9


class UnfitError(InputError):
    """What no other number of images would mend."""


def far(a: Tensor, b: Tensor, scale: float = 0.0) -> bool:
    """Whether two tensors differ by more than TOLERANCE of their size."""
    if a.shape != b.shape or not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
        return True
    size = max(float(a.abs().max()), float(b.abs().max()), scale) if a.numel() else 0.0
    return bool(a.numel()) and float((a - b).abs().max()) > TOLERANCE * max(size, 1e-300)


def apart(a: Measurement, b: Measurement, scale: float = 0.0) -> bool:
    """`far`, part by part."""
    return len(parts(a)) != len(parts(b)) or any(far(p, q, scale) for p, q in zip(parts(a), parts(b), strict=True))


def inner(a: Measurement, b: Measurement) -> Tensor:
    """Re <a, b> per item."""
    return (flat(a).conj() * flat(b)).real.sum(1)


def length(a: Measurement) -> Tensor:
    """|a| per item."""
    return inner(a, a).sqrt()


def attempt(check: Any) -> Any:
    """A method that answers False where deepinv raises: a property that cannot be tried does not hold."""

    def tried(*args: Any) -> bool:
        try:
            with torch.enable_grad():
                return check(*args)
        except Exception:  # whatever foreign code raises
            return False

    tried.__doc__ = check.__doc__
    return tried


def called(physics: Any) -> str:
    """The class of a physics, that inside where we wrap it."""
    return called(physics.physics) if isinstance(physics, Pairs | OneByOne) else type(physics).__name__


def measured(physics: Any, x: Tensor) -> Measurement:
    """A x of a copy of x, a tuple for deepinv's lists.

    Raises:
        UnfitError: y is neither a tensor nor a list of tensors, or in a lower precision than x.
    """
    y = ours(physics.A(x.clone()))
    for part in parts(y):
        if not isinstance(part, Tensor):
            raise UnfitError(f"{called(physics)} gives a {type(part).__name__}; an operator gives a tensor or a list of tensors")
        floating = part.is_floating_point() or part.is_complex()
        if not floating or torch.finfo(part.dtype).eps > torch.finfo(x.dtype).eps:
            raise UnfitError(f"{called(physics)} turns {x.dtype} into {part.dtype}: nothing about it can be checked to rounding")
    return y


@torch.no_grad()
def settled(physics: Any, in_shape: tuple[int, ...]) -> tuple[Any, int | None]:
    """The physics as one that takes batches, and for how many items it holds parameters (None: the same for all).

    Raises:
        InputError: it takes no such images, is random, couples the items of a batch, or gives no tensors.
    """
    name = called(physics)
    rng = torch.Generator().manual_seed(1)

    def draw(count: int) -> Tensor:
        return torch.rand(count, *in_shape, generator=rng, dtype=torch.float64)

    def deterministic(x: Tensor) -> Measurement:
        y = measured(physics, x)
        again = measured(physics, x)
        if not all(torch.equal(p, q) for p, q in zip(parts(y), parts(again), strict=True)):
            raise UnfitError(f"{name} is random: two calls on the same image differ; fix its parameters first")
        return y

    failure: Exception | None = None
    try:
        x = draw(2)
        alone, both = deterministic(x[1:]), measured(physics, x)
        if all(len(part) == 2 for part in parts(both)) and not apart(mapped(lambda part: part[1:], both), alone):
            return physics, None
    except UnfitError:
        raise
    except Exception as error:
        failure = error
    for count in sizes(physics):
        if holds_for(physics, draw(count), count):
            return physics, count
    if failure is None:
        raise InputError(f"{name} couples the items of a batch, or holds parameters that are not one an image")
    try:
        single = OneByOne(physics)
        if all(len(part) == 1 for part in parts(deterministic(draw(1)))):
            return single, None
    except UnfitError:
        raise
    except Exception as error:
        failure = error
    hint = ""
    if takes_complex(physics, draw(2)):
        doubled = (2 * in_shape[0], *in_shape[1:])
        hint = f'; it takes complex ones: pass pairs="image" and in_shape={doubled}, the real parts first'
    raise InputError(f"{name} does not take images of shape (B, {', '.join(map(str, in_shape))}): {failure!r}{hint}") from failure


@attempt
def takes_complex(physics: Any, x: Tensor) -> bool:
    """Whether it works on a complex image."""
    return len(parts(ours(physics.A(x + 0j)))) > 0


@attempt
def holds_for(physics: Any, x: Tensor, count: int) -> bool:
    """Whether cutting what leads with `count` gives the physics of each item."""
    y = measured(physics, x)
    for item in range(count):
        one = measured(chosen(physics, range(item, item + 1), count), x[item : item + 1])
        if apart(one, mapped(lambda part, item=item: part[item : item + 1], y)):
            return False
    return all(len(part) == count for part in parts(y))


class Probe:
    """Probes of one physics.

    Args:
        physics: in float64, as `settled` gives it.
        in_shape: of one image.
        batch: for how many items it holds parameters.
    """

    def __init__(self, physics: Any, in_shape: tuple[int, ...], batch: int | None = None) -> None:
        self.physics, self.in_shape, self.batch = physics, in_shape, batch
        self.draws = torch.Generator().manual_seed(0)
        self.x = torch.rand(batch or 2, *in_shape, generator=self.draws, dtype=torch.float64)
        self.y: Measurement = self.A(self.x)
        self.complex_output = any(part.is_complex() for part in parts(self.y))
        shapes = tuple(tuple(part.shape[1:]) for part in parts(self.y))
        self.out_shape: Any = shapes if isinstance(self.y, tuple) else shapes[0]
        other = self.like(self.x)
        self.second = other, self.A(other)
        self.linear = self._linear()
        self.decomposable = (
            isinstance(self.y, Tensor) and isinstance(getattr(physics, "mask", None), Tensor) and hasattr(physics, "V_adjoint")
        )

    @torch.no_grad()
    def A(self, x: Tensor) -> Any:  # noqa: N802
        """A x, x left alone."""
        return measured(self.physics, x)

    def like(self, y: Measurement) -> Any:
        """Standard normal numbers of y's shapes and dtypes."""
        return mapped(lambda part: torch.randn(part.shape, generator=self.draws, dtype=part.dtype), y)

    def _linear(self) -> bool:
        """A(2 x - 3 b) = 2 A x - 3 A b with a signed b, item by item."""
        other, image = self.second
        wanted = mapped(lambda first, second: 2 * first - 3 * second, self.y, image)
        return not apart(self.A(2 * self.x - 3 * other), wanted)

    @attempt
    def adjoint(self) -> bool:
        """<A x, y> = <x, A^T y> per item, and A^T gives images: of complex ones the real part, since x is real."""
        (x, image), y = self.second, self.like(self.y)
        back = self.physics.A_adjoint(theirs(mapped(torch.clone, y))).real
        if back.shape != x.shape or back.dtype != x.dtype:
            return False
        return not far(inner(image, y), inner(x, back), float((length(x) * length(back)).max()))

    @attempt
    def gradient(self) -> bool:
        """<A x, y> = <x, g>, g the vector-Jacobian product of a linear A."""
        (x, image), y = self.second, self.like(self.y)
        leaf = x.clone().requires_grad_()
        (back,) = torch.autograd.grad(parts(ours(self.physics.A(leaf))), leaf, parts(y))
        return not far(inner(image, y), inner(x, back), float((length(x) * length(back)).max()))

    @attempt
    def differentiable(self) -> bool:
        """The derivative along a direction agrees with central differences, and is not zero as that of a step function.

        Step eps^(1/3) and tolerance 1e-6 are those of the conformance check: the error of such a difference is about 4e-11 for maps of
        order one, and solvers inside (scattering) add their own tolerance over the step.
        """
        x = self.x.clone().requires_grad_(True)
        along = self.like(self.x)
        y = ours(self.physics.A(x))
        weights = self.like(self.y)
        (gradient,) = torch.autograd.grad(parts(y), x, parts(weights))
        step = torch.finfo(torch.float64).eps ** (1 / 3)
        change = mapped(lambda p, q: (p - q) / (2 * step), self.A(self.x + step * along), self.A(self.x - step * along))
        size = length(weights) * length(change) + length(gradient) * length(along)
        gap = (inner(weights, change) - inner(gradient, along)).abs()
        return bool(gradient.any()) and bool((gap <= 1e-6 * size).all())

    @attempt
    def passes_svd(self, system: SVD) -> bool:
        """The contract of `invsolve.operator.svd`."""
        x, y = self.like(self.x), self.like(self.y)
        spectrum, s = system.Vt(x), system.s
        if spectrum.is_complex() or s.is_complex() or bool((s < 0).any()) or spectrum[0].numel() != x[0].numel():
            return False
        if s.shape != (spectrum.shape if self.batch is not None else spectrum.shape[1:]):
            return False
        free, seen = self.like(spectrum), s > 0
        kept = free * seen
        image = system.U(kept)
        return not (
            far(system.V(spectrum), x)
            or far(system.Vt(system.V(free)), free)
            or far(spectrum.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
            or far(system.U(s * spectrum), self.A(x))
            or far(system.Ut(image), kept)
            or far(inner(image, y), inner(kept, system.Ut(y)), float(image.norm() * y.norm()))
        )

    @attempt
    def prox(self, system: SVD) -> bool:
        """The optimality condition at three weights, and its limits."""
        z, y = self.like(self.x), self.like(self.y)
        for tau in (0.1, 1.0, 100.0):
            p = system.prox(z, y, tau)
            pull = self.physics.A_adjoint(self.A(p) - y)
            if p.shape != z.shape or far(pull, (z - p) / tau, float(y.abs().max())):
                return False
        return not far(system.prox(z, y, 0.0), z)

    @attempt
    def pinv(self, system: SVD) -> bool:
        """A P A = A, P A P = P, and A P and P A symmetric."""
        A, P = self.A, system.pinv
        x, other, y, last = self.like(self.x), self.like(self.x), self.like(self.y), self.like(self.y)

        def symmetric(apply: Any, a: Tensor, b: Tensor) -> bool:
            return not far(inner(apply(a), b), inner(a, apply(b)), float(a.norm() * b.norm()))

        inverse = P(y)
        return (
            not far(A(P(A(x))), A(x))
            and not far(P(A(inverse)), inverse)
            and symmetric(lambda v: A(P(v)), y, last)
            and symmetric(lambda v: P(A(v)), x, other)
        )

    @attempt
    def mask(self) -> bool:
        """y = mask * x with a mask of zeros and ones."""
        mask = self.physics.mask.expand(self.batch or 1, *self.in_shape)
        return bool(((mask == 0) | (mask == 1)).all()) and torch.equal(parts(self.y)[0], mask * self.x)
