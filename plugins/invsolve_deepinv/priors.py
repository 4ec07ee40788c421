"""The shipped priors by name: `natural` (a diffusion prior) and `dncnn` (a denoiser for plug and play)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.priors.base import Prior
from invsolve.priors.convert import NetworkDenoiser
from invsolve_deepinv.weights import Card, load_network


class GreyThroughColour(nn.Module):
    """A colour denoiser on grey images: D(x, sigma) = mean over channels of D_rgb([x, x, x], sqrt(3) sigma).

    The noise of the repeated image is equal in the channels. Its grey part has standard deviation sigma; the grey part of
    independent colour noise of level s has s / sqrt(3): hence the level sqrt(3) sigma, at which the network expects as
    much noise on the brightness as there is.

    Args:
        net: D_rgb, three channels.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W)."""
        return self.net(x.expand(-1, 3, -1, -1).contiguous(), math.sqrt(3) * sigma).mean(1, keepdim=True)


class Shipped(NetworkDenoiser):
    """A weight file as a Denoiser; `card` is its model card and `weights_sha256` what results are recorded with.

    Args:
        weights: name of a shipped file, or the path of a .safetensors file with its card beside it.
        channels: 3, or 1 for grey images through the colour network (see GreyThroughColour).
        precision: "float32", or "bfloat16" for autocast inside the network.
        channels_last: the networks' fastest memory format on CPUs.

    Raises:
        InputError: weights that are missing, changed or of another network; channels other than 1 or 3.
    """

    def __init__(self, weights: str, channels: int, precision: str, channels_last: bool) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels must be 3 (colour) or 1 (grey through the colour network); given {channels}")
        network, card = load_network(weights)
        low, high = card.sigma_range
        if channels == 1:
            network, low, high = GreyThroughColour(network), low / math.sqrt(3), high / math.sqrt(3)
        super().__init__(
            network,
            sigma_range=(low, high),
            clip=card.clip,
            s0=card.s0,
            channels=channels,
            precision=precision,
            channels_last=channels_last,
        )
        self.card: Card = card
        self.weights_sha256 = card.sha256

    @classmethod
    def examples(cls) -> list[Prior]:
        """Colour and grey."""
        build: Any = cls
        return [build(), build(channels=1)]


class Natural(Shipped):
    """A diffusion prior on natural images: deepinv's DRUNet in EDM preconditioning, D(x, sigma) for sigma from 0.002 to 80.

    Args:
        precision: "float32" or "bfloat16".
        channels_last: memory format inside the network.
        channels: 3, or 1 for grey images (sigma up to 46 then).
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364.
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, channels: int = 3, weights: str = "natural") -> None:
        super().__init__(weights, channels, precision, channels_last)


class DnCNNPrior(Shipped):
    """deepinv's DnCNN with a noise map, for sigma from 0.002 to 0.24: the denoiser of plug-and-play methods.

    Args:
        precision: "float32" or "bfloat16".
        channels_last: memory format inside the network.
        channels: 3, or 1 for grey images (sigma up to 0.138 then).
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        Beyond a Gaussian Denoiser (Zhang et al., 2017), arXiv:1608.03981.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, channels: int = 3, weights: str = "dncnn") -> None:
        super().__init__(weights, channels, precision, channels_last)


