"""TIFF beyond Pillow: 16-bit and float colour, planes stored one after the other, 16-bit grey with white as 0."""

from __future__ import annotations

import logging
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invsolve.errors import InputError
from invsolve.io.tags import INNER, ORIENTATION, TEXTS, Tags

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
DEFLATE = (8, 32946)
NONE, PACKBITS = 1, 32773
BEFORE = INNER - 1  # tifffile writes no tag of EXIF's second table: one that nobody uses keeps its place among the tags, which are in order
# Largest value of what is read; None for floats, which are taken as they are.
WHITE = {"u1": 255, "u2": 65535, "f2": None, "f4": None, "f8": None}
MINISWHITE, MINISBLACK, RGB = 0, 1, 2
SORTS = {"i": "signed integers", "c": "complex numbers", "u": "integers"}
# What is done to (H, W, C) for each orientation tag: are the axes exchanged, and which are flipped then.
ORIENTATIONS = {2: (False, 1), 3: (False, (0, 1)), 4: (False, 0), 5: (True, ()), 6: (True, 1), 7: (True, (0, 1)), 8: (True, 0)}


@dataclass(frozen=True)
class Page:
    """The first page of a TIFF.

    Args:
        values: (H, W, C) floats, integers divided by their largest value, upright.
        alpha: (H, W, 1) in [0, 1], or None.
        dtype: of the file ("uint16", ...).
        bits: bits per channel.
        rotated: whether an orientation was applied.
        frames: number of pages.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    dtype: str
    bits: int
    rotated: bool
    frames: int


def is_tiff(file: Path) -> bool:
    """Whether the file begins as a TIFF does."""
    with file.open("rb") as stream:
        return stream.read(4) in MAGIC


def bits_of(file: Path) -> int:
    """Bits per channel of the first page."""
    import tifffile

    with tifffile.TiffFile(file) as stack:
        page: Any = stack.pages[0]
        return int(np.max(page.bitspersample))


def read_page(file: Path, max_pixels: int) -> Page | None:
    """The first page, where Pillow would lose bits of it or refuse it; None where Pillow reads it as it is.

    Raises:
        InputError: signed, 32-bit or complex numbers, another colour model, another number of channels than 1 and 3 (and alpha), more than
            max_pixels pixels, a compression that is not read.
    """
    import tifffile

    # Its warnings about damaged tags would go to stderr where nobody listens; whoever does still gets them.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with tifffile.TiffFile(file) as stack:
        page: Any = stack.pages[0]
        if not page.imagewidth or not page.imagelength or page.dtype is None:
            raise InputError(f"{file} is a TIFF whose first page holds no picture")
        if page.imagewidth * page.imagelength > max_pixels:
            raise InputError(f"{file} has {page.imagewidth} x {page.imagelength} pixels, more than max_pixels = {max_pixels}")
        kind = f"{page.dtype.kind}{page.dtype.itemsize}"
        if kind[0] in "ic" or kind in ("u4", "u8"):
            given = f"{8 * page.dtype.itemsize}-bit {SORTS[kind[0]]}"
            raise InputError(f"{file} holds {given}, which have no defined white level; convert to unsigned 16 bits, or save floats")
        if not _beyond_pillow(file, page, kind):
            return None
        values, alpha = _samples(file, page, kind)
        tag = page.tags.get(ORIENTATION)
        values, alpha, rotated = upright(values, alpha, tag.value if tag is not None else 1)
        return Page(values, alpha, str(page.dtype), 8 * page.dtype.itemsize, rotated, len(stack.pages))


def upright(values: np.ndarray, alpha: np.ndarray | None, orientation: int) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Pixels and alpha, (H, W, C), turned as an orientation tag says, and whether it says anything."""
    exchanged, flipped = ORIENTATIONS.get(orientation, (False, ()))

    def turned(one: np.ndarray) -> np.ndarray:
        return np.flip(one.swapaxes(0, 1) if exchanged else one, flipped)

    return turned(values), None if alpha is None else turned(alpha), bool(exchanged or flipped != ())


