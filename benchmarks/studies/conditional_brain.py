"""PartDiff's table on brain MR slices: `python benchmarks/studies/conditional_brain.py --data DATA [--cache FOLDER]`.

x2 and x4 in-plane, from means of 2 x 2 or 4 x 4 pixels without noise, of the slices of dev/brain_mri512 at half size: nearest, bicubic,
two solvers of the prior without a condition, and one network for both factors with its last 25 of 100 steps, by either alignment, and by
all samplers of a prior. Writes results/conditional/brain.md and brain.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from conditional import Rows, gradient, off, operator, psnr, shown, solved, trained, written
from invsolve_weights.places import file_of
from torch import Tensor

from invsolve import NoNoise, Problem, load_prior
from invsolve.bench.metrics import SSIM, HaarPSI
from invsolve.priors.base import Denoiser
from invsolve.solver import Solver
from invsolve.solvers import DDIM, DDPM, DDRM, HQS, Bicubic, Nearest, PartDiff
from invsolve.training.data import validation_images

SIDE = 256


def methods(network: Denoiser, plain: Denoiser) -> list[tuple[str, str, Solver, Denoiser]]:
    """(name, calls, solver, prior)."""
    return [
        ("nearest", "0", Nearest(), plain),
        ("bicubic", "0", Bicubic(), plain),
        ("hqs with natural-gray, no condition", "8", HQS(), plain),
        ("ddrm with natural-gray, no condition", "20", DDRM(steps=20), plain),
        ("one call: the mean", "1", DDIM(steps=1), network),
        ("ddim, from noise", "100", DDIM(steps=100), network),
        ("ddpm, from noise", "100", DDPM(steps=100), network),
        ("partdiff, exact", "25", PartDiff(eta=0.0), network),
        ("partdiff, exact, ancestral", "25", PartDiff(), network),
        ("partdiff, paper, ancestral", "25", PartDiff(align="paper"), network),
    ]


def slices(data: Path, count: int) -> Tensor:
    """Slices of 512 x 512, shrunk by means of 2 x 2 pixels, (count, 1, 256, 256)."""
    whole = validation_images(data / "dev" / "brain_mri512" / "test.zip", count, 2 * SIDE, channels=1)
    return torch.nn.functional.avg_pool2d(whole, 2)


def main() -> None:
    """Restore, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=7)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    truth = slices(given.data, given.count)
    network, plain = load_prior(str(file_of("partdiff-brain")), precision="auto"), load_prior("natural-gray", precision="auto")
    lines = [
        "# Brain MR slices x2 and x4: PartDiff's table",
        "",
        f"`python benchmarks/studies/conditional_brain.py --data DATA`: {len(truth)} slices of dev/brain_mri512 at half size, 256 x 256,",
        "never trained on; from means of pixels without noise, one network for both factors. Mean ± standard error over the slices.",
        "",
        "| factor | method | calls | PSNR, dB | SSIM | HaarPSI | gradient | off y | s a slice |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    pictures = [truth]
    for factor in (2, 4):
        problem = Problem.simulate(operator("block-mean", (1, SIDE, SIDE), factor=factor), truth, NoNoise(), generator=0)
        rows = Rows(given.cache, f"brain-x{factor}")
        for name, calls, solver, prior in methods(network, plain):
            x, seconds = rows.of(f"{name} {calls}", solved(solver, problem, prior))
            values = [shown(psnr(x, truth)), shown(SSIM().compute(x, truth), 3), shown(HaarPSI().compute(x, truth), 3)]
            values += [f"{(gradient(x).mean() / gradient(truth).mean()):.2f}", off(problem, x), f"{seconds:.1f}"]
            lines.append(f"| x{factor} | {name} | {calls} | {' | '.join(values)} |")
            if name in ("bicubic", "ddpm, from noise", "partdiff, exact, ancestral"):
                pictures.append(x)
    lines += [
        "",
        "gradient: mean difference of neighbours over the truth's, 1 for a picture as sharp. off y: root mean square of Hx - y. Seconds",
        "on one core beside other work. The data do not say whether a patient is in the training slices, too; they are magnitudes that",
        "went through JPEG. The table says nothing of diagnosis.",
        "",
        "![truth; bicubic, ddpm, partdiff at x2 and at x4](brain.png)",
        *trained("partdiff-brain", start="`natural-gray`"),
    ]
    written("brain", lines, pictures, 4)


if __name__ == "__main__":
    main()
