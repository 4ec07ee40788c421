"""The data set of this plug-in: drawings of discs. Pictures in a folder need none of this: data = { folder = "photos", crop = 128 }."""

from collections.abc import Iterator, Sequence

import torch

from invsolve import Rng
from invsolve.data import Picture


def discs(shape: Sequence[int] = (1, 32, 32), images: int = 4, seed: int = 0) -> Iterator[Picture]:
    """Three discs of random place, size and brightness on a grey ground.

    A data set is a function that gives pictures, always the same ones in the same order.

    Args:
        shape: (C, H, W).
        images: how many; picture k is the same however many there are.
        seed: of the drawings.
    """
    channels, height, width = shape
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    for k in range(images):
        rng = Rng(seed, [k], purpose="discs")
        image = torch.full((channels, height, width), 0.3)
        for place in rng.uniform((3, 4), image)[0]:
            inside = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 < (0.1 + 0.2 * place[2]) ** 2
            image[:, inside] = place[3]
        yield Picture(f"discs-{k}", image, f"Discs {k}", licence="CC0-1.0", source="drawn")
