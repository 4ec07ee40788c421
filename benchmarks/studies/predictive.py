"""How well draws from the prior choose settings and calibrate intervals for real pictures.

    python benchmarks/studies/predictive.py regret --data DATA --out FILE.jsonl       # then: report FILE.jsonl
    python benchmarks/studies/predictive.py coverage --data DATA --out FILE.jsonl

DATA holds dev/tiny_imagenet64/val200.zip and dev/mnist/mnist_test.npz: pictures on which nothing here was trained or tuned. Windows of
32 x 32. Regret: a solver's settings, the same for all, are scored on 16 draws and on 24 real pictures; the regret of a way to choose is the
mean PSNR on the real ones of the setting best there less that of the chosen one. The draws choose as `tune` does (`race.settled`, a rule
chosen on other draws and the first eight of the pictures, which therefore are left out here). Coverage: intervals from 19 draws, held
against 12 fresh draws and 12 real pictures. Every line of FILE is a cell; a run goes on where it ended.
"""

import argparse
import io
import json
import statistics
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Identity, Mask, MotionBlur
from PIL import Image
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, Solver, load_prior
from invsolve.predictive import Draws, calibrate, draw, fit
from invsolve.predictive.candidates import Candidate, settings
from invsolve.predictive.race import Trial, settled
from invsolve.priors import GaussianPrior, Prior
from invsolve.rng import derive
from invsolve.solvers import ADMM, DDRM, HQS, DDNMPlus, DiffPIR, Spectral

SIDE, DRAWS, TRIALS = 32, 16, 9
REAL = slice(8, 32)
CALIBRATED, FRESH, SAMPLES = 19, 12, 6
LEVELS = (0.5, 0.9)
COVERED = ("diffpir", "hqs", "ddrm", "spectral", "ddnm-plus")
PRIORS = {"natural": 3, "mnist": 1}
SOLVERS = {
    "diffpir": DiffPIR(steps=8),
    "hqs": HQS(steps=8),
    "admm": ADMM(steps=8),
    "ddrm": DDRM(steps=8),
    "spectral": Spectral(steps=8),
    "ddnm-plus": DDNMPlus(steps=8),
}


def operators(channels: int) -> dict[str, tuple[Operator, float]]:
    """(operator, noise) by name: eight problems, the first six of them for coverage."""
    shape = (channels, SIDE, SIDE)
    mask = (torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.3).float().expand(shape).contiguous()
    return {
        "blur 1.2, sigma .05": (GaussianBlur(shape, 1.2), 0.05),
        "mean 4 x 4, sigma .02": (BlockMean(shape, 4), 0.02),
        "box 12, sigma .05": (BoxMask(shape, 12), 0.05),
        "30 % of pixels, sigma .05": (Mask(shape, mask=mask), 0.05),
        "motion blur, sigma .01": (MotionBlur(shape), 0.01),
        "denoising .2": (Identity(shape), 0.2),
        "blur 1.2, sigma .2": (GaussianBlur(shape, 1.2), 0.2),
        "mean 2 x 2, sigma .1": (BlockMean(shape, 2), 0.1),
    }


def pictures(data: Path, prior: str, places: slice) -> Tensor:
    """(N, C, 32, 32): real ones."""
    if prior == "mnist":
        images = np.load(data / "dev/mnist/mnist_test.npz")["images"][places]
        return torch.nn.functional.pad(torch.from_numpy(images).float()[:, None] / 255, (2, 2, 2, 2))
    with zipfile.ZipFile(data / "dev/tiny_imagenet64/val200.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[places]
        arrays = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)[..., 16:48, 16:48].float() / 255


def scores(candidate: Candidate, problem: Problem, truth: Tensor, noise: float) -> tuple[list[float], float] | tuple[None, None]:
    """PSNR of every picture and the mean residual in units of the noise; None where the solver fails."""
    try:
        found = candidate.solver.solve(problem, candidate.prior, generator=1)
    except Exception as error:
        print(candidate.label, error)
        return None, None
    residual = (problem.operator(found.x) - problem.y).flatten(1).norm(dim=1) / (noise * problem.y[0].numel() ** 0.5)
    return found.psnr(truth).tolist(), float(residual.mean())


def regret_cell(prior: Prior, operator: Operator, noise: float, solver: Solver, real: Tensor) -> dict[str, Any]:
    """All settings on draws and on real pictures."""
    problem = Problem.simulate(operator, real, GaussianNoise(noise), generator=2)
    draws = draw(problem[0], prior, DRAWS)
    tried = settings(solver, prior, draws.problem, TRIALS)
    residual = []
    rows = []
    for one in tried:
        on_draws, _ = scores(one, draws.problem, draws.truths, noise)
        on_real, apart = scores(one, problem, real, noise)
        rows.append((on_draws, on_real))
        residual.append(apart)
    looked = fit(problem, draws)
    return {
        "settings": [one.label for one in tried],
        "values": [one.values for one in tried],
        "scores": rows,
        "residual": residual,
        "p": looked.p,
    }


