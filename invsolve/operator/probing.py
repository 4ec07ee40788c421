"""Probes of a foreign function: it is called on two random images, and everything that an operator promises is looked at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.rng import Rng

FLOATS = (torch.float64, torch.float32)


def half_the_digits(x: Tensor) -> float:
    """sqrt(eps), the tolerance of all probes: rounding leaves more than half of the digits right, a wrong map none."""
    return torch.finfo(x.real.dtype).eps ** 0.5


class Probe:
    """f on two items, with what was found; f gets copies only.

    Args:
        function: (B, *in_shape) -> (B, *out_shape).
        in_shape: without the batch.
        linear: whether linearity is claimed; then the images are white noise, else uniform on [0, 1].

    Attributes:
        x, y: the two images and what f made of them.
        out_shape, complex_output: of y.
        reuses: whether f returns the same memory every time.

    Raises:
        InputError: what f returned, and what it should.
    """

    def __init__(self, function: Callable[..., Any], in_shape: tuple[int, ...], linear: bool) -> None:
        self.function, self.in_shape, self.linear = function, in_shape, linear
        self.name = getattr(function, "__name__", type(function).__name__)
        self.x, self.y = self._first()
        self.out_shape, self.complex_output = tuple(self.y.shape[1:]), self.y.is_complex()
        with torch.no_grad():
            self.reuses = self._check_repeated()
            self._check_items()
            if linear:
                self._check_linear()

    def _draw(self, dtype: torch.dtype, seed: int = 0) -> Tensor:
        tensors = [*self.function.parameters(), *self.function.buffers()] if isinstance(self.function, nn.Module) else []
        rng, device = Rng(seed, range(2), purpose="probe"), tensors[0].device if tensors else torch.device("cpu")
        like = torch.empty(0, dtype=dtype, device=device)
        return rng.normal(self.in_shape, like) if self.linear else rng.uniform(self.in_shape, like)

    def _precisions(self) -> tuple[torch.dtype, ...]:
        """A module's own precision, else both."""
        if not isinstance(self.function, nn.Module):
            return FLOATS
        own = {value.real.dtype for value in [*self.function.parameters(), *self.function.buffers()] if not _whole(value)}
        if own - set(FLOATS):
            raise InputError(f"{self.name} has parameters in {sorted(map(str, own - set(FLOATS)))}; call .float() or .double() on it")
        return tuple(dtype for dtype in FLOATS if dtype in own) or FLOATS

    def _first(self) -> tuple[Tensor, Tensor]:
        """Images and their measurement in the highest precision that f takes; the other one is tried too."""
        found: list[tuple[Tensor, Tensor]] = []
        failures: list[InputError] = []
        for dtype in self._precisions():
            x = self._draw(dtype)
            try:
                y = self.call(self.function, self.name, x)
            except InputError as error:
                failures.append(error)
                continue
            found.append((x, self._checked(x, y).clone()))
        if not found:
            raise failures[-1]
        return found[0]

    def call(self, function: Callable[..., Any], name: str, *arguments: Tensor) -> Any:
        """The function on copies; InputError with what it raised."""
        try:
            with torch.no_grad():
                return function(*(argument.clone() for argument in arguments))
        except Exception as error:
            shapes = ", ".join(f"{tuple(one.shape)} {one.dtype}" for one in arguments)
            device = arguments[0].device
            hint = "; tensors it uses belong into an nn.Module, as buffers, so that they move along" if "device" in str(error) else ""
            raise InputError(f"{name} fails when called with {shapes} on {device}: {type(error).__name__}: {error}{hint}") from error

    def _checked(self, x: Tensor, y: Any) -> Tensor:
        """y, if it is a finite floating tensor (B, ...) of x's precision."""
        name = self.name
        if isinstance(y, tuple | list):
            raise InputError(f"{name} returned {len(y)} parts; make an operator of each, and Stack(H_1, H_2, ...) of them")
        if not isinstance(y, Tensor):
            hint = "; a numpy function comes in by Operator.from_scipy" if type(y).__module__ == "numpy" else ""
            raise InputError(f"{name} must return a tensor; it returned {type(y).__name__}{hint}")
        if y.ndim < 2 or len(y) != len(x):
            hint = (
                "return (B, 1) for one number per image" if y.ndim == 1 and len(y) == len(x) else "one image's f goes in as torch.vmap(f)"
            )
            raise InputError(f"{name} must keep the batch: given {tuple(x.shape)}, it returned {tuple(y.shape)}; {hint}")
        if y.real.dtype != x.real.dtype:
            raise InputError(
                f"{name} must keep the precision: given {x.dtype}, it returned {y.dtype}; convert its constants by constant.to(x), "
                "or end with .to(x.dtype)"
            )
        if y.device != x.device:
            raise InputError(f"{name} must stay on the device: given {x.device}, it returned {y.device}")
        if not bool(torch.isfinite(y.real if not y.is_complex() else torch.view_as_real(y)).all()):
            drawn = "white noise" if self.linear else "images uniform on [0, 1]"
            raise InputError(f"{name} returned NaN or Inf for {drawn}")
        if not y.numel():
            raise InputError(f"{name} returned nothing: shape {tuple(y.shape)}")
        return y

    def _returned(self, x: Tensor) -> Tensor:
        return self._checked(x, self.call(self.function, self.name, x))

    def _check_repeated(self) -> bool:
        """The same images give the same bits; says whether f writes its results into the same memory."""
        held = self._returned(self.x)
        kept = held.clone()
        self._returned(self._draw(self.x.dtype, seed=1))
        reuses = not torch.equal(held, kept)
        if not torch.equal(self._returned(self.x), self.y) or not torch.equal(kept, self.y):
            raise InputError(
                f"{self.name} gives another result for the same images: it draws random numbers or keeps a state "
                "(a network in training mode: call .eval() on it)"
            )
        return reuses

    def _check_items(self) -> None:
        """An item alone, and beside another neighbour, gives what it gives in the batch."""
        other = self._draw(self.x.dtype, seed=1)
        for beside in (self.x[:1], torch.cat([self.x[:1], other[1:]])):
            y = self._returned(beside)
            if y.shape[1:] != self.y.shape[1:]:
                raise InputError(f"{self.name} returned {tuple(y.shape)} for one image and {tuple(self.y.shape)} for two")
            gap = float((y[0] - self.y[0]).abs().max())
            if gap > half_the_digits(self.x) * float(self.y[0].abs().max()):
                raise InputError(
                    f"{self.name} couples the items of a batch: item 0 changes by {gap:.3g} with its neighbours; treat every item by "
                    "itself (sum over x.flatten(1), not over x)"
                )

    def _check_linear(self) -> None:
        """f(2x - 3z) = 2 f(x) - 3 f(z) and f(0) = 0."""
        z = self._draw(self.x.dtype, seed=1)
        second = self._returned(z).clone()
        gap = self._returned(2 * self.x - 3 * z) - (2 * self.y - 3 * second)
        size = 2 * float(self.y.norm()) + 3 * float(second.norm())
        offset = self._returned(torch.zeros_like(self.x))
        if bool((offset != 0).any()):
            largest = float(offset.abs().max())
            raise InputError(f"{self.name} is not linear: f(0) is up to {largest:.3g}; subtract f(0) from y, or pass linear=False")
        if float(gap.norm()) > half_the_digits(self.x) * size:
            found = f"f(2x - 3z) differs from 2 f(x) - 3 f(z) by {float(gap.norm()):.3g}, for values of {size:.3g}"
            raise InputError(f"{self.name} is not linear: {found}; pass linear=False")

    def check_adjoint(self, y: Tensor, back: Tensor) -> None:
        """<f(x), y> = <x, f^T y> for every item, the real part where f gives complex numbers."""
        pairs = ((self.y, y), (self.x, back))
        left, right = (products(a, b) for a, b in pairs)
        scale = sum(a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1) for a, b in pairs)
        if bool(((left - right).abs() > half_the_digits(self.x) * scale).any()):
            found = f"<f(x), y> = {left[0].item():.6g}, <x, adjoint(y)> = {right[0].item():.6g}"
            raise InputError(f"adjoint is not the adjoint of {self.name}: {found}")

    def check_pinv(self, pinv: Callable[..., Any]) -> None:
        """The four conditions of Penrose: A P A = A, P A P = P, and A P and P A symmetric; nothing else than A^+ meets them."""
        other, (y, w) = self._draw(self.x.dtype, seed=1), (self.white_output(), self.white_output(seed=3))
        ahead, back = (lambda x: self._returned(x).clone()), (lambda y: self.call(pinv, "pinv", y).real.clone())
        once, seen = back(y), back(self.y)
        meets = (
            ("f(pinv(f(x))) = f(x)", ahead(seen), self.y, self.y.norm()),
            ("pinv(f(pinv(y))) = pinv(y)", back(ahead(once)), once, once.norm()),
            ("x -> pinv(f(x)) is symmetric", products(seen, other), products(self.x, back(ahead(other))), self.x.norm() * other.norm()),
            ("y -> f(pinv(y)) is symmetric", products(ahead(once), w), products(y, ahead(back(w))), y.norm() * w.norm()),
        )
        for what, left, right, size in meets:
            gap = float((left - right).norm())
            if not gap <= half_the_digits(self.x) * float(size):
                raise InputError(f"pinv is not the pseudo-inverse of {self.name}: {what} does not hold, by {gap:.3g}")

    def check_prox(self, x: Tensor, z: Tensor, y: Tensor, tau: Tensor) -> None:
        """No step from x, in a few random directions, makes 1/2 |f(x) - y|^2 + 1/(2 tau) |x - z|^2 smaller."""

        def value(x: Tensor) -> Tensor:
            misfit, distance = (products(one, one) for one in (self._returned(x) - y, x - z))
            return misfit / 2 + distance / (2 * tau)

        least, step = value(x), half_the_digits(self.x) ** 0.5
        for seed in (4, 5, 6):
            direction = self._draw(self.x.dtype, seed)
            moved = torch.minimum(value(x + step * direction), value(x - step * direction))
            fallen = ~(least <= moved + 100 * torch.finfo(least.dtype).eps * least)
            if bool(fallen.any()):
                found = f"{float(least[fallen][0]):.8g} at its result, {float(moved[fallen][0]):.8g} beside it"
                what = f"1/2 |f(x) - y|^2 + 1/(2 tau) |x - z|^2 at tau = {float(tau[fallen][0]):g}"
                raise InputError(f"prox is not that of {self.name}: it must return the x of the least {what}, which is {found}")

    def followed(self) -> bool:
        """Whether autograd goes through f."""
        x = self.x.clone().requires_grad_()
        try:
            with torch.enable_grad():
                y = self.function(x.clone())
                if not y.requires_grad:
                    return False
                (gradient,) = torch.autograd.grad(y.real.sum() if y.is_complex() else y.sum(), x, allow_unused=True)
        except Exception:  # without a gradient it went well
            return False
        return gradient is not None

    def white_output(self, seed: int = 2) -> Tensor:
        """White noise like y."""
        return Rng(seed, range(2), purpose="probe").normal_like(self.y)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of every item."""
    return (a.conj() * b).real.flatten(1).sum(1)


def _whole(value: Tensor) -> bool:
    """Whether a parameter holds no floats."""
    return not (value.is_floating_point() or value.is_complex())
