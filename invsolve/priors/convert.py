"""Border crossings: networks of any convention become Denoisers D(x, sigma) on [0, 1] images.

eps:  x0_hat = x - sigma eps          v (VP):  x0_hat = scale x_t - std v          score:  x0_hat = x + sigma^2 score
range (a, b):  x' = a + (b - a) x,  sigma' = (b - a) sigma:  [-1, 1] doubles sigma
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.measurement import column
from invsolve.precision import PRECISIONS, resolved
from invsolve.priors.base import Denoiser, DiffusionPrior
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
        self.denoiser, (self.low, high) = denoiser, range
        self.width = float(high - self.low)
        if not self.width > 0:
            raise InputError(f"range must be (low, high) with low < high; given {range}")
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

    Args:
        net: called with x (B, C, H, W) and sigma (B,); gives x0, eps, v or score as `kind` says. A module is put into evaluation
            mode and frozen, itself: pass a copy.deepcopy of one that is still being trained.
        kind: "x0", "eps" or "score" ("v" needs a schedule: see `as_denoiser`).
        sigma_range, clip, s0, channels: what the network is good for, in its own units.
        precision: "float32", "float64", "bfloat16" for autocast (x stays in its dtype outside the network), or "auto": bfloat16
            where the device of x multiplies it natively, else float32.
        channels_last: memory format of the network's input; faster convolutions on CPUs.
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
        self.sigma_range, self.clip, self.s0, self.channels, self.blind = sigma_range, clip, s0, channels, blind
        self.precision, self.channels_last = precision, channels_last
        if isinstance(net, nn.Module):
            net.eval().requires_grad_(False)
            if channels_last:
                net.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat in x's dtype."""
        precision = resolved(self.precision, x.device.type)
        dtype = torch.float64 if precision == "float64" else torch.float32
        inside = x.to(dtype)
        if self.channels_last and inside.ndim == 4:
            inside = inside.contiguous(memory_format=torch.channels_last)
        level = torch.as_tensor(sigma, dtype=dtype, device=x.device).expand(len(x))
        with torch.autocast(x.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
            out = fitting(self.net(inside, level), inside)
        out = out.to(x.dtype)
        if self.kind == "eps":
            out = x - column(level, x) * out
        elif self.kind == "score":
            out = x + column(level, x) ** 2 * out
        return out.contiguous()


def precision_of(prior: nn.Module, kind: str) -> str | None:
    """What the network in a prior computes in on a kind of device ("cpu", "cuda"); None without a network."""
    held = [module.precision for module in prior.modules() if isinstance(module, NetworkDenoiser)]
    return resolved(held[0], kind) if held else None


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
        options: those of NetworkDenoiser: sigma_range, clip, s0, channels, blind, precision, channels_last (network units).

    Raises:
        InputError: a kind that does not exist, or "v" without a schedule; when called: an output of another shape than the images.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; given {kind!r}")
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
