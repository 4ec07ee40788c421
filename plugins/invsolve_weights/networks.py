"""The networks behind the shipped priors: deepinv's classes, with our padding, preconditioning and noise map.

Both are maps D(x, sigma) -> x0_hat on images in [0, 1], for x = x0 + sigma n and sigma a float or a (B,) tensor.
Neither holds a statistic over the whole image (no attention, no normalisation), so a network trained on patches
serves pictures of any size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad_to_multiple(x: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Pad (B, C, H, W) at the bottom and the right to a multiple; returns the padded tensor and the old (H, W).

    Reflection where the image is large enough for it, else replication. deepinv's DRUNet would instead cut a picture
    of 64 pixels or more into four pieces, which leaves seams.
    """
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if down or right:
        mode = "reflect" if height > down and width > right else "replicate"
        x = functional.pad(x, (0, right, 0, down), mode=mode)
    return x, (height, width)


def sigma_column(sigma: float | Tensor, x: Tensor) -> Tensor:
    """sigma as a (B, 1, 1, 1) tensor in x's dtype and device."""
    column = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
    return column.expand(x.shape[0], 1, 1, 1)


class Padded(nn.Module):
    """A network on images padded to a multiple of its stride, cut back afterwards; sigma as a (B,) tensor.

    Args:
        model: net(x, sigma).
        multiple: sides are padded to multiples of this; 1 for none.
    """

    def __init__(self, model: nn.Module, multiple: int) -> None:
        super().__init__()
        self.model, self.multiple = model, multiple

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat of x's size."""
        padded, (height, width) = pad_to_multiple(x, self.multiple)
        return self.model(padded if padded is not x else x.clone(), sigma)[..., :height, :width]


class EDMDRUNet(nn.Module):
    """deepinv's DRUNet in EDM preconditioning.

        D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), log(sigma) / 4)
        c_skip = s0^2 / (sigma^2 + s0^2),  c_out = sigma s0 / sqrt(sigma^2 + s0^2),  c_in = 1 / sqrt(sigma^2 + s0^2)

    Args:
        channels: image channels.
        nc: feature channels of the four scales.
        nb: residual blocks per scale.
        mean: m, the grey level the data are centred on.
        s0: standard deviation of the data about m, in [0, 1] units.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, table 1.
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751: the network.
        Deviation: the noise map enters as log(sigma) / 4 (EDM's c_noise), not as sigma, since sigma spans four decades.
    """

    def __init__(
        self, channels: int = 3, nc: tuple[int, int, int, int] = (32, 64, 128, 192), nb: int = 2, mean: float = 0.5, s0: float = 0.25
    ) -> None:
        super().__init__()
        from deepinv.models import DRUNet

        self.net = DRUNet(channels, channels, nc=(nc[0], nc[1], nc[2], nc[3]), nb=nb, pretrained=None)
        self.mean, self.s0 = mean, s0

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, shape and dtype of x."""
        sigma = sigma_column(sigma, x)
        norm = (sigma**2 + self.s0**2).sqrt()
        centred, (height, width) = pad_to_multiple((x - self.mean) / norm, 8)
        level = (sigma.clamp_min(1e-6).log() / 4).expand(-1, 1, *centred.shape[-2:])
        out = self.net.forward_unet(torch.cat([centred, level], dim=1))[..., :height, :width].to(x.dtype)
        return self.mean + (self.s0 / norm) ** 2 * (x - self.mean) + sigma * (self.s0 / norm) * out


class ConditionalDRUNet(nn.Module):
    """EDMDRUNet that sees a condition too, as further channels of its input, before the noised image.

        D(x, sigma, c) = m + c_skip (x - m) + c_out F([(c - m) / s0, c_in (x - m), log(sigma) / 4])

    Begun with the weights of an EDMDRUNet (`start`), its answers are that network's until the condition's weights leave 0.

    Args:
        channels: image channels.
        condition: channels of the condition.
        nc, nb, mean, s0: see EDMDRUNet.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636: concatenation, the condition first, and a
        continuous noise level. Deviation: EDM's preconditioning, no attention, a noise map in place of an embedding.
    """

    def __init__(
        self,
        channels: int = 3,
        condition: int = 3,
        nc: tuple[int, int, int, int] = (32, 64, 128, 192),
        nb: int = 2,
        mean: float = 0.5,
        s0: float = 0.25,
    ) -> None:
        super().__init__()
        from deepinv.models import DRUNet

        self.net = DRUNet(channels + condition, channels, nc=(nc[0], nc[1], nc[2], nc[3]), nb=nb, pretrained=None)
        self.mean, self.s0 = mean, s0

    def forward(self, x: Tensor, sigma: float | Tensor, condition: Tensor) -> Tensor:
        """x0_hat, shape and dtype of x; condition (B, condition, H, W)."""
        sigma = sigma_column(sigma, x)
        norm = (sigma**2 + self.s0**2).sqrt()
        both = torch.cat([(condition.to(x.dtype) - self.mean) / self.s0, (x - self.mean) / norm], dim=1)
        centred, (height, width) = pad_to_multiple(both, 8)
        level = (sigma.clamp_min(1e-6).log() / 4).expand(-1, 1, *centred.shape[-2:])
        out = self.net.forward_unet(torch.cat([centred, level], dim=1))[..., :height, :width].to(x.dtype)
        return self.mean + (self.s0 / norm) ** 2 * (x - self.mean) + sigma * (self.s0 / norm) * out


class ClassDRUNet(ConditionalDRUNet):
    """EDMDRUNet that is told a class: a map for each class, 1 everywhere for the image's own and 0 for the others.

    The label `classes` is none: all maps are 0. Begun with the weights of an EDMDRUNet, its answers are that network's at first.

    Args:
        channels, nc, nb, mean, s0: see EDMDRUNet.
        classes: how many there are.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        nc: tuple[int, int, int, int] = (32, 64, 128, 192),
        nb: int = 2,
        mean: float = 0.5,
        s0: float = 0.25,
    ) -> None:
        super().__init__(channels, classes, nc, nb, mean, s0)
        self.classes = classes

    def forward(self, x: Tensor, sigma: float | Tensor, condition: Tensor) -> Tensor:
        """x0_hat, shape and dtype of x; condition the labels (B,), int64, 0 to `classes`."""
        maps = functional.one_hot(condition, self.classes + 1)[:, : self.classes, None, None].to(x.dtype)
        shown = self.mean + self.s0 * maps  # which ConditionalDRUNet brings back to 0 and 1
        return super().forward(x, sigma, shown.expand(-1, -1, *x.shape[-2:]))


