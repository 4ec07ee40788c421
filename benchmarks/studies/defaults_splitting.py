"""What the defaults of hqs and admm are worth: `python benchmarks/studies/defaults_splitting.py --data DATA [--out FILE]`.

Six centre crops of 64 x 64 of DATA/dev/bsds500_val32 (every fifth file), the priors `dncnn` and `natural` in bfloat16; a hole of 24 x 24, a
Gaussian blur of 1.6 and 4 x 4 means, each with noise .01, .05 and .2; 10, 20 and 50 network evaluations of hqs, and at most so many of
admm, whose own end is in the last column with the evaluations it took for the slowest of the six. Beside them what the quick suite had
tuned when the defaults were others, from today's first images: hqs down to sigma_y in 8 evaluations, admm in 20 (at the level sigma_y
for holes, at .1 with strength .5 else). PSNR in dB, mean over the crops, one seed: read differences below .1 dB as chance.
"""

import argparse
from pathlib import Path

import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur
from torch import Tensor

from invsolve import GaussianNoise, Problem, Solution, Solver, load_prior
from invsolve.io.images import read_image
from invsolve.priors import Denoiser
from invsolve.solvers import ADMM, HQS

SIDE, CROPS, EVERY = 64, 6, 5
SIGMAS, COUNTS = (0.01, 0.05, 0.2), (10, 20, 50)
HEAD = ["hqs " + str(count) for count in (8, *COUNTS)] + ["hqs, tuned once"] + ["admm " + str(count) for count in COUNTS]
HEAD += ["admm, tuned once", "ADMM()"]


def crops(data: Path) -> Tensor:
    """(CROPS, 3, SIDE, SIDE): the middles of every fifth file."""
    files = sorted((data / "dev" / "bsds500_val32").glob("*.jpg"))[::EVERY][:CROPS]
    if len(files) < CROPS:
        raise SystemExit(f"{data / 'dev' / 'bsds500_val32'} holds {len(files)} of the {CROPS} pictures that are wanted")
    found = []
    for file in files:
        picture = read_image(file)[0]
        top, left = ((side - SIDE) // 2 for side in picture.shape[-2:])
        found.append(picture[..., top : top + SIDE, left : left + SIDE].reshape(3, SIDE, SIDE))
    return torch.stack(found)


def decibels(x: Tensor, truth: Tensor) -> float:
    """Mean PSNR over the items."""
    return float(-10 * (x - truth).double().square().flatten(1).mean(1).log10().mean())


def tuned(problem: Problem, hole: bool) -> tuple[Solver, Solver]:
    """The suite's former settings of hqs and admm; their rho is the same in either unit."""
    sigma = float(problem.sigma)
    level = min(sigma, 0.24) if hole else 0.1
    hqs = HQS(sigma_start=max(49 / 255, sigma), sigma_end=sigma, noise=0.0, fidelity=0.23)
    return hqs, ADMM(steps=20, tol=0.0, denoiser_sigma=level, strength=1.0 if hole else 0.5)


def row(problem: Problem, prior: Denoiser, truth: Tensor, *, hole: bool) -> list[str]:
    """The cells of HEAD."""

    def run(solver: Solver) -> Solution:
        return solver.solve(problem, prior, generator=1)

    hqs, admm = tuned(problem, hole)
    solvers: list[Solver] = [*(HQS(steps=count) for count in (8, *COUNTS)), hqs, *(ADMM(steps=count) for count in COUNTS), admm]
    last = run(ADMM())
    return [f"{decibels(run(solver).x, truth):.2f}" for solver in solvers] + [f"{decibels(last.x, truth):.2f} ({last.steps})"]


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    truth, shape = crops(arguments.data), (3, SIDE, SIDE)
    operators = {
        "hole 24": BoxMask(shape, box=24),
        "blur 1.6": GaussianBlur(shape, sigma=1.6),
        "means 4 x 4": BlockMean(shape, factor=4),
    }
    page = ["# The defaults of hqs and admm, at several counts of evaluations", "", *(__doc__ or "").splitlines()]
    for name in ("dncnn", "natural"):
        prior = load_prior(name, precision="bfloat16")
        assert isinstance(prior, Denoiser)
        page += ["", f"## `{name}`", "", "| operator | noise | " + " | ".join(HEAD) + " |", "|---|---|" + "---|" * len(HEAD)]
        for label, operator in operators.items():
            for sigma in SIGMAS:
                problem = Problem.simulate(operator, truth, GaussianNoise(sigma), generator=0)
                cells = row(problem, prior, truth, hole=label.startswith("hole"))
                page.append(f"| {label} | {sigma:g} | " + " | ".join(cells) + " |")
                print(page[-1], flush=True)
        if arguments.out:
            arguments.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
