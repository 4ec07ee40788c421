"""Whose weights are these: known by keys and shapes alone, and the network class of deepinv's (or diffusers') that they belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.errors import InputError
from invsolve_weights.ddpm import build, is_ddpm, levels_of, renamed
from invsolve_weights.networks import Padded, sigma_column
from invsolve_weights.score_sde import score_sde

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Convention:
    """What goes into a network and what comes out.

    Args:
        kind: x0, eps or v.
        range: of its images.
        schedule: a law of `DiscreteVP` ("linear", "scaled-linear", "cosine") for a network called with one of its times, "none" for one
            called with sigma.
        sigma_range: in the network's own units; None for the schedule's.
        blind: whether it is not told sigma.
        steps, betas: of the schedule: number of times, first and last beta.
    """

    kind: str = "x0"
    range: tuple[float, float] = (0.0, 1.0)
    schedule: str = "none"
    sigma_range: tuple[float, float] | None = (0.002, 0.2)
    blind: bool = False
    steps: int = 1000
    betas: tuple[float, float] = (1e-4, 0.02)


@dataclass(frozen=True)
class Recognised:
    """A format, what is known of it, and how its network is made.

    Args:
        format: its name.
        convention: what such files hold when nobody says otherwise.
        channels: of the images.
        build: makes the network; called on the meta device for the comparison of shapes.
        wrap: the network as net(x, sigma or t).
        notes: what the file cannot tell.
        missing: what is needed beyond this file; "" where it can be loaded.
        rename: the file's tensors under the network's names.
    """

    format: str
    convention: Convention
    channels: int
    build: Callable[[], nn.Module]
    wrap: Callable[[nn.Module], nn.Module] = lambda net: net
    notes: tuple[str, ...] = ()
    missing: str = ""
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    extra: dict[str, Any] = field(default_factory=dict)


def recognise(shapes: Shapes) -> Recognised:
    """The format of a table of weights.

    Raises:
        InputError: of no known format; the first keys are given.
    """
    for one in (chain, drunet, dncnn, adm, edm, ddpm, score_sde):
        found = one(shapes)
        if found is not None:
            return found
    first = ", ".join(f"{key[:60]} {shape}" for key, shape in list(shapes.items())[:3])
    raise InputError(
        f"weights of no known format ({len(shapes)} tensors: {first}, ...); known are "
        "deepinv's DRUNet, DnCNN, DiffUNet, ADMUNet and NCSN++, guided-diffusion, DDPM, score_sde's NCSN++ and DDPM++, "
        "chains of convolutions (DnCNN, FFDNet), diffusers folders. Build the network yourself and pass it to as_denoiser"
    )


class ResidualChain(nn.Module):
    """x - net(x): a DnCNN that is not told sigma."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat."""
        return x - self.net(x)


