"""Pictures and tensors as files: 8- and 16-bit images become float32 (C, H, W) in [0, 1], and back.

Values are the file's own (sRGB as a rule), not linearised: v / 255 or v / 65535. Colour profiles are ignored, tags such as
the place a photograph was taken are never copied into results.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, Note
from invsolve.io import png, tiff
from invsolve.io.files import regular_file
from invsolve.io.writing import picture_grid, write_image
from invsolve.operator.capability import MAX_PIXELS

__all__ = ["ImageInfo", "load_image", "picture_grid", "read_image", "read_measurement", "read_tensor", "write_image"]

# Formats that Pillow decodes itself: no PostScript, no formats that call other programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
TENSOR_FILES = (".npy", ".safetensors")
GREY = (0.299, 0.587, 0.114)
WHITE = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class ImageInfo:
    """What the file was.

    Args:
        path: where it was read.
        format: "PNG", "JPEG", ..., "npy" or "safetensors".
        mode: Pillow's mode ("RGB", "I;16", "P", ...) or the numbers' dtype.
        bits: bits per channel that the values come from.
        rotated: whether an EXIF orientation was applied.
        frames: number of frames; only the first is read.
        notes: what was done beyond v / 255: bits, alpha, frames, orientation, axes.
    """

    path: str
    format: str
    mode: str
    bits: int
    rotated: bool = False
    frames: int = 1
    notes: tuple[str, ...] = ()

    def tell(self) -> None:
        """A warning, `invsolve.errors.Note`, for every note."""
        for note in self.notes:
            warnings.warn(f"{self.path}: {note}", Note, stacklevel=3)


def read_image(path: str | Path, *, channels: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, ImageInfo]:
    """An image as float32 (C, H, W) in [0, 1], C = 1 or 3, and what the file was.

    EXIF orientation is applied; grey stays one channel; 1-bit gives 0 and 1; a palette, CMYK and YCbCr become RGB; an opaque
    alpha channel is dropped, another is composited on white; of an animation the first frame is read; 16 bits and float TIFF
    keep all their bits, but for 16-bit colour of a TIFF compressed otherwise than by deflate, which is read with 8 (a limit of
    Pillow). A `.npy` or `.safetensors` file holds (C, H, W), (H, W) or (H, W, 3): unsigned integers are scaled like pixels,
    floats are taken as they are (a measurement may leave [0, 1]). All of it is noted in `ImageInfo.notes`; `load_image` tells
    it as warnings.

    Args:
        path: the file.
        channels: 1 converts colour to grey (0.299 R + 0.587 G + 0.114 B), 3 repeats grey; None leaves it.
        max_pixels: refuse larger images before they are decoded.

    Raises:
        InputError: no such file, empty, damaged, not an image, too large, or of a kind without a defined range.
    """
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1, 3 or None; given {channels}")
    file = regular_file(path, "image file")
    if file.suffix.lower() in TENSOR_FILES:
        x, info = _tensor_image(file, max_pixels)
    else:
        x, info = _picture(file, max_pixels)
    if channels == 1 and len(x) == 3:
        x = (x * torch.tensor(GREY, dtype=x.dtype)[:, None, None]).sum(0, keepdim=True)
    elif channels == 3 and len(x) == 1:
        x = x.repeat(3, 1, 1)
    elif channels is not None and len(x) != channels:
        raise InputError(f"{file} has {len(x)} channels, which cannot be made {channels}")
    return x, info


def load_image(path: str | Path, *, channels: int | None = None) -> Tensor:
    """The image of `read_image`; what was done to the file is told as warnings (`invsolve.errors.Note`).

    Raises:
        InputError: as `read_image`.
    """
    x, info = read_image(path, channels=channels)
    info.tell()
    return x


def read_measurement(path: str | Path, *, image_axes: bool = True) -> Tensor:
    """A measurement: a picture as `read_image` has it, or the numbers of a `.npy` or `.safetensors` file, of any shape, real or complex.

    uint8 and uint16 are divided by 255 and 65535, as in a picture; (H, W, 3) becomes (3, H, W). Both are told as warnings.

    Args:
        path: the file.
        image_axes: whether three axes are those of an image; False takes them as they are.

    Raises:
        InputError: as `read_image`; truth values, other integers.
    """
    file = regular_file(path, "measurement")
    if file.suffix.lower() not in TENSOR_FILES:
        return load_image(file)
    y = read_tensor(file)
    scaled, notes = _scaled(y, file)
    if image_axes and not y.is_complex():
        scaled, more = channels_first(scaled, str(file))
        notes += more
    ImageInfo(str(file), file.suffix[1:].lower(), str(y.dtype), 8 * y.element_size(), notes=notes).tell()
    return scaled


def _picture(file: Path, max_pixels: int) -> tuple[Tensor, ImageInfo]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Whatever is odd about a file is an error or a note of ours, and Pillow's own size warning is replaced by max_pixels.
            warnings.simplefilter("ignore")
            page = (tiff if tiff.is_tiff(file) else png).read_page(file, max_pixels)
            return _decoded(file, max_pixels) if page is None else _from_page(file, page)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{file} is not an image that can be read; formats: {', '.join(FORMATS)}, npy, safetensors") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{file} is too large: {error}") from error
    except Exception as error:  # a damaged file makes a decoder raise nearly anything
        raise InputError(f"{file} cannot be decoded, it is damaged or cut off: {error}") from error


def _decoded(file: Path, max_pixels: int) -> tuple[Tensor, ImageInfo]:
    """What Pillow reads."""
    from PIL import Image, ImageOps

    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise InputError(f"{file} has {width} x {height} pixels, more than max_pixels = {max_pixels}")
        mode, form, frames = picture.mode, picture.format or "", int(getattr(picture, "n_frames", 1))
        rotated = picture.getexif().get(0x0112, 1) in range(2, 9)  # asked before it is loaded: a TIFF's is applied, and gone, then
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        deep = form == "TIFF" and 16 in picture.tag_v2.get(258, ())  # pyright: ignore[reportAttributeAccessIssue]
        values, bits, notes = values_of(upright, form)
    if deep and bits == 8:
        notes = (*notes, "16-bit colour read with 8 bits")
    return values, ImageInfo(str(file), form, mode, bits, rotated, frames, (*notes, *_turned(rotated), *_first_of(frames)))


def _from_page(file: Path, page: tiff.Page) -> tuple[Tensor, ImageInfo]:
    """A page of a TIFF, or a PNG, that Pillow would cut to 8 bits or refuse."""
    values, notes = page.values, ()
    if page.alpha is not None:
        opaque = bool((page.alpha == 1).all())
        notes = ("opaque alpha dropped" if opaque else "alpha composited on white",)
        values = values if opaque else values * page.alpha + (1 - page.alpha)
    tensor = _checked(torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))), str(file))
    notes = (*notes, *_turned(page.rotated), *_first_of(page.frames))
    return tensor, ImageInfo(str(file), "TIFF" if tiff.is_tiff(file) else "PNG", page.dtype, page.bits, page.rotated, page.frames, notes)


def _turned(rotated: bool) -> tuple[str, ...]:
    return ("turned upright, as its orientation tag says",) if rotated else ()


def _first_of(frames: int) -> tuple[str, ...]:
    return (f"the first of {frames} frames or pages read",) if frames > 1 else ()


def values_of(picture: Any, form: str) -> tuple[Tensor, int, tuple[str, ...]]:
    """(C, H, W) in [0, 1] of a Pillow image that came from a file of this format, the bits per channel, and notes.

    Raises:
        InputError: a mode without a defined range, NaN or infinite values.
    """
    mode = picture.mode
    if mode == "F":
        return _checked(torch.from_numpy(np.array(picture, dtype=np.float32))[None], "the image"), 32, ()
    if mode.startswith("I;16") or (mode == "I" and form in ("PNG", "PPM")):
        return torch.from_numpy(np.array(picture).astype(np.float32) / 65535)[None], 16, ()
    if mode == "I":
        raise InputError("signed or 32-bit integer images have no defined white level; convert to unsigned 16 bits, or save floats as .npy")
    if mode == "1":
        return torch.from_numpy(np.array(picture).astype(np.float32))[None], 1, ()
    picture, notes = _without_alpha(picture)
    values = torch.from_numpy(np.array(picture)).to(torch.float32) / 255
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous(), 8, notes


def _without_alpha(picture: Any) -> tuple[Any, tuple[str, ...]]:
    """The picture as "L" or "RGB"."""
    from PIL import Image

    notes = () if picture.mode in ("L", "RGB") else (f"{NAMES.get(picture.mode, picture.mode)} converted",)
    if not picture.has_transparency_data:
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB"), notes
    grey = picture.mode in ("L", "LA", "La")
    layered = picture.convert("RGBA")
    if layered.getextrema()[3] == (255, 255):
        return layered.convert("L" if grey else "RGB"), (*notes, "opaque alpha dropped")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("L" if grey else "RGB"), (*notes, "alpha composited on white")


NAMES = {"P": "palette (P)", "PA": "palette (PA)", "RGBA": "RGBA", "LA": "grey with alpha (LA)"}


def deep_bits(path: str | Path) -> int:
    """Bits per channel that a PNG or TIFF says it has, by its header alone; 8 for whatever else."""
    file = Path(path)
    try:
        return tiff.bits_of(file) if tiff.is_tiff(file) else (png.header(file) or (0, 0, 8))[2]
    except Exception:  # what it really is, reading it says
        return 8


def channels_first(value: Tensor, what: str) -> tuple[Tensor, tuple[str, ...]]:
    """Three axes (H, W, 1 or 3), as numpy pictures have them, as (1 or 3, H, W), and a note; whatever else as it is.

    Raises:
        InputError: (H, W, 2 or 4), which is grey or colour with alpha.
    """
    if value.ndim != 3 or value.shape[0] <= 4 or value.shape[-1] > 4:
        return value, ()
    height, width, last = value.shape
    if last in (2, 4):
        how = "drop the alpha and write array[..., :-1].transpose(2, 0, 1), or transpose all of it"
        raise InputError(f"{what} has shape {(height, width, last)}, which looks like (H, W, C); expected (C, H, W): {how}")
    return value.permute(2, 0, 1).contiguous(), (f"axes (H, W, C) = {(height, width, last)} taken as (C, H, W)",)


def _scaled(value: Tensor, file: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Floats and complex numbers as they are, uint8 and uint16 in [0, 1]."""
    white = WHITE.get(value.dtype)
    if white is not None:
        return value.to(torch.float32) / white, (f"{_name(value)} values divided by {white}",)
    if value.is_floating_point() or value.is_complex():
        return value, ()
    how = "save it as float: array.astype('float32'), with white at 1"
    raise InputError(f"{file} holds {_name(value)}; an image or measurement holds floats, uint8 or uint16: {how}")


