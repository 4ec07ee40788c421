"""Guidance of priors, measured: `python benchmarks/studies/guidance.py --data DATA` writes results/conditional/guidance.md and its picture.

On a line the law that a led sampler draws from is known by quadrature; digits are drawn by class at several scales, free of a classifier
and by one, and told by two judges; and digits are restored from few pixels with their label known, unknown and wrong.
"""

import argparse
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from invsolve_classes import mnist_by_classifier, mnist_classes
from invsolve_classes.metrics import DigitFID, DigitKID, DigitPrecision, DigitRecall, classifier, digits
from torch import Tensor

from invsolve import GaussianNoise, Operator, Problem, load_prior
from invsolve.io.images import picture_grid, write_image
from invsolve.plugins import registry
from invsolve.priors import Denoiser, Guided, LabelledMixturePrior
from invsolve.solvers import DDPM, DiffPIR, Heun

RESULTS = Path(__file__).parents[1] / "results" / "conditional"
SCALES = (0.0, 1.0, 2.0, 4.0)
LINE = (0.3, 0.6, 0.1)  # means of the two classes, their standard deviation


# ---- a line, where everything is known ----


def flow(scale: float, points: int = 2000, steps: int = 600, top: float = 80.0) -> tuple[float, float]:
    """Mean and standard deviation of what the led ODE draws, by the quantiles of its start, whose order a line keeps."""
    one, two, std = LINE
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    x = (one + two) / 2 + top * math.sqrt(2) * torch.erfinv(2 * u - 1)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = [*((top ** (1 / 7) + ramp * (0.002 ** (1 / 7) - top ** (1 / 7))) ** 7).tolist(), 0.0]

    def slope(x: Tensor, sigma: float) -> Tensor:
        v = std**2 + sigma**2
        share = torch.sigmoid(((x - one) ** 2 - (x - two) ** 2) / (2 * v))
        middle = scale * two + (1 - scale) * (one + (two - one) * share)
        return (x - middle - std**2 / v * (x - middle)) / sigma

    for high, low in pairwise(sigmas):
        first = slope(x, high)
        ahead = x + (low - high) * first
        x = ahead if low == 0 else x + (low - high) * (first + slope(ahead, low)) / 2
    return float(x.mean()), float(x.std(correction=0))


def tilted(scale: float) -> tuple[float, float]:
    """Mean and standard deviation of p(x) p(c | x)^scale."""
    one, two, std = LINE
    x = torch.linspace(-2, 4, 60001, dtype=torch.float64)
    logs = [-((x - mean) ** 2) / (2 * std**2) for mean in (one, two)]
    whole = torch.logaddexp(*logs)
    weight = (whole + scale * (logs[1] - whole)).softmax(0)
    mean = float((weight * x).sum())
    return mean, math.sqrt(float((weight * x**2).sum()) - mean**2)


def bias_table(count: int = 4000) -> list[str]:
    """Rows of scale, the law drawn from, draws by Heun and by DDPM, and the law that is often named."""
    means = torch.tensor(LINE[:2], dtype=torch.float64).reshape(2, 1, 1, 1)
    prior = LabelledMixturePrior(means, [0, 1], LINE[2])
    problem = Problem.unconditional((1, 1, 1), count, dtype=torch.float64, context={"label": torch.ones(count, dtype=torch.int64)})
    rows = ["| scale | ODE, exact | Heun, 40 steps | DDPM, 200 steps | p(x) p(c given x)^scale |", "|---|---|---|---|---|"]
    for scale in (0.0, 0.5, 1.0, 2.0, 4.0, 7.0):
        led = Guided(prior, scale)
        drawn = [solver.solve(problem, led, generator=0).x.flatten() for solver in (Heun(steps=40), DDPM(steps=200))]
        told = [f"{float(x.mean()):.3f} ± {float(x.std()) / math.sqrt(count):.3f}, {float(x.std()):.3f}" for x in drawn]
        exact, aim = (f"{mean:.3f}, {std:.3f}" for mean, std in (flow(scale), tilted(scale)))
        rows.append(f"| {scale:g} | {exact} | {told[0]} | {told[1]} | {aim} |")
    return rows


# ---- digits ----


def pictures(path: Path) -> tuple[Tensor, Tensor]:
    """(N, 1, 32, 32) in [0, 1] and labels."""
    with np.load(path) as content:
        images, labels = content["images"], content["labels"]
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2)])
    return torch.from_numpy(padded).float().div(255)[:, None], torch.from_numpy(labels.astype(np.int64))


def nearest(images: Tensor, known: Tensor, labels: Tensor, k: int = 5) -> Tensor:
    """What k training digits nearest in pixels say: a judge that no network was led by."""
    apart = torch.cdist(images.flatten(1), known.flatten(1))
    votes = labels[apart.topk(k, largest=False).indices]
    return torch.nn.functional.one_hot(votes, 10).sum(1).argmax(1)


def right(images: Tensor, labels: Tensor, known: tuple[Tensor, Tensor]) -> list[str]:
    """Share that the classifier, and that the nearest training digits tell as their label, with standard errors."""
    with torch.no_grad():
        told = [classifier()(*digits(images)).argmax(1), nearest(images, *known)]
    shares = [float((one == labels).double().mean()) for one in told]
    return [f"{share:.3f} ± {math.sqrt(share * (1 - share) / len(images)):.3f}" for share in shares]


