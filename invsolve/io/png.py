"""PNG beyond Pillow, which has 16 bits for grey alone: 16-bit colour, and 16-bit grey with alpha."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np

from invsolve.io.tags import ORIENTATION, Tags
from invsolve.io.tiff import Page, upright

MAGIC = b"\x89PNG\r\n\x1a\n"
HEAD = len(MAGIC) + 25  # and the first chunk, which says what the picture is
COLOURS = {2: 3, 4: 1, 6: 3}  # channels of the colour types that Pillow cuts to 8 bits, without their alpha


def header(file: Path) -> tuple[int, int, int, int] | None:
    """(width, height, bits per channel, colour type) as a PNG says it; None for other files."""
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    if len(head) < HEAD or not head.startswith(MAGIC):
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"), head[24], head[25]


def read_page(file: Path, max_pixels: int) -> Page | None:
    """The picture of a PNG of which Pillow would lose bits; None of every other file, and of one that is too large."""
    said = header(file)
    if said is None or said[2] != 16 or said[3] not in COLOURS or said[0] * said[1] > max_pixels:
        return None
    import imagecodecs
    from PIL import Image

    with Image.open(file, formats=("PNG",)) as picture:
        turn = picture.getexif().get(ORIENTATION, 1)
    samples = imagecodecs.png_decode(file.read_bytes())
    values = (samples.astype(np.float64) / 65535).astype(np.float32).reshape(*samples.shape[:2], -1)
    count = COLOURS[said[3]]
    alpha = values[..., count:] if values.shape[-1] > count else None
    values, alpha, rotated = upright(values[..., :count], alpha, turn)
    return Page(values, alpha, "uint16", 16, rotated, 1)


def write_deep(file: Path, pixels: np.ndarray, tags: Tags) -> None:
    """(H, W, 3) uint16 as a PNG, with a colour profile and EXIF."""
    import imagecodecs
    from PIL.PngImagePlugin import putchunk

    made, between = bytes(imagecodecs.png_encode(pixels)), io.BytesIO()
    if tags.profile:
        putchunk(between, b"iCCP", b"ICC Profile\0\0", zlib.compress(tags.profile))
    if tags.exif:
        putchunk(between, b"eXIf", tags.exif.removeprefix(b"Exif\0\0"))
    file.write_bytes(made[:HEAD] + between.getvalue() + made[HEAD:])
