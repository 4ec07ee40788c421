"""What a conditional network looks at besides x_t: the measurement as an image of x_t's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from invsolve.errors import InputError
from invsolve.operator import Operator

Up = Literal["bicubic", "bilinear", "nearest", "pinv"]
UPS: tuple[str, ...] = get_args(Up)


def image_condition(operator: Operator, y: Tensor, up: str = "bicubic", hole: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """y brought to the size of the operator's image, (B, C, H, W).

    An image y of fewer pixels is interpolated, a grey one repeated in every channel; where the operator says that it measures nothing
    (a mask's hole) `hole` fills in, as 1/2 + n / 2 in Palette.

    Args:
        operator: H, of images (C, H, W).
        y: its measurement, an image (B, c, h, w) unless up is "pinv".
        up: "bicubic", "bilinear" or "nearest" interpolation (without antialiasing, pixel centres aligned), or "pinv": H^+ y.
        hole: standard normal numbers of a tensor's shape; None leaves 0 in holes.

    Raises:
        InputError: another `up`, or a y that is no such image.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636: y upsampled by bicubic interpolation.
        Palette: Image-to-Image Diffusion Models (Saharia et al., 2022), arXiv:2111.05826: the hole filled with standard normal noise,
        which for images in [0, 1] in place of [-1, 1] has mean 1/2 and standard deviation 1/2.
    """
    if up not in UPS:
        raise InputError(f"up must be one of {', '.join(UPS)}; given {up!r}")
    channels, *sides = operator.in_shape
    if up == "pinv":
        image = operator.pinv(y)
    else:
        if not isinstance(y, Tensor) or y.ndim != 4 or y.is_complex() or y.shape[1] not in (1, channels):
            given = f"a tensor {tuple(y.shape)}" if isinstance(y, Tensor) else f"{len(y)} parts"
            raise InputError(f'up = {up!r} takes y as images (B, 1 or {channels}, h, w); given {given}: take up = "pinv"')
        image = y if list(y.shape[2:]) == sides else interpolated(y, sides, up)
        image = image.expand(-1, channels, -1, -1)
    (support, *_) = operator.supports
    if hole is None or support is None or image.shape[1:] != operator.out_shape:
        return image
    return torch.where(support.to(image.device) == 0, 0.5 + 0.5 * hole(image), image)


def with_map(image: Tensor, value: Tensor | float) -> Tensor:
    """The condition with one more channel that is `value` everywhere, a number or (B,)."""
    told = torch.as_tensor(value, dtype=image.dtype, device=image.device).reshape(-1, 1, 1, 1)
    return torch.cat([image, told.expand(len(image), 1, *image.shape[2:])], 1)


def magnification(sides: tuple[int, ...] | list[int], fewer: tuple[int, ...] | list[int]) -> float:
    """How many times larger an image of `sides` is than one of `fewer`: the geometric mean of both directions."""
    return math.sqrt(sides[0] * sides[1] / (fewer[0] * fewer[1]))


def magnification_value(factor: float) -> float:
    """What a map tells of a magnification: its binary logarithm over 4."""
    return math.log2(factor) / 4


def interpolated(y: Tensor, sides: list[int] | tuple[int, ...], up: str) -> Tensor:
    """y (B, C, h, w) at the size `sides`, pixel centres aligned."""
    options = {} if up == "nearest" else {"align_corners": False}
    return functional.interpolate(y, size=list(sides), mode=up, **options)
