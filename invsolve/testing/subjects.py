"""What the solver checks are run on: operators in closed form, priors that are watched, and things made wrong on purpose."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.operator import Capability, Operator, Shape
from invsolve.operator.measurement import Measurement, parts
from invsolve.operator.svd import SVD
from invsolve.priors.base import Denoiser, Prior, Regulariser, a_denoiser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.staged import StagedPrior
from invsolve.problem import Problem


class Kept(Operator):
    """y = mask * x with a fixed 0/1 pattern that leaves out two pixels in five: every capability in closed form.

    Args:
        in_shape: (C, H, W).
    """

    traits = frozenset({Capability.LINEAR, Capability.MASK})
    output_range = (0.0, 1.0)
    mask: Tensor

    def __init__(self, in_shape: Shape) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        height, width = in_shape[-2:]
        index = torch.arange(height)[:, None] * 3 + torch.arange(width)
        self.register_buffer("mask", (index % 5 > 1).double().expand(1, height, width).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """mask * x."""
        return self.like("mask", x) * x

    def adjoint(self, y: Measurement) -> Tensor:
        """mask * y, as by the SVD, without making one at every call."""
        return self.forward(parts(y)[0])

    def svd(self) -> SVD:
        """Diagonal: s = mask, U = V = I."""
        s = self.mask.expand(self.in_shape)

        def masked(y: Tensor) -> Tensor:
            return self.like("mask", y) * y

        return SVD(s, U=masked, Ut=masked, V=torch.clone, Vt=torch.clone)


class Coupled(Operator):
    """y = s * (I - 2 v v^T) x with a fixed unit vector v and weights s: every pixel tells on every other.

    Only elementwise products and sums within an item: an item's value is the same to the last bit in any batch, which a
    matrix product does not promise. What differs then comes from the solver.

    Args:
        in_shape: (C, H, W).
    """

    traits = frozenset({Capability.LINEAR})
    v: Tensor
    s: Tensor

    def __init__(self, in_shape: Shape) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        index = torch.arange(math.prod(in_shape), dtype=torch.float64).reshape(self.in_shape)
        self.register_buffer("v", (index + 1).cos() / (index + 1).cos().norm())
        self.register_buffer("s", torch.where(index % 4 == 0, 0.0, 1 / (1 + index % 4)))

    def _reflect(self, x: Tensor) -> Tensor:
        v = self.like("v", x)
        return x - 2 * (v * x).sum(tuple(range(1, x.ndim)), keepdim=True) * v

    def forward(self, x: Tensor) -> Tensor:
        """s * (x - 2 v <v, x>)."""
        return self.like("s", x) * self._reflect(x)

    def adjoint(self, y: Measurement) -> Tensor:
        """(I - 2 v v^T) s * y, as by the SVD, without making one at every call."""
        y = parts(y)[0]
        return self._reflect(self.like("s", y) * y)

    def svd(self) -> SVD:
        """U = I, V the reflection."""

        def seen(y: Tensor) -> Tensor:
            return (self.s > 0).to(y.device) * y

        return SVD(self.s, U=seen, Ut=seen, V=self._reflect, Vt=self._reflect)


class Hidden(Operator):
    """An operator seen without one of its capabilities: what a solver that asks for it must refuse."""

    def __init__(self, operator: Operator, capability: Capability) -> None:
        super().__init__()
        self.operator, self.hidden = operator, capability
        self.in_shape, self.out_shape, self.output_range = operator.in_shape, operator.out_shape, operator.output_range

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All but the hidden one."""
        return self.operator.capabilities - {self.hidden}

    def forward(self, x: Tensor) -> Measurement:
        """H(x)."""
        return self.operator(x)

    def adjoint(self, y: Measurement) -> Tensor:
        """H^T y."""
        self.need(Capability.ADJOINT)
        return self.operator.adjoint(y)

    def pinv(self, y: Measurement) -> Tensor:
        """H^+ y."""
        self.need(Capability.PINV)
        return self.operator.pinv(y)

    def svd(self) -> SVD:
        """The SVD."""
        self.need(Capability.SVD)
        return self.operator.svd()

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """The prox."""
        self.need(Capability.PROX)
        return self.operator.prox(z, y, tau)


