"""A grid of pictures drawn from a prior alone, by DDIM: `python -m invsolve_deepinv.samples natural --out samples.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from invsolve.images import write_image
from invsolve.plugins import load_prior
from invsolve.problem import Problem
from invsolve.solvers import DDIM


def draw(name: str, count: int, side: int, steps: int, seed: int = 0) -> Tensor:
    """(count, C, side, side) samples."""
    prior = load_prior(name)
    problem = Problem.unconditional((prior.channels or 3, side, side), count)
    return DDIM(steps=steps).solve(problem, prior, generator=seed).x.clamp(0, 1)


def grid(images: Tensor, columns: int) -> Tensor:
    """(C, rows side, columns side): pictures side by side; places left over are black."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    filled = torch.cat([images, images.new_zeros(rows * columns - count, channels, height, width)])
    return filled.reshape(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def main() -> None:
    """Read the arguments, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prior")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images = draw(arguments.prior, arguments.count, arguments.side, arguments.steps, arguments.seed)
    write_image(arguments.out, grid(images, arguments.columns))


if __name__ == "__main__":
    main()
