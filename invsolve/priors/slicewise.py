"""A prior of pictures for volumes: its denoiser on every slice.

D(x)_k = d(x_k)  for the slices x_k along an axis;     along "all" the mean of the three such estimates
"""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.errors import InputError, did_you_mean
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.unit import whole

MOST = 65_536  # slices at a time
AXES = {"depth": (2,), "height": (3,), "width": (4,), "all": (2, 3, 4)}


class Slicewise(Denoiser):
    """A denoiser of pictures (C, H, W) for volumes (C, D, H, W): slice by slice, at the same noise level.

    Along one axis it is the posterior mean of slices that know nothing of each other; what changes from slice to slice is not smoothed. The
    mean over the three axes sees neighbours in every direction, and is the posterior mean of no prior that is known, but for white ones. A
    picture is a volume of one slice.

    Args:
        denoiser: of pictures; any channels that it takes.
        axis: that the slices are cut along: "depth" (slices H x W), "height" (D x W), "width" (D x H), or "all".
        rows: slices that go through it at a time.

    Each slice is an evaluation, so that a volume costs D a call, and along all axes D + H + W.

    Raises:
        InputError: another axis, rows below 1, no denoiser, or one that looks at the measurement or was made for items of a batch.
    """

    def __init__(self, denoiser: Denoiser, axis: str = "depth", rows: int = 16) -> None:
        super().__init__()
        if not isinstance(denoiser, Denoiser):
            raise InputError(
                f"denoiser must be one of pictures, such as load_prior('natural', channels=1); given {type(denoiser).__name__}"
            )
        if axis not in AXES:
            raise InputError(f"no axis {axis!r}{did_you_mean(str(axis), AXES)}; there are: {', '.join(AXES)}")
        if denoiser.sees_y or denoiser.batch is not None or type(denoiser).given is not Denoiser.given:
            raise InputError("the denoiser looks at the measurement or belongs to items of a batch, which slices are not; take another one")
        self.denoiser, self.axis, self.rows = denoiser, axis, whole("rows", rows, MOST)
        self.take_after(denoiser)
        self.in_shape = None

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, (B, C, D, H, W), or of pictures (B, C, H, W).

        Raises:
            InputError: neither.
        """
        if x.ndim == 4:
            return self.denoiser(x, sigma)
        if x.ndim != 5:
            raise InputError(f"slicewise takes volumes (B, C, D, H, W) or pictures (B, C, H, W); given {tuple(x.shape)}")
        found = [self._along(x, sigma, axis) for axis in AXES[self.axis]]
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    def _along(self, x: Tensor, sigma: float | Tensor, axis: int) -> Tensor:
        """Of the slices along one axis."""
        slices = x.movedim(axis, 1)
        rows, count = slices.flatten(0, 1), slices.shape[1]
        if isinstance(sigma, Tensor) and sigma.ndim:
            sigma = sigma.reshape(-1).repeat_interleave(count)
        parts = []
        for first in range(0, len(rows), self.rows):
            level = sigma[first : first + self.rows] if isinstance(sigma, Tensor) and sigma.ndim else sigma
            parts.append(self.denoiser(rows[first : first + self.rows], level))
        out = torch.cat(parts) if parts else rows
        return out.unflatten(0, (len(x), count)).movedim(1, axis)

    def gaps(self, problem: Problem) -> list[str]:
        """Neither volumes nor pictures."""
        shape = problem.operator.in_shape
        if len(shape) in (3, 4):
            return []
        return [f"prior Slicewise is for volumes (C, D, H, W), the operator's images have shape {tuple(shape)}"]

    @classmethod
    def examples(cls) -> list[Prior]:
        """The closed form, of pictures and along all axes."""
        return [cls(GaussianPrior(0.4, 0.3), axis="all")]