class NoisedClassifier(nn.Module):
    """Logits of noisy images at every level: convolutions with stride 2, a mean over the places, a hidden layer.

        logits(x, sigma) = W features,   features = silu(V mean F(c_in (x - m), log(sigma) / 4)),   c_in = 1 / sqrt(sigma^2 + s0^2)

    Args:
        channels: image channels.
        classes: how many there are.
        nc: feature channels of the scales.
        hidden: size of the features.
        mean, s0: see EDMDRUNet.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), arXiv:2105.05233, section 4. Deviation: a small
        network with a noise map in place of half a U-Net with attention.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        nc: tuple[int, ...] = (24, 48, 72, 96),
        hidden: int = 64,
        mean: float = 0.5,
        s0: float = 0.25,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip((channels + 1, *nc[:-1]), nc, strict=True)):
            stride = 1 if index == 0 else 2
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * nc[-1], hidden), nn.SiLU())
        self.last = nn.Linear(hidden, classes)
        self.classes, self.mean, self.s0 = classes, mean, s0

    def features(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(B, hidden): what the last layer looks at."""
        sigma = sigma_column(sigma, x)
        level = (sigma.clamp_min(1e-6).log() / 4).expand(-1, 1, *x.shape[-2:])
        return self.net(torch.cat([(x - self.mean) / (sigma**2 + self.s0**2).sqrt(), level], dim=1))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(B, classes)."""
        return self.last(self.features(x, sigma))


class NoiseMapDnCNN(nn.Module):
    """deepinv's DnCNN told its noise level: D(x, sigma) = x + R([x, sigma]).

    DnCNN(C+1, C) fails in deepinv's residual sum, so the network maps C+1 channels to C+1 and the last one is dropped.

    Args:
        channels: image channels.
        depth: convolutional layers.
        nf: feature channels.

    References:
        Beyond a Gaussian Denoiser (Zhang et al., 2017), arXiv:1608.03981. Deviations: no batch normalisation, and a
        constant map of sigma beside the image (as in FFDNet, arXiv:1710.04026), so that one network serves all levels.
    """

    def __init__(self, channels: int = 3, depth: int = 12, nf: int = 64) -> None:
        super().__init__()
        from deepinv.models import DnCNN

        self.channels = channels
        self.net = DnCNN(channels + 1, channels + 1, depth=depth, nf=nf, pretrained=None, device=None)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, shape and dtype of x."""
        level = sigma_column(sigma, x).expand(-1, 1, *x.shape[-2:])
        return self.net(torch.cat([x, level], dim=1))[:, : self.channels].to(x.dtype)


NETWORKS = {
    "edm-drunet": EDMDRUNet,
    "dncnn": NoiseMapDnCNN,
    "conditional-drunet": ConditionalDRUNet,
    "class-drunet": ClassDRUNet,
    "noised-classifier": NoisedClassifier,
}
