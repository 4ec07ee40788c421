"""Experiments on a deepinv physics in float64: what it really can do, on fixed random probes of a few images.

A property counts as holding when its residual is below TOLERANCE of the size of what is compared: far above the rounding of
float64 on the way (about 1e-13), far below what buffers computed in float32 leave (1e-7). So a system that is only good to
single precision is not passed on as exact.
"""

from __future__ import annotations

import copy
from typing import Any

import deepinv
import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.svd import SVD

TOLERANCE = 1e-9


def recast(physics: Any, dtype: torch.dtype) -> Any:
    """A clone of a physics with all floating buffers in `dtype`, complex ones in its complex type.

    (`module.to(dtype)` would drop the imaginary parts.)
    """
    try:
        clone = copy.deepcopy(physics)
    except (TypeError, RuntimeError):  # a torch.Generator inside; deepinv's own way takes half a second
        clone = physics.clone()
    without_lambdas(clone)
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    for module in clone.modules():
        if isinstance(getattr(module, "dtype", None), torch.dtype):  # what tomography makes its grids in
            module.dtype = dtype
        for store in (module._buffers, module._parameters):
            for name, value in store.items():
                if value is not None and (value.is_floating_point() or value.is_complex()):
                    cast = value.detach().to(complex_dtype if value.is_complex() else dtype)
                    store[name] = nn.Parameter(cast, requires_grad=False) if isinstance(value, nn.Parameter) else cast
    if dtype == torch.float64:
        recompute(clone)
    return clone


def recompute(physics: Any) -> None:
    """Buffers that deepinv derived from others in single precision: phase and modulus of a filter, norm of a spectral response."""
    if isinstance(physics, deepinv.physics.BlurFFT) and physics.filter is not None:
        physics.update_parameters(filter=physics.get_buffer("filter"))
    if isinstance(physics, deepinv.physics.Decolorize):
        physics.mask = torch.linalg.vector_norm(physics.srf, dim=1, keepdim=True)


def same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """x: stands for deepinv's identity lambdas."""
    return x


IDENTITY = (lambda x: x).__code__.co_code


def without_lambdas(physics: Any) -> None:
    """Take away what keeps a physics from being pickled and is not used by its A: noise and sensor model, generators of
    random parameters, and lambdas that give back their argument."""
    for module in list(physics.modules()):
        for name, child in list(module._modules.items()):
            if name in ("noise_model", "sensor_model") or isinstance(child, deepinv.physics.generator.PhysicsGenerator):
                setattr(module, name, nn.Identity())
        for name, held in list(vars(module).items()):
            code = getattr(held, "__code__", None)
            if (code is not None and code.co_name == "<lambda>" and code.co_code == IDENTITY) or name in ("noise_model", "sensor_model"):
                setattr(module, name, same)


def far(a: Tensor, b: Tensor, scale: float = 0.0) -> bool:
    """Whether two tensors differ by more than TOLERANCE of their size."""
    if a.shape != b.shape or not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
        return True
    size = max(float(a.abs().max()), float(b.abs().max()), scale) if a.numel() else 0.0
    return bool(a.numel()) and float((a - b).abs().max()) > TOLERANCE * max(size, 1e-300)


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


