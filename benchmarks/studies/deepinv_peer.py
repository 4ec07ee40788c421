"""Our solvers beside deepinv's own on the same photographs, operators, y, network and scores.

    python benchmarks/studies/deepinv_peer.py PHOTOS --crop 64 --first 8 --sigma 0.05 --out runs/peer [--only NAME ...] [--page FILE]

Seven tasks: a box, 70 % of the pixels, one half, a Gaussian and a motion blur, 4 x 4 means, noise alone. Network: `auto` at 20 network
evaluations, and the solvers it chooses from. deepinv's: DPS (1000 evaluations, each with a backward pass), DiffPIR (100), DDRM (100) and
DPIR (8), with the arguments their pages show, noise level given; DDRM also at the levels of our prior (its own end at sigma 1), DPS also
with its annealed guidance (its norm's is weak here), DiffPIR started from the pseudoinverse where y is no image. Their physics are views
of our operators, so that both see one A, A^T, prox and SVD.

Every finished cell is a line of OUT/rows.jsonl and is not run again. An item is an average over the photographs, in brackets the standard
error of the paired difference to the best of deepinv's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepinv
import numpy as np
import torch
from invsolve_deepinv import to_deepinv
from invsolve_deepinv.peers import Network
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, HalfMask, Identity, Mask, MotionBlur
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver, load_prior, registry
from invsolve.io.images import read_image
from invsolve.operator.measurement import parts
from invsolve.priors.base import Denoiser
from invsolve.solvers import HQS, Auto, DiffPIR, Spectral

METRICS = {"psnr": 2, "haarpsi": 3}
OURS: dict[str, Callable[[], Solver]] = {
    "auto @ 20": lambda: Auto(steps=20),
    "spectral @ 20": lambda: Spectral(steps=20),
    "diffpir @ 20": lambda: DiffPIR(steps=20),
    "hqs @ 20": lambda: HQS(steps=20),
}


def dps(network: Network, physics: Any, y: Tensor, sigma: float, guidance: str = "norm") -> Tensor:
    """1000 steps of the DDPM sampler, weight 1."""
    del sigma
    rng = torch.Generator().manual_seed(1)
    model = deepinv.sampling.DPS(network, num_steps=1001, guidance=guidance, dtype=torch.float32, rng=rng)
    return model(y.clone(), physics, x_init=(len(y), *physics.img_size), seed=1)


def dps_annealed(network: Network, physics: Any, y: Tensor, sigma: float) -> Tensor:
    """With its other guidance, for which its pages say that 1 is the natural weight."""
    return dps(network, physics, y, sigma, "annealed")


def diffpir(network: Network, physics: Any, y: Tensor, sigma: float) -> Tensor:
    """100 steps, zeta .1, lambda 7."""
    model = deepinv.sampling.DiffPIR(network, deepinv.optim.data_fidelity.L2(), sigma=sigma, max_iter=100)
    same = y.shape[1:] == torch.Size(physics.img_size)
    return model(y.clone(), physics, seed=1, x_init=None if same else physics.A_dagger(y))


def ddrm(network: Network, physics: Any, y: Tensor, sigma: float) -> Tensor:
    """100 levels from 1 to 0, its default."""
    del sigma
    return deepinv.sampling.DDRM(network)(y.clone(), physics, seed=1)


def ddrm_levels(network: Network, physics: Any, y: Tensor, sigma: float) -> Tensor:
    """100 levels of our prior, geometric from its highest."""
    del sigma
    levels = np.array(network.prior.sigmas(100)[:-1])
    return deepinv.sampling.DDRM(network, sigmas=levels)(y.clone(), physics, seed=1)


def dpir(network: Network, physics: Any, y: Tensor, sigma: float) -> Tensor:
    """8 half-quadratic steps."""
    return deepinv.optim.DPIR(sigma=sigma, denoiser=network)(y.clone(), physics)


THEIRS: dict[str, Callable[[Network, Any, Tensor, float], Tensor]] = {
    "deepinv DPIR": dpir,
    "deepinv DiffPIR-100": diffpir,
    "deepinv DDRM-100": ddrm,
    "deepinv DDRM-100, our levels": ddrm_levels,
    "deepinv DPS-1000": dps,
    "deepinv DPS-1000, annealed": dps_annealed,
}


def tasks(side: int) -> dict[str, Operator]:
    """The seven operators."""
    shape = (3, side, side)
    return {
        "box": BoxMask(shape, box=side * 3 // 8),
        "random 70 %": Mask(shape, keep=0.3),
        "half": HalfMask(shape),
        "Gaussian blur": GaussianBlur(shape, sigma=1.6),
        "motion blur": MotionBlur(shape),
        "SR x4": BlockMean(shape, factor=4),
        "denoising": Identity(shape),
    }


def crops(folder: Path, side: int, first: int) -> Tensor:
    """(first, 3, side, side): the middles of the first pictures by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:first]
    if len(files) < first:
        raise SystemExit(f"{folder} holds {len(files)} of the {first} pictures that are wanted")
    pictures = [read_image(file)[0] for file in files]
    corners = [((picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2) for picture in pictures]
    cut = [p[..., top : top + side, left : left + side] for p, (top, left) in zip(pictures, corners, strict=True)]
    return torch.cat([one.reshape(1, 3, side, side) for one in cut])


def answers(name: str, problem: Problem, prior: Denoiser, sigma: float) -> Tensor:
    """What a method says."""
    if name in OURS:
        return OURS[name]().solve(problem, prior, generator=0).x
    with torch.random.fork_rng():
        torch.manual_seed(1)
        physics = to_deepinv(problem.operator, GaussianNoise(sigma))
        if hasattr(physics, "mask"):  # deepinv 0.5.0's DDRM wants one value per channel
            physics.mask = physics.mask.expand(1, *physics.U_adjoint(parts(problem.y)[0]).shape[1:]).clone()
        with torch.set_grad_enabled("DPS" in name):
            return THEIRS[name](Network(prior), physics, parts(problem.y)[0], sigma).detach()


def cells(arguments: argparse.Namespace, done: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A row per method and task."""
    truth = crops(arguments.photos, arguments.crop, arguments.first)
    prior: Any = load_prior("natural", precision="bfloat16")
    score = {name: registry().load("metric", name)() for name in METRICS}
    problems = {
        task: Problem.simulate(operator, truth, GaussianNoise(arguments.sigma), generator=0)
        for task, operator in tasks(arguments.crop).items()
    }
    for name in [*OURS, *THEIRS]:
        for task, problem in problems.items():
            if (name, task) in done or (arguments.only and name not in arguments.only):
                continue
            began = time.perf_counter()
            x = answers(name, problem, prior, arguments.sigma).to(truth.dtype)
            seconds = (time.perf_counter() - began) / len(truth)
            row = {"method": name, "task": task, "seconds": seconds}
            yield row | {metric: [float(v) for v in one(x.clamp(0, 1), truth)] for metric, one in score.items()}


def table(rows: list[dict[str, Any]], heading: str) -> str:
    """A table a metric: methods by tasks."""
    names = [name for name in [*OURS, *THEIRS] if any(row["method"] == name for row in rows)]
    labels = list(dict.fromkeys(row["task"] for row in rows))
    out = [f"## {heading}", ""]
    for metric, digits in METRICS.items():
        values: dict[str, dict[str, list[float]]] = defaultdict(dict)
        for row in rows:
            values[row["method"]][row["task"]] = row[metric]
        rivals = [name for name in names if name in THEIRS]
        best = {t: max((values[n][t] for n in rivals if t in values[n]), key=statistics.mean, default=[]) for t in labels}
        out += [f"| {metric} | " + " | ".join(labels) + " | seconds a picture |", "|---" * (len(labels) + 2) + "|"]
        for name in names:
            line = []
            for task in labels:
                mine, other = values[name].get(task, []), best[task]
                gap = [a - b for a, b in zip(mine, other, strict=False)]
                error = f" ({statistics.stdev(gap) / math.sqrt(len(gap)):.{digits}f})" if name in OURS and len(gap) > 1 else ""
                line.append(f"{statistics.mean(mine):.{digits}f}{error}" if mine else "")
            spent = statistics.median(row["seconds"] for row in rows if row["method"] == name)
            out.append(f"| {name} | " + " | ".join(line) + f" | {spent:.2f} |")
        out.append("")
    return "\n".join(out)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--first", type=int, default=8)
    parser.add_argument("--sigma", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("runs/peer"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"{arguments.photos.name}-{arguments.crop}-{arguments.first}-{arguments.sigma:g}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for row in cells(arguments, {(row["method"], row["task"]) for row in rows}):
        rows.append(row)
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(row["method"], row["task"], f"{statistics.mean(row['psnr']):.2f} dB", f"{row['seconds']:.2f} s", flush=True)
    heading = f"{arguments.photos.name}, {len(rows[0]['psnr'])} crops of {arguments.crop} x {arguments.crop}, noise {arguments.sigma:g}"
    text = table(rows, heading)
    if arguments.page:
        with arguments.page.open("a") as stream:
            stream.write(text)
    print(text)


if __name__ == "__main__":
    main()
