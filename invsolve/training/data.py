"""Random crops from folders and zip files of photographs, decoded once and kept in memory as uint8."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invsolve.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def files_of(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every image file of a folder or a zip file."""
    if source.suffix == ".zip" and source.is_file():
        try:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if Path(name).suffix.lower() in SUFFIXES:
                        yield f"{source}:{name}", archive.read(name)
        except zipfile.BadZipFile as error:
            raise InputError(f"{source}: not a readable zip file ({error}); copy it again") from error
    elif source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield str(path), path.read_bytes()


def read_images(source: str | Path, mode: str = "RGB") -> Iterator[Image.Image]:
    """Images of a folder (recursively) or a zip file, in name order.

    Raises:
        FileNotFoundError: the source does not exist or holds no image.
        InputError: a file that cannot be read as an image; it is named.
    """
    source = Path(source)
    count = 0
    for name, data in files_of(source):
        try:
            image = Image.open(io.BytesIO(data)).convert(mode)
        except Exception as error:
            raise InputError(f"{name}: not a readable image ({error}); remove it or put a good copy in its place") from error
        count += 1
        yield image
    if not count:
        raise FileNotFoundError(f"{source}: no image found; give a folder or a zip with one of {sorted(SUFFIXES)}")


class Crops:
    """Random square crops with flips, from several sources.

    Args:
        sources: (folder or zip, weight, scales): images are drawn from a source in proportion to its weight, after
            having been resized (Lanczos) by each of the scales once.
        size: side of a crop in pixels; smaller images are left out.

    Raises:
        FileNotFoundError, InputError: see `read_images`; a source without an image of the size.
    """

    def __init__(self, sources: list[tuple[str | Path, float, tuple[float, ...]]], size: int) -> None:
        self.size = size
        self.pools: list[list[np.ndarray]] = []
        weights = []
        for path, weight, scales in sources:
            pool = []
            for image in read_images(path):
                for scale in scales:
                    width, height = (round(side * scale) for side in image.size)
                    if min(width, height) >= size:
                        resized = image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS)
                        pool.append(np.asarray(resized))
            if not pool:
                raise InputError(f"{path}: no image of at least {size} x {size} pixels at scales {scales}")
            self.pools.append(pool)
            weights.append(weight)
        self.weights = np.array(weights) / sum(weights)

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count, C, size, size) float32 in [0, 1]; large images are drawn more often, in proportion to their area."""
        crops = [self._one(rng) for _ in range(count)]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)

    def _one(self, rng: np.random.Generator) -> np.ndarray:
        pool = self.pools[rng.choice(len(self.pools), p=self.weights)]
        image = pool[rng.integers(len(pool))]
        top, left = (rng.integers(side - self.size + 1) for side in image.shape[:2])
        crop = image[top : top + self.size, left : left + self.size]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(np.rot90(crop, int(rng.integers(4))) if rng.random() < 0.5 else crop)