class Probe:
    """Probes of one physics.

    Args:
        physics: in float64.
        in_shape: of one image.

    Raises:
        InputError: see DeepinvOperator.
    """

    def __init__(self, physics: Any, in_shape: tuple[int, ...]) -> None:
        self.physics, self.in_shape = physics, in_shape
        self.draws = torch.Generator().manual_seed(0)
        self.x = torch.rand(2, *in_shape, generator=self.draws, dtype=torch.float64)
        name = type(physics).__name__
        try:
            with torch.no_grad():
                both, again = physics.A(self.x.clone()), physics.A(self.x.clone())
                alone = physics.A(self.x[1:].clone())
        except Exception as error:
            raise InputError(f"{name} does not take images of shape (B, {', '.join(map(str, in_shape))}): {error!r}") from error
        if not isinstance(both, Tensor):
            raise InputError(f"{name} gives a {type(both).__name__}; wrap its parts one by one and join them with invsolve.Stack")
        if not torch.equal(both, again):
            raise InputError(f"{name} is random: two calls on the same image differ; fix its parameters first")
        if both.shape[0] != 2 or far(both[1:], alone):
            raise InputError(f"{name} couples the items of a batch, or holds parameters for several; make one per item")
        self.y, self.out_shape, self.complex_output = both, tuple(both.shape[1:]), both.is_complex()
        self.linear = self._linear()
        self.decomposable = isinstance(getattr(physics, "mask", None), Tensor) and hasattr(physics, "V_adjoint")

    def like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of x's shape and dtype."""
        return torch.randn(x.shape, generator=self.draws, dtype=x.dtype)

    @torch.no_grad()
    def _linear(self) -> bool:
        """A(2 a - 3 b) = 2 A a - 3 A b on signed images, item by item."""
        a, b = self.like(self.x), self.like(self.x)
        first, second = self.physics.A(a.clone()), self.physics.A(b.clone())
        return not far(self.physics.A(2 * a - 3 * b), 2 * first - 3 * second)

    @attempt
    def adjoint(self) -> bool:
        """<A x, y> = <x, A^T y> per item, and A^T leaves y alone and gives images."""
        x, y = self.like(self.x), self.like(self.y)
        kept = y.clone()
        back = self.physics.A_adjoint(y)
        if back.shape != x.shape or back.is_complex():
            return False
        left = (self.physics.A(x.clone()).conj() * kept).real.flatten(1).sum(1)
        right = (x * back).flatten(1).sum(1)
        scale = float((x.flatten(1).norm(dim=1) * back.flatten(1).norm(dim=1)).max())
        return not far(left, right, scale)

    @attempt
    def differentiable(self) -> bool:
        """The derivative along a direction agrees with central differences, and is not zero as that of a step function.

        With step 1e-6 the differences are good to about 1e-9: ten times that is allowed.
        """
        x = self.x.clone().requires_grad_(True)
        along = self.like(x)
        y = self.physics.A(x)
        weights = self.like(y)
        (gradient,) = torch.autograd.grad(y, x, weights)
        step = 1e-6
        with torch.no_grad():
            change = (self.physics.A(self.x + step * along) - self.physics.A(self.x - step * along)) / (2 * step)
        expected = (weights.conj() * change).real.flatten(1).sum(1)
        found = (gradient * along).flatten(1).sum(1)
        size = float(weights.abs().max() * change.abs().max())
        return bool(gradient.any()) and not far(expected, found, 10 * size)

    @attempt
    def passes_svd(self, system: SVD) -> bool:
        """The contract of `invsolve.svd`."""
        x = self.like(self.x)
        spectrum, s = system.Vt(x), system.s
        if self.complex_output or spectrum.is_complex() or s.is_complex() or s.shape != spectrum.shape[1:] or bool((s < 0).any()):
            return False
        if spectrum[0].numel() != x[0].numel():
            return False
        free, seen = self.like(spectrum), s > 0
        kept = free * seen
        image, y = system.U(kept), self.like(self.y)
        return not (
            far(system.V(spectrum), x)
            or far(system.Vt(system.V(free)), free)
            or far(spectrum.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
            or far(system.U(s * spectrum), self.physics.A(x.clone()))
            or far(system.Ut(image), kept)
            or far((image * y).flatten(1).sum(1), (kept * system.Ut(y)).flatten(1).sum(1), float(image.norm() * y.norm()))
        )

    @attempt
    def prox(self, system: SVD) -> bool:
        """The optimality condition at three weights, and its limits."""
        if self.complex_output:
            return False
        z, y = self.like(self.x), self.like(self.y)
        for tau in (0.1, 1.0, 100.0):
            p = system.prox(z, y, tau)
            pull = self.physics.A_adjoint(self.physics.A(p.clone()) - y)
            if p.shape != z.shape or far(pull, (z - p) / tau, float(y.abs().max())):
                return False
        return not far(system.prox(z, y, 0.0), z)

    @attempt
    def pinv(self, system: SVD) -> bool:
        """A P A = A, P A P = P, and A P and P A symmetric."""
        if self.complex_output:
            return False
        A, P = lambda x: self.physics.A(x.clone()), system.pinv
        x, other, y, last = self.like(self.x), self.like(self.x), self.like(self.y), self.like(self.y)

        def symmetric(apply: Any, a: Tensor, b: Tensor) -> bool:
            left, right = (apply(a) * b).flatten(1).sum(1), (a * apply(b)).flatten(1).sum(1)
            return not far(left, right, float(a.norm() * b.norm()))

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
        mask = self.physics.mask.expand(1, *self.in_shape)
        return bool(((mask == 0) | (mask == 1)).all()) and torch.equal(self.y, mask * self.x)
