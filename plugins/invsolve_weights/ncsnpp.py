"""score_sde's NCSN++ and DDPM++ at the sizes a file has, made of deepinv's parts, and their calls as eps(x, sigma) or eps(x_t, t).

deepinv's own constructor knows two arrangements at one image size with 32 groups in each norm; the parts and the forward pass know all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deepinv.models import NCSNpp, utils
from torch import Tensor, nn

from invsolve.operator.measurement import column
from invsolve.schedule import DiscreteVP

BETAS = (0.1, 20.0)  # of the VP SDE at t = 0 and t = 1
LAST = 999  # label of t = 1


@dataclass(frozen=True)
class Sizes:
    """What a network is made of.

    Args:
        channels: of the images.
        first: features after the first convolution (nf).
        widths: features of each level, from the image down (nf ch_mult).
        blocks: residual blocks per level on the way down (num_res_blocks).
        attended: levels with attention.
        fourier: random Fourier features of log sigma; else sines and cosines of a time.
        inputs: progressive_input: "none", "residual" or "input_skip".
        outputs: progressive: "none" or "output_skip".
        fir: whether pictures are resampled with the filter 1 3 3 1; else by means of 2 x 2 and by repetition.
        noise_levels: entries of the table of noise levels in the file; 0 without one.
    """

    channels: int
    first: int
    widths: tuple[int, ...]
    blocks: int
    attended: tuple[int, ...]
    fourier: bool
    inputs: str
    outputs: str
    fir: bool
    noise_levels: int = 0

    @property
    def taps(self) -> list[int]:
        """The resampling filter before its normalisation."""
        return [1, 3, 3, 1] if self.fir else [1, 1]


def norm(width: int) -> nn.GroupNorm:
    """Groups of four channels or more, at most 32 groups."""
    return nn.GroupNorm(min(width // 4, 32), width, eps=1e-6)


class Conv(utils.UpDownConv2d):
    """deepinv's convolution, its weights zeros until a file's come: the arithmetic of random ones is most of building a network."""

    def __init__(self, inside: int, out: int, side: int, **options: Any) -> None:
        super().__init__(inside, out, 0, **options)
        if side:
            self.weight, self.bias = nn.Parameter(torch.zeros(out, inside, side, side)), nn.Parameter(torch.zeros(out))


class Block(utils.UNetBlock):
    """deepinv's block with as many groups in its norms as score_sde has.

    Args:
        sizes: of the network.
        inside, out: features.
        attention, up, down: what it does beside.
    """

    def __init__(self, sizes: Sizes, inside: int, out: int, *, attention: bool = False, up: bool = False, down: bool = False) -> None:
        nn.Module.__init__(self)
        self.in_channels, self.out_channels, self.emb_channels = inside, out, 4 * sizes.first
        self.num_heads, self.dropout, self.skip_scale, self.adaptive_scale = int(attention), 0.0, math.sqrt(0.5), False
        turned = {"up": up, "down": down, "resample_filter": sizes.taps}
        self.norm0, self.norm1 = norm(inside), norm(out)
        self.conv0 = Conv(inside, out, 3, **turned)
        self.conv1 = Conv(out, out, 3)
        self.affine = nn.Linear(self.emb_channels, out)
        self.skip = Conv(inside, out, 1, **turned) if inside != out or up or down else None
        if attention:
            self.norm2, self.qkv, self.proj = norm(out), Conv(out, 3 * out, 1), Conv(out, out, 1)


class ScoreNet(NCSNpp):
    """NCSN++ or DDPM++ of any size; `forward_unet(x, embedded)` gives what score_sde's network gives before its division by sigma.

    Args:
        sizes: see Sizes.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, appendix H: the architectures.
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364: the same in the parts
        that deepinv holds. Deviation from deepinv's class: the preconditioning of arXiv:2206.00364 is left out.
    """

    def __init__(self, sizes: Sizes) -> None:
        nn.Module.__init__(self)
        noise, embedding = (2 if sizes.fourier else 1) * sizes.first, 4 * sizes.first
        self.map_noise = (
            utils.FourierEmbedding(noise, device=None)  # pyright: ignore[reportArgumentType]
            if sizes.fourier
            else utils.PositionalEmbedding(noise, endpoint=True)
        )
        self.map_label = self.map_augment = None
        self.map_layer0, self.map_layer1 = nn.Linear(noise, embedding), nn.Linear(embedding, embedding)
        if sizes.noise_levels:
            self.register_buffer("sigmas", torch.zeros(sizes.noise_levels))
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skips = self.way_down(sizes)
        self.way_up(sizes, skips)

    def way_down(self, sizes: Sizes) -> list[int]:
        """The encoder; the features of what it hands over to the decoder."""
        width, extra = sizes.first, sizes.channels
        self.enc["level0_conv"] = Conv(sizes.channels, width, 3)
        skips = [width]
        for level, out in enumerate(sizes.widths):
            if level:
                self.enc[f"level{level}_down"] = Block(sizes, width, width, down=True)
                if sizes.inputs == "input_skip":
                    self.enc[f"level{level}_aux_down"] = Conv(extra, extra, 0, down=True, resample_filter=sizes.taps)
                    self.enc[f"level{level}_aux_skip"] = Conv(extra, width, 1)
                if sizes.inputs == "residual":
                    options = {"down": True, "resample_filter": sizes.taps, "fused_resample": True}
                    self.enc[f"level{level}_aux_residual"] = Conv(extra, width, 3, **options)
                    extra = width
                skips.append(width)
            for index in range(sizes.blocks):
                self.enc[f"level{level}_block{index}"] = Block(sizes, width, out, attention=level in sizes.attended)
                width = out
                skips.append(width)
        return skips

    def way_up(self, sizes: Sizes, skips: list[int]) -> None:
        """The decoder, beginning with the two blocks in the middle."""
        last, width = len(sizes.widths) - 1, sizes.widths[-1]
        for level in range(last, -1, -1):
            if level == last:
                self.dec[f"level{level}_in0"] = Block(sizes, width, width, attention=True)
                self.dec[f"level{level}_in1"] = Block(sizes, width, width)
            else:
                self.dec[f"level{level}_up"] = Block(sizes, width, width, up=True)
            for index in range(sizes.blocks + 1):
                attention = index == sizes.blocks and level in sizes.attended
                self.dec[f"level{level}_block{index}"] = Block(sizes, width + skips.pop(), sizes.widths[level], attention=attention)
                width = sizes.widths[level]
            if level and sizes.outputs == "none":
                continue
            if level < last and sizes.outputs == "output_skip":
                count = sizes.channels
                self.dec[f"level{level}_aux_up"] = Conv(count, count, 0, up=True, resample_filter=sizes.taps)
            self.dec[f"level{level}_aux_norm"] = norm(width)
            self.dec[f"level{level}_aux_conv"] = Conv(width, sizes.channels, 3)


class Labelled(nn.Module):
    """A ScoreNet called with images and labels as score_sde calls it.

    Args:
        net: the network.
        centered: whether it takes images in [-1, 1]; else they are in [0, 1], and 2 x - 1 enters it.
    """

    def __init__(self, net: ScoreNet, centered: bool) -> None:
        super().__init__()
        self.net, self.centered = net, centered
        self.fourier = isinstance(net.map_noise, utils.FourierEmbedding)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """The network's output, not divided by sigma."""
        embedded = label.log() if self.fourier else label
        out: Any = self.net.forward_unet(x if self.centered else 2 * x - 1, embedded.to(x))
        return out


