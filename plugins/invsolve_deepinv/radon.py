"""Computed tomography with deepinv's Radon transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import deepinv
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve_deepinv.physics import DeepinvOperator


class Lines(deepinv.physics.Physics):
    """The line integrals alone: Tomography's own A carries an approximate gradient."""

    def __init__(self, tomography: Any) -> None:
        super().__init__()
        self.radon = tomography.radon

    def A(self, x: Tensor, **_options: Any) -> Tensor:  # noqa: N802 (deepinv's name)
        """(B, C, N, N) -> (B, C, detectors, angles)."""
        return self.radon(x)


class Radon(DeepinvOperator):
    """Parallel-beam line integrals, (C, N, N) -> (C, detectors, angles), in units of pixels: deepinv's Radon transform.

    Linear, with the exact adjoint by backpropagation (that of deepinv's Tomography has a few per cent of error). There is no closed
    SVD, pinv or prox: `IterativeProx(H)` serves; and `filtered_back_projection` is the usual approximate inverse, which is not H^+.

    Args:
        in_shape: (C, N, N), square.
        angles: number of angles, even over 180 degrees from 0, or the angles in degrees.
        circle: only the disk within the square is seen, with N detectors; else about 1.42 N detectors see all of it.

    Raises:
        InputError: an image that is not square, or no angles.

    References:
        The Mathematics of Computerized Tomography (Natterer, 1986), section II.1.
    """

    degrees: Tensor

    def __init__(self, in_shape: Sequence[int], angles: int | Sequence[float] = 60, circle: bool = False) -> None:
        shape = image_shape(in_shape)
        if shape[1] != shape[2]:
            raise InputError(f"tomography takes square images; given {shape}: pad it")
        if isinstance(angles, bool) or (isinstance(angles, int) and not 1 <= angles <= 65_536):
            raise InputError(f"angles must be a number of angles, 1 to 65536, or the angles in degrees; given {angles!r}")
        degrees = 180 * torch.arange(angles, dtype=torch.float64) / angles if isinstance(angles, int) else torch.as_tensor(angles).double()
        if degrees.ndim != 1 or not len(degrees) or not bool(torch.isfinite(degrees).all()):
            raise InputError(f"angles must be finite degrees, one or more; given {angles!r}")
        super().__init__(Lines(tomography(degrees, shape[1], bool(circle), torch.float64)), shape)
        self.register_buffer("degrees", degrees)
        self.circle = bool(circle)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, odd sides, a disk, given angles."""
        return [cls((3, 8, 8), 6), cls((1, 7, 7), 5, circle=True), cls((1, 8, 8), [0.0, 30.0, 90.0])]


@torch.no_grad()
def filtered_back_projection(radon: Radon, y: Tensor) -> Tensor:
    """Filtered back-projection of y, (B, C, detectors, angles) -> (B, C, N, N): an approximate inverse, and a starting point.

        x = pi / (2 angles) H^T (ramp filter along the detectors) y

    Near the image where the angles are many and even over 180 degrees; it weighs all angles alike, whatever their spacing. It is linear,
    but neither H^+ nor a least-squares solution: H of it is not near y.

    Args:
        radon: the operator y was measured by.
        y: (B, C, detectors, angles).

    Raises:
        InputError: not a Radon operator, or y of another shape.

    References:
        The Mathematics of Computerized Tomography (Natterer, 1986), section V.1.
    """
    if not isinstance(radon, Radon):
        raise InputError(f"filtered back-projection takes a Radon operator; given {type(radon).__name__}")
    if y.shape[1:] != radon.out_shape:
        raise InputError(f"y must be (B, {', '.join(map(str, radon.out_shape))}); given {tuple(y.shape)}")
    return tomography(radon.degrees.cpu(), radon.in_shape[1], radon.circle, y.dtype).to(y.device).fbp(y.clone())


def tomography(degrees: Tensor, side: int, circle: bool, dtype: torch.dtype) -> Any:
    """deepinv's class for these angles, in units of pixels."""
    angles: Any = degrees
    return deepinv.physics.Tomography(
        angles=angles, img_width=side, circle=circle, normalize=False, adjoint_via_backprop=False, dtype=dtype
    )
