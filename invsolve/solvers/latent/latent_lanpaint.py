"""Latent LanPaint: LanPaint on the codes of the pixels that a mask shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from invsolve.solver import Solver
from invsolve.solvers.inpainting.lanpaint import LanPaint
from invsolve.solvers.latent.inpainting import OfCodes


@dataclass(frozen=True)
class LatentLanPaint(OfCodes, LanPaint):
    """`lanpaint` on codes: Langevin steps at every level, in which the codes of shown pixels answer to those of the hole.

    A place of the code is known where all its pixels are shown; y is encoded with its hole filled smoothly, and pixels without noise are
    pasted in the image at the end: see LatentRePaint. This is what LanPaint's authors run (their models are latent).

    Args:
        steps, inner, step, guidance, eta: see LanPaint.
        erode: so many places around the hole are filled, too.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        LanPaint: Training-Free Diffusion Inpainting with Asymptotically Exact and Fast Conditional Sampling (Zheng, Lan and Wang, 2025),
        arXiv:2502.03491.
        Deviations: those of LanPaint; masks by the minimum over a place; noise in y is taken into account.
    """

    plain: ClassVar[str] = "lanpaint"
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.15, "cov": 0.5, "trace": (0.5, 0.7)}
    erode: int = 0

    @classmethod
    def examples(cls) -> list[Solver]:
        """Four levels of two Langevin steps."""
        return [cls(steps=4, inner=2, erode=0)]
