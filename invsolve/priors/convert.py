"""Border crossings: networks of any convention become Denoisers D(x, sigma) on [0, 1] images.

With x_t = scale x0 + std n, x = x_t / scale and sigma = std / scale:

eps:                     x0_hat = x - sigma eps
score (of x_t):          x0_hat = x + scale sigma^2 score       without a schedule scale is 1
v = scale n - std x0:    x0_hat = scale x_t - std v             scale^2 + std^2 = 1: VP
velocity = x0 - n:       x0_hat = x_t + std velocity            scale + std = 1: flow matching
range (a, b):            x' = a + (b - a) x,  sigma' = (b - a) sigma:  [-1, 1] doubles sigma
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, DiffusionPrior, Prior, Wrapping, a_denoiser
from invsolve.priors.precision import PRECISIONS, resolved
from invsolve.schedule import Schedule
from invsolve.unit import Unit, interval

if TYPE_CHECKING:
    from invsolve.problem import Problem

KINDS = ("x0", "eps", "v", "score", "velocity")


class Rescaled(Denoiser):
    """A denoiser of images in (low, high), seen as one of images in [0, 1].

    Args:
        denoiser: takes and gives images in (low, high), with sigma in those units.
        range: (low, high).
    """

    def __init__(self, denoiser: Denoiser, range: tuple[float, float] = (-1.0, 1.0)) -> None:  # noqa: A002 (the field's word)
        super().__init__()
        if elsewhere(denoiser):  # what it estimates are codes, and its decoder would be given rescaled ones
            raise InputError(
                f"{type(denoiser).__name__} is a prior of codes; rescale what estimates them: LatentPrior(rescale(D), decoder)"
            )
        self.denoiser, self.range = denoiser, Unit(*interval("range", range))
        self.take_after(denoiser)
        low, high = denoiser.sigma_range
        self.sigma_range = (self.range.unsigma(low), self.range.unsigma(high))
        # a network that says nothing of its mean is about the middle of its range, ...
        self.centre = self.range.back(denoiser.centre) if says(denoiser, "centre") else Denoiser.centre
        # ... and one that says nothing of its spread has a quarter of its range, whatever that is
        self.s0 = self.range.unsigma(denoiser.s0) if says(denoiser, "s0") else Denoiser.s0
        if denoiser.clip is not None:
            self.clip = (self.range.back(denoiser.clip[0]), self.range.back(denoiser.clip[1]))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(D(low + width x, width sigma) - low) / width."""
        return self.range.back(self.denoiser(self.range.to(x), self.range.sigma(sigma)))

    def given(self, problem: Problem) -> Denoiser:
        """The same range on the denoiser of this problem."""
        return self._with(self.denoiser.given(problem))

    def unconditional(self) -> Denoiser:
        """The same range on the denoiser without its condition."""
        return self._with(self.denoiser.unconditional())

    def gaps(self, problem: Problem) -> list[str]:
        """The denoiser's own."""
        return self.denoiser.gaps(problem)

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """The denoiser's own."""
        return self.denoiser.example_context(batch)

    def select(self, items: Sequence[int]) -> Prior:
        """The same range on the denoiser of some items."""
        return self._with(self.denoiser.select(items))

    def _with(self, denoiser: Prior) -> Denoiser:
        inner = a_denoiser(denoiser, self.denoiser)
        return self if inner is self.denoiser else Rescaled(inner, (self.range.low, self.range.high))


def elsewhere(denoiser: Denoiser) -> bool:
    """Whether a denoiser, or the one that it wraps, lives in another space than the image."""
    inner = denoiser
    while isinstance(inner, Wrapping):
        inner = inner.denoiser
    return type(inner).space is not Prior.space


def says(denoiser: Denoiser, name: str) -> bool:
    """Whether a denoiser, or its class, sets an attribute and does not leave it at the default of all denoisers."""
    places = [denoiser.__dict__, *(vars(cls) for cls in type(denoiser).__mro__ if issubclass(cls, Denoiser) and cls is not Denoiser)]
    return any(name in place for place in places)


