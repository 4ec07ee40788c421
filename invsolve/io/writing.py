"""Results as files: pictures of 8 and 16 bits, float TIFF, and tensors exactly as they are; each appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.files import make_parent, replacing
from invsolve.io.tags import Tags

TIFF = (".tif", ".tiff")
JPEG = (".jpg", ".jpeg")
SUFFIXES = (".png", *TIFF, *JPEG, ".npy", ".safetensors")
BITS = {".png": (8, 16), ".tif": (8, 16, 32), ".tiff": (8, 16, 32), ".jpg": (8,), ".jpeg": (8,)}
QUALITY = 95  # of a JPEG, colours at full size: its loss is about a grey level


def write_image(path: str | Path, image: Tensor, *, bits: int | None = None, tags: Tags | None = None) -> None:
    """Write an image: `.png` and `.tif` with 8 or 16 bits, `.tif` also as floats, `.jpg`, `.npy` and `.safetensors` exactly as it is.

    Bits mean clamped to [0, 1] and rounded to nearest. The file appears whole or not at all.

    Args:
        path: the file; its suffix chooses.
        image: for pictures (C, H, W) or (1, C, H, W), real, C = 1 or 3; any tensor otherwise.
        bits: 8 (the default) or 16 for `.png`; 8, 16 or 32 (float32, the default, nothing clamped) for `.tif`; 8 for `.jpg`, quality 95.
        tags: a colour profile and EXIF for pictures; see `invsolve.io.tags.tags_of`.

    Raises:
        InputError: another suffix, shape or dtype, bits that the format has not, NaN or Inf, or a place that cannot be written.
    """
    suffix = check_target(path, tuple(image.shape), bits)
    image = image.detach().cpu()
    if suffix in BITS:
        pixels = _pixels(image, bits or (32 if suffix in TIFF else 8))
        with replacing(path) as temporary:
            _write_pixels(temporary, pixels, suffix, tags or Tags())
    elif suffix == ".npy":
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, (image.float() if image.dtype == torch.bfloat16 else image).numpy(), allow_pickle=False)
    else:
        from safetensors.torch import save_file

        if image.dtype == torch.complex128:
            raise InputError("safetensors has no complex128; write .npy, or image.to(torch.complex64)")
        with replacing(path) as temporary:
            save_file({"x": image.contiguous().clone()}, temporary)


def _write_pixels(file: Path, pixels: np.ndarray, suffix: str, tags: Tags) -> None:
    from PIL import Image

    from invsolve.io import png, tiff

    if suffix in TIFF:
        tiff.write_page(file, pixels, tags)
    elif pixels.ndim == 3 and pixels.dtype == np.uint16:
        png.write_deep(file, pixels, tags)
    else:
        named = {key: value for key, value in (("icc_profile", tags.profile), ("exif", tags.exif)) if value}
        options: dict[str, Any] = {"quality": QUALITY, "subsampling": 0} if suffix in JPEG else {}
        Image.fromarray(pixels).save(file, format="JPEG" if suffix in JPEG else "PNG", **options, **named)


def check_target(path: str | Path, shape: Sequence[int], bits: int | None = None) -> str:
    """The suffix of a file that an image of this shape can be written to; what `write_image` would refuse is refused here.

    Raises:
        InputError: another suffix, bits that the format has not, a shape that is no picture for a picture's format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"cannot write {path}: the suffix must be .png, .tif, .jpg, .npy or .safetensors")
    if bits is not None and (isinstance(bits, bool) or bits not in BITS.get(suffix, ())):
        allowed = " or ".join(map(str, BITS.get(suffix, ())))
        how = f"a {suffix} has {allowed} bits" if allowed else f"a {suffix} holds the numbers as they are; leave bits out"
        raise InputError(f"cannot write {path} with bits={bits!r}: {how}")
    if suffix in BITS:
        sides = tuple(shape[1:] if len(shape) == 4 and shape[0] == 1 else shape)
        if len(sides) != 3 or sides[0] not in (1, 3) or min(sides) < 1:
            kind = "a TIFF" if suffix in TIFF else f"a {'JPEG' if suffix in JPEG else 'PNG'}"
            raise InputError(f"{kind} takes real (C, H, W), C = 1 or 3, given {tuple(shape)}; .npy and .safetensors take any")
        if suffix in JPEG and max(sides) > 65535:
            raise InputError(
                f"cannot write {path}: a JPEG has at most 65535 pixels a side, given {sides[2]} x {sides[1]}; .png and .tif take it"
            )
    return suffix


def check_place(path: str | Path, nbytes: int) -> None:
    """Raise InputError where a file of nbytes, or a folder, could not be made: asked before the work, not after it.

    Raises:
        InputError: `path` lies where nothing can be made or written, or the disk has no room.
    """
    target = Path(path)
    make_parent(target)
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:100]}."):
            free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; give another place") from error
    if free < nbytes:
        raise InputError(f"cannot write {target}: the disk has {free} bytes left, the result takes {nbytes}; give another place")


def picture_grid(images: Tensor, columns: int) -> Tensor:
    """(C, rows H, columns W): pictures side by side; places left over are black."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    filled = torch.cat([images, images.new_zeros(rows * columns - count, channels, height, width)])
    return filled.reshape(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def _pixels(image: Tensor, bits: int) -> np.ndarray:
    """uint8, uint16 or float32 (H, W) or (H, W, 3)."""
    image = image[0] if image.ndim == 4 else image
    if not image.is_floating_point():
        raise InputError(f"a picture takes real numbers in [0, 1], given {image.dtype}; .npy and .safetensors take any")
    bad = int((~torch.isfinite(image)).sum())
    if bad:
        raise InputError(f"the image has {bad} NaN or infinite values; mask or replace them first")
    if bits == 32:
        values = image.float().numpy()
    else:
        scaled = (image.double().clamp(0, 1) * (2**bits - 1) + 0.5).floor().numpy()
        values = scaled.astype(np.uint8 if bits == 8 else np.uint16)
    return np.ascontiguousarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))
