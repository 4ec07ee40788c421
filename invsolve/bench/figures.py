"""What a report shows: tensors as PNG data URIs, and the round numbers of an axis."""

from __future__ import annotations

import base64
import io
import math

import torch
from torch import Tensor

COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#6d597a", "#b08900", "#3d5a80", "#9c4668", "#2f3e6e", "#7f5539", "#5c677d")


def data_uri(image: Tensor) -> str | None:
    """(C, H, W), clipped to [0, 1], as an 8-bit PNG in a data URI; None for what is no picture of 1 or 3 channels."""
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.is_complex() or not image.numel():
        return None
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for exponent in exponents for factor in (1, 2, 5) if low <= (value := factor * 10.0**exponent) <= high]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
