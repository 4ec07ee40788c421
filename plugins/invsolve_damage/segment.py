"""Damage by a network that was shown painted masks: the direct way, beside which a prior of two classes has to stand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.errors import InputError

FILE = Path(__file__).parent / "weights" / "damage-segmenter.safetensors"
# What the network is given, tiles and margins have sides of multiples of STEP, so that the squares of a tile are those of the whole.
# Around a pixel the network sees 69 others at most.
STEP, SIDE, MARGIN = 8, 512, 72


class Block(nn.Module):
    """x + Conv(relu(Conv(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class Segmenter(nn.Module):
    """Logits of damage, (B, 3, H, W) in [0, 1] -> (B, H, W): a U-Net on squares of 2 x 2 pixels as channels.

    Args:
        widths: feature channels at a half, a quarter and an eighth of the side.
    """

    def __init__(self, widths: tuple[int, int, int] = (48, 64, 96)) -> None:
        super().__init__()
        fine, mid, coarse = widths
        self.head = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, fine, 3, 1, 1), Block(fine))
        self.down = nn.Sequential(nn.Conv2d(fine, mid, 2, 2), Block(mid))
        self.bottom = nn.Sequential(nn.Conv2d(mid, coarse, 2, 2), Block(coarse), Block(coarse), nn.ConvTranspose2d(coarse, mid, 2, 2))
        self.up = nn.Sequential(Block(mid), nn.ConvTranspose2d(mid, fine, 2, 2))
        self.tail = nn.Sequential(Block(fine), nn.ReLU(), nn.Conv2d(fine, 4, 1), nn.PixelShuffle(2))

    def forward(self, photo: Tensor) -> Tensor:
        """log p / (1 - p) of every pixel."""
        height, width = photo.shape[-2:]
        even = functional.pad((photo - 0.5) / 0.25, (0, -width % STEP, 0, -height % STEP), mode="replicate")
        fine = self.head(even)
        mid = self.down(fine)
        return self.tail(fine + self.up(mid + self.bottom(mid)))[:, 0, :height, :width]


@cache
def shipped(path: Path = FILE) -> Segmenter:
    """With the shipped weights, in evaluation mode and frozen.

    Raises:
        InputError: they are not there.
    """
    if not path.is_file():
        raise InputError(f"there are no weights of the segmenter at {path}; benchmarks/studies/damage.py segmenter makes them")
    network = Segmenter()
    network.load_state_dict(safetensors.torch.load_file(path))
    return network.eval().requires_grad_(False)


def segmented(photo: Tensor) -> Tensor:
    """Logits (B, H, W) of photographs (B, 3, H, W), by tiles; beyond the frame its last pixels go on, as zeros there look like damage."""
    network, shape = shipped(), [side + 2 * MARGIN for side in photo.shape[-2:]]
    photo = functional.pad(photo, [MARGIN] * 4, mode="replicate")
    out = photo.new_empty(len(photo), *shape)
    for top in range(0, shape[0], SIDE):
        for left in range(0, shape[1], SIDE):
            up, before = max(0, top - MARGIN), max(0, left - MARGIN)
            tile = photo[:, :, up : top + SIDE + MARGIN, before : left + SIDE + MARGIN]
            found = network(tile.float().cpu()).to(photo)
            out[:, top : top + SIDE, left : left + SIDE] = found[:, top - up :, left - before :][:, :SIDE, :SIDE]
    return out[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def save(network: Segmenter, path: Path = FILE) -> None:
    """As safetensors, in float32."""
    safetensors.torch.save_file({name: value.float().contiguous() for name, value in network.state_dict().items()}, path)