def _name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _tensor_image(file: Path, max_pixels: int) -> tuple[Tensor, ImageInfo]:
    value = read_tensor(file)
    if value.ndim == 2:
        value = value[None]
    if value.ndim != 3 or min(value.shape) < 1:
        raise InputError(f"{file} has shape {tuple(value.shape)}; an image is (C, H, W), (H, W) or (H, W, 3)")
    turned, notes = channels_first(value, str(file))
    if turned.shape[1] * turned.shape[2] > max_pixels:
        raise InputError(f"{file} has {turned.shape[2]} x {turned.shape[1]} pixels, more than max_pixels = {max_pixels}")
    if value.is_complex():
        raise InputError(f"{file} holds {_name(value)}; an image holds floats, uint8 or uint16")
    values, more = _scaled(turned, file)
    info = ImageInfo(str(file), file.suffix[1:].lower(), _name(value), 8 * value.element_size(), notes=(*notes, *more))
    return _checked(values.to(torch.float32), str(file)), info


def _checked(values: Tensor, what: str) -> Tensor:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise InputError(f"{what} has {bad} NaN or infinite values; mask or replace them first")
    return values


def read_tensor(path: str | Path) -> Tensor:
    """The tensor in a `.npy` or `.safetensors` file (the only one, or the one named x, y or image), on the CPU, dtype kept.

    Raises:
        InputError: another suffix, damaged, pickled objects, several tensors and none of these names.
    """
    file = regular_file(path, "tensor file")
    suffix = file.suffix.lower()
    if suffix not in TENSOR_FILES:
        raise InputError(f"{file}: tensors are read from {' and '.join(TENSOR_FILES)} files")
    try:
        if suffix == ".npy":
            # Mapped first: a header that promises more than the file holds is refused before memory is taken.
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise InputError(f"{file} is an archive, not one array")
            return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
        return _from_safetensors(file)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file} is damaged or holds no plain numbers: {error}") from error


def _from_safetensors(file: Path) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stored:
        names = list(stored.keys())
        chosen = names if len(names) == 1 else [name for name in ("x", "y", "image") if name in names]
        if not chosen:
            raise InputError(f"{file} holds {len(names)} tensors ({', '.join(names[:5])}), none of them named x, y or image")
        return stored.get_tensor(chosen[0])