class VECall(Labelled):
    """A network F of the VE SDE as eps(x, sigma), x = x0 + sigma n.

        score = F(x, label) / sigma,  eps = -sigma score = -F(x, label)

    The label is sigma; of a network with sines of a time it is the place of sigma in the file's falling geometric table.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, appendices C and H.
    """

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """eps."""
        if self.fourier:
            return -super().forward(x, sigma)
        table = self.net.get_buffer("sigmas").double().cpu()
        place = (table[0] / sigma.double().cpu()).log() / (table[0] / table[-1]).log() * (len(table) - 1)
        return -super().forward(x, place.clamp(0, len(table) - 1))


class VPCall(Labelled):
    """A network of the VP or sub-VP SDE as eps(x_t, t), t a (fractional) index of DiscreteVP, x_t = (x0 + sigma n) / sqrt(1 + sigma^2).

        log a(t) = -t^2 (20 - 0.1) / 2 - 0.1 t,  label 999 t with t from
        VP:     sigma^2 = (1 - a) / a          sub-VP: sigma = (1 - a) / sqrt(a)

    The index stands for its sigma alone: the label is that of the SDE in continuous time, not the index itself, which belongs to
    products of 1000 factors and lies up to one step beside it.

    Args:
        net, centered: see Labelled.
        law: "vp", "subvp", or "discrete" where the index is the label.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, appendix B, eqs. 29 and 33.
    """

    def __init__(self, net: ScoreNet, centered: bool, law: str) -> None:
        super().__init__(net, centered)
        self.law, self.logs = law, np.log(np.array(DiscreteVP().sigmas))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """eps."""
        if self.law == "discrete":
            return super().forward(x_t, t)
        places = t.detach().double().cpu().numpy()
        sigma = torch.as_tensor(np.exp(np.interp(places, np.arange(len(self.logs)), self.logs)))
        if self.law == "vp":
            return super().forward(x_t, label_of((1 + sigma**2).log()))
        lost = 2 * (sigma / 2).asinh()  # -log a of sub-VP
        scale = (1 + sigma**2).sqrt() * (-lost / 2).exp()
        return super().forward(x_t * column(scale, x_t), label_of(lost))


def label_of(lost: Tensor) -> Tensor:
    """999 t from -log a(t), by the root of a quadratic equation; t at most 1."""
    low, high = BETAS
    return LAST * (2 * lost / (low + (low**2 + 2 * (high - low) * lost).sqrt())).clamp_max(1)
