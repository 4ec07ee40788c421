"""Masks exactly as papers and their code draw them, scaled with the image: a row each; see `invsolve_operators.preset`."""

from __future__ import annotations

from typing import Any

from invsolve.operator import Shape
from invsolve_operators.masks.drawn import RandomBoxMask, RandomRangeMask, StrokeMask
from invsolve_operators.preset import OnePerImage, Row

DPS = "Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687"
DAPS = "DAPS (Zhang et al., 2024), arXiv:2407.01521"
REPAINT = "RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5"


def half_a_side(shape: Shape, **options: Any) -> dict[str, Any]:
    """The box in proportion to the shorter side."""
    side = min(shape[1:])
    return {"box": max(1, side // 2), "margin": side // 16, **options}


class DPSBoxMask(
    OnePerImage,
    RandomBoxMask,
    row=Row(
        fixed=half_a_side,
        noise=0.025,
        source=f"{DPS}, section 4",
        differs="DAPS (arXiv:2407.01521) keeps 32 of 256 from the edges: RandomBoxMask with another margin.",
        tried=((3, 16, 16), (1, 16, 20)),
    ),
):
    """DPS's box inpainting: a box of half the side (128 of 256) at a random place 1/16 (16 of 256) from the edges."""


class DPSRandomMask(
    OnePerImage,
    RandomRangeMask,
    row=Row(
        fixed={"least": 0.3, "most": 0.7},
        noise=0.025,
        source=f"{DPS}, the authors' configuration",
        differs="The paper's text says 92 %: RandomRangeMask(in_shape, 0.92, 0.92).",
        tried=((3, 8, 8), (1, 6, 9)),
    ),
):
    """DPS's random inpainting as configured: 30 to 70 % of the pixels removed, drawn per image."""


class DAPSRandomMask(
    OnePerImage,
    RandomRangeMask,
    row=Row(
        fixed={"least": 0.7, "most": 0.7},
        noise=0.025,
        source=f"{DAPS}, the authors' configuration",
        tried=((3, 8, 8), (1, 6, 9)),
    ),
):
    """DAPS's random inpainting: exactly 70 % of the pixels removed."""


class RePaintWideMask(
    OnePerImage,
    StrokeMask,
    row=Row(
        fixed={"style": "wide", "largest": 0.5},
        noise=0,
        source=REPAINT,
        differs="Drawn as StrokeMask draws: its lines have round ends.",
        tried=((3, 8, 8), (1, 6, 9)),
    ),
):
    """RePaint's and CoPaint's \"Wide\": LaMa's thick strokes."""


class RePaintNarrowMask(
    OnePerImage,
    StrokeMask,
    row=Row(
        fixed={"style": "narrow", "largest": 0.5},
        noise=0,
        source=REPAINT,
        differs="Drawn as StrokeMask draws: its lines have round ends.",
        tried=((3, 8, 8), (1, 6, 9)),
    ),
):
    """RePaint's and CoPaint's \"Narrow\": LaMa's thin strokes."""
