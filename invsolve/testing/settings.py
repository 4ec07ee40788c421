"""What the solver and prior checks run on: small problems in closed form, and things made wrong on purpose.

Nothing here needs an installed operator: a solver is checked on y = mask * x and on a y of which every entry depends on
every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InvsolveError
from invsolve.measurement import Measurement, column, parts
from invsolve.noise import GaussianNoise, NoiseModel, NoNoise, PoissonNoise
from invsolve.operator import Capability, Operator, Shape
from invsolve.plugins import registry
from invsolve.priors.base import Denoiser, DiffusionPrior, Prior, Regulariser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.tv import TotalVariation
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.svd import SVD
from invsolve.testing.cases import need

SHAPE = (1, 6, 7)  # neither square nor even
NOISES = (GaussianNoise, NoNoise, PoissonNoise)


def same(first: Tensor, second: Tensor, tolerance: float, what: str) -> None:
    """AssertionError unless both have one shape and dtype and differ by at most the tolerance (0: bit for bit)."""
    need(first.shape == second.shape, f"{what}: shapes {tuple(first.shape)} and {tuple(second.shape)} differ")
    need(first.dtype == second.dtype, f"{what}: dtypes {first.dtype} and {second.dtype} differ")
    gap = float((first.double() - second.double()).abs().max()) if first.numel() else 0.0
    need(gap <= tolerance, f"{what}: the largest difference is {gap:.3g}, allowed is {tolerance:.3g}")


def refused(call: Callable[[], object], kind: type[InvsolveError], *words: str) -> str:
    """The message of the error that the call must raise; it has to contain every word."""
    try:
        call()
    except kind as error:
        message = str(error)
    else:
        raise AssertionError(f"nothing was refused; expected {kind.__name__} naming {', '.join(words)}")
    missing = [word for word in words if word.lower() not in message.lower()]
    need(not missing, f"the message does not name {', '.join(missing)}: {message}")
    return message


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
        return x - 2 * column((v * x).flatten(1).sum(1), x) * v

    def forward(self, x: Tensor) -> Tensor:
        """s * (x - 2 v <v, x>)."""
        return self.like("s", x) * self._reflect(x)

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
        self.sigma_range, self.clip, self.s0 = inner.sigma_range, inner.clip, inner.s0

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The inner estimate, or NaN."""
        self.calls += 1
        out = self.inner(x, sigma)
        return out if self.poison is None or self.calls < self.poison else out * float("nan")


class WatchedRegulariser(Regulariser):
    """A regulariser whose value and prox are NaN from call number `poison` on."""

    def __init__(self, inner: Regulariser, poison: int) -> None:
        super().__init__()
        self.inner, self.poison, self.calls, self.weight = inner, poison, 0, inner.weight

    def _factor(self) -> float:
        self.calls += 1
        return 1.0 if self.calls < self.poison else float("nan")

    def value(self, x: Tensor) -> Tensor:
        """R(x), or NaN."""
        return self.inner.value(x) * self._factor()

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """The prox, or NaN."""
        return self.inner.prox(x, tau) * self._factor()


class ValueOnly(Regulariser):
    """A regulariser without a prox: R(x) = |x|^2 / 2."""

    def value(self, x: Tensor) -> Tensor:
        """|x|^2 / 2 per item."""
        return x.flatten(1).square().sum(1) / 2


def poisoned(prior: Prior, call: int) -> Prior:
    """The prior with NaN from that call on."""
    return Watched(prior, call) if isinstance(prior, Denoiser) else WatchedRegulariser(prior, call)  # pyright: ignore[reportArgumentType]