def spread(images: Tensor, labels: Tensor) -> float:
    """Mean distance of two digits of one class, in pixels' root mean square."""
    found = []
    for label in range(10):
        own = images[labels == label].flatten(1)
        found.append(torch.pdist(own).mean() / math.sqrt(own.shape[1]))
    return float(torch.stack(found).mean())


def measures(images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]) -> str:
    """The cells of a set of digits."""
    sets = list(images), list(test[0])
    fid, kid, precision, recall = (metric.compute(*sets) for metric in (DigitFID(), DigitKID(), DigitPrecision(), DigitRecall()))
    cells = [*right(images, labels, known), f"{spread(images, labels) / spread(*test):.2f}"]
    return " | ".join([*cells, f"{fid:.2f}", f"{kid:.3f}", f"{precision:.2f}", f"{recall:.2f}"])


def drawn(prior: Denoiser, count: int, batch: int = 100) -> tuple[Tensor, Tensor, int, int]:
    """Digits of all classes in turn, their labels, and evaluations forward and backward of one digit; Heun, 18 steps."""
    labels, parts, nfe, backward = torch.arange(count) % 10, [], 0, 0
    for start in range(0, count, batch):
        own = labels[start : start + batch]
        problem = Problem.unconditional((1, 32, 32), len(own), context={"label": own})
        found = Heun(steps=18).solve(problem, prior, generator=start)
        parts.append(found.x.clamp(0, 1))
        nfe, backward = found.nfe, found.backward
    return torch.cat(parts), labels, nfe, backward


HEAD = "| | evaluations | right (classifier) | right (5 nearest) | spread | FID | KID | precision | recall |"


def digit_table(count: int, test: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]) -> tuple[list[str], Tensor]:
    """Rows of both guidances at all scales, and ten digits of each for the picture."""
    kinds: dict[str, Denoiser] = {f"classifier-free, {scale:g}": mnist_classes(scale=scale) for scale in SCALES}
    kinds["classifier-free, 4, rescale .7"] = mnist_classes(scale=4.0, rescale=0.7)
    kinds["classifier-free, 4, levels .1 to 2"] = mnist_classes(scale=4.0, interval=(0.1, 2.0))
    kinds |= {f"by a classifier, {scale:g}": mnist_by_classifier(scale=scale) for scale in SCALES}
    rows, shown = [HEAD, "|---" * 9 + "|"], []
    some = torch.arange(count) % 10
    order = torch.cat([(known[1] == label).nonzero()[: count // 10, 0] for label in range(10)])
    rows.append(f"| training digits | 0 | {measures(known[0][order], known[1][order], test, (known[0][6000:], known[1][6000:]))} |")
    for name, prior in kinds.items():
        began = time.perf_counter()
        images, labels, nfe, backward = drawn(prior, count)
        assert torch.equal(labels, some)
        rows.append(f"| {name} | {nfe}{f' + {backward} back' if backward else ''} | {measures(images, labels, test, known)} |")
        print(rows[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
        if "rescale" not in name and "levels" not in name:
            shown.append(images[:10])
    return rows, torch.cat(shown)


def restored_table(count: int, test: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]) -> list[str]:
    """Digits from means of 8 x 8 pixels with noise .05, by DiffPIR: without a label, with the right one, with a wrong one."""
    truth, labels = test[0][:count], test[1][:count]
    operator: Operator = registry().build("operator", "block-mean", in_shape=(1, 32, 32), factor=8)
    wrong = (labels + 1) % 10
    cases = [("mnist, no label", load_prior("mnist"), labels), ("its label, scale 1", mnist_classes(), labels)]
    cases += [(f"its label, scale {scale:g}", mnist_classes(scale=scale), labels) for scale in (2.0, 4.0)]
    cases += [("its label, by a classifier", mnist_by_classifier(), labels), ("a wrong label, scale 1", mnist_classes(), wrong)]
    rows = ["| prior | evaluations | PSNR (dB) | right (classifier) | right (5 nearest) |", "|---|---|---|---|---|"]
    rows.append(f"| (the truth) | | | {' | '.join(right(truth, labels, known))} |")
    for name, prior, given in cases:
        problem = Problem.simulate(operator, truth, GaussianNoise(0.05), generator=0, context={"label": given})
        found = DiffPIR(steps=20).solve(problem, prior, generator=0)
        x = found.x.clamp(0, 1)
        psnr = -10 * (x - truth).square().flatten(1).mean(1).log10()
        error = float(psnr.std()) / math.sqrt(count)
        rows.append(f"| {name} | {found.nfe} | {float(psnr.mean()):.2f} ± {error:.2f} | {' | '.join(right(x, labels, known))} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds train/mnist and dev/mnist")
    parser.add_argument("--count", type=int, default=500, help="digits of each row")
    parser.add_argument("--restored", type=int, default=200, help="restored digits of each row")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    test, known = (pictures(arguments.data / path) for path in ("dev/mnist/mnist_test.npz", "train/mnist/mnist_train.npz"))
    tables = {"BIAS": bias_table()}
    tables["DIGITS"], shown = digit_table(arguments.count, test, known)
    tables["RESTORED"] = restored_table(arguments.restored, test, known)
    page = RESULTS / "guidance.md"
    text = page.read_text(encoding="utf-8")
    for name, rows in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, after = text.split(start)[0], text.split(end)[1]
        text = f"{before}{start}\n{chr(10).join(rows)}\n{end}{after}"
    page.write_text(text, encoding="utf-8")
    write_image(RESULTS / "guidance.png", picture_grid(shown, 10))


if __name__ == "__main__":
    main()
