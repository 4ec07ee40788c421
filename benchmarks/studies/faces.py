"""Half of each face hidden: DPS and DDRM with faces64, the mean face and TV: `python benchmarks/studies/faces.py --data DATA`.

DATA holds dev/faces64/dev.zip and train/faces64/train.zip (for the mean face). Needs benchmarks/weights/faces64.safetensors.
Writes results/faces64.md, results/faces64.png (rows: truth, measurement, mean face, TV, DPS, DDRM) and results/faces64_samples.png.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from invsolve_operators import Mask
from torch import Tensor

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.bench.prior_samples import draw_samples, gradient_kurtosis, spectrum_slope
from invsolve.io.images import picture_grid, write_image
from invsolve.solvers import ADMM, DDRM, DPS
from invsolve.training.data import read_images

HERE = Path(__file__).parents[1]
SIGMA = 0.02


def faces(source: Path, count: int, every: int = 1) -> Tensor:
    """(count, 3, 64, 64) in [0, 1], every n-th."""
    chosen = [np.asarray(image) for index, image in enumerate(read_images(source)) if index % every == 0][:count]
    return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float() / 255


def hidden_psnr(x: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB of the hidden pixels, per image."""
    hidden = mask.expand_as(truth) == 0
    error = (x.clamp(0, 1) - truth).square()
    return torch.stack([-10 * one[where].mean().log10() for one, where in zip(error, hidden, strict=True)])


def main() -> None:
    """Complete, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    prior = load_prior("faces64", precision="auto")
    truth = faces(arguments.data / "dev" / "faces64" / "dev.zip", arguments.count, every=12)
    train = faces(arguments.data / "train" / "faces64" / "train.zip", 4000, every=5)
    mask = torch.ones(1, 64, 64)
    mask[..., 32:] = 0
    operator = Mask((3, 64, 64), mask=mask)
    problem = Problem.simulate(operator, truth, GaussianNoise(SIGMA), generator=0)
    middle = train.mean(0, keepdim=True).expand_as(truth)
    measured = problem.y
    assert isinstance(measured, torch.Tensor)
    results = {
        "mean face": torch.where(mask.bool(), measured, middle),
        "TV (ADMM)": ADMM(steps=200).solve(problem, load_prior("tv", weight=8.0), generator=0).x,
        f"DPS, {arguments.steps} steps": DPS(steps=arguments.steps).solve(problem, prior, generator=0).x,
        "DDRM, 50 steps": DDRM(steps=50, sigma_max=10.0).solve(problem, prior, generator=0).x,
    }
    lines = [
        "# Half-hidden faces",
        "",
        f"`python benchmarks/studies/faces.py --data DATA`: {len(truth)} faces never seen, right half hidden, noise {SIGMA}.",
        "",
    ]
    lines += ["| method | PSNR on the hidden half, dB | PSNR, dB |", "|---|---|---|"]
    for name, x in results.items():
        half, whole = hidden_psnr(x, truth, mask), -10 * (x.clamp(0, 1) - truth).square().flatten(1).mean(1).log10()
        lines.append(f"| {name} | {half.mean():.2f} ± {half.std():.2f} | {whole.mean():.2f} |")
    rows = torch.cat([truth, measured, *results.values()])
    write_image(HERE / "results" / "faces64.png", picture_grid(rows.clamp(0, 1), len(truth)))
    lines += [
        "",
        "Samples (results/faces64_samples.png), beside the faces above:",
        "",
        "| | spectrum slope | gradient kurtosis |",
        "|---|---|---|",
    ]
    drawn = draw_samples(prior, 64, 16)
    lines += [f"| {one.name} | {one.slope:.2f} | {one.kurtosis:.1f} |" for one in drawn]
    lines.append(f"| real faces | {spectrum_slope(truth):.2f} | {gradient_kurtosis(truth):.1f} |")
    write_image(HERE / "results" / "faces64_samples.png", picture_grid(torch.cat([one.images for one in drawn]), 8))
    (HERE / "results" / "faces64.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
