"""What the solvers of codes share: the decoder and the encoder behind a prior, the image's own problem, and masks of codes.

Every solver works in codes, y = H(D(z)) + n being a problem like any other. Those of this folder also use H, D and the encoder E apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from invsolve.noise import GaussianNoise, NoNoise
from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import parts
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solvers.start import first_image


class CodeMask(Operator):
    """y = mask * z on codes (c, h, w).

    Args:
        mask: bool, (1, 1, h, w), or one per item, (B, 1, h, w).
        in_shape: (c, h, w).
    """

    traits = frozenset({Capability.LINEAR, Capability.MASK})
    mask: Tensor

    def __init__(self, mask: Tensor, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        self.batch = len(mask) if len(mask) > 1 else None
        self.register_buffer("mask", mask if len(mask) > 1 else mask[0])

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The mask."""
        return (self.mask.expand(*self.mask.shape[:-3], *self.in_shape),)

    def forward(self, x: Tensor) -> Tensor:
        """mask * z."""
        return self.like("mask", x) * x


def latent_of(prior: Any) -> Any:
    """What has `decoder` and `encode`: the prior, or the one it is wrapped about; None for a prior of images."""
    while prior is not None and getattr(prior, "decoder", None) is None:
        prior = getattr(prior, "denoiser", None)
    return prior


def code_gaps(problem: Problem, prior: Prior, plain: str, needs: Capability | None = None, *, encodes: bool = False) -> list[str]:
    """Why a solver of codes cannot go on: a prior of images (for which `plain` is the solver), an H that lacks something, no encoder."""
    latent, outer = latent_of(prior), problem.outer
    if latent is None or outer is None:
        return [f"prior {type(prior).__name__} is not one of codes, as LatentPrior is; for images the solver is {plain}"]
    found = []
    if needs is not None and not outer.operator.has(needs):
        found.append(f"operator {outer.operator.label} lacks '{needs.value}'")
    if encodes and latent.encode is None:
        found.append(f"prior {type(prior).__name__} has no encoder: LatentPrior(denoiser, decoder, encode=...)")
    return found


def cell_gaps(problem: Problem, erode: int) -> list[str]:
    """Codes whose places are no cells of equally many pixels, and a mask that hides a pixel of every one."""
    assert problem.outer is not None
    operator, code = problem.outer.operator, problem.operator.in_shape
    image = operator.in_shape
    if not (len(image) == len(code) == 3 and all(side % part == 0 for side, part in zip(image[1:], code[1:], strict=True))):
        return [f"a mask of images {tuple(image)} has no cells in codes {tuple(code)}: the sides must be multiples of the codes'"]
    mask: Any = operator.mask
    if bool(kept_cells(mask, code, erode).flatten(1).any(1).all()):
        return []
    return ["the mask hides a pixel of every place of the codes, so that none is known; psld, resample and latent-dps take any mask"]


def kept_cells(mask: Tensor, code: tuple[int, ...], erode: int = 0) -> Tensor:
    """Which places of the code are known, bool, (1 or B, 1, h, w): those all of whose pixels are, in every channel.

    Args:
        mask: of the image, 0 where unknown, (1 or C, H, W) or (B, 1 or C, H, W).
        code: (c, h, w).
        erode: so many places around an unknown one are unknown, too.
    """
    known = (mask != 0).float()
    known = (known if known.ndim == 4 else known[None]).amin(1, keepdim=True)
    cell = (known.shape[-2] // code[-2], known.shape[-1] // code[-1])
    known = -functional.max_pool2d(-known, cell)
    if erode:
        known = -functional.max_pool2d(-known, 2 * erode + 1, stride=1, padding=erode)
    return known > 0


def known_codes(problem: Problem, prior: Any, erode: int) -> Problem:
    """The masked image's problem as one of masked codes: E(y) where every pixel of a place is shown.

    What the mask hides is filled smoothly before it is encoded, since an encoder looks beyond its cell. The noise of a code is that of
    y over |H D|, which it is where E is D^+ and D preserves angles.
    """
    outer: Any = problem.outer
    y, mask = parts(outer.y)[0], outer.operator.mask.to(parts(outer.y)[0].device)
    with torch.no_grad():
        code = latent_of(prior).encode(torch.where(mask != 0, y, first_image(outer, None))).to(y.dtype)
    known = kept_cells(mask, problem.operator.in_shape, erode)
    exact = not bool((problem.sigma > 0).any())
    noise = NoNoise() if exact else GaussianNoise(problem.sigma_x)
    return Problem(CodeMask(known, problem.operator.in_shape), torch.where(known, code, 0.0), noise, problem.items, False)
