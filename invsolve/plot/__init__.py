"""Figures of problems and solutions, for a notebook or a file: every function gives a `Picture`, which shows itself and can be saved.

from invsolve import plot
plot.show(problem, solution, truth)
plot.compare({"hqs": a.x, "diffpir": b.x}, truth, zoom=(20, 30, 24)).save("compare.png")
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import parts
from invsolve.problem import Problem
from invsolve.solution import Solution

PANEL = 2.6  # inches a picture


class Picture:
    """A figure.

    Args:
        figure: of matplotlib; it is nobody's current one, so that nothing is shown twice.
    """

    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def save(self, path: str | Path, dpi: int = 150) -> None:
        """Write it; the suffix says as what: .png, .pdf, .svg.

        Raises:
            InputError: a suffix that matplotlib does not know, or a place that cannot be written.
        """
        try:
            self.figure.savefig(path, dpi=dpi)
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: cannot be written ({error})") from error

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"Picture({len(self.figure.axes)} panels; .save(path) writes it)"


def panels(rows: int, columns: int) -> tuple[Any, Any]:
    """(figure, axes (rows, columns)) without ticks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL * columns, PANEL * 1.12 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    return figure, axes


def drawn(axis: Any, image: Tensor, title: str, **options: Any) -> Any:
    """An image (C, H, W) on an axis: colour as it is, one channel in grey, complex by its size, other channels by their mean square."""
    image = image.detach().cpu()
    image = (image.abs() if image.is_complex() else image).float()
    axis.set_title(title, fontsize=9)
    if image.ndim != 3:
        axis.text(0.5, 0.5, f"{tuple(image.shape)}", ha="center", va="center", transform=axis.transAxes)
        return None
    if image.shape[0] == 3 and not options:
        return axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    flat = image[0] if image.shape[0] == 1 else image.square().mean(0).sqrt()
    return axis.imshow(flat.numpy(), interpolation="nearest", **{"cmap": "gray", "vmin": 0, "vmax": 1, **options})


def decibels(x: Tensor, truth: Tensor) -> str:
    """PSNR of two images in words."""
    error = float((x - truth).abs().square().mean())
    return f"{-10 * torch.tensor(error).log10():.2f} dB" if error else "exact"


def one(images: Tensor, item: int, what: str) -> Tensor:
    """An item of a batch, or the image itself.

    Raises:
        InputError: no such item, no image.
    """
    if not isinstance(images, Tensor) or images.ndim not in (3, 4):
        given = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"{what} must be images (B, C, H, W) or (C, H, W); given {given}")
    if images.ndim == 3:
        return images
    if not -len(images) <= item < len(images):
        raise InputError(f"{what} has {len(images)} items; there is no item {item}")
    return images[item]


def matching(image: Tensor, truth: Tensor, what: str = "truth") -> Tensor:
    """The truth, on the image's device.

    Raises:
        InputError: of another shape.
    """
    if image.shape != truth.shape:
        raise InputError(f"{what} must have the shape of the image, {tuple(image.shape)}; given {tuple(truth.shape)}")
    return truth.to(image)


def tinted(figure: Any, axis: Any, image: Tensor, title: str, colours: str) -> None:
    """Sizes as colours, with their scale."""
    top = max(float(image.abs().max()), 1e-12)
    shown = drawn(axis, image, title, cmap=colours, vmin=0, vmax=top)
    if shown is not None:
        figure.colorbar(shown, ax=axis, shrink=0.8)


