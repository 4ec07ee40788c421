"""Bias of every posterior sampler under a Gaussian prior: `python benchmarks/studies/oracle.py [--out benchmarks/results/oracle.md]`.

Dimension 8, 4 measurements, as in the tests: S white prior (std 1/2), G correlated (variances .075 to .00075), I the same behind a mask;
sigma_y = .05. Dimension 64: 8 x 8 fields with exponential covariance (length 3 pixels, std .25) about a grey that is uniform on .3 to .7,
behind a 4 x 4 hole, a Gaussian blur of 1 pixel and 6 dense measurements whose singular values span two decades; sigma_y = .005, .05, .5.

Mean error is in posterior standard deviations, the covariance's relative, the trace ratio above 1 where the law is too wide. Each figure is
the mean over draws of (A, y), with its standard error; sampling alone gives about sqrt(1 / chains) for the mean.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import ADMM, DDRM, DPS, HQS, DiffPIR, ScoreALD
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, gaussian_case, normal, sliced_wasserstein
from invsolve.testing.units import matrix_of

SIZE, ROWS, SIGMA_Y = 8, 4, 0.05
SIDE, LENGTH, STD, SIGMAS = 8, 3.0, 0.25, (0.005, 0.05, 0.5)

SOLVERS: dict[str, Solver] = {
    "ddrm": DDRM(),
    "ddrm 200": DDRM(steps=200),
    "diffpir": DiffPIR(),
    "diffpir zeta .3": DiffPIR(zeta=0.3, variance="posterior"),
    "diffpir 100": DiffPIR(steps=100),
    "score-ald": ScoreALD(),
    "score-ald 300 x 1": ScoreALD(steps=300),
    "score-ald langevin": ScoreALD(noise="langevin"),
    "dps": DPS(),
    "dps ancestral, scale 1": DPS(scale=1.0, zeta=None),
    "hqs": HQS(),
    "admm": ADMM(),
}
IN_FIELDS = ("ddrm", "diffpir", "diffpir zeta .3", "score-ald", "dps", "dps ancestral, scale 1", "hqs", "admm")
POINTS = (HQS, ADMM)  # draw nothing: one answer in place of chains


def solved(solver: Solver, operator: Operator, y: Tensor, sigma: float, prior: GaussianPrior, chains: int, seed: int) -> Gaussian:
    """The solver's law for one y, empirical; a point for one that draws nothing."""
    count = 1 if isinstance(solver, POINTS) else chains
    x = solver.solve(Problem(operator, y.expand(count, *y.shape), GaussianNoise(sigma)), prior, generator=seed).x.flatten(1)
    return Gaussian(x[0], torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)) if count == 1 else empirical(x)


def figures(rows: list[tuple[float, ...]], point: bool) -> list[str]:
    """mean +- standard error of each column; of a point's only the first."""
    table = torch.tensor(rows, dtype=torch.float64)
    error = table.std(0) / math.sqrt(len(rows)) if len(rows) > 1 else torch.zeros(table.shape[1])
    texts = [f"{float(value):.2f} ± {float(spread):.2f}" for value, spread in zip(table.mean(0), error, strict=True)]
    return [texts[0], *["" for _ in texts[1:]]] if point else texts


def small(seeds: int, chains: int) -> Iterator[str]:
    """The table of dimension 8."""
    yield "| case | solver | mean error (s.d.) | covariance error | trace ratio | sliced W1 / floor |"
    yield "|---|---|---|---|---|---|"
    for name in ("S", "G", "I"):
        for label, solver in SOLVERS.items():
            rows = []
            for seed in range(seeds):
                law, prior, matrix, y = gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
                posterior = law.posterior(matrix, y, SIGMA_Y)
                found = solved(solver, DenseOperator(matrix), y, SIGMA_Y, prior, chains, seed)
                bias = Bias.of(found, posterior)
                distance = math.nan if isinstance(solver, POINTS) else sliced(found, posterior, chains, seed)
                rows.append((bias.mean, bias.cov, bias.trace, distance))
            yield f"| {name} | {label} | {' | '.join(figures(rows, isinstance(solver, POINTS)))} |"


