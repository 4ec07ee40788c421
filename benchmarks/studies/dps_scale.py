"""What one scale of DPS is worth: `python benchmarks/studies/dps_scale.py --data FOLDER [--out FILE]`.

FOLDER holds photographs; the middles of the first four are cut out, every other one shrunk by two before. Three operators, three noise
levels, two sizes and several numbers of steps share the one scale. Then samples: how far their spread explains their error, which says how
much of a sample's error comes from its being a sample. All with `natural` in bfloat16.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from invsolve import GaussianNoise, Problem, Solver, load_prior, registry
from invsolve.operator.measurement import flat, minus
from invsolve.solvers import DDRM, DPS
from invsolve.training.data import pixels, read_images

COUNT, SAMPLES = 4, 5
HEAD = ["| solver | size | sigma | hole | deblurring | SR x4 |", "|---|---|---|---|---|---|"]
SCALES: list[Solver] = [DPS(scale=scale) for scale in (0.7, 1.0, 1.5, 1.9)]
STEPS: list[Solver] = [DPS(steps=steps) for steps in (20, 50, 250)]
GRIDS: list[Solver] = [DPS(grid="vp-respaced"), DPS(sigma_max=1.0), DPS(sigma_max=80.0)]
AUTHORS: list[Solver] = [DPS(zeta=None), *(DPS(authors=True, scale=scale, sigma_max=5.0) for scale in (0.3, 0.5, 1.0))]


def crops(folder: Path, side: int) -> Tensor:
    """(COUNT, 3, side, side): middles of the first photographs, every other one at half its size."""
    chosen: list[Tensor] = []
    for image in read_images(folder):
        span = side * (1 + len(chosen) % 2)
        left, top = ((length - span) // 2 for length in image.size)
        if min(left, top) >= 0:
            small = image.crop((left, top, left + span, top + span)).resize((side, side))
            chosen.append(torch.from_numpy(pixels(small).copy()).permute(2, 0, 1).float() / 255)
        if len(chosen) == COUNT:
            return torch.stack(chosen)
    raise SystemExit(f"{folder} holds {len(chosen)} photographs of {2 * side} pixels and more; {COUNT} are needed")


def problems(x: Tensor, sigma: float) -> Iterator[Problem]:
    """A hole, a blur and block means, as the quick benchmark has them."""
    side = x.shape[-1]
    for name, arguments in (("box-mask", {"box": side * 3 // 8}), ("gaussian-blur", {"sigma": 1.6}), ("block-mean", {"factor": 4})):
        operator = registry().build("operator", name, in_shape=tuple(x.shape[1:]), **arguments)
        yield Problem.simulate(operator, x, GaussianNoise(sigma), generator=0)


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean over the images, in dB."""
    return float(-10 * (a - b).square().flatten(1).mean(1).log10().mean())


def cell(solver: Solver, problem: Problem, x: Tensor) -> str:
    """PSNR and the residual over what the noise's would be."""
    found = solver.solve(problem, PRIOR, generator=1).x
    measured = flat(problem.y).ne(0).sum(1)  # a mask's other entries are 0
    ratio = flat(minus(problem.y, problem.operator(found))).norm(dim=1) / (problem.sigma * measured.sqrt())
    return f"{psnr(found, x):.2f} ({float(ratio.mean()):.2f})"


def shown(solver: Solver) -> str:
    """Its arguments as written."""
    return f"`{type(solver).__name__}({', '.join(f'{key}={value!r}' for key, value in solver.arguments.items())})`"


def lines(solvers: list[Solver], photographs: dict[int, Tensor], sigmas: tuple[float, ...]) -> Iterator[str]:
    """A row per size, noise level and solver."""
    for side, x in photographs.items():
        for sigma in sigmas:
            for solver in solvers:
                yield f"| {shown(solver)} | {side} | {sigma} | {' | '.join(cell(solver, one, x) for one in problems(x, sigma))} |"


def spread(solver: Solver, x: Tensor, sigma: float) -> str:
    """PSNR of one sample, of the mean of all, and variance over the squared error of the mean of infinitely many."""
    cells = []
    for problem in problems(x, sigma):
        found = torch.cat([solver.solve(problem, PRIOR, generator=seed).x[None] for seed in range(SAMPLES)])
        mean, variance = found.mean(0), float(found.var(0).mean())
        single = -10 * math.log10(float((found - x).square().mean()))
        error = float((mean - x).square().mean())
        cells.append(f"{single:.2f} / {-10 * math.log10(error):.2f} / {variance / (error - variance / SAMPLES):.2f}")
    return f"| {shown(solver)} | {x.shape[-1]} | {sigma} | {' | '.join(cells)} |"


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    small, large = ({side: crops(arguments.data, side)} for side in (64, 128))
    text = [
        "# One scale for DPS",
        "",
        "`python benchmarks/studies/dps_scale.py --data FOLDER`: mean PSNR in dB of four photographs, and in",
    ]
    text += ["brackets |Hx - y| / (sigma sqrt m), about 1 for the truth; DDRM for comparison.", "", *HEAD]
    sections: list[Iterator[str]] = [
        lines([DPS(), DDRM(steps=50, eta=0.9, sigma_max=5.0)], small | large, (0.01, 0.05, 0.2)),
        lines([*SCALES, *STEPS, *GRIDS, *AUTHORS], small, (0.05,)),
        lines([*AUTHORS[:3]], large, (0.05,)),
    ]
    for section in sections:
        for line in section:
            text.append(line)
            print(line, flush=True)
    text += [
        "",
        f"One sample / the mean of {SAMPLES} / variance of samples over the squared error of their mean (1 is calibrated):",
        "",
        *HEAD,
    ]
    for solver in (DPS(), DPS(zeta=0.5), DPS(zeta=None)):
        text.append(spread(solver, small[64], 0.05))
        print(text[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


PRIOR = load_prior("natural", precision="bfloat16")

if __name__ == "__main__":
    main()