def _beyond_pillow(file: Path, page: Any, kind: str) -> bool:
    several = int(page.samplesperpixel) > 1
    planar = several and int(page.planarconfig) == 2
    wanted = planar or (several and kind != "u1") or kind in ("f2", "f8") or (kind == "u2" and int(page.photometric) == MINISWHITE)
    if kind not in WHITE or not wanted:
        return False
    packed = int(page.compression) not in (NONE, *DEFLATE, PACKBITS)
    if packed and (kind[0] == "f" or planar or not several):
        raise InputError(f"{file} is compressed by {page.compression.name}, which is not read for this kind; save it with deflate (zlib)")
    return not packed


def _samples(file: Path, page: Any, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """((H, W, 1 or 3) floats, alpha)."""
    if int(page.photometric) not in (MINISWHITE, MINISBLACK, RGB):
        raise InputError(f"{file} has {kind[1:]}-byte {page.photometric.name} colours; convert it to grey or RGB")
    count = int(page.samplesperpixel)
    extra = [int(one) for one in page.extrasamples]
    colours = count - len(extra)
    if (
        colours not in (1, 3)
        or extra not in ([], [1], [2])
        or page.shape
        not in (
            (page.imagelength, page.imagewidth, count),
            (count, page.imagelength, page.imagewidth),
            (page.imagelength, page.imagewidth),
        )
    ):
        raise InputError(f"{file} has {count} channels ({', '.join(page.axes)} = {page.shape}); an image has 1 or 3, and an alpha")
    _check_packed(file, page)
    values = page.asarray()
    values = values.reshape(count, page.imagelength, page.imagewidth).transpose(1, 2, 0) if int(page.planarconfig) == 2 else values
    white = WHITE[kind]
    values = values.reshape(page.imagelength, page.imagewidth, count)
    values = values.astype(np.float32) if white is None else (values.astype(np.float64) / white).astype(np.float32)
    if int(page.photometric) == MINISWHITE:
        values[..., :colours] = 1 - values[..., :colours]
    alpha = values[..., colours:] if extra else None
    values = values[..., :colours]
    if extra == [1] and alpha is not None:  # colours stored times alpha
        values = np.divide(values, alpha, out=np.zeros_like(values), where=alpha > 0)
    return values, alpha


def _check_packed(file: Path, page: Any) -> None:
    """Raise InputError where compressed data would unpack to more than the picture's size: the whole is never held."""
    room = math.prod(page.shape) * page.dtype.itemsize + 65536 * len(page.dataoffsets)
    if int(page.compression) not in DEFLATE:
        return
    with file.open("rb") as stream:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            unpacking, data = zlib.decompressobj(), stream.read(count)
            while data and room >= 0:
                room -= len(unpacking.decompress(data, 1 << 20))
                data = unpacking.unconsumed_tail
    if room < 0:
        raise InputError(f"{file} is damaged: it unpacks to more than its {page.imagewidth} x {page.imagelength} pixels")


def write_page(file: Path, values: np.ndarray, tags: Tags) -> None:
    """(H, W) or (H, W, 3), uint8, uint16 or float32, as a TIFF compressed without loss, with a colour profile and EXIF."""
    import tifffile
    from PIL import Image

    exif = Image.Exif()
    exif.load(tags.exif or b"")
    inner = exif.get_ifd(INNER)
    texts = [(key, "s", 0, str(exif[key]), True) for key in TEXTS if exif.get(key)]
    place = [(BEFORE, "I", 1, 0, True)] if inner else []
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    options = {"metadata": None, "software": False, "iccprofile": tags.profile, "extratags": texts + place}
    tifffile.imwrite(file, values, photometric=photometric, compression="zlib", **options)
    if inner:
        append_table(file, dict(inner))


def append_table(file: Path, values: dict[int, Any]) -> None:
    """EXIF's second table at the end of a TIFF that has a place for it; tifffile writes no table inside a table."""
    import tifffile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with file.open("r+b") as stream:
        order = b"II*\x00" if stream.read(2) == b"II" else b"MM\x00*"
        start = stream.seek(0, 2) + stream.tell() % 2  # tables begin at even places
        table = ImageFileDirectory_v2(ifh=order + bytes(4))
        table.update(values)
        stream.seek(start)
        stream.write(table.tobytes(start))
        stream.flush()
        with tifffile.TiffFile(file, mode="r+") as stack:
            page: Any = stack.pages[0]
            page.tags[BEFORE].overwrite(start)
            place = page.tags[BEFORE].offset
        stream.seek(place)
        stream.write(INNER.to_bytes(2, "little" if order.startswith(b"II") else "big"))
