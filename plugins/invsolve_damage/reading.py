"""Scores read as one: what was fitted on training photographs, and kept beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from invsolve_damage.outliers import blurred

METHODS = ("segment", "reading", "evidence", "difference", "outlier")
FILE = Path(__file__).parent / "weights" / "damage-reading.json"


@dataclass(frozen=True)
class Reading:
    """A logistic regression on maps: score = bias + sum_{k, w} weight_{k, w} blur_w(asinh(map_k)).

    Args:
        levels: at which the prior is asked.
        widths: of the windows, in pixels; 0 for the pixel alone.
        weights: [width][map]; the maps are r and d of each level, in turn, and the outliers.
        bias: of the score.
        blur: by method, the width of the window that its score is seen through.
        thresholds: by method, for the largest overlap with the true mask.
        generous: by method, threshold and pixels of growth, for the best restoration.
        rated: by method, the mean overlap with the true mask on the photographs that all of this was chosen on.
        best: the method that measured best.
    """

    levels: tuple[float, ...]
    widths: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: float
    blur: dict[str, float]
    thresholds: dict[str, float]
    generous: dict[str, tuple[float, int]]
    rated: dict[str, float]
    best: str

    def features(self, maps: Tensor) -> Tensor:
        """(B, widths, maps, H, W) of maps (B, maps, H, W)."""
        batch, count = maps.shape[:2]
        flat = maps.asinh().flatten(0, 1)
        return torch.stack([blurred(flat, width).reshape(batch, count, *maps.shape[2:]) for width in self.widths], 1)

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, H, W)."""
        weights = torch.tensor(self.weights, dtype=maps.dtype, device=maps.device)
        return self.bias + torch.einsum("bwkij,wk->bij", self.features(maps), weights)

    def save(self, path: Path = FILE) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    @cache
    def load(path: Path = FILE) -> Reading:
        """What is kept beside the weights."""
        held = json.loads(path.read_text())
        rows = tuple(tuple(row) for row in held["weights"])
        generous = {name: tuple(pair) for name, pair in held["generous"].items()}
        sizes = {name: tuple(held[name]) for name in ("levels", "widths")}
        return Reading(**{**held, **sizes, "weights": rows, "generous": generous})
