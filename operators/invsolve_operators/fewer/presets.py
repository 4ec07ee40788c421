"""Blurs and super-resolution exactly as papers and their code measure them: a row each; see `invsolve_operators.preset`."""

from __future__ import annotations

from typing import Any

import torch

from invsolve.operator import Shape
from invsolve.rng import Rng
from invsolve_operators.blurs import kernels, shaken
from invsolve_operators.blurs.blur import KernelBlur
from invsolve_operators.blurs.padded import PaddedBlur
from invsolve_operators.blurs.separable import SeparableBlur, SeparableGaussianBlur
from invsolve_operators.fewer.downsample import Bicubic, BlockMean
from invsolve_operators.preset import OnePerImage, Preset, Row, Seeded
from invsolve_operators.sampled import checked_count

DPS = "Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687"
DIFFPIR = "DiffPIR (Zhu et al., 2023), arXiv:2305.08995"
DDRM = "Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793"
SINGULAR_VALUES = (
    "The authors set 1-D singular values below 0.03 to 0 on both sides of the problem; here all are kept that the rank rule keeps. "
    "Their sigma_y 0.05 is 0.05 here, since their code doubles it for [-1, 1]."
)


def wide_gaussians(shape: Shape, seed: int, items: int | None) -> dict[str, Any]:
    """61 x 61, of standard deviation 3 (1 + 2 u) with u uniform on [0, 1)."""
    del shape
    count = 1 if items is None else checked_count(items, "items", 1)
    u = Rng(seed, range(count), purpose="diffpir-blur").uniform((), torch.empty(0, dtype=torch.float64))
    rows = torch.stack([kernels.gaussian_1d(float(width), 30 / float(width), 30) for width in 3 * (1 + 2 * u)])
    found = rows[:, :, None] * rows[:, None, :]
    return {"kernel": found[0] if items is None else found}


def shaken_61(shape: Shape, seed: int) -> dict[str, Any]:
    """A path of intensity 0.5."""
    del shape
    return {"kernel": shaken(61, 0.5, seed, None)}


def shaken_61_reflected(shape: Shape, seed: int) -> dict[str, Any]:
    """The same, the image reflected."""
    return {**shaken_61(shape, seed), "boundary": "reflect"}


def one_short(values: torch.Tensor) -> torch.Tensor:
    """Taps as DDRM's loop applies them: as a correlation, and without the last one."""
    kept = values.clone()
    kept[-1] = 0
    return kept.flip(0)


def bell(sigma: float, reach: int) -> torch.Tensor:
    """A Gaussian at -reach .. reach, sum 1."""
    value = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma).square())
    return value / value.sum()


class DPSGaussianBlur(
    Preset,
    SeparableGaussianBlur,
    row=Row(
        fixed={"sigma": 3.0, "boundary": "reflect", "truncate": 4.0},
        noise=0.025,
        source=f"{DPS}, section 4 and the authors' measurements.py",
        differs="The authors' 61 x 61 kernel is a unit impulse through a Gaussian filter that stops at 4 standard deviations: only "
        "25 x 25 of it are not 0, and it is separable, so the operator has an exact SVD here. Their transpose is the identity; ours is "
        "the adjoint.",
        sides="; 256 x 256 in the paper",
        tried=((3, 16, 16), (1, 13, 18)),
    ),
):
    """DPS's Gaussian deblurring: standard deviation 3, reflected at the edges."""


class DPSMotionBlur(
    Seeded,
    PaddedBlur,
    row=Row(
        fixed=shaken_61_reflected,
        noise=0.025,
        source=f"{DPS}, section 4",
        differs="The authors draw the path anew for every operator, from the global generator; here it is keyed by the seed, and its model "
        "is `kernels.shake`, of the same family but not the same numbers.",
    ),
):
    """DPS's motion deblurring: a random path in 61 x 61 of intensity 0.5, reflected."""


