"""Networks in the layout of score_sde's checkpoints: random weights under its keys, and the forward pass they stand for."""

import math

import numpy as np
import torch
from torch.nn import functional

NF, WIDTHS, BLOCKS, ATTENDED, CHANNELS = 16, (16, 32, 32), 1, (1,), 2
VE = {"fourier": True, "inputs": "residual", "outputs": "none", "fir": True}
SKIPS = {"fourier": True, "inputs": "input_skip", "outputs": "output_skip", "fir": True}
VP = {"fourier": False, "inputs": "none", "outputs": "none", "fir": False}
TIMED = {"fourier": False, "inputs": "residual", "outputs": "none", "fir": True}
X = torch.rand(2, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Layout:
    """Random weights, module by module."""

    def __init__(self):
        self.generator, self.state, self.count = torch.Generator().manual_seed(1), {}, 0

    def add(self, **shapes):
        """One module; names have __ for the dot. Norms about 1, biases about 0, the rest of the size that keeps variances."""
        for name, shape in shapes.items():
            key = f"all_modules.{self.count}.{name.replace('__', '.')}"
            value = torch.randn(shape, generator=self.generator)
            if len(shape) == 1:
                value = 0.1 * value + (key.endswith("weight"))
            else:
                value = value / math.sqrt(shape[0] if key.endswith("W") else math.prod(shape[1:]))
            self.state[key] = value
        self.count += 1

    def conv(self, inside, out, name="", side=3):
        self.add(**{f"{name}weight": (out, inside, side, side), f"{name}bias": (out,)})

    def block(self, inside, out, resampling=False):
        shapes = {"GroupNorm_0__": (inside,), "Conv_0__": (out, inside, 3, 3), "Dense_0__": (out, 4 * NF), "GroupNorm_1__": (out,)}
        shapes["Conv_1__"] = (out, out, 3, 3)
        if resampling or inside != out:
            shapes["Conv_2__"] = (out, inside, 1, 1)
        self.add(
            **{f"{name}{part}": shape if part == "weight" else shape[:1] for name, shape in shapes.items() for part in ("weight", "bias")}
        )

    def attention(self, width):
        matrices = {f"NIN_{k}__{part}": (width,) * (2 if part == "W" else 1) for k in range(4) for part in "Wb"}
        self.add(GroupNorm_0__weight=(width,), GroupNorm_0__bias=(width,), **matrices)


def made(fourier, inputs, outputs, **_):
    """A checkpoint's network: three scales, attention on the middle one, and the table of noise levels.

    Beside what is read: inputs "cat" (what comes in is put beside the features) and outputs "residual" (features go up by a filter).
    """
    net = Layout()
    net.state["sigmas"] = torch.tensor(np.geomspace(50, 0.01, 1000))
    if fourier:
        net.add(W=(NF,))
        net.state["all_modules.0.W"] *= 160  # 16 times a standard normal
    for inside in ((2 if fourier else 1) * NF, 4 * NF):
        net.add(weight=(4 * NF, inside), bias=(4 * NF,))
    net.conv(CHANNELS, NF)
    width, extra, skips = NF, CHANNELS, [NF]
    for level, out in enumerate(WIDTHS):
        for _ in range(BLOCKS):
            net.block(width, out)
            width = out
            skips.append(width)
            if level in ATTENDED:
                net.attention(width)
        if level < len(WIDTHS) - 1:
            net.block(width, width, resampling=True)
            if inputs in ("input_skip", "cat"):
                net.conv(extra, width, "Conv_0__", side=1)
                width *= 2 if inputs == "cat" else 1
            if inputs == "residual":
                net.conv(extra, width, "Conv2d_0__")
                extra = width
            skips.append(width)
    net.block(width, width)
    net.attention(width)
    net.block(width, width)
    for level in reversed(range(len(WIDTHS))):
        for _ in range(BLOCKS + 1):
            net.block(width + skips.pop(), WIDTHS[level])
            width = WIDTHS[level]
        if level in ATTENDED:
            net.attention(width)
        top = level == len(WIDTHS) - 1
        if outputs == "residual" and not top:
            net.conv(WIDTHS[level + 1], width, "Conv2d_0__")
        if outputs == "output_skip" or level == 0 or (outputs == "residual" and top):
            net.add(weight=(width,), bias=(width,))
            net.conv(width, width if outputs == "residual" and top else CHANNELS)
        if level > 0:
            net.block(width, width, resampling=True)
    return net.state


def forward(state, x, features, fourier, inputs, outputs, fir):
    """Appendix H of arXiv:2011.13456 by the keys, in float64: the second opinion. `features` of sigma or of a time, (B, .)."""
    state = {key: value.double() for key, value in state.items()}
    place = iter(range(10_000))
    row = torch.tensor([1.0, 3.0, 3.0, 1.0] if fir else [1.0, 1.0], dtype=torch.float64)
    kernel = (row[:, None] * row / row.sum() ** 2)[None, None]

    def names(index):
        return f"all_modules.{index}."

    def tensors(name):
        return state[f"{name}weight"], state[f"{name}bias"]

    def norm(name, h):
        return functional.group_norm(h, h.shape[1] // 4, *tensors(name), eps=1e-6)

    def each(h, kernel, **options):
        return functional.conv2d(h.flatten(0, 1)[:, None], kernel, **options)[:, 0].unflatten(0, h.shape[:2])

    def smaller(h):
        return each(functional.pad(h, (1, 1, 1, 1)) if fir else h, kernel, stride=2)

    def larger(h):
        spread = torch.zeros(*h.shape[:2], 2 * h.shape[2], 2 * h.shape[3], dtype=h.dtype)
        spread[:, :, ::2, ::2] = h
        return each(functional.pad(spread, (2, 1, 2, 1) if fir else (1, 0, 1, 0)), 4 * kernel)

    def convolution(name, h):
        return functional.conv2d(h, *tensors(name), padding=state[f"{name}weight"].shape[-1] // 2)

    def block(h, change=lambda h: h):
        name = names(next(place))
        inner = convolution(f"{name}Conv_0.", change(functional.silu(norm(f"{name}GroupNorm_0.", h))))
        inner = inner + functional.linear(functional.silu(told), *tensors(f"{name}Dense_0."))[:, :, None, None]
        inner = convolution(f"{name}Conv_1.", functional.silu(norm(f"{name}GroupNorm_1.", inner)))
        h = change(h)
        return ((convolution(f"{name}Conv_2.", h) if f"{name}Conv_2.weight" in state else h) + inner) / math.sqrt(2)

    def attention(h):
        name = names(next(place))
        pixels = norm(f"{name}GroupNorm_0.", h).flatten(2).mT
        q, k, v = (pixels @ state[f"{name}NIN_{index}.W"] + state[f"{name}NIN_{index}.b"] for index in range(3))
        mixed = torch.softmax(q @ k.mT / math.sqrt(h.shape[1]), -1) @ v
        return (h + (mixed @ state[f"{name}NIN_3.W"] + state[f"{name}NIN_3.b"]).mT.reshape(h.shape)) / math.sqrt(2)

    def out_of(h):
        return convolution(names(next(place)), functional.silu(norm(names(next(place)), h)))

    if fourier:
        next(place)
    told = functional.linear(features, *tensors(names(next(place))))
    told = functional.linear(functional.silu(told), *tensors(names(next(place))))
    pyramid, picture = x, None
    h = convolution(names(next(place)), x)
    kept = [h]
    for level in range(len(WIDTHS)):
        for _ in range(BLOCKS):
            h = block(h)
            h = attention(h) if level in ATTENDED else h
            kept.append(h)
        if level < len(WIDTHS) - 1:
            h = block(h, smaller)
            if inputs == "input_skip":
                pyramid = smaller(pyramid)
                h = h + convolution(f"{names(next(place))}Conv_0.", pyramid)
            if inputs == "residual":
                # the filter and the 3 x 3 convolution in one go, on zeros outside, every second pixel
                weight, bias = tensors(f"{names(next(place))}Conv2d_0.")
                filtered = each(functional.pad(pyramid, (2, 2, 2, 2)), kernel)
                h = pyramid = (functional.conv2d(filtered, weight, bias, stride=2) + h) / math.sqrt(2)
            kept.append(h)
    h = block(attention(block(h)))
    for level in reversed(range(len(WIDTHS))):
        for _ in range(BLOCKS + 1):
            h = block(torch.cat([h, kept.pop()], 1))
        h = attention(h) if level in ATTENDED else h
        if outputs == "output_skip" or level == 0:
            first, second = names(next(place)), names(next(place))
            shown = convolution(second, functional.silu(norm(first, h)))
            picture = shown if picture is None else larger(picture) + shown
        h = block(h, larger) if level > 0 else h
    assert next(place) == 1 + max(int(key.split(".")[1]) for key in state if key != "sigmas")
    return picture


def sines(label):
    """Of a time: sin, then cos, at frequencies from 1 to 1/10000 (in float32, as networks are trained)."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(NF // 2) / (NF // 2 - 1)).double()
    angles = torch.full((len(X),), float(label), dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def waves(state, sigma):
    """Random Fourier features of log sigma."""
    angles = 2 * math.pi * math.log(sigma) * state["all_modules.0.W"].double()[None].expand(len(X), -1)
    return torch.cat([angles.sin(), angles.cos()], 1)
