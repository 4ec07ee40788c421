"""What networks with further channels see of the measurement, and which measurements they were trained for.

inpainting:        [z_t, hole, E(picture)],  hole 1 or 0 at the nearest pixel, the picture grey (0 in [-1, 1]) in the hole
super-resolution:  [z_t, 2 y - 1],           y the small picture, of the code's height and width
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from invsolve.operator import Capability
from invsolve.problem import Problem
from invsolve_diffusers.networks import Encoder

FLAT = 0.05  # how far H of a flat grey image may be from that grey: border handling of resizers leaves less


class SeesMask(nn.Module):
    """The hole and the code of what is left: (B, 1 + c, h, w).

    The picture is encoded by the mode of the posterior; diffusers draws from it. Known pixels are taken as they are, with their noise:
    the networks were trained on clean ones.

    Args:
        encode: images to codes.

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, section 4.5; the order of the
        channels, the grey hole and the mask of 0 and 1 are those of Stable Diffusion's inpainting networks as diffusers calls them, not
        those of the paper's own code (black hole, mask of -1 and 1, the mask last).
    """

    def __init__(self, encode: Encoder) -> None:
        super().__init__()
        self.encode = encode

    def gaps(self, problem: Problem) -> list[str]:
        """An operator that is no mask, or one that hides other pixels in each channel."""
        outer = imaged(problem)
        if not outer.operator.has(Capability.MASK):
            return [f"an inpainting network fills what a mask hides; operator {outer.operator.label} lacks 'mask'"]
        mask = mask_of(outer)
        if bool((mask != mask[:, :1]).any()):
            return [f"an inpainting network sees whole pixels; {outer.operator.label} hides other pixels in each channel"]
        return []

    def forward(self, problem: Problem) -> Tensor:
        """[hole, E(picture)]."""
        outer = imaged(problem)
        assert isinstance(outer.y, Tensor)
        visible = mask_of(outer)[:, :1]
        code = self.encode(visible * outer.y + (1 - visible) * 0.5)
        return torch.cat([interpolate(1 - visible, size=code.shape[-2:]), code], dim=1)


class SeesSmall(nn.Module):
    """The small picture beside a code of its size: (B, C, h, w) in [-1, 1].

    Args:
        shape: (C, h, w).

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, section 4.4.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def gaps(self, problem: Problem) -> list[str]:
        """A measurement of another shape, or an H that does not leave flat images flat."""
        outer = imaged(problem)
        if outer.operator.out_shape != self.shape:
            wanted, given = "x".join(map(str, self.shape)), outer.operator.out_shape
            return [f"this network enlarges pictures of {wanted}; {outer.operator.label} gives {given}. Other sizes: size="]
        with torch.no_grad():
            flat = outer.operator(outer.image + 0.5)
        assert isinstance(flat, Tensor)
        if float((flat - 0.5).abs().max()) > FLAT:
            return [f"this network was trained on reduced pictures; {outer.operator.label} of a flat grey of .5 is not flat, or not .5"]
        return []

    def forward(self, problem: Problem) -> Tensor:
        """2 y - 1."""
        assert isinstance(problem.y, Tensor)
        return 2 * problem.y - 1


def imaged(problem: Problem) -> Problem:
    """The problem of the image, where this is one of its code."""
    return problem if problem.outer is None else problem.outer


def mask_of(problem: Problem) -> Tensor:
    """The mask, (B, C, H, W), 1 where a pixel is known."""
    operator: Any = problem.operator
    mask = operator.mask.to(problem.image)
    mask = mask if mask.ndim == problem.image.ndim else mask.expand(problem.image.shape[1:])[None]
    return mask.expand(problem.image.shape)
