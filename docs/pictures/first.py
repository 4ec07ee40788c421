"""The picture of the first page: python docs/pictures/first.py (two minutes of one core).

Four measurements of the shipped photographs; below each the mean of eight samples, and their standard deviation. The same prior
and the same solver throughout, at its defaults but for `zeta`: samples whose spread can be believed more.
"""

from pathlib import Path
from typing import Any

import torch
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import MRI, BlockMean, GaussianBlur, TextMask
from matplotlib.figure import Figure

from invsolve import GaussianNoise, Operator, Problem, Solution, load_prior
from invsolve.solvers import DiffPIR

GREY = "#808080"  # can be read on white and on black
LABELS = ("measured", "restored", "where in doubt")


def cases() -> list[tuple[str, Operator, torch.Tensor, str]]:
    """(title, operator, image (1, C, H, W), prior)."""
    astronaut, camera, chelsea, coffee = (one.image[None] for one in quick_photos())
    grey = camera[:, :1]
    return [
        ("blurred", GaussianBlur(chelsea.shape[1:], sigma=1.6), chelsea, "natural"),
        ("written over", TextMask(coffee.shape[1:], text="y = H(x) + n. ", size=0.1), coffee, "natural"),
        ("4 x 4 pixels in one", BlockMean(astronaut.shape[1:], factor=4), astronaut, "natural"),
        ("MRI, a third of the frequencies", MRI(grey.shape[1:], acceleration=3, pattern="random-lines"), grey, "natural-gray"),
    ]


def measured(operator: Operator, y: Any) -> torch.Tensor:
    """What can be shown of y: frequencies by what they make without a prior."""
    return y if y.shape[1] in (1, 3) else operator.adjoint(y)


def draw(axis: Any, image: torch.Tensor, **options: Any) -> None:
    """One picture (C, H, W) without ticks or frame."""
    image = image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)
    axis.imshow(image.clamp(0, 1).numpy(), interpolation="nearest", **({"cmap": "gray", "vmin": 0, "vmax": 1} | options))
    axis.set(xticks=[], yticks=[])
    axis.set_frame_on(False)


def column(axes: Any, title: str, operator: Operator, x: torch.Tensor, prior: str) -> Solution:
    """One measurement, solved and drawn."""
    problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
    solution = DiffPIR(zeta=0.5).solve(problem, load_prior(prior, precision="auto"), generator=0, samples=8)
    draw(axes[0], measured(operator, problem.y)[0])
    draw(axes[1], solution.mean[0])
    draw(axes[2], solution.std[0].mean(0, keepdim=True), cmap="magma", vmax=0.12)
    axes[0].set_title(title, color=GREY, fontsize=10)
    return solution


def main() -> None:
    """Write first.png beside this file."""
    figure = Figure(figsize=(9.2, 7.1), layout="constrained")
    axes = figure.subplots(3, 4)
    for index, case in enumerate(cases()):
        print(case[0], column(axes[:, index], *case).psnr(case[2]))
    for axis, label in zip(axes[:, 0], LABELS, strict=True):
        axis.set_ylabel(label, color=GREY, fontsize=10)
    figure.savefig(Path(__file__).with_name("first.png"), dpi=110, transparent=True)


if __name__ == "__main__":
    main()
