"""Figures of the closed form that answers at large noise, from a prior's training pictures: see `invsolve_weights.tone`.

`invsolve train` writes them into the card at its end, where that errs less than the network alone on the validation's pictures. For
weights that are there already: `python -m invsolve_priors.tone NAME --config CONFIG.toml --data DATA`, NAME a shipped prior or a weight
file. Where network and filter meet (`blend`) is what errs least on the validation's pictures.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from invsolve_weights.cards import load_network, read_card
from invsolve_weights.tone import Tone, coordinates
from scipy.fft import dctn
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.io.files import write_bytes
from invsolve.training.config import TrainConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.loop import Training
from invsolve_priors.evaluate import card_file
from invsolve_priors.export import network_name

SIDES = (1, 2, 4)  # in patches of the training
COUNTS = (2000, 1000, 500)
KNOTS = 9
WIDTHS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
LEVELS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # at which the fit is judged
TRIED = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)  # at which network and filter are held against each other
STARTS, ENDS = (1.5, 2.0, 3.0, 5.0), (3.0, 5.0, 10.0, 15.0, 20.0, 40.0)
ALLOWED = 0.002  # .01 dB
Cut = dict[int, np.ndarray]


def cut(crops: Crops, patch: int, seed: int = 0) -> Cut:
    """Random crops of a training's pictures, (n, C, side, side) in [0, 1], by side: the patch, twice and four times it where they reach.

    Each source by its weight, sources without a picture of a side left out there.
    """
    found: Cut = {}
    rng = np.random.default_rng(seed)
    for factor, count in zip(SIDES, COUNTS, strict=True):
        side = factor * patch
        pools = [[image for image in pool if min(image.shape[:2]) >= side] for pool in crops.pools]
        weights = np.array([weight if pool else 0.0 for weight, pool in zip(crops.weights, pools, strict=True)])
        if not weights.sum():
            continue
        chosen = []
        for _ in range(count):
            pool = pools[int(rng.choice(len(pools), p=weights / weights.sum()))]
            image = pool[int(rng.integers(len(pool)))]
            top, left = (int(rng.integers(extent - side + 1)) for extent in image.shape[:2])
            chosen.append(image[top : top + side, left : left + side].transpose(2, 0, 1))
        found[side] = np.stack(chosen)
    return {side: those.astype(np.float32) / 255 for side, those in found.items()}


def fitted(pictures: Cut) -> Tone:
    """The figures of some pictures: least squares of the logarithm of the mean power in every component of the DCT, per colour axis.

    Every half octave of frequency counts the same, at every side; `width` is the one of WIDTHS whose filter is nearest to the best one.

    Args:
        pictures: (n, C, side, side) in [0, 1], by side.
    """
    mean = np.mean([those.mean((0, 2, 3), dtype=float) for those in pictures.values()], 0)
    spread = np.mean([np.cov(those.swapaxes(0, 1).reshape(len(mean), -1)).reshape(len(mean), -1) for those in pictures.values()], 0)
    axes = np.linalg.eigh(spread)[1][:, ::-1].T
    axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1, 1)
    measured = {side: power_of(those, mean, axes) for side, those in pictures.items()}
    best, found = math.inf, None
    for width in WIDTHS:
        knots = np.geomspace(width * math.sqrt(2) / (2 * max(measured)), math.sqrt(0.5), KNOTS)
        values, models = regressed(measured, knots, width)
        lost = sum(excess(measured[side], models[side]) for side in measured)
        if lost < best:
            best, power = lost, values[:, :-1]
            found = Tone(
                rounded(mean), tuple(map(rounded, axes)), rounded(knots), tuple(map(rounded, power)), rounded(values[:, -1]), width
            )
    assert found is not None
    return found


def rounded(values: np.ndarray) -> tuple[float, ...]:
    """With five digits, as a card holds them."""
    return tuple(float(f"{value:.5g}") for value in values)


def power_of(pictures: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Mean of the squared DCT of the colour axes, (C, side, side)."""
    total = np.zeros(pictures.shape[1:])
    for picture in pictures:
        turned = np.einsum("ac,chw->ahw", axes, picture - mean[:, None, None])
        total += np.square(np.asarray(dctn(turned, axes=(1, 2), norm="ortho")))
    return total / len(pictures)


