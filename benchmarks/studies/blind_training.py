"""The networks of `invsolve.blind`: photographs blurred on purpose, their traits, and three networks fitted to them.

    python benchmarks/studies/blind_training.py traits --data DATA --seed 1 --out traits1.npz      # a quarter of an hour on one core
    python benchmarks/studies/blind_training.py scenes --data DATA --out scenes.npz                # a minute
    python benchmarks/studies/blind_training.py fit traits1.npz traits2.npz --scenes scenes.npz --out invsolve/blind/weights/blind.npz

DATA holds `train/photos` (a zip) and `train/bsds500`, as for the shipped priors. Every photograph is taken four times a seed: a place of
128 to 224 pixels a side, one of four families drawn with its width (the logarithm uniform), noise from .001 to .05, rounded to 8 bits; one
in ten is made grey. The blur knows 30 pixels around the place, with mirrored edges where the picture ends; the noise level is what
`estimate_noise` finds. `scenes` are the laws of the spectra of sharp photographs, one in four of them.
"""

import argparse
import math
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invsolve import estimate
from invsolve.blind.features import traits
from invsolve.blind.likelihood import Scene
from invsolve.blind.reading import FAMILIES
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.training.data import read_images

CHANCES = (0.19, 0.27, 0.27, 0.27)
WIDTHS = {"gaussian": (0.6, 4.0), "defocus": (1.2, 8.0), "motion": (3.0, 24.0)}  # pixels
NOISE = (0.001, 0.05)
BLURS = {"gaussian": ("gaussian-blur", "sigma"), "defocus": ("defocus-blur", "radius"), "motion": ("motion-blur", "length")}
FEW = 5000  # patches that the noise is estimated from, for speed
TIMES, MARGIN, EVERY = 4, 30, 4
FAINT = 0.003  # noise added to sharp scenes, so that none has less


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def photographs(data: Path) -> Iterator[Tensor]:
    """(3, H, W) in [0, 1], float64."""
    for folder in (data / "train" / "photos" / "train.zip", data / "train" / "bsds500" / "train", data / "train" / "bsds500" / "test"):
        for image in read_images(folder):
            yield torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).double() / 255


def blurred(x: Tensor, family: str, width: float, angle: float) -> Tensor:
    """The picture with mirrored edges under a blur, (C, H, W)."""
    if family == "none":
        return x
    name, argument = BLURS[family]
    given = {argument: width, **({"angle": angle} if family == "motion" else {})}
    margin = min(math.ceil(5 * width) + 2, min(x.shape[1:]) - 1)
    padded = nn.functional.pad(x[None], [margin] * 4, mode="reflect")
    operator: Operator = registry().build("operator", name, in_shape=tuple(padded.shape[1:]), **given).double()
    return operator(padded)[0, :, margin:-margin, margin:-margin]


def photographed(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, int, float, float]:
    """(y in steps of 1 / 255, the family's number, its width, its angle)."""
    kind = int(rng.choice(len(FAMILIES), p=CHANCES))
    family, angle = FAMILIES[kind], float(rng.uniform(0, 180))
    width = between(rng, *WIDTHS[family]) if kind else 0.0
    side, margin = int(rng.integers(128, 225)), min(math.ceil(5 * width) + 2, MARGIN) if kind else 0
    top, left = (int(rng.integers(0, max(0, length - side) + 1)) for length in x.shape[1:])
    above, before = max(0, top - margin), max(0, left - margin)
    y = blurred(x[:, above : top + side + margin, before : left + side + margin], family, width, angle)
    y = y[:, top - above : top - above + side, left - before : left - before + side]
    y = y + between(rng, *NOISE) * torch.from_numpy(rng.standard_normal(y.shape))
    y = (255 * y.clamp(0, 1)).round()
    return (y.mean(0, keepdim=True).round() if rng.random() < 0.1 else y) / 255, kind, width, angle


def gather(data: Path, seed: int, out: Path) -> None:
    """Traits X (n, k), and Y (n, 3): the family's number, width and angle."""
    estimate.MOST_PATCHES = FEW
    rng, rows, truths = np.random.default_rng(seed), [], []
    for x in (one for one in photographs(data) for _ in range(TIMES)):
        y, *truth = photographed(x, rng)
        identity = registry().build("operator", "identity", in_shape=tuple(y.shape))
        sigma = float(estimate.estimate_noise(identity, y[None]).sigma[0])
        rows.append(traits([y.mean(0)], sigma / math.sqrt(len(y))).values.numpy())
        truths.append(truth)
    np.savez(out, X=np.stack(rows), Y=np.array(truths, dtype=np.float32))


