"""How wrong samplers are at settings of their papers, on small Gaussian problems: `python benchmarks/studies/settings.py [--out FILE]`.

Dimension 8, four measurements, six draws of (A, y), 4000 chains each: S, white x0 of variance 1 behind a dense A; G, correlated x0
(variances .3 to .003); both with noise .1; I, G's x0 behind a mask of every other entry, noise .01. A figure is the median over the
draws of

    error of the mean in posterior standard deviations / relative error of the covariance / its trace over the posterior's

Sampling alone gives .016 / .05 / 1. The default settings on many more problems are the leaderboard of truth (`invsolve bench run truth`).
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import torch
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver
from invsolve.priors import GaussianPrior
from invsolve.solvers import (
    CM4IR,
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DPS,
    JFPS,
    LATINO,
    MGDM,
    MMPS,
    MPGD,
    OTODE,
    DiffPIR,
    LanPaint,
    PiGDM,
    PnPFlow,
    RePaint,
)
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, normal
from invsolve.testing.pooled import Pooled
from invsolve.testing.subjects import Kept

SIZE, ROWS, CHAINS, DRAWS = 8, 4, 4000, 6
SIGMAS = {"S": 0.1, "G": 0.1, "I": 0.01}
SETTINGS: dict[str, Solver] = {
    "pnp-flow, alpha 1, 5 draws": PnPFlow(steps=100, draws=5, alpha=1.0),
    "pnp-flow, alpha .5, 5 draws": PnPFlow(steps=100, draws=5, alpha=0.5),
    "pnp-flow, alpha .01, 5 draws": PnPFlow(steps=100, draws=5, alpha=0.01),
    "pnp-flow, alpha 1, 1 draw": PnPFlow(steps=100, draws=1, alpha=1.0),
    "pnp-flow": PnPFlow(steps=100),
    "ot-ode, white": OTODE(steps=100, covariance="white", order=1),
    "ot-ode, white, gamma_t": OTODE(steps=100, covariance="white", gamma="schedule", order=1),
    "ot-ode, tweedie, 4 products": OTODE(steps=100, products=ROWS),
    "dds, gamma 1, eta .85, 50 steps": DDS(steps=50, gamma=1.0, eta=0.85),
    "dds, eta .85, 50 steps": DDS(steps=50, eta=0.85),
    "dds, 50 steps": DDS(steps=50),
    "mpgd, scale 1": MPGD(steps=100, scale=1.0),
    "mpgd, scale .1": MPGD(steps=100, scale=0.1),
    "latino, 8 levels of 12 calls, delta 1": LATINO(steps=8, calls=12, delta=1.0),
    "latino, 8 levels of 12 calls, delta .1": LATINO(steps=8, calls=12, delta=0.1),
    "cm4ir, 4 levels of 12 calls, opposite": CM4IR(steps=4, calls=12, noise="opposite", eta=0.1),
    "cm4ir, 4 levels of 12 calls, predicted": CM4IR(steps=4, calls=12, noise="predicted", eta=0.1),
    "lanpaint 20 x 5, step .15": LanPaint(steps=20, inner=5, step=0.15),
    "lanpaint 20 x 10, step .15": LanPaint(steps=20, inner=10, step=0.15),
    "lanpaint 50 x 10, step .3": LanPaint(steps=50, inner=10, step=0.3),
    "lanpaint 50 x 10, step .3, guidance 0": LanPaint(steps=50, inner=10, step=0.3, guidance=0.0),
    "lanpaint 50 x 40, step .5": LanPaint(steps=50, inner=40, step=0.5),
    "lanpaint 20 x 5, its default step": LanPaint(steps=20, inner=5),
    "repaint, 250 steps, 1 way": RePaint(steps=250, jump=10, repeats=1),
    "repaint, 250 steps, 10 ways": RePaint(steps=250, jump=10, repeats=10),
    "mmps": MMPS(steps=100, iterations=ROWS),
    "jfps": JFPS(steps=100),
    "pigdm": PiGDM(steps=100),
    "ddnm": DDNM(steps=100),
    "ddrm": DDRM(steps=100),
    "diffpir": DiffPIR(steps=100),
    "dps": DPS(steps=250),
    "daps": DAPS(steps=100),
    "mgdm": MGDM(steps=100),
}


def drawn(name: str, seed: int) -> tuple[Gaussian, GaussianPrior, Operator, Tensor, Tensor]:
    """(law of x0, prior, operator, A, y)."""
    mean = torch.zeros(SIZE, dtype=torch.float64)
    if name == "S":
        law, prior = Gaussian(mean, torch.eye(SIZE, dtype=torch.float64)), GaussianPrior(0.0, 1.0)
    else:
        basis = torch.linalg.qr(normal(SIZE, SIZE, seed=seed + 100))[0]
        law = Gaussian(mean, basis @ torch.diag(torch.logspace(math.log10(0.3), math.log10(0.003), SIZE, dtype=torch.float64)) @ basis.T)
        prior = GaussianPrior(0.0, cov=law.cov)
    operator: Operator = Kept((1, 1, SIZE)) if name == "I" else DenseOperator(normal(ROWS, SIZE, seed=seed) / math.sqrt(SIZE))
    matrix = operator(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, 1, 1, SIZE))
    assert isinstance(matrix, Tensor)
    matrix = matrix.reshape(SIZE, -1).T
    y = matrix @ law.sample(1, seed + 200)[0] + SIGMAS[name] * normal(len(matrix), seed=seed + 300)
    seen = matrix.abs().sum(1) > 0
    return law, prior, operator, matrix[seen], torch.where(seen, y, 0.0)


def figures(solver: Solver, name: str) -> str:
    """The three medians; empty where the solver does not take the problem."""
    found: list[Bias] = []
    for seed in range(DRAWS):
        law, prior, operator, matrix, y = drawn(name, seed)
        shaped = y.reshape(1, *operator.out_shapes[0]).expand(CHAINS, *operator.out_shapes[0])
        problem = Problem(operator, shaped, GaussianNoise(SIGMAS[name]))
        if solver.mismatches(problem, prior):
            return ""
        x = solver.solve(problem, prior, generator=Pooled(seed, range(CHAINS)), paste=False).x.flatten(1)
        kept = y[y != 0] if len(matrix) != len(y) else y
        found.append(Bias.of(empirical(x), law.posterior(matrix, kept, SIGMAS[name])))
    medians = [statistics.median(getattr(one, figure) for one in found) for figure in ("mean", "cov", "trace")]
    return " / ".join(f"{value:.3f}" if value < 0.1 else f"{value:.2f}" for value in medians)


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    page = [
        "# Samplers at settings of their papers",
        "",
        *(__doc__ or "").splitlines(),
        "",
        "| settings | S | G | I |",
        "|---|---|---|---|",
    ]
    for label, solver in SETTINGS.items():
        page.append(f"| {label} | " + " | ".join(figures(solver, name) for name in SIGMAS) + " |")
        print(page[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
