"""CoPaint-Fast: fewer levels, one gradient step at each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from invsolve.solvers.inpainting.copaint import CoPaint


@dataclass(frozen=True)
class CoPaintFast(CoPaint):
    """CoPaint with one gradient step a level: two network evaluations, one with a backward pass.

    Args:
        steps: noise levels.
        inner, rate, jump, repeats, grid, sigma_max: as in `copaint`; inner is 1.

    References:
        Towards Coherent Image Inpainting Using Denoising Diffusion Implicit Models (Zhang et al., 2023), arXiv:2304.03322, CoPaint-Fast:
        100 steps. Their rate grows by 1.03 a step, the same over a run.
    """

    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.6, "cov": 0.35, "trace": (0.65, 0.85)}
    steps: int = 20
    inner: int = 1
    rate: float = 0.05