def regressed(measured: Cut, knots: np.ndarray, width: float) -> tuple[np.ndarray, Cut]:
    """(log power at the knots and the corner term, (C, knots + 1)), and the powers that follow, by side."""
    rows, weights, targets = [], [], []
    for side, power in measured.items():
        index = torch.arange(side, dtype=torch.float64) / (2 * side)
        place, angle = (part.numpy().ravel() for part in coordinates(index[:, None], index[None], (side, side), width))
        octaves = np.round(2 * place / math.log(2))
        _, where, count = np.unique(octaves, return_inverse=True, return_counts=True)
        weights.append(1 / np.sqrt(count[where]))
        rows.append(np.concatenate([hats(place, np.log(knots)), angle[:, None]], 1))
        targets.append(np.log(np.maximum(power, 1e-12)).reshape(len(power), -1).T)
    matrix, weight, target = np.concatenate(rows), np.concatenate(weights)[:, None], np.concatenate(targets)
    values = np.linalg.lstsq(matrix * weight, target * weight, rcond=None)[0].T
    models = {side: np.exp(row @ values.T).T.reshape(measured[side].shape) for side, row in zip(measured, rows, strict=True)}
    return values, models


def hats(place: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation between knots, (n, knots)."""
    cell = np.clip(np.searchsorted(knots, place) - 1, 0, len(knots) - 2)
    part = (place - knots[cell]) / (knots[cell + 1] - knots[cell])
    out = np.zeros((len(place), len(knots)))
    out[np.arange(len(place)), cell], out[np.arange(len(place)), cell + 1] = 1 - part, part
    return out


def excess(power: np.ndarray, model: np.ndarray) -> float:
    """By how much more than the best linear filter that of a model errs on a power spectrum: sum over LEVELS of the logarithm."""
    lost = 0.0
    for sigma in LEVELS:
        error = (power * sigma**4 + model**2 * sigma**2) / (model + sigma**2) ** 2
        lost += math.log(error.mean() / (power * sigma**2 / (power + sigma**2)).mean())
    return lost


@torch.no_grad()
def moments(tone: Tone, network: nn.Module, images: Tensor, sigma: float, draws: int = 2) -> tuple[float, float, float]:
    """Means of e^2, f^2 and e f for the errors e of a network (x, sigma) and f of a filter; the noise is the same at every call."""
    level, found = torch.full((len(images),), sigma), torch.zeros(3, dtype=torch.float64)
    for draw in range(draws):
        noisy = images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(draw))
        e, f = ((out - images).double() for out in (network(noisy, level), tone.filtered(noisy, level)))
        found += torch.stack([(e * e).mean(), (f * f).mean(), (e * f).mean()]) / draws
    return float(found[0]), float(found[1]), float(found[2])


def blended(tone: Tone, network: nn.Module, sets: Sequence[Tensor], high: float) -> Tone | None:
    """The filter with the blend that errs least on held-out images, in the mean logarithm over TRIED; None where the network alone does.

    Of the blends that err nowhere by more than ALLOWED above the filter, where there are such.

    Args:
        tone: the filter.
        network: (x, sigma) -> x0_hat.
        sets: images (N, C, H, W) of one size or several.
        high: the network's last level.
    """
    levels = torch.tensor([sigma for sigma in TRIED if sigma <= high], dtype=torch.float64)
    if not len(levels):
        return None
    measured = [[moments(tone, network, images, float(sigma)) for sigma in levels] for images in sets]
    own, filters, both = torch.tensor(measured, dtype=torch.float64).movedim(-1, 0)
    found = [(False, float(own.log().mean()), (0.0, 0.0))]
    for low, end in itertools.product(STARTS, ENDS):
        if low < end <= high:
            part = replace(tone, blend=(low, end)).weight(levels)
            error = (1 - part) ** 2 * own + part**2 * filters + 2 * part * (1 - part) * both
            found.append((bool((error > filters * (1 + ALLOWED)).any()), float(error.log().mean()), (low, end)))
    if min(found[1:], default=found[0], key=lambda one: one[1])[1] >= found[0][1]:
        return None
    return replace(tone, blend=min(found[1:])[2])


def at_sides(images: Tensor, patch: int) -> list[Tensor]:
    """Images as they are, and cut into squares of a patch's side where that is smaller."""
    side = min(patch, *images.shape[-2:])
    if side == max(images.shape[-2:]):
        return [images]
    cut = images.unfold(2, side, side).unfold(3, side, side)
    return [images, cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1], side, side)]


