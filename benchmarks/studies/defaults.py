"""What the samplers' defaults are worth: `python benchmarks/studies/defaults.py --data DATA [--out FILE] [--only NAME ...]`.

Six centre crops of 64 x 64 of DATA/dev/bsds500_val32 (every fifth file), the prior `natural` in bfloat16; a hole of 24 x 24, a Gaussian
blur of 1.6 and 4 x 4 means, each with noise .01, .05 and .2, at several counts of network evaluations. A cell holds

    PSNR of one sample / PSNR of the mean of 4 / spread over error

in dB, means over the crops. Spread over error is sqrt((1 + 1/4) variance of the samples / squared error of their mean), pixels and crops
together: 1 for draws from the posterior, since the truth is then one draw more; 1/3 says that the error is three times the spread.
One noise seed and four sample seeds a cell: read differences of PSNR below .2 dB as chance, on holes below .5.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver, load_prior
from invsolve.io.images import read_image
from invsolve.solvers import DDRM, DiffPIR, ScoreALD

SIDE, CROPS, EVERY, SAMPLES = 64, 6, 5, 4
SIGMAS = (0.01, 0.05, 0.2)
Make = Callable[[int], Solver]
FEW, MANY = (10, 20, 50), (20, 50, 101)  # network evaluations

# What a user gets without arguments but the count; beside it the settings for calibrated samples, and what the quick suite had tuned when
# the defaults were others (of DDRM: eta .9 and sigma_max 5, which with this prior are the defaults).
ROWS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "DiffPIR()": (lambda count: DiffPIR(steps=count), FEW),
    "DDRM()": (lambda count: DDRM(steps=count), FEW),
    "ScoreALD()": (lambda count: ScoreALD(steps=count - 1), MANY),
    "DiffPIR(zeta=0.3)": (lambda count: DiffPIR(steps=count, zeta=0.3), FEW),
    "DiffPIR(variance='posterior', weight=0.5)": (lambda count: DiffPIR(steps=count, variance="posterior", weight=0.5), FEW[1:2]),
    "ScoreALD(precondition=False)": (lambda count: ScoreALD(steps=count - 1, precondition=False), MANY[2:]),
    "ScoreALD(noise='langevin')": (lambda count: ScoreALD(steps=count - 1, noise="langevin"), MANY[2:]),
    "ScoreALD(noise='langevin', precondition=False)": (
        lambda count: ScoreALD(steps=count - 1, noise="langevin", precondition=False),
        MANY[2:],
    ),
}


def crops(data: Path, side: int = SIDE) -> Tensor:
    """(CROPS, 3, side, side): the middles of every fifth file."""
    files = sorted((data / "dev" / "bsds500_val32").glob("*.jpg"))[::EVERY][:CROPS]
    if len(files) < CROPS:
        raise SystemExit(f"{data / 'dev' / 'bsds500_val32'} holds {len(files)} of the {CROPS} pictures that are wanted")
    pictures = [read_image(file)[0] for file in files]
    corners = [((picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2) for picture in pictures]
    return torch.stack(
        [picture[..., top : top + side, left : left + side].squeeze(0) for picture, (top, left) in zip(pictures, corners, strict=True)]
    )


def operators(side: int = SIDE) -> dict[str, Operator]:
    """The three operators."""
    shape = (3, side, side)
    return {
        "hole 24": BoxMask(shape, box=24),
        "blur 1.6": GaussianBlur(shape, sigma=1.6),
        "means 4 x 4": BlockMean(shape, factor=4),
    }


def decibels(x: Tensor, truth: Tensor) -> float:
    """Mean PSNR over the items."""
    return float(-10 * (x - truth).double().square().flatten(1).mean(1).log10().mean())


def cell(solver: Solver, problem: Problem, truth: Tensor, prior: torch.nn.Module) -> str:
    """The three figures of a solver on a problem."""
    solution = solver.solve(problem, prior, generator=1, samples=SAMPLES)  # pyright: ignore[reportArgumentType]
    error = (solution.mean - truth).square().mean()
    ratio = math.sqrt((1 + 1 / SAMPLES) * float(solution.std.square().mean() / error))
    return f"{decibels(solution.x[0], truth):.2f} / {decibels(solution.mean, truth):.2f} / {ratio:.2f}"


def lines(name: str, truth: Tensor, prior: torch.nn.Module) -> Iterator[str]:
    """A solver's table."""
    make, counts = ROWS[name]
    yield from ("", f"## `{name}`", "")
    yield "| operator | noise | " + " | ".join(f"{count} evaluations" for count in counts) + " |"
    yield "|---|---|" + "---|" * len(counts)
    for label, operator in operators().items():
        for sigma in SIGMAS:
            problem = Problem.simulate(operator, truth, GaussianNoise(sigma), generator=0)
            cells = [cell(make(count), problem, truth, prior) for count in counts]
            yield f"| {label} | {sigma:g} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    truth, prior = crops(arguments.data), load_prior("natural", precision="bfloat16")
    page = ["# The samplers' defaults, at several counts of evaluations", "", *(__doc__ or "").splitlines()]
    for name in arguments.only:
        for line in lines(name, truth, prior):
            page.append(line)
            print(line, flush=True)
        if arguments.out:
            arguments.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
