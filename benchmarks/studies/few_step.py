"""Few-step maps beside the ODE of the priors they were made from: `python benchmarks/studies/few_step.py --data DATA`.

DATA holds dev/bsds500_val32 and dev/mnist. Four tables into results/priors/few_step.md: how near one call comes to the end of the
teacher's path; photographs and digits drawn from noise, by calls; restorations by calls and seconds. Photographs are crops of the ninth
picture on of dev/bsds500_val32, which neither the training nor its log has seen; no setting was chosen on them.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from invsolve_classes.metrics import DigitFID, DigitScore
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Mask
from invsolve_priors.evaluate import pictures
from torch import Tensor

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.bench.metrics import HaarPSI
from invsolve.bench.prior_samples import gradient_kurtosis, spectrum_slope
from invsolve.io.images import picture_grid, write_image
from invsolve.rng import Rng
from invsolve.solvers import CM4IR, LATINO, DiffPIR, FewStep
from invsolve.solvers.paths import descend

RESULTS = Path(__file__).parents[1] / "results" / "priors"
SIDE, FIRST = 64, 8
FEW, ODE = (1, 2, 4), (1, 2, 4, 8, 20)
LEVELS = (0.1, 0.5, 2.0, 10.0)
LONGEST = 32  # calls of the path that is taken for exact


def crops(data: Path, count: int) -> Tensor:
    """(count, 3, SIDE, SIDE), the middle of the pictures after the first ones."""
    found = []
    for image in pictures(data / "dev/bsds500_val32", FIRST + count, False)[FIRST:]:
        top, left = ((extent - SIDE) // 2 for extent in image.shape[-2:])
        found.append(image[..., top : top + SIDE, left : left + SIDE])
    return torch.cat(found)


def digits(data: Path, count: int) -> Tensor:
    """(count, 1, 32, 32)."""
    images = np.load(data / "dev/mnist/mnist_test.npz")["images"][:count]
    return torch.nn.functional.pad(torch.from_numpy(images)[:, None].float() / 255, (2, 2, 2, 2))


def decibels(error: Tensor) -> float:
    """Mean over items of the PSNR."""
    return float((-10 * error.square().flatten(1).mean(1).log10()).mean())


def paths(name: str, few: Any, teacher: Any, x0: Tensor) -> list[str]:
    """Rows: PSNR against the end of the teacher's path, of one call of the map and of the teacher's ODE."""
    rows = []
    for sigma in LEVELS:
        x, rng = x0 + sigma * Rng(7, range(len(x0))).normal_like(x0), Rng(0, range(len(x0)))
        end = descend(teacher, x, sigma, LONGEST, rng)
        found = [decibels(descend(few, x, sigma, 1, rng) - end), *(decibels(descend(teacher, x, sigma, k, rng) - end) for k in ODE[:4])]
        rows.append(f"| {name} | {sigma:g} | " + " | ".join(f"{one:.1f}" for one in found) + " |")
        print(rows[-1], flush=True)
    return rows


def draws(few: Any, teacher: Any, shape: tuple[int, ...], count: int) -> dict[str, tuple[Tensor, float]]:
    """(pictures, seconds of the processor) of each way, by its name; all from the same noise."""
    ways = [(f"few-step, {k}", FewStep(steps=k), few) for k in FEW] + [(f"ODE, {k}", FewStep(steps=1, calls=k), teacher) for k in ODE]
    found = {}
    for label, solver, prior in ways:
        parts, start = [], time.process_time()
        for first in range(0, count, 50):
            problem = Problem.unconditional(shape, min(50, count - first))
            parts.append(solver.solve(problem, prior, generator=first).x.clamp(0, 1))
        found[label] = (torch.cat(parts), time.process_time() - start)
    return found


def spread(images: Tensor) -> float:
    """Standard deviation over pictures of the mean level."""
    return float(images.mean((1, 2, 3)).std())


def drawn(name: str, few: Any, teacher: Any, real: Tensor, measures: dict[str, Callable[[Tensor], float]], count: int) -> list[str]:
    """Rows of draws, and a grid of the first eight of each way."""
    found = draws(few, teacher, tuple(real.shape[1:]), count)
    rows = []
    for label, (images, seconds) in {"real": (real, 0.0), **found}.items():
        values = " | ".join(f"{measure(images):.2f}" for measure in measures.values())
        rows.append(f"| {name} | {label} | {values} | " + (f"{1000 * seconds / count:.1f} |" if seconds else "|"))
        print(rows[-1], flush=True)
    write_image(RESULTS / f"{name}_few_step.png", picture_grid(torch.cat([images[:8] for images, _ in found.values()]), 8))
    return rows


def tasks() -> dict[str, Any]:
    """Operators by name."""
    shape = (3, SIDE, SIDE)
    known = (Rng(5, [0]).uniform((1, SIDE, SIDE), torch.zeros(1))[0] > 0.7).float()
    return {
        "box": BoxMask(shape, box=20),
        "random 70 %": Mask(shape, mask=known),
        "SR x4": BlockMean(shape, factor=4),
        "blur": GaussianBlur(shape, sigma=1.5),
        "denoise": Mask(shape, mask=torch.ones(1, SIDE, SIDE)),
    }


def ways(few: Any, teacher: Any) -> list[tuple[str, Any, Any, int]]:
    """(name, solver, prior, network calls)."""
    rows: list[tuple[str, Any, Any, int]] = [(f"cm4ir, few-step, {k}", CM4IR(steps=k), few, k) for k in FEW]
    rows += [(f"latino, few-step, {k}", LATINO(steps=k), few, k) for k in (4, 8)]
    rows += [("latino, few-step, 4 from sigma 1", LATINO(steps=4, sigma_max=1.0), few, 4)]
    rows += [(f"cm4ir, {k} x 1 calls of the teacher", CM4IR(steps=k), teacher, k) for k in FEW]
    rows += [("cm4ir, 4 x 2 calls of the teacher", CM4IR(calls=2), teacher, 8)]
    rows += [("latino, 4 x 1 calls of the teacher", LATINO(steps=4), teacher, 4), ("latino, 8 x 1", LATINO(), teacher, 8)]
    return [*rows, *((f"diffpir, teacher, {k}", DiffPIR(steps=k), teacher, k) for k in (4, 8, 20))]


def restored(few: Any, teacher: Any, x: Tensor, noise: float) -> list[str]:
    """Rows of PSNR / HaarPSI by task, with calls, seconds of the processor a picture, and how far two draws are apart."""
    problems = {
        name: Problem.simulate(operator, x, GaussianNoise(0.1 if name == "denoise" else noise), generator=0)
        for name, operator in tasks().items()
    }
    rows = []
    for name, solver, prior, calls in ways(few, teacher):
        cells, start = [], time.process_time()
        pairs = [solver.solve(problem, prior, generator=1, samples=2).x.clamp(0, 1) for problem in problems.values()]
        seconds = (time.process_time() - start) / len(problems) / len(x) / 2
        for answer, _ in pairs:
            cells.append(f"{decibels(answer - x):.2f} / {float(HaarPSI().compute(answer, x).mean()):.3f}")
        apart, off = (sum(float((one - other).square().mean()) for one, other in ends) for ends in (pairs, [(a, x) for a, _ in pairs]))
        rows.append(f"| {name} | {calls} | {seconds:.2f} | {(apart / off) ** 0.5:.2f} | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    return rows


INTRO = """# Few-step maps

