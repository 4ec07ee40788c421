"""The data sets that are shipped: callables that give pictures, (3, H, W) float32 in [0, 1], in a fixed order."""

from __future__ import annotations

import hashlib
import io
import math
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from invsolve.data import Picture
from invsolve.errors import InputError
from invsolve.operator import image_shape
from invsolve.rng import Rng

MAX_NUMBERS = 2**29
FOLDER = Path(__file__).parent / "datasets"


def quick_photos() -> list[Picture]:
    """Four photographs, (3, 128, 128): astronaut, camera, chelsea, coffee; CC0 or public domain, see LICENSES.md beside them.

    Raises:
        InputError: a file differs from the one whose hash is listed.
    """
    return listed_photos(FOLDER / "quick")


def quick_digits() -> list[Picture]:
    """Ten digits, zero to nine, (1, 32, 32), drawn with strokes like those of a pen; two pixels of black around, as `mnist` has them.

    No prior was trained on them; see LICENSES.md beside them.

    Raises:
        InputError: a file differs from the one whose hash is listed.
    """
    return [replace(one, image=pad(one.image[:1], (2, 2, 2, 2))) for one in listed_photos(FOLDER / "digits")]


def listed_photos(folder: Path) -> list[Picture]:
    """The pictures of an `index.toml` ([[image]] with id, file, sha256, title, licence, source), each checked against its hash."""
    index = tomllib.loads((folder / "index.toml").read_text(encoding="utf-8"))
    return [_photo(folder, entry) for entry in index["image"]]


def _photo(folder: Path, entry: dict[str, str]) -> Picture:
    from PIL import Image

    content = (folder / entry["file"]).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise InputError(f"{entry['file']} has sha256 {found}, listed is {entry['sha256']}; install the package again")
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return Picture(entry["id"], image, entry["title"], entry["licence"], entry["source"])


def synthetic(shape: Sequence[int] = (3, 32, 32), images: int = 4, seed: int = 0) -> list[Picture]:
    """Drawings with edges, stripes and smooth parts, made from a seed.

    Args:
        shape: (C, H, W).
        images: how many, at least 1; image k does not depend on how many there are.
        seed: of the drawings.

    Raises:
        InputError: a shape that is no image's, or images < 1.
    """
    size = image_shape(shape, "shape")
    if images < 1 or images * math.prod(size) > MAX_NUMBERS:
        raise InputError(f"images must be at least 1, and {MAX_NUMBERS} numbers together at most; given {images} of shape {size}")
    return [
        Picture(f"drawing-{k}", _drawing(size, Rng(seed, [k], purpose="drawing")), f"Drawing {k}", "CC0-1.0", "made by invsolve")
        for k in range(images)
    ]


def _drawing(shape: tuple[int, ...], rng: Rng) -> Tensor:
    """A gradient, two discs and a striped band, in float32."""
    channels, height, width = shape
    like = torch.zeros(1, dtype=torch.float32)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")

    def draw(*size: int) -> Tensor:
        return rng.uniform(size or (1,), like)[0]

    angle = 2 * math.pi * draw(1)
    image = 0.3 + 0.2 * draw(channels, 1, 1) + 0.2 * (rows * angle.sin() + columns * angle.cos())
    for _ in range(2):
        centre, radius = draw(2), 0.1 + 0.15 * draw(1)
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image = torch.where(inside, draw(channels, 1, 1), image)
    top, count = 0.7 * draw(1), 3 + (3 * draw(1)).floor()
    band = (rows > top) & (rows < top + 0.2)
    stripes = 0.5 + 0.4 * torch.sign(torch.sin(2 * math.pi * count * columns)) * draw(channels, 1, 1)
    return torch.where(band, stripes, image).clamp(0, 1)
