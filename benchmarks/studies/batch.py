"""How far an item's answer depends on its batch with a real network: `python benchmarks/studies/batch.py [--out FILE]`.

Three photographs cut to 45 x 61, Gaussian blur, noise 0.05, the prior `natural` in float32, 10 steps: every item alone
against the same item in the batch. The noise is the same to the bit; what is left is how convolutions are summed.
"""

import argparse
from pathlib import Path

import torch
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import GaussianBlur

from invsolve import GaussianNoise, Problem, Solver, load_prior
from invsolve.solvers import ADMM, DDIM, DDPM, DDRM, DPS, HQS, DiffPIR, Heun, ScoreALD

SOLVERS: list[Solver] = [
    HQS(steps=10),
    ADMM(steps=10),
    DPS(steps=10),
    DiffPIR(steps=10),
    DDRM(steps=10),
    ScoreALD(steps=10, inner=1),
    DDIM(steps=10),
    DDPM(steps=10),
    Heun(steps=10),
]


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x = torch.stack([photo.image[:, 30:75, 30:91] for photo in quick_photos()[:3]])
    problem = Problem.simulate(GaussianBlur(x.shape[1:], sigma=1.6), x, GaussianNoise(0.05), generator=0)
    nothing = Problem.unconditional(x.shape[1:], 3)
    prior = load_prior("natural")
    lines = ["# An item alone and in a batch of three, `natural`, float32", "", "`python benchmarks/studies/batch.py`", ""]
    lines += ["| solver | largest difference over items and pixels |", "|---|---|"]
    for solver in SOLVERS:
        whole = problem if solver.requires.measurement else nothing
        together = solver.solve(whole, prior, generator=0).x
        worst = max(float((solver.solve(whole[item], prior, generator=0).x[0] - together[item]).abs().max()) for item in range(3))
        lines.append(f"| {type(solver).__name__} | {worst:.1e} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
