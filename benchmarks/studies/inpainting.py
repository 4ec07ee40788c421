"""What the inpainting samplers are worth on pictures: `python benchmarks/studies/inpainting.py --data DATA [--out FILE] [--only NAME ...]`.

Five centre crops of 64 x 64 of DATA/dev/bsds500_val32 (every sixth file), the prior `natural` in bfloat16; a hole of 24 x 24 without noise,
and random pixels, three in ten kept, with noise .05. A cell holds PSNR / HaarPSI of one sample, means over the crops.

PSNR asks for the posterior's mean: a sampler whose draws are narrower than the posterior gains up to 3 dB by it. Of the law of the
answers tests/solvers/test_inpainting.py and benchmarks/results/oracle.md speak. One noise seed and one sample seed: read differences
below 1 dB on the hole, below .3 on the pixels, as chance.
"""

import argparse
from pathlib import Path

import torch
from invsolve_operators import Mask
from torch import Tensor

from invsolve import GaussianNoise, Problem, Solver, load_prior
from invsolve.bench.metrics import HaarPSI
from invsolve.io.images import read_image
from invsolve.solvers import DPS, CoPaint, CoPaintFast, CoPaintTT, DiffPIR, LanPaint, RePaint, Replacement, Resampling

SIDE, CROPS, EVERY = 64, 5, 6
ROWS: dict[str, Solver] = {
    "DiffPIR()": DiffPIR(),
    "Replacement()": Replacement(),
    "RePaint()": RePaint(),
    "LanPaint()": LanPaint(),
    "CoPaintFast()": CoPaintFast(),
    "CoPaint()": CoPaint(),
    "CoPaintTT()": CoPaintTT(),
    "Resampling()": Resampling(),
    "RePaint(steps=10, jump=1, repeats=5)": RePaint(steps=10, jump=1, repeats=5),
    "RePaint(steps=20, jump=2, repeats=6)": RePaint(steps=20, jump=2, repeats=6),
    "RePaint(steps=50, jump=5, repeats=4)": RePaint(steps=50, jump=5, repeats=4),
    "LanPaint(step=0.3, eta=0.0)": LanPaint(step=0.3, eta=0.0),
    "LanPaint(step=1.0)": LanPaint(step=1.0),
    "DPS()": DPS(),
}


def crops(data: Path) -> Tensor:
    """(CROPS, 3, SIDE, SIDE)."""
    files = sorted((data / "dev" / "bsds500_val32").glob("*.jpg"))[::EVERY][:CROPS]
    if len(files) < CROPS:
        raise SystemExit(f"{data / 'dev' / 'bsds500_val32'} holds {len(files)} of the {CROPS} pictures that are wanted")
    found = []
    for picture in (read_image(file)[0].reshape(3, *read_image(file)[0].shape[-2:]) for file in files):
        top, left = ((side - SIDE) // 2 for side in picture.shape[-2:])
        found.append(picture[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(found)


def tasks(truth: Tensor) -> tuple[Problem, Tensor]:
    """(problem, truth): both tasks in one batch, a mask and a noise level for each item."""
    hole = torch.ones(1, SIDE, SIDE)
    hole[:, 20:44, 20:44] = 0
    pixels = (torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    masks = torch.cat([mask.expand(len(truth), 1, SIDE, SIDE) for mask in (hole, pixels)])
    noise = GaussianNoise(torch.tensor([0.0] * len(truth) + [0.05] * len(truth)))
    both = truth.repeat(2, 1, 1, 1)
    return Problem.simulate(Mask((3, SIDE, SIDE), mask=masks), both, noise, generator=0), both


def row(name: str, problem: Problem, truth: Tensor, prior: torch.nn.Module) -> str:
    """A line of the table."""
    solution = ROWS[name].solve(problem, prior, generator=1)  # pyright: ignore[reportArgumentType]
    x = solution.x.clamp(0, 1)
    decibels = -10 * (x - truth).double().square().flatten(1).mean(1).log10()
    both = zip(decibels.reshape(2, -1).mean(1).tolist(), HaarPSI()(x, truth).reshape(2, -1).mean(1).tolist(), strict=True)
    cells = [f"{first:.2f} / {second:.3f}" for first, second in both]
    return f"| `{name}` | {solution.nfe} + {solution.backward} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem, truth = tasks(crops(arguments.data))
    prior = load_prior("natural", precision="bfloat16")
    page = ["# Inpainting samplers on pictures", "", *(__doc__ or "").splitlines(), ""]
    page += ["| solver | evaluations + backward passes | hole | pixels, noise .05 |", "|---|---|---|---|"]
    print(*page[-2:], sep="\n", flush=True)
    for name in arguments.only:
        page.append(row(name, problem, truth, prior))
        print(page[-1], flush=True)
        if arguments.out:
            arguments.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