`python benchmarks/studies/few_step.py --data DATA`; maps of `benchmarks/training/natural-few.toml` and `mnist-few.toml`, each held against
its teacher's ODE (second order, from the same noise). Seconds are of a processor core that other programs shared: ratios within a table say
more than the numbers. 64 x 64 pictures, crops of number 9 on of dev/bsds500_val32, and dev/mnist.
"""


def section(title: str, words: str, head: str, rows: list[str]) -> list[str]:
    """A heading, a paragraph and a table."""
    return [f"## {title}", "", words, "", head, "|" + "---|" * (head.count("|") - 1), *rows, ""]


def page(near: list[str], samples: list[str], digit: list[str], answers: list[str], counts: tuple[int, int]) -> str:
    """The page."""
    path = f"PSNR in dB between what is said of x0 + sigma n and the end of the teacher's path through it, taken in {LONGEST} calls."
    natural = (
        f"{counts[0]} of 64 x 64: slope of the spectrum, kurtosis of gradients, standard deviation of the mean level;\n"
        "natural_few_step.png has eight of each way, row by row. Real: 24 crops."
    )
    mnist = f"{counts[1]} digits: Fréchet distance and inception score by the shipped digit classifier; real: as many other test digits."
    tasks_said = (
        "PSNR in dB / HaarPSI, means over 6 pictures; noise .02, of `denoise` .1; box of 20 x 20; 70 % of the pixels missing; means of\n"
        "4 x 4; Gaussian blur of 1.5. Seconds of the processor, a picture. Apart: rms distance of two draws over that of a draw from the\n"
        "truth, 1 for draws from the posterior."
    )
    way = "| prior | way, calls |"
    lines = [
        *section(
            "One call against the end of the path", path, f"| prior | sigma | map, 1 | {' | '.join(f'ODE, {k}' for k in ODE[:4])} |", near
        ),
        *section("Photographs drawn from noise", natural, f"{way} slope | kurtosis | level | ms a picture |", samples),
        *section("Digits drawn from noise", mnist, f"{way} FID | IS | level | ms a picture |", digit),
        *section("Restorations", tasks_said, f"| way | calls | seconds | apart | {' | '.join(tasks())} |", answers),
    ]
    return "\n".join([INTRO, *lines])


@torch.no_grad()
def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--natural", default="natural-few", help="a weight file of the recipe, or the name of one that is here")
    parser.add_argument("--mnist", default="mnist-few")
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--digits", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    few, teacher = load_prior(arguments.natural), load_prior("natural")
    few_digits, digits_teacher = load_prior(arguments.mnist), load_prior("mnist")
    x, real = crops(arguments.data, 6), crops(arguments.data, 24)
    shown = digits(arguments.data, 2 * arguments.digits)
    truths = list(shown[arguments.digits :])
    answers = restored(few, teacher, x, 0.02)
    near = [*paths("natural", few, teacher, x), *paths("mnist", few_digits, digits_teacher, shown[:64])]
    of_pictures = {"slope": spectrum_slope, "kurtosis": gradient_kurtosis, "level": spread}
    of_digits = {
        "FID": lambda images: DigitFID().compute(list(images), truths),
        "IS": lambda images: DigitScore().compute(list(images), truths),
        "level": spread,
    }
    digit = drawn("mnist", few_digits, digits_teacher, shown[: arguments.digits], of_digits, arguments.digits)
    samples = drawn("natural", few, teacher, real, of_pictures, arguments.draws)
    text = page(near, samples, digit, answers, (arguments.draws, arguments.digits))
    (RESULTS / "few_step.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