def show(problem: Problem, solution: Solution | None = None, truth: Tensor | None = None, *, item: int = 0) -> Picture:
    """One item: the measurement, the answer, its spread where there are samples, and with the truth the error.

    Args:
        problem: with the measurement.
        solution: the answer; without it the measurement alone.
        truth: (B, C, H, W) or (C, H, W).
        item: which one.

    Raises:
        InputError: no such item, images of other shapes.
    """
    if not -problem.batch <= item < problem.batch:
        raise InputError(f"the problem has {problem.batch} items; there is no item {item}")
    drawings: list[tuple[Tensor, str, str]] = [(part[item], "y", "") for part in parts(problem.y)]
    known = None if truth is None else one(truth, item, "truth")
    if solution is not None:
        x = one(solution.mean, item, "the answer")
        name = "mean of the samples" if solution.samples else type(solution.solver).__name__
        known = known if known is None else matching(x, known)
        drawings.append((x, name if known is None else f"{name}, {decibels(x, known)}", ""))
        if solution.samples is not None and solution.samples >= 2:
            drawings.append((one(solution.std, item, "the spread"), "standard deviation", "magma"))
        if known is not None:
            drawings.append(((x - known).abs(), "error", "inferno"))
    if known is not None:
        drawings.append((known, "truth", ""))
    figure, axes = panels(1, len(drawings))
    for axis, (image, title, colours) in zip(axes[0], drawings, strict=True):
        if colours:
            tinted(figure, axis, image, title, colours)
        else:
            drawn(axis, image, title)
    return Picture(figure)


def compare(
    images: Mapping[str, Tensor], truth: Tensor | None = None, *, item: int = 0, zoom: tuple[int, int, int] | None = None
) -> Picture:
    """Answers side by side, the truth last; below, where `zoom` says so, the same square of each, enlarged.

    Args:
        images: by name, (B, C, H, W) or (C, H, W).
        truth: with it, PSNR stands in the titles.
        item: which one.
        zoom: (top, left, side) in pixels.

    Raises:
        InputError: nothing to show, shapes that differ, a square outside the image.
    """
    if not images:
        raise InputError("give images by name, such as {'hqs': a.x, 'diffpir': b.x}")
    shown = {name: one(image, item, name) for name, image in images.items()}
    known = None if truth is None else one(truth, item, "truth")
    if known is not None:
        shown = {f"{name}, {decibels(image, matching(image, known))}": image for name, image in shown.items()} | {"truth": known}
    figure, axes = panels(1 if zoom is None else 2, len(shown))
    for column, (title, image) in enumerate(shown.items()):
        drawn(axes[0, column], image, title)
        if zoom is not None:
            top, left, side = checked_square(zoom, image)
            drawn(axes[1, column], image[..., top : top + side, left : left + side], "")
            outline(axes[0, column], top, left, side)
    return Picture(figure)


def checked_square(zoom: Sequence[int], image: Tensor) -> tuple[int, int, int]:
    """The square of a zoom.

    Raises:
        InputError: no three whole numbers, or outside the image.
    """
    if len(zoom) == 3 and all(isinstance(value, int) for value in zoom):
        top, left, side = zoom
        if top >= 0 and left >= 0 and side >= 1 and top + side <= image.shape[-2] and left + side <= image.shape[-1]:
            return top, left, side
    size = f"{image.shape[-2]} x {image.shape[-1]}"
    raise InputError(f"zoom must be (top, left, side), a square inside the {size} pixels; given {zoom!r:.80}")


def outline(axis: Any, top: int, left: int, side: int) -> None:
    """Where the square is."""
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor="#e4572e", linewidth=1.2))


def uncertainty(solution: Solution, truth: Tensor | None = None, *, level: float = 0.9, item: int = 0) -> Picture:
    """Samples: their mean, standard deviation and the width of the central interval; with the truth, where it lies outside.

    Args:
        solution: of `solve(..., samples=n)`, n at least 2 / (1 - level).
        truth: (B, C, H, W) or (C, H, W).
        level: of the interval.
        item: which one.

    Raises:
        InputError: too few samples, no such item, another shape.
    """
    low, high = (one(end, item, "the interval") for end in solution.interval(level))
    mean, std = (one(image, item, "the samples") for image in (solution.mean, solution.std))
    figure, axes = panels(1, 3 if truth is None else 4)
    drawn(axes[0, 0], mean, "mean of the samples")
    tinted(figure, axes[0, 1], std, "standard deviation", "magma")
    tinted(figure, axes[0, 2], high - low, f"width of the {level:.0%} interval", "magma")
    if truth is not None:
        known = matching(mean, one(truth, item, "truth"))
        outside = ((known < low) | (known > high)).to(mean)
        drawn(axes[0, 3], outside.amax(0, keepdim=True), f"outside: {float(outside.mean()):.1%} of the values")
    return Picture(figure)


