"""Damage by a network that was shown painted masks: the direct way, beside which a prior of two classes has to stand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.errors import InputError

FILE = Path(__file__).parent / "weights" / "damage-segmenter.safetensors"
DILATIONS = (1, 1, 2, 4, 1)
# Tiles and their margins are even; around a pixel the network sees 19 others at most.
SIDE, MARGIN = 512, 20


class Segmenter(nn.Module):
    """Logits of damage, (B, 3, H, W) in [0, 1] -> (B, H, W): squares of 2 x 2 pixels as channels, then convolutions of growing distance.

    Args:
        width: feature channels.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for index, dilation in enumerate(DILATIONS):
            layers += [nn.Conv2d(width if index else 12, width, 3, 1, dilation, dilation), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(width, 4, 1), nn.PixelShuffle(2))

    def forward(self, photo: Tensor) -> Tensor:
        """log p / (1 - p) of every pixel."""
        height, width = photo.shape[-2:]
        even = nn.functional.pad((photo - 0.5) / 0.25, (0, width % 2, 0, height % 2), mode="replicate")
        return self.net(even)[:, 0, :height, :width]


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