def scenes(data: Path, out: Path) -> None:
    """The mean and the precision of c (see `invsolve.blind.likelihood`) over sharp photographs."""
    rng, found = np.random.default_rng(0), []
    for x in islice(photographs(data), 0, None, EVERY):
        side = min(int(rng.integers(128, 225)), *x.shape[1:])
        top, left = (int(rng.integers(0, length - side + 1)) for length in x.shape[1:])
        tile = x[:, top : top + side, left : left + side].mean(0)
        tile = tile + FAINT / math.sqrt(3) * torch.from_numpy(rng.standard_normal(tuple(tile.shape)))
        start = torch.zeros(11, dtype=torch.float64)
        start[:2] = torch.tensor([-3.5, -2.5])
        scene = Scene(tile, FAINT / math.sqrt(3), start, 1e-3 * torch.eye(11, dtype=torch.float64))
        cost, c = scene.cost(torch.ones_like(scene.all[..., 0]), None, 25)
        if float(tile.std()) > 0.02 and math.isfinite(cost):
            found.append(c)
    held = torch.stack(found)
    np.savez(out, scene_mean=held.mean(0).numpy(), scene_precision=torch.linalg.inv(torch.cov(held.mT)).numpy())


def loss(answers: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of the family, and the Gaussian likelihood of the logarithm of the true family's width."""
    kind, width = truth[:, 0].long(), truth[:, 1].clamp_min(1e-3).log()
    total = nn.functional.cross_entropy(answers[:, :4], kind)
    for number in (1, 2, 3):
        chosen = kind == number
        centre, spread = answers[chosen, 2 + 2 * number], answers[chosen, 3 + 2 * number].clamp(-6, 2)
        total = total + ((width[chosen] - centre).square() * torch.exp(-spread) + spread).sum() / len(truth)
    return total


def fitted(values: Tensor, truth: Tensor, seed: int, epochs: int) -> nn.Sequential:
    """One network: 465 -> 64 -> 32 -> 10, with noise and dropout on its input."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (values.shape[1], 64, 32, 10)
    layers = [nn.Linear(one, other) for one, other in pairwise(sizes)]
    for layer in layers:
        for weight in layer.parameters():
            nn.init.uniform_(weight, -1 / math.sqrt(layer.in_features), 1 / math.sqrt(layer.in_features), generator)
    network = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.1)
    batch = 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, epochs * (len(values) // batch))
    for _ in range(epochs):
        order = torch.randperm(len(values), generator=generator)
        for first in range(0, len(values) - batch + 1, batch):
            part = order[first : first + batch]
            shown = values[part] + 0.15 * torch.randn(batch, values.shape[1], generator=generator)
            shown = shown * (torch.rand(shown.shape, generator=generator) > 0.1) / 0.9
            optimiser.zero_grad()
            loss(network(shown), truth[part]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def fit(files: list[Path], spectra: Path, out: Path, networks: int, epochs: int) -> None:
    """The networks, the mean and scale of the traits and the laws of scenes, as `invsolve.blind.reading` takes them."""
    held = [np.load(file) for file in files]
    values, truth = (torch.from_numpy(np.concatenate([one[key] for one in held])).float() for key in ("X", "Y"))
    mean, scale = values.mean(0), values.std(0).clamp_min(1e-3)
    whitened = ((values - mean) / scale).clamp(-5, 5)
    made = [fitted(whitened, truth, seed, epochs) for seed in range(networks)]
    arrays: dict[str, Any] = {"mean": mean.numpy(), "scale": scale.numpy(), **np.load(spectra)}
    for number in range(3):
        for kind in ("weight", "bias"):
            held = [network.state_dict()[f"{2 * number}.{kind}"].numpy() for network in made]
            arrays[f"{kind}{number}"] = np.stack(held).astype(np.float16)
    np.savez_compressed(out, **arrays)


def main() -> None:
    """Traits, or the fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of = commands.add_parser("traits")
    of.add_argument("--data", type=Path, required=True)
    of.add_argument("--seed", type=int, default=1)
    of.add_argument("--out", type=Path, required=True)
    law = commands.add_parser("scenes")
    law.add_argument("--data", type=Path, required=True)
    law.add_argument("--out", type=Path, required=True)
    to = commands.add_parser("fit")
    to.add_argument("files", type=Path, nargs="+")
    to.add_argument("--scenes", type=Path, required=True)
    to.add_argument("--out", type=Path, required=True)
    to.add_argument("--networks", type=int, default=3)
    to.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    if given.command == "traits":
        gather(given.data, given.seed, given.out)
    elif given.command == "scenes":
        scenes(given.data, given.out)
    else:
        fit(given.files, given.scenes, given.out, given.networks, given.epochs)


if __name__ == "__main__":
    main()
