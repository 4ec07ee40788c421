"""What a report shows: tensors as PNG data URIs, and PSNR against seconds as a drawing."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 44
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


@dataclass(frozen=True)
class Point:
    """A solver in the drawing: its number in the table, mean seconds, mean and spread of PSNR."""

    number: int
    seconds: float
    value: float
    std: float


@dataclass(frozen=True)
class Mark:
    """A point in pixels: centre, ends of the error bar, colour."""

    number: int
    x: float
    y: float
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Scatter:
    """Value against seconds on a logarithmic axis, in pixels: for the template to draw.

    Args:
        marks: the points.
        x_ticks, y_ticks: (position, text).
        width, height, left, right, top, bottom: the frame.
    """

    marks: list[Mark]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def scatter(points: list[Point]) -> Scatter | None:
    """The drawing; None unless two points are finite."""
    points = [point for point in points if math.isfinite(point.value) and point.seconds > 0]
    if len(points) < 2:
        return None
    logs = [math.log10(point.seconds) for point in points]
    x_low, x_high = min(logs) - 0.15, max(logs) + 0.15
    y_low, y_high = min(point.value - point.std for point in points), max(point.value + point.std for point in points)
    pad = 0.06 * (y_high - y_low) or 1.0
    y_low, y_high = y_low - pad, y_high + pad

    def across(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    marks = [
        Mark(p.number, across(log), up(p.value), up(p.value - p.std), up(p.value + p.std), COLOURS[(p.number - 1) % len(COLOURS)])
        for p, log in zip(points, logs, strict=True)
    ]
    x_ticks = [(across(math.log10(value)), f"{value:g}") for value in decades(10**x_low, 10**x_high)]
    step = nice((y_high - y_low) / 5)
    y_ticks = [(up(step * k), f"{step * k:g}") for k in range(math.ceil(y_low / step), math.floor(y_high / step) + 1)]
    return Scatter(marks, x_ticks, y_ticks)


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for exponent in exponents for factor in (1, 2, 5) if low <= (value := factor * 10.0**exponent) <= high]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