def coverage_cell(prior: Prior, operator: Operator, noise: float, solver: Solver, real: Tensor) -> dict[str, Any]:
    """Shares of pixels that intervals hold: raw quantiles of the samples aside, calibrated ones on draws and real pictures."""
    every = draw(Problem.simulate(operator, real[:1], GaussianNoise(noise), generator=2), prior, CALIBRATED + FRESH)
    calibration = calibrate(every.problem[0], prior, solver, samples=SAMPLES, draws=every.part(0, CALIBRATED))
    out: dict[str, Any] = {"p": fit(Problem.simulate(operator, real, GaussianNoise(noise), generator=2), every).p}
    fresh = every.part(CALIBRATED, CALIBRATED + FRESH)
    photographs = Draws(real, Problem.simulate(operator, real, GaussianNoise(noise), generator=2), "real")
    for name, part in (("draws", fresh), ("real", photographs)):
        solution = solver.solve(part.problem, prior, generator=derive("coverage", name), samples=SAMPLES)
        for level in LEVELS:
            low, high = calibration.interval(solution, level)
            out[f"{name} {level}"] = ((part.truths >= low) & (part.truths <= high)).double().flatten(1).mean(1).tolist()
        spread = solution.std
        out[f"{name} raw"] = ((part.truths - solution.mean).abs() <= 1.645 * spread).double().flatten(1).mean(1).tolist()
    return out


def run(kind: str, data: Path, out: Path) -> None:
    """All cells that the file has not."""
    done = {json.loads(line)["key"] for line in out.read_text().splitlines()} if out.exists() else set()
    for prior_name, channels in reversed(PRIORS.items()):
        prior = load_prior(prior_name)
        real = pictures(data, prior_name, REAL if kind == "regret" else slice(FRESH))
        problems = operators(channels)
        chosen = list(problems) if kind == "regret" else list(problems)[:6]
        for problem in chosen:
            for name in SOLVERS if kind == "regret" else COVERED:
                key = f"{prior_name} | {problem} | {name}"
                if key in done:
                    continue
                cell = regret_cell if kind == "regret" else coverage_cell
                found = cell(prior, *problems[problem], SOLVERS[name], real)
                with out.open("a") as file:
                    file.write(json.dumps({"key": key, **found}) + "\n")
                print(key, flush=True)


def report(path: Path) -> None:
    """The table of a file."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    print(regret_report(lines) if "settings" in lines[0] else coverage_report(lines))


def mean(values: list[float] | None) -> float:
    """Of a list; minus infinity where there is none."""
    return statistics.fmean(values) if values else -float("inf")


def by_draws(line: dict[str, Any]) -> int:
    """Which setting the draws choose, as `tune` does."""
    part = Candidate("", DiffPIR(), GaussianPrior(0.0, 1.0))  # plays no part in the choice
    trials = [Trial(part, row[0] or [], reason="" if row[0] else "failed") for row in line["scores"]]
    return next(k for k, one in enumerate(trials) if one is settled([trial for trial in trials if not trial.reason], trials[0]))


def regret_report(lines: list[dict[str, Any]]) -> str:
    """One row per cell: the best setting's PSNR on real pictures, and how far below it each way to choose ends."""
    ways = ("draws", "default", "residual", "others")
    rows, every = [], {way: [] for way in ways}
    for line in lines:
        real = [mean(row[1]) for row in line["scores"]]
        best = max(real)
        prior, _, solver = line["key"].split(" | ")
        peers = [other for other in lines if other is not line and other["key"].startswith(prior) and other["key"].endswith(f"| {solver}")]
        pooled = [
            sum(mean(other["scores"][k][1]) - max(mean(row[1]) for row in other["scores"]) for other in peers) for k in range(len(real))
        ]
        residual = min((k for k, one in enumerate(line["residual"]) if one is not None), key=lambda k: abs(line["residual"][k] - 1))
        chosen = {"draws": by_draws(line), "default": 0, "residual": residual, "others": pooled.index(max(pooled))}
        lost = {way: best - real[place] for way, place in chosen.items()}
        for way in ways:
            every[way].append(lost[way])
        rows.append([*line["key"].split(" | "), f"{best:.2f}", *(f"{lost[way]:.2f}" for way in ways), f"{line['p']:.2g}"])
    head = ["prior", "problem", "solver", "best, dB", *(f"lost by {way}" for way in ways), "fit p"]
    text = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    generator = torch.Generator().manual_seed(0)
    for way in ways:
        values = torch.tensor(every[way])
        boot = values[torch.randint(len(values), (2000, len(values)), generator=generator)]
        low, high = boot.mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
        within = float((values <= 0.1).float().mean())
        text.append(f"- {way}: mean regret {float(values.mean()):.3f} dB [{low:.3f}, {high:.3f}], at most .1 dB in {within:.0%} of cells")
    return "\n".join(text)


def coverage_report(lines: list[dict[str, Any]]) -> str:
    """One row per cell."""
    names = [f"{of} {level}" for of in ("draws", "real") for level in LEVELS]
    head = ["prior", "problem", "solver", *names, "real, raw 90 %", "fit p"]
    rows = []
    for line in lines:
        values = [f"{100 * mean(line[name]):.1f} ± {100 * statistics.stdev(line[name]) / len(line[name]) ** 0.5:.1f}" for name in names]
        rows.append([*line["key"].split(" | "), *values, f"{100 * mean(line['real raw']):.1f}", f"{line['p']:.2g}"])
    text = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    for name in names:
        each = [mean(line[name]) for line in lines]
        wanted = float(name.split()[1])
        near = sum(abs(one - wanted) <= 0.05 for one in each)
        text.append(
            f"- {name}: mean {100 * mean(each):.1f} %, within 5 points in {near} of {len(each)} cells, least {100 * min(each):.1f} %"
        )
    return "\n".join(text)


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("regret", "coverage", "report"))
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.kind == "report":
        report(given.file)
    else:
        run(given.kind, given.data, given.out)


if __name__ == "__main__":
    main()
