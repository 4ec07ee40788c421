"""Latent RePaint: RePaint on the codes of the pixels that a mask shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from invsolve.solver import Solver
from invsolve.solvers.inpainting.repaint import RePaint
from invsolve.solvers.latent.inpainting import OfCodes


@dataclass(frozen=True)
class LatentRePaint(OfCodes, RePaint):
    """`repaint` on codes: those of places all of whose pixels are shown are put back at every level, as noisy as it is.

        known = min-pool of the mask over a place's pixels;   z_t <- E(y) + sqrt(sigma_t^2 - sigma_z^2) n where known;   RePaint's steps

    For holes: where single pixels are missing everywhere no place is known, and it is refused. y is encoded with its hole filled smoothly,
    since encoders look around. Pixels at the hole's border are measured and not used; those
    without noise are pasted in the image at the end, as everywhere. An encoder that loses detail loses it in the known part, too:
    `LatentPrior.ceiling` says how much. No gradient is taken, of the network or of the decoder.

    Args:
        steps, jump, repeats: see RePaint.
        erode: so many places around the hole are filled, too: for seams, where the encoder looks far.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field is no whole number, or too small.

    References:
        RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865, algorithm 1; in codes:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, whose code replaces known
        codes at every step.
        Deviations: those of RePaint; masks by the minimum over a place, theirs by its nearest pixel, so that half known places pass for
        known; noise in y is taken into account.
    """

    plain: ClassVar[str] = "repaint"
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.45, "trace": (0.5, 0.7)}
    erode: int = 0

    @classmethod
    def examples(cls) -> list[Solver]:
        """Six levels with jumps of two, from a level of one's own."""
        return [cls(steps=6, jump=2, repeats=2, sigma_max=3.0)]
