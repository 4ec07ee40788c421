"""deepinv's denoisers as Denoisers: padded where the network would cut the picture, alone where items would meet."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import deepinv
import torch
from invsolve_weights.networks import Padded
from torch import Tensor, nn

from invsolve.errors import ArgumentError, InputError, did_you_mean
from invsolve.priors.base import Prior, interval
from invsolve.priors.convert import NetworkDenoiser
from invsolve.unit import whole
from invsolve_deepinv.physics import construct

# DRUNet's family cuts pictures of 64 pixels or more that are no multiple of 8 into four overlapping pieces.
PADDED = {"DRUNet": 8, "GSDRUNet": 8}
# Beyond any image's; a mistyped number would take all memory, in the trial of the network or in the padding.
MOST = 1024


class Alone(nn.Module):
    """Each item of a batch through a copy of its own: for models that keep state or stop by a norm over the whole batch.

    Args:
        model: called with one image at a time.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Item by item."""
        if not len(x):
            return x.clone()
        return torch.cat([copy.deepcopy(self.model)(one[None], level[None]) for one, level in zip(x, sigma, strict=True)])


@torch.no_grad()
def couples(model: nn.Module, channels: int, sigma: float) -> bool:
    """Whether an item's result depends on its batch or on an earlier call; by more than rounding (1e-4)."""
    x = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    level = torch.full((2,), sigma)
    both = copy.deepcopy(model)(x.clone(), level)
    alone = torch.cat([copy.deepcopy(model)(x[i : i + 1].clone(), level[i : i + 1]) for i in range(2)])
    used = copy.deepcopy(model)
    used(x.clone().flip(0) ** 2, level)
    return bool(((both - alone).abs() > 1e-4).any() or ((used(x.clone(), level) - both).abs() > 1e-4).any())


class DeepinvDenoiser(NetworkDenoiser):
    """Any deepinv denoiser model(x, sigma) on [0, 1] images as a Denoiser.

    Args:
        model: a deepinv.models denoiser, or any module with its call.
        sigma_range: noise levels it is good for, in [0, 1] units; only its training can tell.
        channels: image channels.
        clip, s0, blind: see Denoiser.
        multiple: sides are padded to multiples of this; None: 8 for DRUNet's family, else 1.
        alone: each item through a copy of its own; None: found by experiment.
        precision, channels_last: see NetworkDenoiser.

    Raises:
        InputError: the model is no module, sigma_range is not 0 < low < high, channels or multiple is no whole number from 1 to 1024.
    """

    def __init__(
        self,
        model: nn.Module,
        sigma_range: tuple[float, float],
        *,
        channels: int = 3,
        clip: tuple[float, float] | None = (0.0, 1.0),
        s0: float = 0.25,
        blind: bool = False,
        multiple: int | None = None,
        alone: bool | None = None,
        precision: str = "float32",
        channels_last: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module such as deepinv.models.DRUNet(); given {type(model).__name__}")
        low, high = interval("sigma_range", sigma_range, above=0.0)
        whole("channels", channels, MOST)
        if multiple is not None:
            whole("multiple", multiple, MOST)
        model = model.eval()
        if alone is None:
            alone = couples(model, channels, (low * high) ** 0.5)
        net = Alone(model) if alone else model
        stride = PADDED.get(type(model).__name__, 1) if multiple is None else multiple
        super().__init__(
            Padded(net, stride),
            sigma_range=(low, high),
            clip=clip,
            s0=s0,
            channels=channels,
            blind=blind,
            precision=precision,
            channels_last=channels_last,
        )

    @classmethod
    def examples(cls) -> list[Prior]:
        """deepinv's iterative TV denoiser, which keeps state between calls and stops by a norm over the batch."""
        return [DeepinvDenoiser(deepinv.models.TVDenoiser(n_it_max=50), (0.002, 0.5))]


class DeepinvModel(DeepinvDenoiser):
    """A deepinv denoiser by the name of its class: DeepinvModel("DRUNet", {"pretrained": "drunet.pth"}, sigma_range=(0.002, 0.2)).

    Args:
        model: name of a class of deepinv.models.
        options: the class's arguments. Where it takes `pretrained`, say it: a path, "download" (which goes to the network),
            or None for random weights.
        sigma_range, channels: see DeepinvDenoiser.

    Raises:
        ArgumentError: no such class, arguments it does not take, or `pretrained` left out.
        InputError: see DeepinvDenoiser.
    """

    def __init__(
        self,
        model: str = "TVDenoiser",
        options: dict[str, Any] | None = None,
        sigma_range: tuple[float, float] = (0.002, 0.2),
        channels: int = 3,
    ) -> None:
        base = deepinv.models.Denoiser
        known = sorted(name for name, value in vars(deepinv.models).items() if isinstance(value, type) and issubclass(value, base))
        if model not in known:
            raise ArgumentError(f"no deepinv.models denoiser {model!r}{did_you_mean(model, known)} There are: {', '.join(known)}")
        cls, options = getattr(deepinv.models, model), dict(options or {})
        if "pretrained" in inspect.signature(cls.__init__).parameters and "pretrained" not in options:
            raise ArgumentError(
                f'{model}: say options={{"pretrained": ...}}: a path, "download" (goes to the network), or None for random weights'
            )
        super().__init__(construct(cls, options, set(options)), sigma_range, channels=channels)

    @classmethod
    def examples(cls) -> list[Prior]:
        """TV by name."""
        return [DeepinvModel("TVDenoiser", {"n_it_max": 50})]
