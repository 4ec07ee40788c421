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

from invsolve.errors import InputError
from invsolve.io.files import regular_file, replacing

# Formats that Pillow decodes itself: no PostScript, no formats that call other programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
MAX_PIXELS = 89_478_485
TENSOR_FILES = (".npy", ".safetensors")
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ImageInfo:
    """What the file was.

    Args:
        path: where it was read.
        format: "PNG", "JPEG", ..., "npy" or "safetensors".
        mode: Pillow's mode ("RGB", "I;16", "P", ...) or the tensor's dtype.
        bits: bits per channel that the values come from.
        rotated: whether an EXIF orientation was applied.
        frames: number of frames; only the first is read.
        notes: what was done beyond v / 255.
    """

    path: str
    format: str
    mode: str
    bits: int
    rotated: bool = False
    frames: int = 1
    notes: tuple[str, ...] = ()


def read_image(path: str | Path, *, channels: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, ImageInfo]:
    """An image as float32 (C, H, W) in [0, 1], C = 1 or 3, and what the file was.

    EXIF orientation is applied; grey stays one channel; 1-bit gives 0 and 1; a palette, CMYK and YCbCr become RGB; an opaque
    alpha channel is dropped, another is composited on white; of an animation the first frame is read; 16-bit grey keeps all
    its bits, 16-bit colour is read with 8 (a limit of Pillow, noted). A `.npy` or `.safetensors` file holds (C, H, W) or
    (H, W): unsigned integers are scaled like pixels, floats are taken as they are (a measurement may leave [0, 1]).

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


def _picture(file: Path, max_pixels: int) -> tuple[Tensor, ImageInfo]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Whatever is odd about a file is an error or a note of ours, and Pillow's own size warning is replaced by max_pixels.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise InputError(f"{file} has {width} x {height} pixels, more than max_pixels = {max_pixels}")
                mode, form, frames = picture.mode, picture.format or "", int(getattr(picture, "n_frames", 1))
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                rotated = picture.getexif().get(0x0112, 1) not in (0, 1)
                values, bits, notes = values_of(upright, form)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{file} is not an image that can be read; formats: {', '.join(FORMATS)}, npy, safetensors") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{file} is too large: {error}") from error
    except Exception as error:  # a damaged file makes a decoder raise nearly anything
        raise InputError(f"{file} cannot be decoded, it is damaged or cut off: {error}") from error
    if form == "PNG" and mode in ("RGB", "RGBA") and _png_depth(file) == 16:
        notes = (*notes, "16-bit colour read with 8 bits")
    return values, ImageInfo(str(file), form, mode, bits, rotated, frames, notes)


def values_of(picture: Any, form: str) -> tuple[Tensor, int, tuple[str, ...]]:
    """(C, H, W) in [0, 1] of a Pillow image that came from a file of this format, the bits per channel, and notes.

    Raises:
        InputError: a mode without a defined range, NaN or infinite values.
    """
    mode = picture.mode
    if mode == "F":
        return _checked(torch.from_numpy(np.array(picture, dtype=np.float32))[None], "the image"), 32, ("floats taken as they are",)
    if mode.startswith("I;16") or (mode == "I" and form in ("PNG", "PPM")):
        return torch.from_numpy(np.array(picture).astype(np.float32) / 65535)[None], 16, ()
    if mode == "I":
        raise InputError("32-bit integer images have no defined white level; convert to 16 bits, or save floats as .npy")
    if mode == "1":
        return torch.from_numpy(np.array(picture).astype(np.float32))[None], 1, ()
    picture, notes = _without_alpha(picture)
    values = torch.from_numpy(np.array(picture)).to(torch.float32) / 255
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous(), 8, notes


def _without_alpha(picture: Any) -> tuple[Any, tuple[str, ...]]:
    """The picture as "L" or "RGB"."""
    from PIL import Image

    notes = () if picture.mode in ("L", "RGB") else (f"{picture.mode} converted",)
    if not picture.has_transparency_data:
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB"), notes
    grey = picture.mode in ("L", "LA", "La")
    layered = picture.convert("RGBA")
    if layered.getextrema()[3] == (255, 255):
        return layered.convert("L" if grey else "RGB"), (*notes, "opaque alpha dropped")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("L" if grey else "RGB"), (*notes, "alpha composited on white")


def _png_depth(file: Path) -> int:
    """The bit depth in a PNG's header: byte 24."""
    with file.open("rb") as stream:
        head = stream.read(26)
    return head[24] if len(head) == 26 else 8


def _tensor_image(file: Path, max_pixels: int) -> tuple[Tensor, ImageInfo]:
    value = read_tensor(file)
    mode, scale = str(value.dtype).removeprefix("torch."), {torch.uint8: 255, torch.uint16: 65535}.get(value.dtype)
    if value.ndim == 2:
        value = value[None]
    if value.ndim != 3 or min(value.shape) < 1:
        raise InputError(f"{file} has shape {tuple(value.shape)}; an image is (C, H, W) or (H, W)")
    if value.shape[1] * value.shape[2] > max_pixels:
        raise InputError(f"{file} has {value.shape[2]} x {value.shape[1]} pixels, more than max_pixels = {max_pixels}")
    if scale is None and not value.is_floating_point():
        raise InputError(f"{file} holds {mode}; an image holds floats, uint8 or uint16")
    values = value.to(torch.float32) if scale is None else value.to(torch.float32) / scale
    notes = ("floats taken as they are",) if scale is None else ()
    info = ImageInfo(str(file), file.suffix[1:].lower(), mode, 8 * value.element_size(), notes=notes)
    return _checked(values, str(file)), info


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


def write_image(path: str | Path, image: Tensor) -> None:
    """Write an image: `.png` as 8 bits (clamped to [0, 1], rounded to nearest), `.npy` and `.safetensors` exactly as it is.

    The file appears whole or not at all.

    Args:
        path: the file; its suffix chooses.
        image: for PNG (C, H, W) or (1, C, H, W), real, C = 1 or 3; any tensor otherwise.

    Raises:
        InputError: another suffix, shape or dtype, NaN or Inf, or a place that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    image = image.detach().cpu()
    if suffix == ".png":
        pixels = _pixels(image)
        from PIL import Image

        with replacing(path) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
    elif suffix == ".npy":
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, (image.float() if image.dtype == torch.bfloat16 else image).numpy(), allow_pickle=False)
    elif suffix == ".safetensors":
        from safetensors.torch import save_file

        if image.dtype == torch.complex128:
            raise InputError("safetensors has no complex128; write .npy, or image.to(torch.complex64)")
        with replacing(path) as temporary:
            save_file({"x": image.contiguous().clone()}, temporary)
    else:
        raise InputError(f"cannot write {path}: the suffix must be .png, .npy or .safetensors")


def picture_grid(images: Tensor, columns: int) -> Tensor:
    """(C, rows H, columns W): pictures side by side; places left over are black."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    filled = torch.cat([images, images.new_zeros(rows * columns - count, channels, height, width)])
    return filled.reshape(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def _pixels(image: Tensor) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3)."""
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or len(image) not in (1, 3) or min(image.shape) < 1 or not image.is_floating_point():
        raise InputError(
            f"a PNG takes real (C, H, W), C = 1 or 3, given {tuple(image.shape)} {image.dtype}; .npy and .safetensors take any"
        )
    scaled = (_checked(image.double(), "the image").clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
    return (scaled[0] if len(image) == 1 else scaled.permute(1, 2, 0)).contiguous().numpy()
