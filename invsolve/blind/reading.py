"""What blurred a picture, read off its traits by small networks that were shown photographs blurred on purpose.

Each gives the probabilities of the families, and for each family the logarithm of its width in pixels and of that one's variance. Their
probabilities are averaged; widths are mixed as Gaussians, so that networks that disagree make the width less sure.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

WEIGHTS = Path(__file__).parent / "weights" / "blind.npz"
FAMILIES = ("none", "gaussian", "defocus", "motion")


class Reading(NamedTuple):
    """What was read.

    Args:
        chances: of each family, by its name.
        widths: of each that has one, in pixels.
        spreads: their relative standard deviations.
    """

    chances: dict[str, float]
    widths: dict[str, float]
    spreads: dict[str, float]


def read(values: Tensor) -> Reading:
    """The families' chances and widths of a picture's traits."""
    outputs = answers(values.double(), weights())
    chances = torch.softmax(outputs[:, : len(FAMILIES)], 1).mean(0)
    centres, logs = outputs[:, 4:10:2], outputs[:, 5:10:2].clamp(-6, 2)
    spread = (logs.exp().mean(0) + centres.var(0, correction=0)).sqrt()
    names = FAMILIES[1:]
    widths = {name: math.exp(float(one)) for name, one in zip(names, centres.mean(0), strict=True)}
    return Reading(dict(zip(FAMILIES, chances.tolist(), strict=True)), widths, dict(zip(names, spread.tolist(), strict=True)))


def answers(values: Tensor, arrays: dict[str, Tensor]) -> Tensor:
    """(networks, 10): chances, then width and its variance by turns; three layers each, with GELU between them."""
    hidden = ((values - arrays["mean"]) / arrays["scale"]).clamp(-5, 5)
    for layer in range(3):
        hidden = torch.einsum("noi,ni->no", arrays[f"weight{layer}"], hidden.expand(len(arrays["weight0"]), -1)) + arrays[f"bias{layer}"]
        hidden = torch.nn.functional.gelu(hidden) if layer < 2 else hidden
    return hidden


@cache
def weights() -> dict[str, Tensor]:
    """The shipped arrays, in float64; see the card beside them."""
    with np.load(WEIGHTS, allow_pickle=False) as held:
        return {name: torch.from_numpy(held[name].astype(np.float64)) for name in held.files}