class Watched(Denoiser):
    """A denoiser that counts its calls, and gives NaN from call number `poison` on."""

    def __init__(self, inner: Denoiser, poison: int | None = None) -> None:
        super().__init__()
        self.inner, self.poison, self.calls = inner, poison, 0
        self.take_after(inner)

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items' denoiser."""
        return Watched(a_denoiser(self.inner.select(items), self.inner), self.poison)

    def unconditional(self) -> Denoiser:
        """The same of the denoiser without its condition."""
        return Watched(a_denoiser(self.inner.unconditional(), self.inner), self.poison)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The inner estimate, or NaN."""
        self.calls += 1
        out = self.inner(x, sigma)
        return out if self.poison is None or self.calls < self.poison else out * float("nan")


class ValueOnly(Regulariser):
    """A regulariser without a prox: R(x) = |x|^2 / 2."""

    def value(self, x: Tensor) -> Tensor:
        """|x|^2 / 2 per item."""
        return x.flatten(1).square().sum(1) / 2


class NegativeLog(Regulariser):
    """R = -log p of a Gaussian: the minimiser of nll + R is the mean of the posterior, and the prox is the prior's own denoiser.

    Args:
        prior: the Gaussian.
    """

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__()
        self.prior, self.batch = prior, prior.batch

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items' Gaussian."""
        chosen = self.prior.select(items)
        assert isinstance(chosen, GaussianPrior)
        return NegativeLog(chosen)

    def value(self, x: Tensor) -> Tensor:
        """-log p(x) per item, up to a constant."""
        return -self.prior.log_prob(x)

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """E[x0 | x0 + sqrt(tau) n = x]."""
        return self.prior(x, torch.as_tensor(tau, dtype=x.dtype, device=x.device).sqrt())


class Calls:
    """Counts the calls of a prior, and makes what it gives NaN from call number `poison` on."""

    def __init__(self, poison: int | None = None) -> None:
        self.count, self.poison = 0, poison

    def through(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            out = function(*args, **kwargs)
            if self.poison is None or self.count < self.poison:
                return out
            spoilt = out[0] if isinstance(out, tuple) else out
            return (spoilt * math.nan, *out[1:]) if isinstance(out, tuple) else spoilt * math.nan

        return call


def watched(prior: Prior, poison: int | None = None) -> tuple[Prior, Calls]:
    """A copy of the prior, of its own class, that counts its calls (those of a denoiser, of a regulariser's value and prox)."""
    twin, calls = copy.deepcopy(prior), Calls(poison)
    if isinstance(twin, StagedPrior):  # its solver calls the stages, each for a problem of its own
        for stage in twin.stages:
            watch_given(stage, calls)
    elif isinstance(twin, Denoiser):
        watch(twin, calls)
        watch_given(twin, calls)
    else:
        for name in ("value", "smooth_value", "prox", "prox_with_dual"):
            if hasattr(twin, name):
                setattr(twin, name, calls.through(getattr(twin, name)))
    return twin, calls


def watch_given(denoiser: Denoiser, calls: Calls) -> None:
    """Count the calls of what it gives for problems."""
    given = denoiser.given
    denoiser.given = lambda problem: watch(given(problem), calls)


def watch(denoiser: Denoiser, calls: Calls) -> Denoiser:
    """The denoiser itself, its calls counted from now on, and those of what it is without its condition."""
    if vars(denoiser).get("watched_by") is not calls:
        vars(denoiser)["watched_by"] = calls
        denoiser.forward, without = calls.through(denoiser.forward), denoiser.unconditional
        # a copy: what it is without may be a part of it, whose calls are counted as its own
        denoiser.unconditional = lambda: watch(copy.copy(without()), calls)
    return denoiser


def evaluations(prior: Denoiser, problem: Problem) -> int:
    """How many networks one call calls, 1, or 2 for a guided one: denoisers without another one inside, and what says `evaluated`."""
    if isinstance(prior, StagedPrior):  # the calls are those of a stage
        return 1
    inner = prior.space(problem)[0]
    given = copy.deepcopy(prior).given(inner)
    leaves = [
        one
        for one in given.modules()
        if getattr(one, "evaluated", False)
        or (isinstance(one, Denoiser) and not any(isinstance(part, Denoiser) for part in list(one.modules())[1:]))
    ]
    counted: list[None] = []
    hooks = [leaf.register_forward_hook(lambda *_: counted.append(None)) for leaf in leaves]
    low, high = given.sigma_range
    given(inner.image + given.centre, min(max(0.1, low), high))
    for hook in hooks:
        hook.remove()
    return max(1, len(counted))


def poisoned(prior: Prior, call: int) -> Prior:
    """The prior with NaN from that call on."""
    return watched(prior, call)[0]
