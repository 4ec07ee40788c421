"""Priors trained with the measurement as a condition, by name; weights outside the package lie in the folders of INVSOLVE_WEIGHTS."""

from __future__ import annotations

from typing import Any

from invsolve_weights.conditional import CardedConditional

from invsolve.priors.base import Prior
from invsolve.priors.staged import StagedPrior, stage_operator


class SmallExamples(CardedConditional):
    """Base of those below: the conformance checks see them at a quarter of the trained size."""

    @classmethod
    def examples(cls) -> list[Prior]:
        """Small images."""
        build: Any = cls
        return [build(side=16)]


class SR3(SmallExamples):
    """Super-resolution of faces by 4: a network that sees y, upsampled, beside x_t; any sampler draws from its p(x | y).

    Args:
        precision, channels_last: see NetworkDenoiser.
        weights: another weight file of the same form.
        side: height and width of the images, where they are not those of the training: at one's own risk.

    Raises:
        InputError: see CardedConditional.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "sr3-faces", side: int | None = None) -> None:
        super().__init__(weights, precision, channels_last, side)


class Regression(SmallExamples):
    """E[x | y] by one call of a network as large as sr3's, trained on the same pairs: the baseline of super-resolution.

    Args:
        precision, channels_last, weights, side: see SR3.

    Raises:
        InputError: see CardedConditional.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636, section 4.
    """

    def __init__(
        self, precision: str = "float32", channels_last: bool = True, weights: str = "regression-faces", side: int | None = None
    ) -> None:
        super().__init__(weights, precision, channels_last, side)


class PartDiff(SmallExamples):
    """Super-resolution of faces by 4 whose noised image moves to y, upsampled: sampling takes the last 25 of 100 steps.

    Args:
        precision, channels_last, weights, side: see SR3.

    Raises:
        InputError: see CardedConditional.

    References:
        PartDiff: Image Super-resolution with Partial Diffusion Models (Zhao et al., 2023), arXiv:2307.11926.
    """

    def __init__(
        self, precision: str = "float32", channels_last: bool = True, weights: str = "partdiff-faces", side: int | None = None
    ) -> None:
        super().__init__(weights, precision, channels_last, side)


class Palette(SmallExamples):
    """Faces by one network for four tasks, told by the problem's operator: colourisation, inpainting with any mask, uncropping, JPEG.

    Args:
        precision, channels_last, weights, side: see SR3.

    Raises:
        InputError: see CardedConditional.

    References:
        Palette: Image-to-Image Diffusion Models (Saharia et al., 2022), arXiv:2111.05826. Deviations: noise enters known pixels, too, and
        the run puts y's known pixels into its answer as with every solver; sampling begins from fresh noise, not from the condition's.
    """

    def __init__(
        self, precision: str = "float32", channels_last: bool = True, weights: str = "palette-faces", side: int | None = None
    ) -> None:
        super().__init__(weights, precision, channels_last, side)


class IDM(SmallExamples):
    """Super-resolution of faces by any factor from 1.5 to 8: the operator `resize` of the size that is wanted says by how much.

    Args:
        precision, channels_last, weights, side: see SR3.

    Raises:
        InputError: see CardedConditional.

    References:
        Implicit Diffusion Models for Continuous Super-Resolution (Gao et al., 2023), arXiv:2303.16491. Deviation: y is interpolated to
        the wanted size and a map tells the magnification, in place of features at continuous places; other sizes are refused.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "idm-faces", side: int | None = None) -> None:
        super().__init__(weights, precision, channels_last, side)


class Cascade(StagedPrior):
    """Super-resolution of faces by 16, by 4 and by 4 again, the second network told how noisy its measurement is; solver `cascade`.

    Args:
        precision, channels_last, side: see SR3.
        first, last: weight files of the two, from 4 x 4 to 16 x 16 and from 16 x 16 to 64 x 64.

    Raises:
        InputError: see CardedConditional and StagedPrior.

    References:
        Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2022), arXiv:2106.15282.
    """

    def __init__(
        self,
        precision: str = "float32",
        channels_last: bool = True,
        first: str = "cascade-faces-1",
        last: str = "cascade-faces-2",
        side: int | None = None,
    ) -> None:
        large = CardedConditional(last, precision, channels_last, side)
        small = stage_operator(large).out_shape[-1]
        super().__init__(CardedConditional(first, precision, channels_last, small), large)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Small images."""
        return [cls(side=16)]