def trajectory(solution: Solution, *, item: int = 0, count: int = 6) -> Picture:
    """The way of a run: iterates above, estimates of the image below, at about equal distances.

    Args:
        solution: of `solve(..., keep=1)`, which keeps the steps.
        item: which one.
        count: columns at most.

    Raises:
        InputError: no steps were kept.
    """
    steps = solution.trace
    if not steps:
        raise InputError("no steps were kept: solve(..., keep=1)")
    columns = min(count, len(steps))
    chosen = [steps[round(place * (len(steps) - 1) / max(1, columns - 1))] for place in range(columns)]
    figure, axes = panels(2, columns)
    for column, step in enumerate(chosen):
        level = "" if step.sigma is None else f", sigma {step.sigma:.3g}"
        drawn(axes[0, column], one(step.x, item, "the trace"), f"x, step {step.index + 1}{level}")
        drawn(axes[1, column], one(step.x0_hat, item, "the trace"), "estimate")
    return Picture(figure)


def spectrum(images: Mapping[str, Tensor], *, item: int = 0) -> Picture:
    """Power against frequency, the mean over channels and directions of |FFT|^2 / pixels, mean grey taken off.

    Args:
        images: by name, (B, C, H, W) or (C, H, W).
        item: which one.

    Raises:
        InputError: nothing to show.
    """
    if not images:
        raise InputError("give images by name, such as {'y': y, 'x': solution.x}")
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(2 * PANEL, 1.4 * PANEL), layout="constrained")
    axis = figure.subplots()
    for name, image in images.items():
        radius, power = radial(one(image, item, name))
        axis.loglog(radius, power, label=name)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("cycles a pixel")
    axis.set_ylabel("power")
    axis.legend(frameon=False, fontsize=9)
    return Picture(figure)


def radial(image: Tensor) -> tuple[list[float], list[float]]:
    """(frequencies, mean power on their ring) of an image (C, H, W)."""
    image = image.detach().cpu().double()
    height, width = image.shape[-2:]
    power = torch.fft.fft2(image - image.mean((-2, -1), keepdim=True)).abs().square().mean(0) / (height * width)
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    distance = (rows[:, None].square() + columns.square()).sqrt()
    rings = max(1, min(height, width) // 2)
    ring = (distance * 2 * rings).round().long()
    inside = (ring >= 1) & (ring <= rings)
    count = torch.bincount(ring[inside], minlength=rings + 1)[1:]
    total = torch.bincount(ring[inside], weights=power[inside], minlength=rings + 1)[1:]
    kept = count > 0
    return ((torch.arange(1, rings + 1)[kept] / (2 * rings)).tolist(), (total[kept] / count[kept]).tolist())


def front(points: Iterable[tuple[str, float, float]], *, cost: str = "evaluations", quality: str = "PSNR, dB") -> Picture:
    """Quality against cost, those that no other beats in both joined by a line.

    Args:
        points: (name, cost, quality), cost above 0.
        cost, quality: what stands at the axes.

    Raises:
        InputError: no points, a cost that is not above 0.
    """
    rows = sorted(points, key=lambda row: (row[1], -row[2]))
    if not rows or rows[0][1] <= 0:
        raise InputError("points must be (name, cost above 0, quality), at least one")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * PANEL, 1.5 * PANEL), layout="constrained")
    axis = figure.subplots()
    axis.set_xscale("log")
    best, line = -float("inf"), []
    for row in rows:
        if row[2] > best:
            best = row[2]
            line.append(row)
    axis.plot([row[1] for row in line], [row[2] for row in line], color="#1f6f8b", linewidth=1)
    for name, spent, value in rows:
        axis.plot(spent, value, "o", color="#1f6f8b" if (name, spent, value) in line else "#9aa5ab", markersize=5)
        axis.annotate(name, (spent, value), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set_xlabel(cost)
    axis.set_ylabel(quality)
    return Picture(figure)