def sliced(found: Gaussian, posterior: Gaussian, chains: int, seed: int) -> float:
    """Sliced W1 between draws of the law and of the posterior, over that between two sets of draws of the posterior."""
    exact = posterior.sample(chains, seed + 1000)
    return sliced_wasserstein(found.sample(chains, seed + 3000), exact) / sliced_wasserstein(posterior.sample(chains, seed + 2000), exact)


def field(seed: int) -> Gaussian:
    """The law of the 8 x 8 field."""
    at = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2).double()
    grey = 0.3 + 0.4 * float(Rng(seed, [0], purpose="grey").uniform((), torch.zeros(1, dtype=torch.float64)))
    return Gaussian(torch.full((SIDE**2,), grey, dtype=torch.float64), STD**2 * (-torch.cdist(at, at) / LENGTH).exp())


def field_operators(seed: int) -> dict[str, Operator]:
    """The hole, the blur and the dense measurements."""
    shape = (1, SIDE, SIDE)
    basis = torch.linalg.qr(normal(SIDE**2, 6, seed=seed + 500))[0].T
    return {
        "hole 4 x 4": registry().build("operator", "box-mask", in_shape=shape, box=4),
        "blur 1": registry().build("operator", "gaussian-blur", in_shape=shape, sigma=1.0),
        "dense 6": DenseOperator(torch.logspace(0, -2, 6, dtype=torch.float64)[:, None] * basis, shape),
    }


def fields(seeds: int, chains: int) -> Iterator[str]:
    """The table of dimension 64: mean error and trace ratio."""
    yield "| operator | sigma_y | prior | " + " | ".join(IN_FIELDS) + " |"
    yield "|---" * (3 + len(IN_FIELDS)) + "|"
    for name in field_operators(0):
        for sigma in SIGMAS:
            cells: dict[str, list[Bias]] = {label: [] for label in ("prior", *IN_FIELDS)}
            for seed in range(seeds):
                law, operator = field(seed), field_operators(seed)[name]
                matrix = matrix_of(operator)
                clean = law.sample(1, seed + 200)[0]
                shape: Any = operator.out_shape
                clear = (matrix @ clean + sigma * normal(len(matrix), seed=seed + 300)).reshape(shape)
                y = clear if operator.supports[0] is None else clear * operator.supports[0].double()
                seen = matrix.abs().sum(1) > 0
                posterior = law.posterior(matrix[seen], y.flatten()[seen], sigma)
                prior = GaussianPrior(law.mean.reshape(operator.in_shape), cov=law.cov)
                cells["prior"].append(Bias.of(law, posterior))
                for label in IN_FIELDS:
                    cells[label].append(Bias.of(solved(SOLVERS[label], operator, y, sigma, prior, chains, seed), posterior))
            texts = [cell(several, isinstance(SOLVERS.get(label), POINTS)) for label, several in cells.items()]
            yield f"| {name} | {sigma:g} | {' | '.join(texts)} |"


def cell(several: list[Bias], point: bool) -> str:
    """Mean error (root mean square over the draws) / trace ratio (mean)."""
    error = math.sqrt(sum(one.mean**2 for one in several) / len(several))
    return f"{error:.2f}" if point else f"{error:.2f} / {sum(one.trace for one in several) / len(several):.2f}"


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="draws of (A, y) in dimension 8")
    parser.add_argument("--field-seeds", type=int, default=8, help="and in dimension 64")
    parser.add_argument("--chains", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.perf_counter()
    lines = [
        "# Bias under a Gaussian prior",
        "",
        f"`python benchmarks/studies/oracle.py`: every solver at its defaults but for what its label says. d = {SIZE}, m = {ROWS},",
        f"sigma_y = {SIGMA_Y}, {arguments.chains} chains, {arguments.seeds} draws of (A, y), mean ± standard error. hqs, admm draw none.",
        "",
    ]
    for rows, chains, title in (
        (small, arguments.chains, ""),
        (fields, arguments.chains // 2, "## 8 x 8 fields"),
    ):
        if title:
            lines += [
                "",
                title,
                "",
                f"Exponential covariance, length {LENGTH:g} pixels, std {STD}, grey uniform on .3 to .7; mean error in posterior s.d. /",
                f"trace ratio; {chains} chains, {arguments.field_seeds} draws. 'prior' looks at no y.",
                "",
            ]
        for line in rows(arguments.field_seeds if title else arguments.seeds, chains):
            lines.append(line)
            print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
