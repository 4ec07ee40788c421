"""The pictures of a burst: packed into few files to take along, and on the device as bytes, of which crops are drawn there."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve.training.config import TrainConfig
from invsolve.training.data import MODES, files_of, pixels, read_images, scaled


class Pool:
    """All pictures on the device, as pixels in a row.

    Args:
        sources: (pictures (H, W, C) of uint8, weight) each: a crop is of a source by its weight, and in it of every picture equally often.
        side: of a crop; a smaller picture goes on as its mirror image.
        device: where they lie.
    """

    def __init__(self, sources: list[tuple[list[np.ndarray], float]], side: int, device: torch.device) -> None:
        pictures = [one for pictures, _ in sources for one in pictures]
        chances = [weight / len(pictures) for pictures, weight in sources for _ in pictures]
        flat = np.concatenate([one.reshape(-1, one.shape[-1]) for one in pictures])
        self.pixels = torch.from_numpy(flat).to(device)
        sizes = torch.tensor([one.shape[:2] for one in pictures], device=device)
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        areas = self.heights * self.widths
        self.starts = areas.cumsum(0) - areas
        self.chances = torch.tensor(chances, dtype=torch.float32, device=device)
        self.side, self.along = side, torch.arange(side, device=device)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, C, side, side) in [0, 1]: crops at uniform places, mirrored and turned by quarters."""
        which = torch.multinomial(self.chances, count, replacement=True, generator=generator)
        places = torch.rand(2, count, generator=generator, device=self.pixels.device)
        turns = torch.rand(3, count, generator=generator, device=self.pixels.device) < 0.5
        rows = self._line(places[0], self.heights[which], turns[0])
        columns = self._line(places[1], self.widths[which], turns[1])
        index = rows[:, :, None] * self.widths[which][:, None, None] + columns[:, None, :]
        index = torch.where(turns[2][:, None, None], index.mT, index) + self.starts[which][:, None, None]
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255

    def _line(self, place: Tensor, length: Tensor, back: Tensor) -> Tensor:
        """(count, side): which rows, or columns, of the picture."""
        first = (place * (length - self.side + 1).clamp_min(1)).long()
        line = first[:, None] + self.along
        period = (2 * (length - 1)).clamp_min(1)[:, None]
        line = line % period
        line = torch.minimum(line, period - line).minimum(length[:, None] - 1)
        return torch.where(back[:, None], line.flip(1), line)


def pack(config: TrainConfig, data: Path, out: Path, megabytes: float) -> list[tuple[str, int, int]]:
    """Zip files of the config's sources and of its validation pictures, as they are stored, evenly chosen where there is no room for all.

    A source has room by its weight; what one does not fill goes to the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = [list(files_of(Path(str(source.of(data))))) for source in config.data.source]
    room, left = 1e6 * megabytes, list(range(len(found)))
    shares = [0.0] * len(found)
    while left:
        whole = sum(config.data.source[k].weight for k in left)
        shares = [room * config.data.source[k].weight / whole if k in left else shares[k] for k in range(len(found))]
        small = [k for k in left if sum(len(content) for _, content in found[k]) <= shares[k]]
        if not small:
            break
        for k in small:
            shares[k] = float(sum(len(content) for _, content in found[k]))
            room -= shares[k]
        left = [k for k in left if k not in small]
    said = []
    for number, files in enumerate(found):
        size = sum(len(content) for _, content in files)
        count = len(files) if size <= shares[number] + 0.5 else max(1, int(len(files) * shares[number] / size))
        chosen = [files[(2 * k + 1) * len(files) // (2 * count)] for k in range(count)]
        said.append(zipped(out / f"source-{number}.zip", chosen))
    if config.validation is not None:
        pictures = list(files_of(Path(str(config.validation.of(data)))))[: config.validation.count]
        said.append(zipped(out / "validation.zip", pictures))
    return said


def zipped(path: Path, files: list[tuple[str, bytes]]) -> tuple[str, int, int]:
    """(name, files, bytes) of a zip file with these in it, in their order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, content) in enumerate(files):
            archive.writestr(f"{number:06d}{Path(name).suffix.lower()}", content)
    return path.name, len(files), path.stat().st_size


def pool_of(config: TrainConfig, folder: Path, side: int, device: torch.device) -> Pool:
    """The pictures of packed sources, at the config's scales."""
    sources = []
    for number, source in enumerate(config.data.source):
        images = read_images(folder / f"source-{number}.zip", MODES[config.network.channels])
        sources.append(([pixels(one) for image in images for one in scaled(image, source.scales)], source.weight))
    return Pool(sources, side, device)
