"""Border crossings: networks of any convention become Denoisers D(x, sigma) on [0, 1] images.

eps:  x0_hat = x - sigma eps          v (VP):  x0_hat = scale x_t - std v          score:  x0_hat = x + sigma^2 score
range (a, b):  x' = a + (b - a) x,  sigma' = (b - a) sigma:  [-1, 1] doubles sigma
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.measurement import column
from invsolve.precision import PRECISIONS, resolved
from invsolve.priors.base import Denoiser, DiffusionPrior, interval
from invsolve.schedule import DiscreteVP, Schedule

KINDS = ("x0", "eps", "v", "score")


class Rescaled(Denoiser):
    """A denoiser of images in (low, high), seen as one of images in [0, 1].

    Args:
        denoiser: takes and gives images in (low, high), with sigma in those units.
        range: (low, high).
    """

    def __init__(self, denoiser: Denoiser, range: tuple[float, float] = (-1.0, 1.0)) -> None:  # noqa: A002 (the field's word)
        super().__init__()
        self.low, high = interval("range", range)
        self.denoiser, self.width = denoiser, high - self.low
        self.take_after(denoiser)
        self.sigma_range = (denoiser.sigma_range[0] / self.width, denoiser.sigma_range[1] / self.width)
        self.s0 = denoiser.s0 / self.width
        self.clip = None if denoiser.clip is None else tuple((end - self.low) / self.width for end in denoiser.clip)  # pyright: ignore

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(D(low + width x, width sigma) - low) / width."""
        return (self.denoiser(self.low + self.width * x, self.width * sigma) - self.low) / self.width


def rescale(denoiser: Denoiser, range: tuple[float, float] = (-1.0, 1.0)) -> Denoiser:  # noqa: A002
    """A denoiser that lives in `range` as one that lives in [0, 1]; sigma is multiplied by the width (2 for [-1, 1])."""
    return Rescaled(denoiser, range)


class NetworkDenoiser(Denoiser):
    """Any callable net(x, sigma) as a Denoiser of its own range, VE form; casts at its border.

    The network is called in the type of its own parameters, so that .double(), .half() and .to(dtype) do what they do to any module;
    a function, which has none, is called in float64 where `precision` says so and else in float32. x0_hat has the type of x.

    Args:
        net: called with x (B, C, H, W) and sigma (B,); gives x0, eps, v or score as `kind` says. A module is put into evaluation
            mode, frozen and, for "float64", cast, itself: pass a copy.deepcopy of one that is still being trained.
        kind: "x0", "eps" or "score" ("v" needs a schedule: see `as_denoiser`).
        sigma_range, clip, s0, channels: what the network is good for, in its own units.
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
        s0: float = 0.5,
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
        self.clip, self.s0, self.channels, self.blind = clip, s0, channels, blind
        self.precision, self.channels_last = precision, channels_last
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
    """A VP network net(x_t, t) -> eps, x0 or v, as x, sigma -> x0_hat in VE form and its own units.

    Args:
        net: the network; t is the schedule's index (float).
        kind: "eps", "x0" or "v".
        schedule: the discrete schedule; sigma is mapped to t by interpolation in log sigma, or to the nearest index.
        snap: nearest index instead of interpolation.
    """

    def __init__(self, net: Callable[[Tensor, Tensor], Tensor], kind: str, schedule: DiscreteVP, *, snap: bool = False) -> None:
        super().__init__()
        self.net, self.kind, self.schedule, self.snap = net, kind, schedule, snap

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat."""
        t = self.schedule.index(sigma)
        t = t.round() if self.snap else t
        level = column(sigma, x)
        scale = (1 + level**2).rsqrt()
        out = fitting(self.net(x * scale, t), x)
        if self.kind == "eps":
            return x - level * out
        if self.kind == "v":
            return scale**2 * x - level * scale * out
        return out


def as_denoiser(
    net: Callable[[Tensor, Tensor], Tensor],
    kind: str = "x0",
    *,
    range: tuple[float, float] = (0.0, 1.0),  # noqa: A002
    schedule: Schedule | None = None,
    **options: Any,
) -> Denoiser:
    """A Denoiser on [0, 1] images from a network of another convention; with a schedule, a DiffusionPrior.

    Args:
        net: net(x, sigma), sigma (B,); with a DiscreteVP schedule net(x_t, t), t (B,) float indices. A module is put into
            evaluation mode and frozen, itself: pass a copy.deepcopy of one that is still being trained.
        kind: what it predicts: "x0", "eps", "v" (VP schedules only) or "score".
        range: the interval its images live in.
        schedule: the discrete VP schedule it was trained on.
        options: those of NetworkDenoiser: sigma_range, clip, s0, channels, blind, precision, channels_last (network units). With a
            schedule, the levels of the schedule that lie in sigma_range are used.

    Raises:
        InputError: a kind that does not exist, "v" without a schedule, a range that is not low < high, or a sigma_range in which fewer
            than two levels of the schedule lie; see NetworkDenoiser; when called: an output of another shape than the images.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; given {kind!r}")
    range = interval("range", range)  # noqa: A001
    width = range[1] - range[0]
    if schedule is None:
        if kind == "v":
            raise InputError("a v-network needs its schedule: as_denoiser(net, 'v', schedule=DiscreteVP(...))")
        denoiser: Denoiser = NetworkDenoiser(net, kind, **options)
        return denoiser if range == (0.0, 1.0) else rescale(denoiser, range)
    if not isinstance(schedule, DiscreteVP):
        raise InputError(f"networks called with a time need a DiscreteVP schedule; given {schedule}")
    if kind == "score":
        raise InputError("a VP score is -eps / std: pass a function that returns eps, with kind='eps'")
    options.setdefault("sigma_range", (schedule.sigmas[0], schedule.sigmas[-1]))
    inner = NetworkDenoiser(ScheduledNet(net, kind, schedule), "x0", **options)
    return DiffusionPrior(inner if range == (0.0, 1.0) else rescale(inner, range), schedule, unit=1 / width)
