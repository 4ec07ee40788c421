"""BM3D, the classical denoiser, as a prior: the package `bm3d`, which is imported when one is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.convert import check_images, levels


class BM3D(Denoiser):
    """D(x, sigma) by block matching and collaborative filtering in 3-D, image by image, on the CPU.

    Seconds an image: for plug-and-play with few iterations, or `one-shot`. Not differentiable. Sides of at least 8 pixels.

    Args:
        stages: "all", or "hard" for the first one (hard thresholding) alone, in about half the time.

    Raises:
        CapabilityError: the package is not installed.
        InputError: other stages.

    References:
        Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering (Dabov et al., 2007). The package bm3d (Mäkinen et al., 2020)
        is for non-commercial use.
    """

    sigma_range = (0.002, 1.0)
    clip = (0.0, 1.0)
    differentiable = False

    def __init__(self, stages: str = "all") -> None:
        super().__init__()
        try:
            bm3d: Any = import_module("bm3d")  # by name: type checkers take this file for it
        except ImportError as error:
            raise CapabilityError("prior 'bm3d' needs the package bm3d: pip install 'invsolve[bm3d]'") from error
        kinds = {"all": bm3d.BM3DStages.ALL_STAGES, "hard": bm3d.BM3DStages.HARD_THRESHOLDING}
        if stages not in kinds:
            raise InputError(f'stages must be "all" or "hard"; given {stages!r:.60}')
        self._denoise: Any = bm3d.bm3d
        self._stages: Any = kinds[stages]

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat in x's dtype."""
        check_images(x, None)
        found = []
        for one, level in zip(x.detach().double().cpu(), levels(sigma, x).tolist(), strict=True):
            image = np.ascontiguousarray(one.permute(1, 2, 0).numpy())
            out = np.asarray(self._denoise(image, max(level, 1e-6), stage_arg=self._stages))
            found.append(torch.from_numpy(out.reshape(image.shape)).permute(2, 0, 1))
        return torch.stack(found).to(x)

    @classmethod
    def examples(cls) -> list[Prior]:
        """None: the conformance checks call a prior some hundred times, which takes minutes here; its own test calls it once."""
        return []
