"""What `auto` chooses from, on dev pictures: `python benchmarks/studies/auto.py PHOTOS [--crop 64] [--first 8] [--out FILE]`.

The middles of the first pictures of a folder, the prior `natural` in bfloat16, 20 evaluations (ADMM may stop before), PSNR / HaarPSI, means
over the pictures; one noise seed and one seed of the solver: read differences below .1 dB as chance, on boxes and halves below .3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from deepinv_peer import crops, tasks
from invsolve_operators import GridMask, Mask, StrokeMask, TextMask

from invsolve import GaussianNoise, Operator, Problem, Solver, load_prior, registry
from invsolve.priors.base import Denoiser
from invsolve.solvers import ADMM, CCDF, HQS, RED, DiffPIR, Spectral

SIGMAS = (0.01, 0.05, 0.2)
SOLVERS: dict[str, Solver] = {
    "diffpir": DiffPIR(steps=20),
    "spectral": Spectral(steps=20),
    "hqs": HQS(steps=20),
    "admm": ADMM(steps=20),
    "red": RED(steps=20),
    "ccdf": CCDF(steps=20),
}


def masks(side: int) -> dict[str, Operator]:
    """Others than the seven tasks'."""
    shape = (3, side, side)
    return {
        "10 % known": Mask(shape, keep=0.1),
        "50 % known": Mask(shape, keep=0.5),
        "90 % known": Mask(shape, keep=0.9),
        "one in 2 x 2": GridMask(shape, factor=2),
        "text": TextMask(shape),
        "strokes": StrokeMask(shape),
        **{name: hidden(shape, hole) for name, hole in holes(side).items()},
    }


def holes(side: int) -> dict[str, tuple[slice, slice]]:
    """Large pieces: rows and columns that are hidden."""
    every = slice(0, side)
    third, middle, most = slice(0, side // 3), slice(side * 7 // 32, side * 25 // 32), slice(side // 8, side * 7 // 8)
    corner = slice(0, side * 5 // 8)
    return {"a third": (every, third), "a box of 9/16": (middle, middle), "a box of 3/4": (most, most), "a corner of 5/8": (corner, corner)}


def hidden(shape: tuple[int, int, int], hole: tuple[slice, slice]) -> Operator:
    """A mask that hides it."""
    mask = torch.ones(shape)
    mask[:, hole[0], hole[1]] = 0
    return Mask(shape, mask=mask)


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--first", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    truth = crops(arguments.photos, arguments.crop, arguments.first)
    prior = load_prior("natural", precision="bfloat16")
    assert isinstance(prior, Denoiser)
    metrics = [registry().load("metric", name)() for name in ("psnr", "haarpsi")]
    operators = {**tasks(arguments.crop), **masks(arguments.crop)}
    page = ["# What `auto` chooses from", "", *(__doc__ or "").splitlines()]
    for sigma in SIGMAS:
        page += ["", f"## Noise {sigma:g}", "", "| solver | " + " | ".join(operators) + " |", "|---" * (len(operators) + 1) + "|"]
        for name, solver in SOLVERS.items():
            cells = []
            for operator in operators.values():
                x = solver.solve(Problem.simulate(operator, truth, GaussianNoise(sigma), generator=0), prior, generator=0).x
                psnr, haarpsi = (float(metric(x.clamp(0, 1).float(), truth).mean()) for metric in metrics)
                cells.append(f"{psnr:.2f} / {haarpsi:.3f}")
            page.append(f"| {name} | " + " | ".join(cells) + " |")
            print(page[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