def rescale(denoiser: Denoiser, range: tuple[float, float] = (-1.0, 1.0)) -> Denoiser:  # noqa: A002
    """A denoiser that lives in `range` as one that lives in [0, 1]; sigma is multiplied by the width (2 for [-1, 1]).

    A DiffusionPrior keeps its schedule.
    """
    if not isinstance(denoiser, DiffusionPrior):
        return Rescaled(denoiser, range)
    inner = Rescaled(denoiser.denoiser, range)
    own = denoiser.unit
    return DiffusionPrior(inner, denoiser.schedule, Unit(own.to(inner.range.low), own.to(inner.range.high)))


class NetworkDenoiser(Denoiser):
    """Any callable net(x, sigma) as a Denoiser of its own range, VE form; casts at its border.

    The network is called in the type of its own parameters, so that .double(), .half() and .to(dtype) do what they do to any module;
    a function, which has none, is called in float64 where `precision` says so and else in float32. x0_hat has the type of x.

    Args:
        net: called with x (B, C, H, W) and sigma (B,); gives x0, eps, v or score as `kind` says. A module is put into evaluation
            mode, frozen and, for "float64", cast, itself: pass a copy.deepcopy of one that is still being trained.
        kind: "x0", "eps" or "score" ("v" needs a schedule: see `as_denoiser`).
        sigma_range, clip, s0, centre, channels: what the network is good for, in its own units; no centre: the middle of its
            range; no s0: a quarter of it.
        precision: "float32", "float64" (casts a module), "bfloat16" for autocast (x stays in its dtype outside the network), or
            "auto": bfloat16 where the device of x multiplies it natively, else float32.
        channels_last: memory format of the network's input; faster convolutions on CPUs.

    Raises:
        InputError: a kind or a precision that does not exist, or not 0 < low < high in sigma_range; when called: x is not of floats
            (B, C, H, W), sigma is negative, not finite (both looked for on the CPU only) or of another shape than (), (1,) or (B,).
    """

    def __init__(
        self,
        net: Callable[[Tensor, Tensor], Tensor],
        kind: str = "x0",
        *,
        sigma_range: tuple[float, float] = (0.002, 80.0),
        clip: tuple[float, float] | None = None,
        s0: float | None = None,
        centre: float | None = None,
        channels: int | None = None,
        blind: bool = False,
        precision: str = "float32",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if kind not in ("x0", "eps", "score"):
            raise InputError(f"kind must be x0, eps or score without a schedule; given {kind!r}")
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; given {precision!r}")
        self.net, self.kind = net, kind
        self.sigma_range = interval("sigma_range", sigma_range, above=0.0)
        self.clip, self.channels, self.blind = clip, channels, blind
        if s0 is not None:
            self.s0 = s0
        self.precision, self.channels_last = precision, channels_last
        if centre is not None:
            self.centre = centre
        if isinstance(net, nn.Module):
            net.eval().requires_grad_(False)
            with torch.inference_mode(False):  # what is made in inference mode could never take part in autograd
                if precision == "float64":
                    net.double()
                if channels_last:
                    net.to(memory_format=torch.channels_last)

    def own_type(self) -> torch.dtype | None:
        """The type of the network's parameters (of its buffers where it has none); None for a function."""
        held = (tensor.dtype for tensor in chain(self.parameters(), self.buffers()) if tensor.is_floating_point())
        return next(held, None)

    def computes_in(self, kind: str) -> str:
        """The name of the type that it computes in on a kind of device ("cpu", "cuda")."""
        precision, own = resolved(self.precision, kind), self.own_type()
        autocast = precision == "bfloat16" and own != torch.float64  # which autocast leaves as it is
        return precision if autocast or own is None else str(own).removeprefix("torch.")

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat in x's dtype."""
        check_images(x, self.channels)
        precision = resolved(self.precision, x.device.type)
        dtype = self.own_type() or (torch.float64 if precision == "float64" else torch.float32)
        inside = x.to(dtype)
        if self.channels_last:
            inside = inside.contiguous(memory_format=torch.channels_last)
        level = levels(sigma, x)
        with torch.autocast(x.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
            out = fitting(self.net(inside, level.to(x.device, dtype)), inside)
        out = out.to(x.dtype)
        if self.kind == "eps":
            out = x - column(level, x) * out
        elif self.kind == "score":
            out = x + column(level, x) ** 2 * out
        return out.contiguous()


def precision_of(prior: nn.Module, kind: str) -> str | None:
    """What the network in a prior computes in on a kind of device ("cpu", "cuda"); None without a network."""
    return next((module.computes_in(kind) for module in prior.modules() if isinstance(module, NetworkDenoiser)), None)


def check_images(x: Any, channels: int | None) -> None:
    """Raise InputError unless x is a tensor of floats, (B, C, H, W), with the network's number of channels."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = f"tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"images must be a tensor of floats; given a {given} (bytes: x.float() / 255)")
    if x.ndim != 4 or channels not in (None, x.shape[1]):
        wanted = "C" if channels is None else channels
        raise InputError(f"images must have shape (B, {wanted}, H, W); given {tuple(x.shape)}")


def levels(sigma: Any, x: Tensor) -> Tensor:
    """sigma as (B,), in its own type and place; numbers in float64.

    Raises:
        InputError: another shape than (), (1,) or (B,); a level that is negative or not finite, looked for on the CPU only since the
            values of another device would have to be waited for.
    """
    try:
        level = torch.as_tensor(sigma, dtype=None if isinstance(sigma, Tensor) else torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"sigma must be a number or a tensor (B,); given {sigma!r:.100}") from None
    if level.is_complex() or tuple(level.shape) not in ((), (1,), (len(x),)):
        raise InputError(f"sigma must be one number, or one for each of {len(x)} images; given {level.dtype} of shape {tuple(level.shape)}")
    try:
        wrong = level.device.type == "cpu" and not bool(((level >= 0) & (level < math.inf)).all())
    except RuntimeError:  # under torch.vmap a tensor has no single value to look at
        wrong = False
    if wrong:
        raise InputError(f"sigma must be finite and not negative; given {level.tolist()!s:.100}")
    return level.expand(len(x))


def fitting(out: Tensor, x: Tensor) -> Tensor:
    """A network's output, which must have the images' shape: broadcasting would hide another one.

    Raises:
        InputError: another shape.
    """
    if out.shape == x.shape:
        return out
    count = x.shape[1]
    learned = out.ndim == x.ndim and out.shape[1] == 2 * count
    hint = f"; where the second half is a learned variance, pass lambda x, t: net(x, t)[:, :{count}]" if learned else ""
    raise InputError(f"the network gives {tuple(out.shape)} for images of shape {tuple(x.shape)}{hint}")


class ScheduledNet(nn.Module):
    """A network net(x_t, t) of a schedule, x_t = scale x0 + std n, as x, sigma -> x0_hat in VE form and its own units.

    Args:
        net: the network.
        kind: "eps", "x0", "v", "velocity" or "score", as the formulas at the top of this module have them.
        schedule: gives t of sigma (that of a DiscreteVP lies between its indices) and scale.
        snap: nearest whole t instead.
        time_scale: the network is called with time_scale t.
    """

    def __init__(
        self, net: Callable[[Tensor, Tensor], Tensor], kind: str, schedule: Schedule, *, snap: bool = False, time_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.net, self.kind, self.schedule, self.snap, self.time_scale = net, kind, schedule, snap, time_scale

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat."""
        t = self.schedule.time(sigma)
        t = t.round() if self.snap else t
        level, scale = column(sigma, x), column(self.schedule.scale(sigma), x)
        out = fitting(self.net(x * scale, t if self.time_scale == 1 else self.time_scale * t), x)
        if self.kind == "eps":
            return x - level * out
        if self.kind == "score":
            return x + scale * level**2 * out
        if self.kind == "v":
            return scale**2 * x - level * scale * out
        if self.kind == "velocity":
            return scale * (x + level * out)
        return out


def check_kind(kind: str, schedule: Schedule | None) -> None:
    """Raise InputError unless networks of a kind can be called with a schedule, or without one."""
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; given {kind!r}")
    if kind not in ("v", "velocity"):
        return
    power, example = (2, "DiscreteVP(...)") if kind == "v" else (1, "Flow()")
    if schedule is None:
        raise InputError(f"a {kind}-network needs its schedule: as_denoiser(net, {kind!r}, schedule={example})")
    scale, std = schedule(torch.linspace(*schedule.times, 9, dtype=torch.float64))
    if float((scale**power + std**power - 1).abs().max()) > 1e-6:
        law, other = ("scale^2 + std^2 = 1", "VP, Cosine, DiscreteVP") if kind == "v" else ("scale + std = 1", "Flow")
        raise InputError(f"kind {kind!r} is defined where {law} ({other}); given {schedule}; its networks predict x0, eps or score")


def as_denoiser(
    net: Callable[[Tensor, Tensor], Tensor],
    kind: str = "x0",
    *,
    range: tuple[float, float] = (0.0, 1.0),  # noqa: A002
    schedule: Schedule | None = None,
    time_scale: float = 1.0,
    **options: Any,
) -> Denoiser:
    """A Denoiser on [0, 1] images from a network of another convention; with a schedule, a DiffusionPrior.

    Args:
        net: net(x, sigma), sigma (B,); with a schedule net(x_t, time_scale t), t (B,) as the schedule counts it (DiscreteVP: float
            indices). A module is put into evaluation mode and frozen, itself: pass a copy.deepcopy of one that is still being trained.
        kind: what it predicts: "x0", "eps" (n), "score" (of what it is called with), with a schedule also "v" (scale n - std x0, VP
            schedules) or "velocity" (x0 - n, flow schedules).
        range: the interval its images live in.
        schedule: the one it was trained on: DiscreteVP, VP, Cosine, VE, EDM, Flow, or a Schedule of yours.
        time_scale: factor on t: 999 or 1000 for most flow networks and for continuous VP ones that take whole numbers.
        options: those of NetworkDenoiser: sigma_range, clip, s0, centre, channels, blind, precision, channels_last (network units). With a
            schedule, the levels of the schedule that lie in sigma_range are used.

    Raises:
        InputError: a kind that does not exist or does not fit the schedule, a range that is not low < high, a time_scale that is not
            positive or has no schedule, or a sigma_range in which fewer than two levels of the schedule lie; see NetworkDenoiser; when
            called: an output of another shape than the images.
    """
    if schedule is not None and not isinstance(schedule, Schedule):
        raise InputError(f"schedule must be one of invsolve.schedule (DiscreteVP, VP, Flow, ...) or None; given {schedule!r:.100}")
    check_kind(kind, schedule)
    range = interval("range", range)  # noqa: A001
    if schedule is None:
        if time_scale != 1:
            raise InputError(f"time_scale is for networks that are called with a time: pass their schedule; given {time_scale}")
        denoiser: Denoiser = NetworkDenoiser(net, kind, **options)
        return denoiser if range == (0.0, 1.0) else rescale(denoiser, range)
    if not (isinstance(time_scale, int | float) and 0 < time_scale < math.inf):
        raise InputError(f"time_scale must be a positive number; given {time_scale!r}")
    levels = schedule.levels()
    options.setdefault("sigma_range", (levels[0], levels[-1]))
    inner = NetworkDenoiser(ScheduledNet(net, kind, schedule, time_scale=time_scale), "x0", **options)
    return DiffusionPrior(inner if range == (0.0, 1.0) else rescale(inner, range), schedule, Unit(*range))
