"""Masks exactly as papers and their code draw them, scaled with the image; see each class for source and noise.

Noise levels are those for images in [0, 1]: half of what a paper states for [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

from invsolve.operator import Operator, image_shape
from invsolve_operators.masks.drawn import RandomBoxMask, RandomRangeMask, StrokeMask


class DPSBoxMask(RandomBoxMask):
    """DPS's box inpainting: a box of half the side (128 of 256) at a random place 1/16 (16 of 256) from the edges; sigma_y 0.025.

    Args:
        in_shape: (C, H, W).
        seed, items: see `invsolve_operators.masks.drawn`.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, section 4. (DAPS, arXiv:2407.01521, keeps 32
        from the edges.)
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        side = min(image_shape(in_shape)[1:])
        super().__init__(in_shape, max(1, side // 2), side // 16, seed, items)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 16, 16)), cls((1, 16, 20), 1, 3)]


class DPSRandomMask(RandomRangeMask):
    """DPS's random inpainting as configured: 30 to 70 % of the pixels removed, drawn per image; sigma_y 0.025 in [0, 1].

    The paper's text says 92 %: RandomRangeMask(in_shape, 0.92, 0.92).

    Args:
        in_shape: (C, H, W).
        seed, items: see `invsolve_operators.masks.drawn`.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, the authors' configuration.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        super().__init__(in_shape, 0.3, 0.7, seed, items)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 6, 9), 1, 3)]


class DAPSRandomMask(RandomRangeMask):
    """DAPS's random inpainting: exactly 70 % of the pixels removed; sigma_y 0.025 in [0, 1].

    Args:
        in_shape: (C, H, W).
        seed, items: see `invsolve_operators.masks.drawn`.

    References:
        DAPS (Zhang et al., 2024), arXiv:2407.01521, the authors' configuration.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        super().__init__(in_shape, 0.7, 0.7, seed, items)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 6, 9), 1, 3)]


class RePaintWideMask(StrokeMask):
    """RePaint's and CoPaint's "Wide": LaMa's thick strokes; no noise.

    Args:
        in_shape: (C, H, W).
        seed, items: see `invsolve_operators.masks.drawn`.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        super().__init__(in_shape, "wide", 0.5, seed, items)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 6, 9), 1, 3)]


class RePaintNarrowMask(StrokeMask):
    """RePaint's and CoPaint's "Narrow": LaMa's thin strokes; no noise.

    Args:
        in_shape: (C, H, W).
        seed, items: see `invsolve_operators.masks.drawn`.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        super().__init__(in_shape, "narrow", 0.5, seed, items)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 6, 9), 1, 3)]
