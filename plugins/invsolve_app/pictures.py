"""Pictures between files, tensors and the page's arrays (height, width, 3) of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.images import read_image, write_image

SHOWN = 1600  # pixels of the longer side of what is shown


def array(image: Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1], C = 1 or 3, as bytes (H, W, 3)."""
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


def preview(path: str | Path) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture in a file, made smaller where it is larger than a screen, and its (height, width).

    Raises:
        InputError: no picture that can be read.
    """
    image, _ = read_image(path)
    if image.shape[0] not in (1, 3):
        raise InputError(f"{Path(path).name} has {image.shape[0]} channels; the page takes pictures in grey or colour")
    picture = Image.fromarray(array(image))
    picture.thumbnail((SHOWN, SHOWN))
    return np.asarray(picture), (image.shape[1], image.shape[2])


def fitted(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A picture as large as another one, so that both lie under one slider."""
    if picture.shape == like.shape:
        return picture
    return np.asarray(Image.fromarray(picture).resize((like.shape[1], like.shape[0]), Image.Resampling.BICUBIC))


def spread(std: Tensor) -> tuple[np.ndarray, float]:
    """Standard deviations (C, H, W), their root mean square over the channels, as a picture: white is the largest, which is given, too."""
    flat = std.detach().cpu().float().square().mean(0, keepdim=True).sqrt()
    most = float(flat.max())
    return array(flat / (most or 1.0)), most


def painted(layers: Sequence[Any], size: tuple[int, int], middle: float | None = None) -> np.ndarray | None:
    """What was painted on any layer, (height, width) of truth values; None where nothing was.

    Args:
        layers: (h, w, 4) bytes, transparent where nothing is painted.
        size: height and width of the photograph, which may be larger than what was painted on.
        middle: side of the square in the middle that is kept.
    """
    holes = np.zeros(size, dtype=bool)
    for layer in layers:
        alpha = np.asarray(layer)
        if alpha.ndim == 3 and alpha.shape[2] == 4:
            drawn = Image.fromarray(alpha[..., 3]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
            holes |= np.asarray(drawn) > 127
    if middle:
        side = round(middle)
        top, left = (max((length - side) // 2, 0) for length in size)
        holes = holes[top : top + side, left : left + side]
    return holes if holes.any() else None


def write_mask(holes: np.ndarray, path: Path) -> Path:
    """A picture as restore's --mask takes it: black where there are holes."""
    from torch import from_numpy

    write_image(path, from_numpy(~holes)[None].float())
    return path
