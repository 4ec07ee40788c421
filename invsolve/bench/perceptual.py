"""Perceptual distances by networks on this machine: LPIPS where its weights lie here, and a distance of the same form by any network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.metrics import Metric
from invsolve.errors import InputError

# What torchvision calls the file of each backbone's ImageNet weights.
BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


class LPIPS(Metric):
    """Learned perceptual distance of two images by an ImageNet network, whose weights must lie on this machine: nothing is fetched.

    Args:
        net: "alex" (most papers), "vgg" or "squeeze".

    Raises:
        InputError: another network; when measured: its weights are not there, torchvision is not installed, images without 3 channels.

    References:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, arXiv:1801.03924.
    """

    label, higher = "LPIPS", False
    libraries = ("torchmetrics", "torchvision")
    image_shape = (3, 64, 64)

    def __init__(self, net: str = "alex") -> None:
        if net not in BACKBONES:
            raise InputError(f"net must be one of {', '.join(BACKBONES)}; given {net!r:.80}")
        self.net, self.settings = net, f"version 0.1 by {net}, of torchmetrics, images in [0, 1]"
        self._network: Any = None

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float32."""
        if x.shape[1] != 3:
            raise InputError(f"LPIPS takes 3 channels; given {x.shape[1]}")
        network = self.network().to(x.device)
        with torch.no_grad():
            return network(x_hat.float(), x.float(), normalize=True).flatten()

    def network(self) -> Any:
        """The network, built once.

        Raises:
            InputError: its weights are not there, or torchvision is not.
        """
        if self._network is None:
            file = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONES[self.net]
            if not file.is_file():
                raise InputError(
                    f"LPIPS by '{self.net}' needs torchvision's weights {file.name}, which are not fetched here: put the file at {file}; "
                    "haarpsi needs no weights"
                )
            try:
                from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

                self._network = LearnedPerceptualImagePatchSimilarity(self.net).net.eval()  # pyright: ignore[reportArgumentType]
            except ImportError as error:
                raise InputError(f"LPIPS needs torchvision: pip install torchvision ({error})") from error
        return self._network


class FeatureDistance(Metric):
    """A distance of LPIPS's form by a network of one's own, without learned weights: it is not LPIPS, and its numbers are not comparable.

        d(x, y) = mean over layers of the mean over places of |f(x) / |f(x)| - f(y) / |f(y)||^2

    f is a layer's features at a place, a vector over channels. A subclass writes `layers`, and is registered under its network's name.

    References:
        Zhang et al., 2018, arXiv:1801.03924, eq. 1 with all w = 1, and a mean over layers in place of a sum.
    """

    label, higher = "feature distance", False

    @abstractmethod
    def layers(self, images: Tensor) -> Sequence[Tensor]:
        """(B, C, H, W) in [0, 1] -> several (B, c, h, w)."""

    @torch.no_grad()
    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image; where a layer gives 0 for all channels, its place counts as the vector 0."""
        pairs = list(zip(self.layers(x_hat), self.layers(x), strict=True))
        if not pairs:
            raise InputError(f"{type(self).__name__}: layers() must give at least one (B, c, h, w)")
        apart = [(unit(one.double()) - unit(other.double())).square().sum(1).flatten(1).mean(1) for one, other in pairs]
        return torch.stack(apart).mean(0)


def unit(features: Tensor) -> Tensor:
    """Every place's vector over channels with length 1, 0 where it is 0."""
    length = features.norm(dim=1, keepdim=True)
    return torch.where(length > 0, features / length.clamp_min(torch.finfo(features.dtype).tiny), 0.0)
