"""Masks from files, in every way in which people store one; what could mean two things is refused with both named.

A mask has two levels. Bright, 1, true and opaque are known; dark, 0, false and transparent are missing.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, Note
from invsolve.io.files import regular_file
from invsolve.io.images import FORMATS, TENSOR_FILES, channels_first, read_image, read_tensor
from invsolve.io.volumes import is_volume, read_volume

# Between these is neither dark nor bright; a pixel there is at an edge if both lie within REACH pixels of it.
DARK, BRIGHT, REACH = 0.25, 0.75, 3
# The part of the pixels that may be grey away from any edge, or coloured: what a JPEG makes of a clean mask.
STRAY = 0.01
WAYS = "a mask has two levels: 0 / 1, 0 / 255, black / white, false / true, or transparent / opaque"


def read_mask(path: str | Path, threshold: float | None = None) -> Tensor:
    """True where known: (1, H, W); (C, H, W) or (B, C, H, W) for arrays that hold so many; (C, D, H, W) of a volume.

    Arrays: bool; integers 0 / 1 and 0 / 255 (or any two of which one is 0); floats in [0, 1], or 0 / 255. Pictures: grey, palette, 1 bit
    and RGB by their grey values, 0 / 1 as well as 0 / 255; where there is transparency that is the mask, and colours that contradict it
    are refused.

    Args:
        path: an image, a volume (.nii, .nii.gz, a stack of TIFF pages), .npy or .safetensors.
        threshold: values above it are known, in [0, 1], and greys are allowed; None for 0.5, where greys are refused but at edges.

    Raises:
        InputError: not readable; NaN, complex or negative numbers, labels, a photograph, colours, transparency with two meanings; nothing
            known, or nothing missing.
    """
    file = regular_file(path, "mask file")
    limit = 0.5 if threshold is None else _limit(threshold)
    values = _volume(file) if is_volume(file) else _array(file) if file.suffix.lower() in TENSOR_FILES else _picture(file)
    if threshold is None:
        _refuse_greys(values, file)
    known = values > limit
    share = float(known.float().mean())
    if share in (0.0, 1.0):
        least, most = float(values.min()), float(values.max())
        said = "everything is known" if share else "nothing is known"
        how = f"its values lie in [{least:.3g}, {most:.3g}] where 1 is white, threshold {limit:g}; give another threshold or file"
        raise InputError(f"{file} is no mask, {said}: {how}")
    return known


def _limit(threshold: object) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise InputError(f"threshold must be a number in [0, 1), above which a value is known; given {threshold!r}")
    return float(threshold)


def _array(file: Path) -> Tensor:
    """The array in [0, 1]."""
    value = read_tensor(file)
    if value.ndim not in (2, 3, 4) or not value.numel():
        raise InputError(f"{file} has shape {tuple(value.shape)}; a mask is (H, W), (C, H, W) or (B, C, H, W)")
    if value.is_complex() or (value.is_floating_point() and not bool(torch.isfinite(value).all())):
        kind = "complex numbers" if value.is_complex() else "NaN or infinite values"
        raise InputError(f"{file} holds {kind}; {WAYS}; for NaN as missing, save numpy.isfinite(array)")
    whole = not value.is_floating_point() or bool((value == value.round()).all())
    value = (value[None] if value.ndim == 2 else value).double()
    if value.ndim == 3:
        value, notes = channels_first(value, str(file))
        value = _one_plane(value, file) if notes else value
    return _ranged(value, whole, file)


def _volume(file: Path) -> Tensor:
    """The volume in [0, 1].

    Raises:
        InputError: negative numbers, greys that are none, labels.
    """
    values, info = read_volume(file)
    numbers = info.unit.to(values.double())
    whole = bool((numbers - numbers.round()).abs().max() < 1e-3)  # read as float32 over its own range
    numbers = numbers.round() if whole else numbers
    return _ranged(numbers, whole, file)


def _ranged(numbers: Tensor, whole: bool, file: Path) -> Tensor:
    """Numbers in [0, 1]; of whole ones beyond it the levels.

    Raises:
        InputError: negative ones, others beyond 1.
    """
    least, most = float(numbers.min()), float(numbers.max())
    if least < 0 or (most > 1 and not whole):
        raise InputError(f"{file} holds values from {least:g} to {most:g}; {WAYS}")
    return _levels(numbers, 255 if most <= 255 else 65535, file) if most > 1 else numbers


def _levels(numbers: Tensor, white: float, file: Path) -> Tensor:
    """Whole numbers in [0, 1]: 0 and 1, 0 and anything, or greys up to white.

    Raises:
        InputError: more than white, or labels.
    """
    levels = torch.unique(numbers)
    most = float(levels[-1])
    if len(levels) <= 2 and float(levels[0]) == 0:
        return numbers / max(most, 1.0)
    if most > white or (len(levels) <= 8 and float(levels[0]) == 0 and float(levels[1]) == 1):
        shown = ", ".join(f"{float(one):g}" for one in levels[:8])
        raise InputError(f"{file} holds the numbers {shown}, which look like labels; {WAYS}: save array == LABEL")
    return numbers / white


def _picture(file: Path) -> Tensor:
    """(1, H, W) in [0, 1]."""
    layers = _layers(file)
    if layers is not None:
        return _from_alpha(*layers, file)
    values, info = read_image(file)
    info.tell()
    grey = _one_plane(values, file).double()
    white = {8: 255, 16: 65535}.get(info.bits)
    return grey if white is None else _levels((grey * white).round(), white, file)


def _layers(file: Path) -> tuple[Tensor, Tensor] | None:
    """(grey, alpha), each (H, W) in [0, 1], of a picture that is transparent somewhere; else None."""
    from PIL import Image

    read_image(file)  # refuses what is damaged or too large, in its own words
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if not picture.has_transparency_data:
                return None
            layered = np.array(picture.convert("RGBA")).astype(np.float64) / 255
    except OSError:  # a TIFF that Pillow does not open; its alpha is on white by now
        return None
    alpha = torch.from_numpy(layered[..., 3])
    if bool((alpha == 1).all()):
        return None
    return torch.from_numpy(layered[..., :3] @ np.array([0.299, 0.587, 0.114])), alpha


def _from_alpha(grey: Tensor, alpha: Tensor, file: Path) -> Tensor:
    """Alpha itself, unless the colours of what is opaque say another thing."""
    opaque = grey[alpha > 0.5]
    bright, dark = (float(one.double().mean()) if len(opaque) else 0.0 for one in (opaque > BRIGHT, opaque < DARK))
    if len(opaque) and (dark > 1 - STRAY or (bright > STRAY and dark > STRAY and bright + dark > 1 - STRAY)):
        drawn = "black" if dark > 1 - STRAY else "black and white"
        how = "save it without transparency: white where the picture is known, black where it is missing"
        raise InputError(f"{file} is {drawn} on transparent, which could mean either; {how}")
    warnings.warn(f"{file}: transparent is taken as missing, opaque as known", Note, stacklevel=2)
    return alpha[None]


def _one_plane(values: Tensor, file: Path) -> Tensor:
    """(1, H, W) of (C, H, W) whose channels say the same."""
    spread = values.amax(0).double() - values.amin(0).double()
    top = max(1.0, float(values.max()))
    coloured = float((spread > DARK * top).double().mean())
    if coloured > STRAY:
        raise InputError(f"{file} is coloured in {100 * coloured:.3g} % of its pixels; {WAYS}: save it in grey, white where known")
    return values.mean(0, keepdim=True)


def _refuse_greys(values: Tensor, file: Path) -> None:
    """Raise InputError where pixels are grey that lie at no edge: a photograph, a third level, a soft mask."""
    planes = values.reshape(-1, 1, *values.shape[-2:])
    window = 2 * REACH + 1

    def near(places: Tensor) -> Tensor:
        return torch.nn.functional.max_pool2d(places.double(), window, 1, REACH) > 0

    grey = (planes > DARK) & (planes < BRIGHT)
    inside = grey & ~(near(planes <= DARK) & near(planes >= BRIGHT))
    share = float(inside.double().mean())
    if share > STRAY:
        where = f"{100 * share:.3g} % of its pixels are grey and lie at no edge"
        raise InputError(f"{file} looks like no mask: {where}; {WAYS}; if it is meant, say from where on it is known: threshold=0.5")
