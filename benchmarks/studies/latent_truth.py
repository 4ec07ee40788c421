"""Solvers in codes against the closed form: `python benchmarks/studies/latent_truth.py --out FILE.md`.

z ~ N(m, C) of 8 numbers, variances .075 to .00075, x = D z of 16: a linear decoder leaves the posteriors of code and image Gaussian. D is
an isometry (pairs of neighbours) or a general matrix (one pixel of a pair counts more, the places' lengths are .5 to 2). y = H x + n, 6
dense measurements or a mask that hides 5 pixels of 16, two of them the halves of one place; sigma_y = .05. Each figure is the mean over
draws of (H, y): the error of the mean in posterior standard deviations, the relative error of the covariance, and the trace ratio, of x.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior, LatentPrior
from invsolve.solvers import DAPS, DPS, MMPS
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, gaussian_case, normal
from invsolve.testing.pooled import Pooled

CODES, PIXELS, ROWS, SIGMA_Y = 8, 16, 6, 0.05
HIDDEN = (2, 3, 7, 8, 13)
NAMES = ("latent-dps", "psld", "resample", "latent-daps", "flowdps", "flowchef", "latent-repaint", "latent-lanpaint")
PLAIN: dict[str, Solver] = {"dps": DPS(), "daps": DAPS(), "mmps": MMPS(), "mmps 100": MMPS(steps=100, iterations=ROWS)}
CODE, IMAGE = (1, 1, CODES), (1, 1, PIXELS)


def decoder(kind: str) -> Tensor:
    """(16, 8): a place is a pair of neighbours; general: one pixel of a pair counts more, and the places' lengths are .5 to 2."""
    pairs = torch.eye(CODES, dtype=torch.float64).repeat_interleave(2, 0)
    if kind == "isometry":
        return pairs / math.sqrt(2)
    lean = torch.tensor([0.8, 0.6], dtype=torch.float64).repeat(CODES)
    return lean[:, None] * pairs * torch.linspace(0.5, 2.0, CODES, dtype=torch.float64)


def case(kind: str, masked: bool, seed: int) -> tuple[LatentPrior, Problem, Gaussian, Gaussian]:
    """(prior, problem, law of x, its posterior)."""
    law = gaussian_case("G", seed, size=CODES)[0]
    matrix = decoder(kind)
    images = Gaussian(matrix @ law.mean, matrix @ law.cov @ matrix.T)
    truth = matrix @ law.sample(1, seed + 1)[0]
    if masked:
        keep = torch.ones(PIXELS, dtype=torch.float64)
        keep[list(HIDDEN)] = 0
        operator: Operator = registry().build("operator", "mask", in_shape=IMAGE, mask=keep.reshape(IMAGE))
        seen = torch.eye(PIXELS, dtype=torch.float64)[keep > 0]
    else:
        seen = normal(ROWS, PIXELS, seed=seed + 2) / math.sqrt(PIXELS)
        operator = DenseOperator(seen)
    y = seen @ truth + SIGMA_Y * normal(len(seen), seed=seed + 3)
    shaped = (y @ seen).reshape(1, *IMAGE) if masked else y[None]
    prior = LatentPrior(GaussianPrior(law.mean.reshape(CODE), cov=law.cov), Operator.from_matrix(matrix, CODE, IMAGE))
    return prior, Problem(operator, shaped, GaussianNoise(SIGMA_Y), check_range=False), images, images.posterior(seen, y, SIGMA_Y)


def table(kind: str, masked: bool, chains: int, draws: int) -> list[str]:
    """The rows of one decoder and one H; solvers that take something else are left out."""
    solvers = {**PLAIN, **{name: registry().build("solver", name) for name in NAMES}}
    lines = ["| solver | mean / s.d. | covariance | trace |", "| --- | --- | --- | --- |"]
    cases = [case(kind, masked, 10 * seed) for seed in range(draws)]
    rows = {"the prior": [Bias.of(images, posterior) for _, _, images, posterior in cases]}
    for name, solver in solvers.items():
        if solver.mismatches(cases[0][1], cases[0][0]):
            continue
        rows[name] = []
        for prior, problem, _, posterior in cases:
            many = problem.repeat(chains)
            rows[name].append(Bias.of(empirical(solver.solve(many, prior, generator=Pooled(0, many.items)).x), posterior))
    for name, found in rows.items():
        mean, cov, trace = (sum(getattr(one, key) for one in found) / len(found) for key in ("mean", "cov", "trace"))
        lines.append(f"| {name} | {mean:.2f} | {cov:.2f} | {trace:.2f} |")
    return lines


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chains", type=int, default=600)
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    began = time.perf_counter()
    text = ["# Solvers in codes against the closed form", "", *(__doc__ or "").split("\n\n", 1)[1].strip().split("\n"), ""]
    for kind in ("isometry", "general"):
        for masked in (False, True):
            text += [f"## {kind.capitalize()} decoder, {'a mask' if masked else 'dense measurements'}", ""]
            text += [*table(kind, masked, arguments.chains, arguments.draws), ""]
    floor = math.sqrt(1 / arguments.chains)
    text += [
        f"{arguments.chains} chains of {arguments.draws} draws: sampling alone adds about {floor:.2f} to the error of the mean and 0.1 to",
        "the covariance's. `mmps` is exact but for its steps, whatever the decoder. `latent-repaint` and `latent-lanpaint` use only the",
        "places all of whose pixels are shown: here 4 of 8, so that three pixels are measured for nothing, which is most of their error.",
        "",
        f"Made by `python benchmarks/studies/latent_truth.py` in {time.perf_counter() - began:.0f} s.",
    ]
    print("\n".join(text))
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
