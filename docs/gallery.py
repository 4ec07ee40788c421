"""Small pictures of what is registered, drawn while the pages are written.

What an operator does to a photograph, what a prior makes of a noisy one, what a solver makes of half a digit.

A generator, and no example file for each: an operator or a solver is one file and one line, and its picture comes by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from invsolve_benchmarks.datasets import quick_digits, quick_photos
from invsolve_operators import BlockMean, HalfMask
from PIL import Image
from torch import Tensor

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.operator import Capability
from invsolve.operator.measurement import parts
from invsolve.plugins import Entry, registry
from invsolve.plugins.interrupts import attempted
from invsolve.priors import LatentPrior
from invsolve.priors.base import Denoiser, Regulariser
from invsolve.priors.conditional import ConditionalPrior
from invsolve.testing.larger import larger, resizable

SIDE = 96  # pixels of a photograph
TILE = 128  # pixels of a panel as it is drawn
STEPS = 20  # of a solver
GAP = 4
LEAST = 8  # pixels along a side that show anything
KINDS = ("operator", "prior", "solver")
ALT = {
    "operator": "A photograph of a cat, and what is measured of it by {name}, {summary}",
    "prior": "A noisy picture, and what the prior {name} makes of it, {summary}",
    "solver": "What is measured of a digit, and two answers of {name}, {summary}",
}


def photo(shape: Iterable[int]) -> Tensor:
    """The cat as an image (1, C, H, W)."""
    channels, height, width = shape
    whole = quick_photos()[2].image[None, :, : SIDE + 16, : SIDE + 16]
    small = torch.nn.functional.interpolate(whole, (height, width), mode="area")
    return small if channels == 3 else small.mean(1, keepdim=True).expand(1, channels, height, width).clone()


def visible(image: Tensor) -> Tensor:
    """An image in colour or grey: of other counts of channels the first."""
    return image if image.ndim != 3 or image.shape[0] in (1, 3) else image[:1]


def panel(values: Tensor) -> Image.Image:
    """(C, H, W), or numbers of any other shape, as a square picture: as they are where they lie about [0, 1], else by size."""
    values = (values.abs() if values.is_complex() else values).detach().float().cpu()
    if values.ndim != 3:
        values = values.reshape(1, 1, -1)
        side = max(1, int(values.numel() ** 0.5))
        values = values[..., : side * side].reshape(1, side, side)
    if values.shape[0] not in (1, 3) or values.min() < -0.5 or values.max() > 1.5:
        sizes = values.square().mean(0, keepdim=True).sqrt()
        values = torch.log1p(100 * sizes / sizes.max().clamp(min=1e-12)) / 4.62
    pixels = (255 * values.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).squeeze(2)
    return Image.fromarray(pixels.numpy()).convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST)


def strip(panels: list[Image.Image]) -> Image.Image:
    """Panels in a row, on nothing."""
    row = Image.new("RGBA", (len(panels) * (TILE + GAP) - GAP, TILE))
    for index, one in enumerate(panels):
        row.paste(one, (index * (TILE + GAP), 0))
    return row


def instance(cls: Any) -> Any:
    """An operator for images as large as the photograph, or as large as it takes them."""
    for channels in (3, 1, 2):
        made = attempted(lambda channels=channels: cls((channels, SIDE, SIDE)))
        if not isinstance(made, BaseException):
            return made
    example = cls.examples()[0]
    made = attempted(lambda: larger(example)) if resizable(example) else example
    return example if isinstance(made, BaseException) else made


def operator_picture(cls: Any) -> Image.Image:
    """Image, measurement, and where that is no picture what the adjoint makes of it."""
    operator = instance(cls)
    if min(operator.in_shape[1:]) < LEAST:
        raise TypeError("nothing can be seen in so few pixels")
    x = photo(operator.in_shape)
    y = operator(x.expand(operator.batch or 1, *operator.in_shape))
    panels = [panel(visible(x[0])), *(panel(visible(part[0]) if operator.output_range else part[0]) for part in parts(y))]
    if not operator.output_range and operator.has(Capability.ADJOINT):
        back = visible(operator.adjoint(y)[0])
        panels += [panel(back / back.abs().max())]
    return strip(panels[:4])


def prior_picture(made: Any, name: str) -> Image.Image:
    """A picture with noise of .15, and without; the regulariser's prox at the step that suits it."""
    digits, channels = "mnist" in name, getattr(made, "channels", None) or 3
    x = quick_digits()[8].image[None] if digits else photo((channels, SIDE, SIDE))
    noisy = x + 0.15 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    if isinstance(made, Regulariser):
        return strip([panel(noisy[0]), panel(made.prox(noisy, 0.1)[0])])
    if not isinstance(made, Denoiser) or isinstance(made, (ConditionalPrior, LatentPrior)):
        raise TypeError("it needs more than a picture")
    return strip([panel(noisy[0]), panel(made(noisy, 0.15)[0])])


def solver_picture(cls: Any) -> Image.Image:
    """Half a digit, or means of its pixels, and two answers; digits alone of a sampler of the prior."""
    digit = quick_digits()[8].image[None]
    solver = cls()
    if isinstance(getattr(solver, "steps", None), int):
        solver = replace(solver, steps=min(STEPS, solver.steps))
    if not cls.requires.measurement:
        drawn = solver.solve(Problem.unconditional((1, 32, 32), 3), load_prior("mnist"), generator=0).x
        return strip([panel(one) for one in drawn])
    for operator in (HalfMask((1, 32, 32)), BlockMean((1, 32, 32), factor=2)):
        problem = Problem.simulate(operator, digit, GaussianNoise(0.05), generator=0)
        for prior in (load_prior("mnist"), load_prior("tv", weight=4.0), load_prior("vectorial-tv", weight=4.0)):
            if not solver.mismatches(problem, prior):
                answers = [solver.solve(problem, prior, generator=seed).x[0] for seed in (0, 1)]
                return strip([panel(problem.y[0]), *map(panel, answers)])
    raise TypeError("it takes neither")


def picture(entry: Entry) -> Image.Image:
    """Of any of the three kinds."""
    target = entry.load()
    if entry.kind == "operator":
        return operator_picture(target)
    if entry.kind == "solver":
        return solver_picture(target)
    made = load_prior(entry.name)
    return prior_picture(made, entry.name)


def draw(folder: Path) -> dict[tuple[str, str], str]:
    """Draw all that can be drawn from nothing but a photograph; (kind, name) to the alternative text."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for entry in registry().of(kind):
                made = attempted(lambda entry=entry: picture(entry))
                if isinstance(made, Image.Image):
                    made.save(folder / f"{kind}-{entry.name}.png", optimize=True)
                    found[kind, entry.name] = ALT[kind].format(name=entry.name, summary=entry.summary)
    return found
