"""Blurs and super-resolution exactly as papers and their code measure them; see each class for source, range and noise.

Noise levels are those for images in [0, 1]: half of what a paper states for [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from invsolve.operator import Operator, image_shape
from invsolve.rng import Rng
from invsolve_operators.blurs import kernels, shaken
from invsolve_operators.blurs.blur import KernelBlur
from invsolve_operators.blurs.padded import PaddedBlur
from invsolve_operators.blurs.separable import SeparableBlur, SeparableGaussianBlur
from invsolve_operators.fewer.downsample import Bicubic, BlockMean
from invsolve_operators.sampled import checked_count


class DPSGaussianBlur(SeparableGaussianBlur):
    """DPS's Gaussian deblurring: standard deviation 3, reflected at the edges; sigma_y 0.025 in [0, 1] (0.05 in [-1, 1]).

    The authors' 61 x 61 kernel is a unit impulse through a Gaussian filter that stops at 4 standard deviations: only 25 x 25 of it are
    not 0, and it is separable, so the operator has an exact SVD here. Their transpose is the identity; ours is the adjoint.

    Args:
        in_shape: (C, H, W); 256 x 256 in the paper.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, section 4 and the authors' measurements.py.
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, 3.0, "reflect", 4.0)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Small images: the kernel reaches beyond them."""
        return [cls((3, 16, 16)), cls((1, 13, 18))]


class DPSMotionBlur(PaddedBlur):
    """DPS's motion deblurring: a random path in 61 x 61 of intensity 0.5, reflected; sigma_y 0.025 in [0, 1] (0.05 in [-1, 1]).

    The authors draw the path anew for every operator, from the global generator; here it is keyed by the seed, and its model is
    `kernels.shake`, of the same family but not the same numbers.

    Args:
        in_shape: (C, H, W).
        seed: of the path.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, section 4.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(in_shape, shaken(61, 0.5, seed, None), "reflect")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Small images: the kernel is larger."""
        return [cls((3, 8, 8)), cls((1, 9, 7), 1)]


class DPSSuperResolution(Bicubic):
    """DPS's super-resolution by 4: antialiased bicubic, slope -1/2, mirrored edges; sigma_y 0.025 in [0, 1] (0.05 in [-1, 1]).

    The authors' transpose is nearest-neighbour enlargement; ours is the adjoint.

    Args:
        in_shape: (C, H, W), sides that 4 divides.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, section 4.
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, 4, "symmetric")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 8, 8)), cls((1, 12, 16))]


class DiffPIRGaussianBlur(KernelBlur):
    """DiffPIR's Gaussian deblurring: circular, 61 x 61, standard deviation 3 (1 + 2 u) with u uniform per image; sigma_y 0.05.

    The authors blur 8-bit images and round the result; here nothing is rounded. Their configuration says 3; the code draws 3 to 9.

    Args:
        in_shape: (C, H, W).
        seed: of u; image i's is keyed by (seed, i).
        items: number of images with a width each; one width for all where None.

    References:
        DiffPIR (Zhu et al., 2023), arXiv:2305.08995, and the authors' main_ddpir_deblur.py.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0, items: int | None = None) -> None:
        count = 1 if items is None else checked_count(items, "items", 1)
        u = Rng(seed, range(count), purpose="diffpir-blur").uniform((), torch.empty(0, dtype=torch.float64))
        rows = torch.stack([kernels.gaussian_1d(float(width), 30 / float(width), 30) for width in 3 * (1 + 2 * u)])
        found = rows[:, :, None] * rows[:, None, :]
        super().__init__(in_shape, found[0] if items is None else found)

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        return KernelBlur(self.in_shape, self.kernel[list(items)]).to(self.device)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One width, and one per image."""
        return [cls((3, 8, 8)), cls((1, 9, 7), 1, 3)]


class DiffPIRMotionBlur(KernelBlur):
    """DiffPIR's motion deblurring: circular, a random path in 61 x 61 of intensity 0.5; sigma_y 0.05 in [0, 1].

    Args:
        in_shape: (C, H, W).
        seed: of the path; its model is `kernels.shake`.

    References:
        DiffPIR (Zhu et al., 2023), arXiv:2305.08995, section 4.
    """

    def __init__(self, in_shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(in_shape, shaken(61, 0.5, seed, None))

    @classmethod
    def examples(cls) -> list[Operator]:
        """The kernel wraps round small images."""
        return [cls((3, 8, 8)), cls((1, 9, 7), 1)]


def one_short(values: torch.Tensor) -> torch.Tensor:
    """Taps as the authors' loop applies them: as a correlation, and without the last one."""
    kept = values.clone()
    kept[-1] = 0
    return kept.flip(0)


def bell(sigma: float, reach: int) -> torch.Tensor:
    """A Gaussian at -reach .. reach, sum 1."""
    value = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma).square())
    return value / value.sum()


class DDRMUniformBlur(SeparableBlur):
    """DDRM's uniform deblurring: taps of 1/9 on 9 pixels, of which the code applies 8 (the sum is 8/9); zeros beyond the edges.

    The authors set 1-D singular values below 0.03 to 0 on both sides of the problem; here all are kept that the rank rule keeps.

    Args:
        in_shape: (C, H, W).

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, "deblur_uni"; sigma_y 0.05 is 0.05 here, since the
        code doubles it for [-1, 1].
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, one_short(torch.full((9,), 1 / 9, dtype=torch.float64)), None, "zero")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 10, 10)), cls((1, 7, 12))]


class DDRMGaussianBlur(SeparableBlur):
    """DDRM's Gaussian deblurring: standard deviation 10 on 5 taps, of which the code applies 4; zeros beyond the edges.

    See DDRMUniformBlur for range and singular values.

    Args:
        in_shape: (C, H, W).

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, "deblur_gauss".
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, one_short(bell(10.0, 2)), None, "zero")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 10, 10)), cls((1, 7, 12))]


class DDRMAnisotropicBlur(SeparableBlur):
    """DDRM's anisotropic deblurring: standard deviations 1 (vertical) and 20 on 9 taps, of which the code applies 8; zeros outside.

    See DDRMUniformBlur for range and singular values.

    Args:
        in_shape: (C, H, W).

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, "deblur_aniso".
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, one_short(bell(1.0, 4)), one_short(bell(20.0, 4)), "zero")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 10, 10)), cls((1, 7, 12))]


class REDDiffGaussianBlur(SeparableBlur):
    """RED-diff's Gaussian deblurring: DDRM's class with standard deviation 25 on 5 taps (4 applied); no noise.

    Args:
        in_shape: (C, H, W).

    References:
        RED-diff (Mardani et al., 2023), arXiv:2305.04391, the authors' configuration.
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(in_shape, one_short(bell(25.0, 2)), None, "zero")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 10, 10)), cls((1, 7, 12))]


class DDRMSuperResolution(BlockMean):
    """DDRM's and DDNM's super-resolution by 4: means of 4 x 4; sigma_y 0.05 is 0.05 in [0, 1], since the code doubles it.

    Args:
        in_shape: (C, H, W), sides that 4 divides.

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, "sr4".
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__(image_shape(in_shape), 4)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Not square."""
        return [cls((3, 8, 8)), cls((1, 8, 12))]