class UnshuffledChain(nn.Module):
    """FFDNet: four half-size pictures and a map of sigma; odd sides are replicated by one pixel."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat."""
        height, width = x.shape[-2:]
        small = functional.pixel_unshuffle(functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = sigma_column(sigma, x).expand(-1, 1, *small.shape[-2:])
        return functional.pixel_shuffle(self.net(torch.cat([small, level], dim=1)), 2)[..., :height, :width]


class FirstChannels(nn.Module):
    """The first channels of a network that also gives a learned variance."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net, self.channels = net, channels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """eps."""
        return self.net.forward_diffusion(x, t)[:, : self.channels]  # pyright: ignore[reportCallIssue]


def following(network: nn.Module) -> nn.Module:
    """The network with layers that take any floating type: for those that turn images and embeddings into float32 inside."""
    for module in network.modules():
        if isinstance(module._parameters.get("weight"), Tensor):
            module.register_forward_pre_hook(in_own_type)
    return network


def in_own_type(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A layer's floating arguments in the type of its weights."""
    return tuple(one.to(layer.weight.dtype) if isinstance(one, Tensor) and one.is_floating_point() else one for one in given)


class Named(nn.Module):
    """A chain of 3 x 3 convolutions with ReLU between, its modules numbered as in the file."""

    def __init__(self, widths: list[tuple[int, int, int, bool]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, out, side, bias in widths:
            layers += [nn.Conv2d(inside, out, side, padding=side // 2, bias=bias), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """The last convolution's output."""
        return self.model(x)


def chain(shapes: Shapes) -> Recognised | None:
    """model.0.weight, model.2.weight, ...: convolutions only, as DnCNN and FFDNet are published."""
    named = {key: shape for key, shape in shapes.items() if re.fullmatch(r"model\.\d+\.weight", key)}
    kernels = sorted((int(key.split(".")[1]), shape) for key, shape in named.items())
    if (
        not kernels
        or [index for index, _ in kernels] != list(range(0, 2 * len(kernels), 2))
        or any(len(shape) != 4 for _, shape in kernels)
    ):
        return None
    widths = [(shape[1], shape[0], shape[2], f"model.{index}.bias" in shapes) for index, shape in kernels]
    first, last = widths[0][0], widths[-1][1]
    if first == last and first in (1, 3):
        note = "a DnCNN is not told sigma: one trained for a single level is good for that one only; say sigma_range"
        convention = Convention(blind=True, sigma_range=(0.002, 0.25))
        return Recognised(f"DnCNN, {len(widths)} convolutions", convention, first, lambda: Named(widths), ResidualChain, (note,))
    if last in (4, 12) and first == last + 1:
        convention = Convention(sigma_range=(0.002, 0.3))
        return Recognised(f"FFDNet, {len(widths)} convolutions", convention, last // 4, lambda: Named(widths), UnshuffledChain)
    return None


def drunet(shapes: Shapes) -> Recognised | None:
    """m_head.weight and its kin."""
    if "m_head.weight" not in shapes or "m_tail.weight" not in shapes or len(shapes["m_head.weight"]) != 4:
        return None
    from deepinv.models import DRUNet

    levels = [shapes[f"m_down{k}.0.res.0.weight"][0] for k in (1, 2, 3)] + [shapes["m_body.0.res.0.weight"][0]]
    blocks = sum(bool(re.fullmatch(r"m_body\.\d+\.res\.0\.weight", key)) for key in shapes)
    inside, out = shapes["m_head.weight"][1] - 1, shapes["m_tail.weight"][0]
    widths = (levels[0], levels[1], levels[2], levels[3])
    note = "taken for sigma up to 0.2, as DRUNet is trained; say sigma_range where it is another"
    return Recognised(
        "deepinv DRUNet",
        Convention(),
        out,
        lambda: DRUNet(inside, out, nc=widths, nb=blocks, pretrained=None),
        lambda net: Padded(net, 8),
        (note,),
    )


def dncnn(shapes: Shapes) -> Recognised | None:
    """in_conv, conv_list, out_conv."""
    if "in_conv.weight" not in shapes or "out_conv.weight" not in shapes or len(shapes["in_conv.weight"]) != 4:
        return None
    from deepinv.models import DnCNN

    features, inside = shapes["in_conv.weight"][:2]
    out, depth = shapes["out_conv.weight"][0], 2 + sum(bool(re.fullmatch(r"conv_list\.\d+\.weight", key)) for key in shapes)
    bias = "in_conv.bias" in shapes

    def build() -> nn.Module:
        return DnCNN(inside, out, depth=depth, nf=features, bias=bias, pretrained=None, device=None)  # pyright: ignore[reportArgumentType]

    note = "a DnCNN is not told sigma: one trained for a single level is good for that one only; say sigma_range"
    return Recognised(f"deepinv DnCNN, {depth} convolutions", Convention(blind=True, sigma_range=(0.002, 0.25)), out, build, notes=(note,))


def adm(shapes: Shapes) -> Recognised | None:
    """guided-diffusion: input_blocks, middle_block, output_blocks; the two sizes that deepinv's DiffUNet has."""
    if "input_blocks.0.0.weight" not in shapes or "time_embed.0.weight" not in shapes:
        return None
    from deepinv.models import DiffUNet

    width, inside = shapes["input_blocks.0.0.weight"][:2]
    out = shapes.get("out.2.weight", (inside,))[0]
    labels = "it has class labels (label_emb); unconditional networks are read" if "label_emb.weight" in shapes else ""
    other = (
        ""
        if width in (128, 256) and inside == 3 and out == 6
        else f"{width} features, {inside} to {out} channels; deepinv's DiffUNet has 128 or 256, 3 to 6"
    )
    convention = Convention("eps", (-1.0, 1.0), "linear", None)
    notes = (
        "taken for eps in [-1, 1] on the linear schedule of 1000 steps; the learned variance is left out",
        'the order of q, k, v cannot be seen: say qkv="new" for networks made with use_new_attention_order',
    )
    return Recognised(
        f"guided-diffusion UNet, {width} features",
        convention,
        inside,
        lambda: DiffUNet(inside, 3, large_model=width == 256, pretrained=None),  # pyright: ignore[reportArgumentType]
        lambda net: Padded(FirstChannels(following(net), inside), 32),
        notes,
        labels or other,
    )


def edm(shapes: Shapes) -> Recognised | None:
    """EDM's and score_sde's networks as deepinv holds them: enc.32x32_conv.weight and its kin; sizes are not in the file."""
    first = next((key for key in shapes if re.search(r"enc\.\d+x\d+_(conv|block)", key)), None)
    if first is None:
        return None
    import deepinv

    name = "NCSNpp" if any("skip" in key and "aux" in key for key in shapes) or any("freqs" in key for key in shapes) else "ADMUNet"
    inside = next((shape[1] for key, shape in shapes.items() if re.search(r"enc\.\d+x\d+_conv\.weight", key)), 3)
    note = (
        'its sizes are not in the file: say arguments={"img_resolution": ..., "model_channels": ...}, as deepinv.models.'
        + name
        + " takes them"
    )
    build = getattr(deepinv.models, name)
    return Recognised(
        f"deepinv {name}",
        Convention(sigma_range=(0.002, 80.0)),
        inside,
        lambda: build(pretrained=None),
        following,
        notes=(note,),
        extra={"model": name},
    )


def ddpm(shapes: Shapes) -> Recognised | None:
    """The first DDPM networks in PyTorch, which diffusers' UNet2DModel can be."""
    if not is_ddpm(shapes):
        return None
    from invsolve_weights.folders import Sample

    stride = 2 ** (levels_of(shapes) - 1)
    return Recognised(
        "DDPM (pytorch-diffusion)",
        Convention("eps", (-1.0, 1.0), "linear", None),
        shapes["conv_in.weight"][1],
        lambda: build(shapes),
        lambda net: Padded(Sample(net), stride),
        rename=renamed,
    )


def reorder_qkv(state: dict[str, Tensor], head_channels: int = 64) -> dict[str, Tensor]:
    """Attention weights of guided-diffusion's new order (q, k, v; then heads) in the old one (heads; then q, k, v)."""

    def turned(value: Tensor) -> Tensor:
        parts = value.reshape(3, -1, head_channels, *value.shape[1:])
        return parts.transpose(0, 1).reshape(value.shape)

    return {key: turned(value) if re.search(r"\.qkv\.(weight|bias)$", key) else value for key, value in state.items()}
