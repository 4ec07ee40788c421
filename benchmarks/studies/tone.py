"""What the closed form at large noise gives: `python benchmarks/studies/tone.py --data DATA` writes results/priors/tone.md.

Centre crops of DATA/dev/bsds500_val32. First the squared error of the network alone, of the filter alone and of the prior, which blends
them, with the rms error of the mean colour; then two samplers on a hole of 30 % of the sides, with the network alone and with the prior.
"""

import argparse
import math
from pathlib import Path

import torch
from invsolve_operators import BoxMask
from invsolve_priors.evaluate import pictures
from torch import Tensor

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.solvers import DDIM, DDRM, DiffPIR

RESULTS = Path(__file__).parents[1] / "results" / "priors"
BOX = 38  # of 128 pixels a side: 30 %
SIGMAS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
SIDES = {64: 32, 128: 32, 256: 16}  # side: pictures
HEAD = "| prior | side | sigma | network | filter | prior | prior - network, se | prior - filter, se | colour: network | filter | prior |"


def crops(data: Path, grey: bool, side: int, count: int) -> Tensor:
    """(count, C, side, side), the middle of each picture."""
    found = []
    for image in pictures(data / "dev/bsds500_val32", count, grey):
        top, left = ((extent - side) // 2 for extent in image.shape[-2:])
        found.append(image[..., top : top + side, left : left + side])
    return torch.cat(found)


def paired(ours: Tensor, other: Tensor) -> str:
    """Mean difference of PSNR in dB with its standard error."""
    apart = 10 * (other / ours).log10()
    return f"{float(apart.mean()):+.2f} ({float(apart.std()) / math.sqrt(len(apart)):.2f})"


def errors(found: Tensor, x: Tensor) -> tuple[Tensor, float]:
    """Mean squared error by picture, and the rms error of the mean colour."""
    return (found - x).square().flatten(1).mean(1), float((found - x).mean((2, 3)).square().mean().sqrt())


@torch.no_grad()
def levels(name: str, data: Path) -> list[str]:
    """The rows of a prior."""
    prior, network = load_prior(name), load_prior(name, tone=False)
    rows = []
    for side, count in SIDES.items():
        x = crops(data, name.endswith("gray"), side, count)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        for sigma in SIGMAS:
            noisy, level = x + sigma * noise, torch.full((len(x),), sigma)
            plain = torch.cat([network(part, sigma) for part in noisy.split(8)])
            filtered = prior.law.filtered(noisy, level)
            (own, own_colour), (lin, lin_colour) = errors(plain, x), errors(filtered, x)
            both, colour = errors(prior.law.joined(lambda _x, _s, plain=plain: plain, noisy, level), x)
            values = " | ".join(f"{float((-10 * one.log10()).mean()):.2f}" for one in (own, lin, both))
            colours = " | ".join(f"{one:.4f}" for one in (own_colour, lin_colour, colour))
            rows.append(f"| {name} | {side} | {sigma:g} | {values} | {paired(both, own)} | {paired(both, lin)} | {colours} |")
            print(rows[-1], flush=True)
    return rows


def samplers(data: Path, count: int) -> list[str]:
    """Rows of PSNR and of the mean colour in the hole, with and without."""
    rows = []
    x = crops(data, False, 128, count)
    operator = BoxMask(x.shape[1:], box=BOX)
    problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
    hole = 1 - operator.mask.expand(x.shape)
    for solver in (DiffPIR(steps=20), DDRM(steps=20)):
        scores, colours = [], []
        for tone in (False, True):
            found = solver.solve(problem, load_prior("natural", tone=tone), generator=0).x.clamp(0, 1)
            scores.append((found - x).square().flatten(1).mean(1))
            off = ((found - x) * hole).sum((2, 3)) / hole.sum((2, 3))
            colours.append(float(off.square().mean().sqrt()))
        before, after = (float((-10 * one.log10()).mean()) for one in scores)
        name = type(solver).__name__.lower()
        rows.append(f"| {name} | {before:.2f} | {after:.2f} | {paired(scores[1], scores[0])} | {colours[0]:.4f} | {colours[1]:.4f} |")
        print(rows[-1], flush=True)
    return rows


def colours_of_samples(data: Path, count: int = 32) -> list[str]:
    """Standard deviation of the mean colour, by axis, of draws from pure noise and of as many crops."""
    prior = load_prior("natural")
    axes = torch.tensor(prior.law.axes)
    real = crops(data, False, 64, 32)
    rows = []
    for name, images in (
        ("crops of photographs", real),
        *((f"samples, {said}", drawn(tone, count)) for said, tone in (("network alone", False), ("prior", True))),
    ):
        spread = (images.mean((2, 3)) @ axes.T).std(0)
        chroma = float((images - images.mean(1, keepdim=True)).std((2, 3)).mean())
        rows.append(f"| {name} | " + " | ".join(f"{float(one):.3f}" for one in spread) + f" | {chroma:.3f} |")
        print(rows[-1], flush=True)
    return rows


def drawn(tone: bool, count: int) -> Tensor:
    """(count, 3, 64, 64) by DDIM with 50 steps."""
    return DDIM(steps=50).solve(Problem.unconditional((3, 64, 64), count), load_prior("natural", tone=tone), generator=1).x.clamp(0, 1)


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=16, help="pictures for the samplers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = [row for name in ("natural", "natural-gray") for row in levels(name, arguments.data)]
    holes, spreads = samplers(arguments.data, arguments.images), colours_of_samples(arguments.data)
    text = [
        "# Tone at large noise",
        "",
        "`python benchmarks/studies/tone.py --data DATA`. Centre crops of dev/bsds500_val32 (never trained on; where network",
        "and filter meet was chosen on them); unclamped PSNR in dB, mean over pictures; colour: rms error of the mean colour.",
        "The filter is `invsolve_weights.tone` with the figures on the cards, fitted to the training pictures.",
        "",
        HEAD,
        "|" + "---|" * 11,
        *tables,
        "",
        f"A hole of 30 % of the sides, noise .02, {arguments.images} crops of 128, 20 steps:",
        "",
        "| sampler | PSNR, network alone | PSNR, prior | difference, se | mean colour in the hole: network alone | prior |",
        "|---|---|---|---|---|---|",
        *holes,
        "",
        "Standard deviation of the mean colour of 64 x 64 along light, red - blue and green - purple, and of chroma within a picture;",
        "32 each, by DDIM with 50 steps:",
        "",
        "| pictures | light | red - blue | green - purple | chroma |",
        "|---|---|---|---|---|",
        *spreads,
        "",
    ]
    (RESULTS / "tone.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
