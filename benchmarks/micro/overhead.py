"""Time outside the network: `python benchmarks/micro/overhead.py [--quick] [--out FILE]`.

One process, one problem (box inpainting, noise 0.05), one network (`natural`, float32), the same number of network
evaluations; ours and deepinv's class in turns (A B A B). The network's time is taken by inline timers at its border; for DPS
the backward pass, which both leave to torch.autograd.grad, belongs to the network on both sides. A ratio is

    (total - inside) / inside,   its median over the runs with the interquartile range
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import deepinv
import numpy as np
import torch
from invsolve_operators import BoxMask
from torch import Tensor

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.operator.measurement import parts
from invsolve.priors import Denoiser
from invsolve.solver import Solver
from invsolve.solvers import DDRM, DPS, HQS, DiffPIR

NOISE = 0.05


@dataclass(frozen=True)
class Run:
    """One solve: seconds in all, seconds inside the network, network evaluations."""

    total: float
    inside: float
    calls: int

    @property
    def ratio(self) -> float:
        return (self.total - self.inside) / self.inside

    @property
    def outside_ms(self) -> float:
        return 1e3 * (self.total - self.inside) / self.calls


class Timed(deepinv.models.Denoiser):
    """Our prior with deepinv's call, and the timer at its border."""

    def __init__(self, prior: Denoiser) -> None:
        super().__init__()
        self.prior = prior
        self.seconds, self.calls = 0.0, 0

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        began = time.perf_counter()
        level = sigma.reshape(-1).to(x.dtype) if isinstance(sigma, Tensor) else sigma
        out = self.prior(x, level)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return out

    @contextmanager
    def backward_counted(self) -> Iterator[None]:
        """torch.autograd.grad adds to the timer."""
        grad = torch.autograd.grad

        def timed(*args, **kwargs):
            began = time.perf_counter()
            out = grad(*args, **kwargs)
            self.seconds += time.perf_counter() - began
            return out

        with mock.patch("torch.autograd.grad", timed):
            yield


def ours(solver: Solver, problem: Problem, prior: Denoiser) -> Run:
    """One run of ours, by the solution's own timers."""
    solution = solver.solve(problem, prior, generator=0)
    return Run(solution.seconds, solution.network_seconds, solution.nfe)


def theirs(run: Callable[[Timed], object], prior: Denoiser) -> Run:
    """One run of deepinv's class; its construction is left out, as ours is."""
    timed = Timed(prior)
    call = run(timed)
    assert callable(call)
    with timed.backward_counted():
        began = time.perf_counter()
        call()
        total = time.perf_counter() - began
    return Run(total, timed.seconds, timed.calls)


def pairs(problem: Problem, prior: Denoiser, steps: int) -> dict[str, tuple[Solver, Callable[[Timed], object]]]:
    """Solver -> ours and deepinv's, `steps` network evaluations each."""
    # deepinv 0.5.0 wants one mask value per channel in DDRM
    shape: Any = problem.operator.in_shape
    keep = problem.operator.get_buffer("mask").float().expand(shape).clone()
    physics = deepinv.physics.Inpainting(img_size=shape, mask=keep)
    physics.noise_model = deepinv.physics.GaussianNoise(NOISE)
    y = parts(problem.y)[0]
    fidelity = deepinv.optim.data_fidelity.L2()
    levels = np.array(prior.sigmas(steps, sigma_max=40.0)[:-1])

    def dps(timed: Timed) -> object:
        model = deepinv.sampling.DPS(timed, num_steps=steps + 1, dtype=torch.float32, rng=torch.Generator().manual_seed(0))
        return lambda: model(y.clone(), physics, x_init=y.shape, seed=0)

    def diffpir(timed: Timed) -> object:
        model = deepinv.sampling.DiffPIR(timed, fidelity, sigma=NOISE, max_iter=steps)
        return lambda: model(y.clone(), physics, seed=1)

    def ddrm(timed: Timed) -> object:
        model = deepinv.sampling.DDRM(timed, sigmas=levels)
        return lambda: model(y.clone(), physics, seed=1)

    def hqs(timed: Timed) -> object:
        model = deepinv.optim.HQS(
            data_fidelity=fidelity, prior=deepinv.optim.PnP(timed), sigma_denoiser=0.1, stepsize=1.0, max_iter=steps, thres_conv=0.0
        )
        return torch.no_grad()(lambda: model(y.clone(), physics))

    return {
        "dps": (DPS(steps=steps, authors=True), dps),
        "diffpir": (DiffPIR(steps=steps), diffpir),
        "ddrm": (DDRM(steps=steps, sigma_max=40.0), ddrm),
        "hqs": (HQS(steps=steps), hqs),
    }


def quartiles(values: list[float]) -> str:
    """median [25 %, 75 %]."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.4f} [{low:.4f}, {high:.4f}]"


def row(name: str, side: int, mine: list[Run], other: list[Run]) -> str:
    """One line of the table."""
    per_call = [statistics.median(run.total / run.calls for run in runs) for runs in (mine, other)]
    outside = [statistics.median(run.outside_ms for run in runs) for runs in (mine, other)]
    return (
        f"| {name} | {side} | {mine[0].calls} / {other[0].calls} | {quartiles([run.ratio for run in mine])} | "
        f"{quartiles([run.ratio for run in other])} | {outside[0]:.2f} / {outside[1]:.2f} | "
        f"{1e3 * per_call[0]:.1f} / {1e3 * per_call[1]:.1f} | {per_call[0] / per_call[1]:.3f} |"
    )


def measure(sides: list[int], steps: int, repeats: int, only: list[str], report: Callable[[str], None]) -> list[str]:
    """All rows."""
    prior = load_prior("natural")
    rows = []
    for side in sides:
        x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
        problem = Problem.simulate(BoxMask((3, side, side)), x, GaussianNoise(NOISE), generator=0)
        for name, (solver, build) in pairs(problem, prior, steps).items():
            if only and name not in only:
                continue
            ours(solver, problem, prior)  # warm-up
            theirs(build, prior)
            mine, other = [], []
            for _ in range(repeats):
                mine.append(ours(solver, problem, prior))
                other.append(theirs(build, prior))
            rows.append(row(name, side, mine, other))
            report(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64x64 only, 4 steps, 3 runs")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--only", nargs="+", default=[], choices=["dps", "diffpir", "ddrm", "hqs"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        arguments.sides, arguments.steps, arguments.repeats = [64], 4, 3
    head = [
        f"Box inpainting, 3 channels, B = 1, noise {NOISE}, `natural` in float32, {arguments.steps} steps, median [quartiles] of "
        f"{arguments.repeats} runs in turns; torch {torch.__version__}, deepinv {version('deepinv')}, {arguments.threads} thread(s), "
        f"{platform.machine()}.",
        "",
        "| solver | side | network calls, ours / deepinv | outside / inside, ours | outside / inside, deepinv | outside per call in ms | "
        "total per call in ms | ours / deepinv |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head), flush=True)
    rows = measure(arguments.sides, arguments.steps, arguments.repeats, arguments.only, lambda line: print(line, flush=True))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join([*head, *rows]) + "\n")


if __name__ == "__main__":
    main()