class DPSSuperResolution(
    Preset,
    Bicubic,
    row=Row(
        fixed={"factor": 4, "boundary": "symmetric"},
        noise=0.025,
        source=f"{DPS}, section 4",
        differs="The authors' transpose is nearest-neighbour enlargement; ours is the adjoint.",
        sides=", sides that 4 divides",
        tried=((3, 8, 8), (1, 12, 16)),
    ),
):
    """DPS's super-resolution by 4: antialiased bicubic, slope -1/2, mirrored edges."""


class DiffPIRGaussianBlur(
    OnePerImage,
    KernelBlur,
    row=Row(
        fixed=wide_gaussians,
        noise=0.05,
        source=f"{DIFFPIR}, and the authors' main_ddpir_deblur.py",
        differs="The authors blur 8-bit images and round the result; here nothing is rounded. Their configuration says 3; the code draws "
        "3 to 9.",
    ),
):
    """DiffPIR's Gaussian deblurring: circular, 61 x 61, standard deviation 3 (1 + 2 u) with u uniform per image."""


class DiffPIRMotionBlur(
    Seeded,
    KernelBlur,
    row=Row(
        fixed=shaken_61,
        noise=0.05,
        source=f"{DIFFPIR}, section 4",
        differs="The path's model is `kernels.shake`, of the same family but not the same numbers.",
    ),
):
    """DiffPIR's motion deblurring: circular, a random path in 61 x 61 of intensity 0.5."""


class DDRMUniformBlur(
    Preset,
    SeparableBlur,
    row=Row(
        fixed={"vertical": one_short(torch.full((9,), 1 / 9, dtype=torch.float64)), "boundary": "zero"},
        noise=0.05,
        source=f'{DDRM}, "deblur_uni"',
        differs=SINGULAR_VALUES,
        tried=((3, 10, 10), (1, 7, 12)),
    ),
):
    """DDRM's uniform deblurring: taps of 1/9 on 9 pixels, of which the code applies 8 (the sum is 8/9); zeros beyond the edges."""


class DDRMGaussianBlur(
    Preset,
    SeparableBlur,
    row=Row(
        fixed={"vertical": one_short(bell(10.0, 2)), "boundary": "zero"},
        noise=0.05,
        source=f'{DDRM}, "deblur_gauss"',
        differs=SINGULAR_VALUES,
        tried=((3, 10, 10), (1, 7, 12)),
    ),
):
    """DDRM's Gaussian deblurring: standard deviation 10 on 5 taps, of which the code applies 4; zeros beyond the edges."""


class DDRMAnisotropicBlur(
    Preset,
    SeparableBlur,
    row=Row(
        fixed={"vertical": one_short(bell(1.0, 4)), "horizontal": one_short(bell(20.0, 4)), "boundary": "zero"},
        noise=0.05,
        source=f'{DDRM}, "deblur_aniso"',
        differs=SINGULAR_VALUES,
        tried=((3, 10, 10), (1, 7, 12)),
    ),
):
    """DDRM's anisotropic deblurring: standard deviations 1 (vertical) and 20 on 9 taps, of which the code applies 8; zeros outside."""


class REDDiffGaussianBlur(
    Preset,
    SeparableBlur,
    row=Row(
        fixed={"vertical": one_short(bell(25.0, 2)), "boundary": "zero"},
        noise=0,
        source="RED-diff (Mardani et al., 2023), arXiv:2305.04391, the authors' configuration",
        differs=SINGULAR_VALUES.partition(" Their")[0],
        tried=((3, 10, 10), (1, 7, 12)),
    ),
):
    """RED-diff's Gaussian deblurring: DDRM's class with standard deviation 25 on 5 taps (4 applied)."""


class DDRMSuperResolution(
    Preset,
    BlockMean,
    row=Row(
        fixed={"factor": 4},
        noise=0.05,
        source=f'{DDRM}, "sr4"',
        differs=SINGULAR_VALUES.rpartition("keeps. ")[2],
        sides=", sides that 4 divides",
        tried=((3, 8, 8), (1, 8, 12)),
    ),
):
    """DDRM's and DDNM's super-resolution by 4: means of 4 x 4."""
