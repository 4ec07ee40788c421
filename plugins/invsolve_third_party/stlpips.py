"""Shift-tolerant LPIPS: a learned distance that hardly sees a shift of a pixel, by the weights in the package stlpips-pytorch.

    d(x, y) = sum over layers of the mean over places of w . (f(x) / |f(x)| - f(y) / |f(y)|)^2

f is a layer of an AlexNet whose strides are blurs, f(x) a vector over channels at every place, w >= 0 learned from judgements of people.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.bench.metrics import Metric
from invsolve.errors import InputError
from invsolve_third_party.installed import STLPIPS_FILES
from invsolve_third_party.states import filled, read_state


class BlurredStride(nn.Module):
    """Every second pixel of a picture blurred by a kernel of the file's, padded by two reflected pixels."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2 + 1, W / 2 + 1), rounded down."""
        return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class ShiftTolerantAlexNet(nn.Module):
    """Features of the five layers; the first convolution has stride 1, every stride after it is a blur.

    Args:
        widths: channels of the layers.
    """

    def __init__(self, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        pool = nn.MaxPool2d(3, 1)
        self.slice1 = named({"0": nn.Conv2d(3, a, 11, padding=2), "1": BlurredStride(a), "2": nn.ReLU()})
        self.slice2 = named({"3": pool, "4": BlurredStride(a), "5": nn.Conv2d(a, b, 5, padding=2), "6": nn.ReLU()})
        self.slice3 = named({"7": pool, "8": BlurredStride(b), "9": nn.Conv2d(b, c, 3, padding=1), "10": nn.ReLU()})
        self.slice4 = named({"11": nn.Conv2d(c, d, 3, padding=1), "12": nn.ReLU()})
        self.slice5 = named({"13": nn.Conv2d(d, e, 3, padding=1), "14": nn.ReLU()})

    def forward(self, x: Tensor) -> list[Tensor]:
        """The five of (B, 3, H, W)."""
        found = []
        for part in (self.slice1, self.slice2, self.slice3, self.slice4, self.slice5):
            x = part(x)
            found.append(x)
        return found


def named(modules: dict[str, nn.Module]) -> nn.Sequential:
    """A chain whose modules keep the names that the file gives them."""
    chain = nn.Sequential()
    for name, module in modules.items():
        chain.add_module(name, module)
    return chain


class ScalingLayer(nn.Module):
    """The colours of ImageNet: (x - shift) / scale of pictures in [-1, 1]."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape."""
        return (x - self.shift) / self.scale


class Head(nn.Module):
    """w of a layer, where the file has it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = named({"1": nn.Conv2d(channels, 1, 1, bias=False)})


class Distance(nn.Module):
    """The whole network; its widths are read from the weights."""

    def __init__(self, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.scaling_layer, self.net = ScalingLayer(), ShiftTolerantAlexNet(widths)
        self.lin0, self.lin1, self.lin2, self.lin3, self.lin4 = (Head(width) for width in widths)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) of pictures in [0, 1]."""
        heads = (self.lin0, self.lin1, self.lin2, self.lin3, self.lin4)
        ours, theirs = (self.net(self.scaling_layer(2 * one - 1)) for one in (x, y))
        apart = [head.model((unit(f) - unit(g)) ** 2).mean((1, 2, 3)) for head, f, g in zip(heads, ours, theirs, strict=True)]
        return torch.stack(apart).sum(0)


def unit(features: Tensor) -> Tensor:
    """Every place's vector with length 1."""
    return features / (features.norm(dim=1, keepdim=True) + 1e-10)


def load_distance(path: Path) -> nn.Module:
    """The network of a weight file.

    Raises:
        InputError: another network's file.
    """
    state = read_state(path)
    keys = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
    widths = [state[f"net.{key}.weight"].shape[0] for key in keys if f"net.{key}.weight" in state]
    if len(widths) < 5:
        raise InputError(f"{path}: not the weights of the shift-tolerant AlexNet")
    return filled(Distance((widths[0], widths[1], widths[2], widths[3], widths[4])), state, path)


class STLPIPS(Metric):
    """Learned perceptual distance that tolerates small shifts; 0 for equal images, and not comparable with LPIPS.

    Raises:
        NotInstalledError: when measured: stlpips-pytorch 0.0.2 is not installed.
        InputError: when measured: images without 3 channels, or of less than 21 pixels a side.

    References:
        Ghildyal, Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022, arXiv:2207.13686. Its weights, by its authors' package.
    """

    label, higher = "ST-LPIPS", False
    settings = f"shift-tolerant LPIPS by AlexNet, weights of {STLPIPS_FILES.name} {STLPIPS_FILES.version}, images in [0, 1]"
    image_shape = (3, 64, 64)

    def __init__(self) -> None:
        self._network: nn.Module | None = None

    @torch.no_grad()
    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float32."""
        if x.shape[1] != 3 or min(x.shape[-2:]) < 21:
            raise InputError(f"stlpips takes 3 channels and sides of at least 21 pixels; given {tuple(x.shape)}")
        if self._network is None:
            self._network = load_distance(STLPIPS_FILES.path())
        return self._network.to(x.device)(x_hat.float(), x.float())