def add_tone(file: Path, crops: Crops, images: Tensor, patch: int) -> Tone | None:
    """Fit the filter of a weight file's training pictures and write it into its card where it is worth it; returns what was written.

    Args:
        file: NAME.safetensors with its card.
        crops: the training's pictures.
        images: (N, C, H, W), held out.
        patch: side of the training's patches.

    Raises:
        InputError: see `load_network`.
    """
    network, card = load_network(file)
    tone = None
    if card.sigma_range[1] >= ENDS[0]:
        tone = blended(fitted(cut(crops, patch)), network, at_sides(images.cpu(), patch), card.sigma_range[1])
    write_bytes(file.with_suffix(".json"), replace(card, tone={} if tone is None else tone.table()).text().encode())
    return tone


def toned(files: list[Path], run: Training, config: TrainConfig) -> list[Path]:
    """The same files, the card with a tone where the run was of a denoiser of pictures without a condition, and had a validation."""
    of_means = config.condition is None and config.objective.kind != "consistency"
    of_pictures = of_means and not config.data.autoencoder and network_name(config) == "edm-drunet"
    if of_pictures and len(files) == 2 and run.validation is not None and config.objective.sigmas.high >= ENDS[0]:
        add_tone(files[0], run.crops, run.validation, config.data.side or int(run.validation.shape[-1]))
    return files


def carried(made: Path, file: Path) -> None:
    """Take the tone of the card that a run ended with into the card of the same weights elsewhere."""
    if made == file or not made.with_suffix(".json").is_file():
        return
    earlier, card = read_card(made), read_card(file)
    if earlier.sha256 == card.sha256 and earlier.tone:
        write_bytes(file.with_suffix(".json"), replace(card, tone=earlier.tone).text().encode())


def main(given: Sequence[str] | None = None) -> None:
    """Read the arguments, fit, write the card; a user's error is one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("--config", type=Path, required=True, help="of its training: names the pictures and the validation")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="how many pictures of the validation choose where network and filter meet")
    arguments = parser.parse_args(given)
    try:
        config = TrainConfig.load(arguments.config)
        if config.validation is None:
            raise InputError(f"{arguments.config}: no [validation]; the filter is held against the network on pictures that are held out")
        channels, data, chosen = config.network.channels, config.data, config.validation
        card = read_card(card_file(arguments.prior))
        if card.arguments.get("channels", 3) != channels:
            raise InputError(f"{arguments.config} is of {channels} channels, '{card.name}' has {card.arguments.get('channels', 3)}")
        sources = [(source.of(arguments.data), source.weight, tuple(source.scales)) for source in data.source]
        crops = Crops(sources, data.side or None, channels=channels, pad=data.pad)
        count = arguments.images or chosen.count
        images = validation_images(chosen.of(arguments.data), count, chosen.side or None, channels, data.pad)
        file = card_file(arguments.prior).with_suffix(".safetensors")
        tone = add_tone(file, crops, images, data.side or int(images.shape[-1]))
        print(
            f"{file.with_suffix('.json')}: "
            + ("no tone, the network errs less" if tone is None else f"tone, blended over sigma {tone.blend}")
        )
    except InputError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()
