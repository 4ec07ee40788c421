"""Training images from folders, zip and npz files, decoded once and kept in memory as uint8, and random crops of them."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from invsolve.data import SUFFIXES, Picture, arrays_of, is_image, members
from invsolve.errors import InputError
from invsolve.io.images import values_of

MODES = {1: "L", 3: "RGB"}
FLIPS = ("all", "horizontal", "none")
ADVICE = "remove it or put a good copy in its place"


def files_of(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every image file of a folder or a zip file, in name order."""
    if source.suffix.lower() == ".zip" and source.is_file():
        with members(source) as found:
            for name, content in found:
                yield f"{source}:{name}", content()
    elif source.is_dir():
        for path in sorted(source.rglob("*")):
            if is_image(path.relative_to(source).as_posix()) and path.is_file():
                yield str(path), path.read_bytes()


def eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16-bit or float values with 8 bits, by the range that `images.read_image` gives them; another as it is.

    Pillow's own conversion would cut all values above 255 to white.

    Raises:
        InputError: floats outside [0, 1], 32-bit integers.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode not in ("I", "F") and not upright.mode.startswith("I;"):
        return upright
    values, _, _ = values_of(upright, picture.format or "")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        raise InputError(f"floats from {low:g} to {high:g}, of which only [0, 1] has a defined white; scale them")
    return Image.fromarray((255 * values[0]).round().to(torch.uint8).numpy())


def read_images(source: str | Path | Sequence[Picture], mode: str = "RGB") -> Iterator[Image.Image]:
    """Images of a folder (recursively), a zip or an npz file, in name order, or of a data set, with 8 bits; orientation tags are applied.

    Raises:
        InputError: the source does not exist or holds no image, or a file cannot be read as an image; it is named.
    """
    if not isinstance(source, str | Path):
        yield from (Image.fromarray(_bytes(picture.image)).convert(mode) for picture in source)
        return
    source = Path(source)
    if source.suffix.lower() == ".npz" and source.is_file():
        yield from (Image.fromarray(array).convert(mode) for array in arrays_of(source))
        return
    count = 0
    for name, data in files_of(source):
        try:
            image = eight_bits(Image.open(io.BytesIO(data))).convert(mode)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except Exception as error:
            raise InputError(f"{name}: not a readable image ({error}); {ADVICE}") from error
        count += 1
        yield image
    if not count:
        missing = "" if source.exists() else " (there is no such path)"
        raise InputError(f"{source}: no image found{missing}; give a folder or a zip with one of {', '.join(SUFFIXES)}, or an npz")


