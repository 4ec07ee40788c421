"""Bias of every posterior sampler under a Gaussian prior: `python benchmarks/oracle.py [--seeds 8] [--out FILE]`.

Cases of dimension 8 with 4 measurements, as in the tests: S white prior (std 1/2), G correlated (variances .075 to .00075), I the
same behind a mask; sigma_y = .05. Columns: mean error in posterior standard deviations, covariance error, trace ratio,
each mean +- standard error over the draws of (A, y).
"""

import argparse
import math
from pathlib import Path

import torch

from invsolve import GaussianNoise, Problem, Solver
from invsolve.solvers import DDRM, DPS, DiffPIR, ScoreALD
from invsolve.testing.oracle import Bias, DenseOperator, empirical, gaussian_case, sliced_wasserstein

SIZE, ROWS, SIGMA_Y, CHAINS = 8, 4, 0.05, 2000

SOLVERS: dict[str, Solver] = {
    "ddrm 20": DDRM(),
    "ddrm 200": DDRM(steps=200),
    "diffpir 50 (r posterior, zeta .3)": DiffPIR(),
    "diffpir 50 (r posterior, zeta 1)": DiffPIR(zeta=1.0),
    "diffpir 100 (paper, zeta .3)": DiffPIR(steps=100, variance="noise"),
    "diffpir 100 (paper, zeta 1)": DiffPIR(steps=100, variance="noise", zeta=1.0),
    "score-ald 100x3": ScoreALD(),
    "score-ald 300x3": ScoreALD(steps=300),
    "dps 250 scale 1": DPS(),
    "dps 250 scale .3": DPS(scale=0.3),
}


def row(solver: Solver, name: str, seeds: int) -> str:
    """One line of the table."""
    figures = []
    for seed in range(seeds):
        law, prior, matrix, y = gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
        posterior = law.posterior(matrix, y, SIGMA_Y)
        problem = Problem(DenseOperator(matrix), y.expand(CHAINS, ROWS), GaussianNoise(SIGMA_Y))
        samples = solver.solve(problem, prior, generator=seed).x.flatten(1)
        bias = Bias.of(empirical(samples), posterior)
        exact = posterior.sample(CHAINS, seed + 1000)
        floor = sliced_wasserstein(posterior.sample(CHAINS, seed + 2000), exact)
        figures.append((bias.mean, bias.cov, bias.trace, sliced_wasserstein(samples, exact) / floor))
    table = torch.tensor(figures, dtype=torch.float64)
    error = table.std(0) / math.sqrt(seeds) if seeds > 1 else torch.zeros(4)
    return " | ".join(f"{float(value):.2f} ± {float(spread):.2f}" for value, spread in zip(table.mean(0), error, strict=True))


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# Bias under a Gaussian prior",
        "",
        f"`python benchmarks/oracle.py --seeds {arguments.seeds}`: d = {SIZE}, m = {ROWS}, sigma_y = {SIGMA_Y}, {CHAINS} chains,",
        "mean ± standard error over the draws.",
        "",
        "| case | solver | mean error (s.d.) | covariance error | trace ratio | sliced W1 / floor |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("S", "G", "I"):
        for label, solver in SOLVERS.items():
            lines.append(f"| {name} | {label} | {row(solver, name, arguments.seeds)} |")
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
