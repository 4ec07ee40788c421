"""The shipped priors by name: `natural` (a diffusion prior) and `dncnn` (a denoiser for plug and play)."""

from __future__ import annotations

from typing import Any

from invsolve_weights.carded import GreyThroughColour as GreyThroughColour
from invsolve_weights.carded import OwnNetwork as OwnNetwork
from invsolve_weights.carded import Shipped
from invsolve_weights.carded import from_path as from_path

from invsolve.priors.base import Prior


class Natural(Shipped):
    """A diffusion prior on natural images: deepinv's DRUNet in EDM preconditioning, D(x, sigma) for sigma from 0.002 to 80.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        channels: 3, or 1 for grey images (sigma up to 46 then).
        weights: another weight file of the same form.
        tone: whether a linear filter in closed form answers at large noise, where the network is behind it: blended in from sigma 1.5,
            alone from 20 on; see `invsolve_weights.tone`.

    Raises:
        InputError: see Shipped.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364.
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751.
    """

    def __init__(
        self, precision: str = "float32", channels_last: bool = True, channels: int = 3, weights: str = "natural", tone: bool = True
    ) -> None:
        super().__init__(weights, channels, precision, channels_last, tone)


class DnCNNPrior(Shipped):
    """deepinv's DnCNN with a noise map, for sigma from 0.002 to 0.24: the denoiser of plug-and-play methods.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
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


class OwnChannels(Shipped):
    """A shipped prior that serves images of its network's channels only."""

    @classmethod
    def examples(cls) -> list[Prior]:
        """As it is."""
        build: Any = cls
        return [build()]


class Mnist(OwnChannels):
    """A diffusion prior on handwritten digits, (1, 32, 32): 28 x 28 pixels with two of black around; a toy for tests and tutorials.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "mnist") -> None:
        super().__init__(weights, 1, precision, channels_last)


class Faces64(OwnChannels):
    """A diffusion prior on faces, (3, 64, 64): its weights lie outside the package (INVSOLVE_WEIGHTS names their folder).

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "faces64") -> None:
        super().__init__(weights, 3, precision, channels_last)


class NaturalFew(OwnChannels):
    """Natural as a few-step map: f(x, sigma), the end of its ODE's path through x, in one call; its weights lie outside the package.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        Consistency Models (Song, Dhariwal, Chen, Sutskever, 2023), arXiv:2303.01469; see `invsolve.training.consistency`.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "natural-few") -> None:
        super().__init__(weights, 3, precision, channels_last)


class MnistFew(OwnChannels):
    """Mnist as a few-step map, (1, 32, 32); its weights lie outside the package.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        See NaturalFew.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "mnist-few") -> None:
        super().__init__(weights, 1, precision, channels_last)


class NaturalGray(OwnChannels):
    """Natural's grey sibling, for images of one channel.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.
        tone: see Natural.

    Raises:
        InputError: see Shipped.

    References:
        See Natural.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "natural-gray", tone: bool = True) -> None:
        super().__init__(weights, 1, precision, channels_last, tone)


class DnCNNGray(OwnChannels):
    """DnCNNPrior's grey sibling: sigma from 0.002 to 0.24, images of one channel.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network.
        weights: another weight file of the same form.

    Raises:
        InputError: see Shipped.

    References:
        See DnCNNPrior.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "dncnn-gray") -> None:
        super().__init__(weights, 1, precision, channels_last)