def _bytes(image: Tensor) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of (C, H, W) in [0, 1]."""
    whole = (255 * image).round().to(torch.uint8)
    return (whole[0] if len(whole) == 1 else whole.permute(1, 2, 0)).contiguous().numpy()


def padded(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W, C) with black around it where a side is smaller than `side`; an odd pixel goes to the bottom or right."""
    missing = [max(0, side - extent) for extent in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, [*((lack // 2, lack - lack // 2) for lack in missing), (0, 0)])


def pixels(image: Image.Image, pad: int = 0) -> np.ndarray:
    """(H, W, C) uint8."""
    array = np.asarray(image)
    return padded(array[..., None] if array.ndim == 2 else array, pad)


def scaled(image: Image.Image, scales: Sequence[float]) -> Iterator[Image.Image]:
    """The image at each of the scales (Lanczos) that leaves a pixel of it."""
    for scale in scales:
        width, height = (round(extent * scale) for extent in image.size)
        if min(width, height) >= 1:
            yield image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS)


class Crops:
    """Random square crops (or whole images) with flips, from several sources.

    Args:
        sources: (folder, zip, npz or pictures, weight, scales): images are drawn from a source in proportion to its weight, after
            having been resized (Lanczos) by each of the scales once.
        size: side of a crop in pixels, smaller images are left out; None takes whole images, all of one size.
        channels: 3, or 1 for grey (Pillow's 0.299 R + 0.587 G + 0.114 B).
        flips: "all" (mirrored, and turned by quarters), "horizontal" (mirrored left to right) or "none".
        pad: images with a side below this many pixels get black around them.

    Raises:
        InputError: see `read_images`; a source without an image of the size, whole images of several sizes.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str | Path | Sequence[Picture], float, Sequence[float]]],
        size: int | None,
        *,
        channels: int = 3,
        flips: str = "all",
        pad: int = 0,
    ) -> None:
        if channels not in MODES or flips not in FLIPS:
            raise InputError(f"channels must be 1 or 3, flips one of {', '.join(FLIPS)}; given {channels}, {flips!r}")
        self.size, self.channels, self.flips, self.pad = size, channels, flips, pad
        self.paths = [path for path, _, _ in sources]
        self.pools = [self._pool(path, scales) for path, _, scales in sources]
        weights = np.array([weight for _, weight, _ in sources], dtype=float)
        self.weights = weights / weights.sum()
        shapes = sorted({image.shape for pool in self.pools for image in pool}) if size is None else []
        if len(shapes) > 1:
            sizes = f"{shapes[0][:2]} and {shapes[-1][:2]}"
            raise InputError(f"whole images must all have one size; there are {sizes}: give the side of a crop")
        if shapes and flips == "all" and shapes[0][0] != shapes[0][1]:
            raise InputError(f"whole images of {shapes[0][:2]} pixels cannot be turned; give flips = 'horizontal' or 'none', or a crop")

    def _pool(self, path: str | Path | Sequence[Picture], scales: Sequence[float]) -> list[np.ndarray]:
        pool = []
        for image in read_images(path, MODES[self.channels]):
            arrays = [pixels(one, self.pad) for one in scaled(image, scales)]
            pool += [array for array in arrays if min(array.shape[:2]) >= (self.size or 1)]
        if not pool:
            raise InputError(f"{_named(path)}: no image of at least {self.size} x {self.size} pixels at scales {tuple(scales)}")
        return pool

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count, C, size, size) float32 in [0, 1]; every image of a source is drawn equally often."""
        return self.labelled(count, rng)[0]

    def labelled(self, count: int, rng: np.random.Generator, labels: Sequence[np.ndarray] = ()) -> tuple[Tensor, Tensor]:
        """`sample` with the label of each image, (count,), int64, from the labels of each source; 0 without them."""
        drawn = [self._one(rng) for _ in range(count)]
        found = [int(labels[source][index]) if labels else 0 for source, index, _ in drawn]
        images = torch.from_numpy(np.stack([crop for _, _, crop in drawn])).permute(0, 3, 1, 2).float().div_(255)
        return images, torch.tensor(found)

    def _one(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        """A crop with the source and the image that it is from."""
        source = int(rng.choice(len(self.pools), p=self.weights))
        index = int(rng.integers(len(self.pools[source])))
        crop = self.pools[source][index]
        if self.size is not None:
            top, left = (rng.integers(side - self.size + 1) for side in crop.shape[:2])
            crop = crop[top : top + self.size, left : left + self.size]
        if self.flips != "none" and rng.random() < 0.5:
            crop = crop[:, ::-1]
        if self.flips == "all" and rng.random() < 0.5:
            crop = np.rot90(crop, int(rng.integers(4)))
        return source, index, np.ascontiguousarray(crop)


def _named(source: str | Path | Sequence[Picture]) -> str:
    return str(source) if isinstance(source, str | Path) else f"a set of {len(source)} pictures"


def validation_images(
    source: str | Path | Sequence[Picture], count: int = 8, side: int | None = 128, channels: int = 3, pad: int = 0
) -> Tensor:
    """(N, C, side, side) in [0, 1]: centre crops of the first `count` images; side None takes them whole.

    Raises:
        InputError: see `read_images`; an image smaller than the side, whole images of several sizes.
    """
    crops: list[np.ndarray] = []
    for image, _ in zip(read_images(source, MODES[channels]), range(count), strict=False):
        array = pixels(image, pad)
        height, width = array.shape[:2]
        if min(height, width) < (side or 1):
            raise InputError(f"{_named(source)}: a validation image has {height} x {width} pixels, fewer than side = {side}")
        if side is not None:
            top, left = (height - side) // 2, (width - side) // 2
            array = array[top : top + side, left : left + side]
        crops.append(array)
    if len({array.shape for array in crops}) > 1:
        raise InputError(f"{_named(source)}: validation images of several sizes; give side")
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