def truth(shape: Shape, batch: int, dtype: torch.dtype, *, texture: float = 0.1) -> Tensor:
    """(B, *shape) images in [0.1, 0.9]: a smooth wave per item and channel, with a little white texture."""
    rng = Rng(7, range(batch), purpose="truth")
    like = torch.zeros(1, dtype=dtype)
    phase = rng.uniform((shape[0], 1, 1), like) * 6.3
    rows, columns = torch.arange(shape[1], dtype=dtype)[:, None], torch.arange(shape[2], dtype=dtype)
    wave = torch.sin(0.35 * rows + 0.25 * columns + phase)
    return 0.5 + 0.3 * wave + texture * (rng.uniform(shape, like) * 2 - 1)


@dataclass(frozen=True)
class Setting:
    """A problem and a prior that a solver accepts."""

    problem: Problem
    prior: Prior
    label: str


def noises() -> list[NoiseModel]:
    """An example of every registered noise model, the core's first; one that cannot be loaded is left out."""
    found: list[NoiseModel] = [GaussianNoise(0.1), NoNoise(), PoissonNoise(0.01)]
    for entry in registry().of("noise"):
        try:
            found += [one for one in entry.load().examples() if type(one) not in NOISES]
        except Exception:  # a stranger's broken noise model is his own check's affair
            continue
    return found


def fitting_noise(solver: Solver) -> NoiseModel | None:
    """The first noise model the solver takes, None where it takes none."""
    from invsolve.solver import asked_noise

    return next((noise for noise in noises() if not asked_noise(solver.requires, noise)), None)


def fitting_priors() -> list[Prior]:
    """A regulariser, and a denoiser as simple as the solver takes."""
    return [
        TotalVariation(weight=1.0, tol=1e-3, max_iter=40),
        GaussianPrior(0.5, 0.25),
        DiffusionPrior(GaussianPrior(0.5, 0.25), DiscreteVP()),
    ]


def settings(
    solver: Solver,
    *,
    shape: Shape = SHAPE,
    batch: int = 3,
    dtype: torch.dtype = torch.float64,
    operators: list[Operator] | None = None,
) -> list[Setting]:
    """All pairs of an operator and a prior that the solver accepts; never empty.

    Raises:
        AssertionError: there is none, with every reason.
    """
    found, reasons = [], []
    for problem in problems(solver, shape, batch, dtype, operators):
        for prior in fitting_priors():
            if isinstance(prior, DiffusionPrior) and found and found[-1].problem is problem and isinstance(found[-1].prior, Denoiser):
                continue  # the plain denoiser did
            gaps = solver.mismatches(problem, prior)
            label = f"{type(solver).__name__} on {problem.operator.label} with {type(prior).__name__}"
            if gaps:
                reasons.append(f"{label}: {'; '.join(gaps)}")
            else:
                found.append(Setting(problem, prior, label))
    need(bool(found), "no problem fits:\n" + "\n".join(reasons))
    return found


def small(solver: Solver, **options: Any) -> Setting:
    """The first problem that fits."""
    return settings(solver, **options)[0]


def run(solver: Solver, setting: Setting, seed: Any = 1, **options: Any) -> Solution:
    """Solve it."""
    return solver.solve(setting.problem, setting.prior, generator=seed, **options)


def problems(solver: Solver, shape: Shape, batch: int, dtype: torch.dtype, operators: list[Operator] | None) -> Iterator[Problem]:
    """One per operator, or the one without a measurement."""
    if not solver.requires.measurement:
        yield Problem.unconditional(shape, batch, dtype=dtype)
        return
    noise = fitting_noise(solver)
    for operator in [Kept(shape), Coupled(shape)] if operators is None else operators:
        if noise is None or (isinstance(noise, PoissonNoise) and isinstance(operator, Coupled)):
            continue  # counts cannot be negative
        yield Problem.simulate(operator, truth(shape, batch, dtype), noise, generator=5)


def frozen_state(*objects: Any) -> list[Tensor]:
    """Copies of every tensor that must be as it was afterwards: y, buffers and parameters."""
    tensors: list[Tensor] = []
    for thing in objects:
        values = parts(thing) if isinstance(thing, Tensor | tuple) else [*thing.buffers(), *thing.parameters()]
        tensors.extend(value.detach().clone() for value in values)
    return tensors
