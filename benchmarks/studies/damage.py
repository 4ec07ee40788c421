"""Finding dust and scratches: what is fitted on training photographs, and how well masks and restorations are on others.

    python benchmarks/studies/damage.py segmenter --data DATA   # plugins/invsolve_damage/weights/damage-segmenter.safetensors
    python benchmarks/studies/damage.py tune --data DATA        # plugins/invsolve_damage/weights/damage-reading.json
    python benchmarks/studies/damage.py table --data DATA       # the numbers of benchmarks/results/conditional/damage.md
    python benchmarks/studies/damage.py figure --data DATA      # its picture

DATA holds train/bsds500, train/photos, dev/bsds500_val32, dev/ddnm_hq and dev/permissive_skimage. Masks of both are other ones than
those of the training, and so are the photographs of `table`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from invsolve_damage.finding import evidence, find_damage, grown
from invsolve_damage.outliers import blurred, outliers, unlikely
from invsolve_damage.reading import FILE, METHODS, Reading
from invsolve_damage.segment import Segmenter, save, segmented, shipped
from invsolve_operators import FilmMask, Mask
from invsolve_weights.classes import CardedClasses
from torch import Tensor

from invsolve import NoNoise, Problem, load_prior
from invsolve.io.images import picture_grid, read_image, write_image
from invsolve.priors import Denoiser
from invsolve.priors.precision import multiplies_bfloat16
from invsolve.rng import Rng, derive
from invsolve.solvers import HQS
from invsolve.training.config import TrainConfig
from invsolve.training.damage import Damaged, Paint
from invsolve.training.data import Crops

DENSITIES = {"low": 0.5, "medium": 1.0, "high": 2.0}
LEVELS, WIDTHS, DRAWS = (0.05, 0.1, 0.2, 0.4), (0.0, 1.0, 3.0), 2
BLURS = (0.0, 0.5, 0.8)
BLANK = Reading(LEVELS, WIDTHS, (), 0.0, {}, {}, {}, {}, "outlier")
PAGE = Path(__file__).parents[1] / "results" / "conditional" / "damage.md"
NUMBERS = PAGE.with_suffix(".json")
VIEW, CROP = 256, 128
HARM, FAR = 4.0, 0.15
NATURAL_LEVEL = 0.1
SHOWN = "astronaut.png"


def damaged(photo: Tensor, density: float, *key: object) -> tuple[Tensor, Tensor]:
    """A photograph (C, H, W) with painted film damage, and the mask (H, W), True where it is sound."""
    seed = derive("damage study", density, *key)
    keep = FilmMask((1, *photo.shape[1:]), density, seed=seed % 2**31).mask.reshape(photo.shape[1:])
    return Paint()(photo, keep, np.random.default_rng(seed)), keep > 0


def photographs(folder: Path, count: int, every: int = 1) -> list[Tensor]:
    """Photographs of a folder, in name order."""
    return [read_image(path, channels=3)[0] for path in sorted(folder.rglob("*.jpg"))[::every][:count]]


def middle(image: Tensor, side: int) -> Tensor:
    """The square from the middle."""
    top, left = ((have - side) // 2 for have in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def overlap(found: Tensor, true: Tensor) -> float:
    """Intersection over union of two masks of damage."""
    union = float((found | true).sum())
    return float((found & true).sum()) / union if union else 1.0


def maps_of(photo: Tensor, prior: Denoiser) -> Tensor:
    """What a reading reads, (1, maps, H, W)."""
    found = list(evidence(photo[None], prior, LEVELS, DRAWS, Rng(0, [0], purpose="damage")))
    return torch.cat([*found, outliers(photo[None])[:, None]], 1)


def scores_of(photo: Tensor, prior: Denoiser | None, natural: Denoiser | None, reading: Reading) -> dict[str, Tensor]:
    """(1, H, W) of every method that the two priors allow, as `find_damage` has them but for their windows, and of `natural`."""
    found = {"segment": segmented(photo[None]), "outlier": outliers(photo[None])}
    if natural is not None:
        found["natural"] = by_natural(photo, natural)
    if prior is not None:
        maps = maps_of(photo, prior)
        pairs = maps[:, :-1].unflatten(1, (len(LEVELS), 2)).sum(1)
        found |= {"evidence": pairs[:, 0], "difference": pairs[:, 1] / pairs[:, 1].mean(), "reading": reading(maps)}
    return found


def fitted(features: Tensor, labels: Tensor, steps: int = 60) -> Tensor:
    """Weights of a logistic regression, the bias last, by LBFGS with a little ridge."""
    shift, scale = features.mean(0), features.std(0) + 1e-6
    inputs = (features - shift) / scale
    weights = torch.zeros(inputs.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = inputs @ weights[:-1] + weights[-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels) + 1e-4 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    found = weights.detach()
    slopes = found[:-1] / scale
    return torch.cat([slopes, (found[-1] - (slopes * shift).sum())[None]])


def candidates(scores: list[Tensor]) -> list[float]:
    """60 thresholds that are quantiles of all scores, and 30 between the ends at equal distances: few pixels lie between two modes."""
    pooled = torch.cat([score.flatten()[::7] for score in scores]).double()
    levels = torch.quantile(pooled[:: 1 + len(pooled) // 200_000], torch.linspace(0.75, 0.998, 60, dtype=torch.float64))
    return [*levels.tolist(), *torch.linspace(float(levels[0]), float(levels[-1]), 30).tolist()]


def best_threshold(scores: list[Tensor], truths: list[Tensor]) -> tuple[float, float]:
    """(mean IoU, threshold) of the best."""

    def mean(level: float) -> float:
        return float(np.mean([overlap(one[0] > level, true) for one, true in zip(scores, truths, strict=True)]))

    return max((mean(level), level) for level in candidates(scores))


def best_for_restoring(scores: list[Tensor], threshold: float, cases: Cases, prior: Denoiser) -> tuple[float, int]:
    """(threshold, growth) of the largest mean PSNR of what is filled in, masks from .7 to 2 times as large as those of `threshold`."""
    pooled = torch.cat([score.flatten() for score in scores]).sort().values
    share = float((pooled > threshold).double().mean())
    bad, clean = (torch.stack([middle(one, CROP) for one in rows]) for rows in (cases.bad, cases.sound))
    found = []
    for factor in (0.7, 0.85, 1.0, 1.2, 1.5, 2.0):
        level = float(pooled[min(len(pooled) - 1, round(len(pooled) * (1 - factor * share)))])
        for pixels in (0, 1):
            keep = torch.stack([middle(~grown(score > level, pixels), CROP) for score in scores])
            found.append((float(restored(clean, bad, keep, prior).mean()), level, pixels))
    print([(round(psnr, 2), round(level, 2), pixels) for psnr, level, pixels in found], flush=True)
    _, level, pixels = max(found)
    return round(level, 4), pixels


@dataclass
class Cases:
    """Photographs with painted damage, without it, and where it is."""

    bad: list[Tensor]
    sound: list[Tensor]
    truths: list[Tensor]

    @classmethod
    def of(cls, data: Path, count: int) -> Cases:
        """Of the training set, a third of them with each density."""
        made = cls([], [], [])
        for index, photo in enumerate(photographs(data / "train" / "bsds500", count, 19)):
            density = list(DENSITIES.values())[index % 3]
            bad, keep = (middle(one, VIEW) for one in damaged(photo, density, "tune", index))
            made.bad.append(bad)
            made.sound.append(middle(photo, VIEW))
            made.truths.append(~keep)
        return made


def weights_of(cases: list[Tensor], truths: list[Tensor]) -> tuple[tuple[tuple[float, ...], ...], float]:
    """The reading's weights and bias, fitted on all damaged pixels and a ninth of the others."""
    rows, labels = [], []
    for maps, true in zip(cases, truths, strict=True):
        features = BLANK.features(maps).flatten(1, 2)[0].flatten(1).T
        chosen = torch.cat([true.flatten().nonzero()[:, 0], torch.arange(0, true.numel(), 9)])
        rows.append(features[chosen])
        labels.append(true.flatten()[chosen].float())
    *slopes, bias = (round(one, 5) for one in fitted(torch.cat(rows), torch.cat(labels)).tolist())
    width = len(slopes) // len(WIDTHS)
    return tuple(tuple(slopes[first * width : (first + 1) * width]) for first in range(len(WIDTHS))), bias


def tune(data: Path, weights: str, count: int) -> None:
    """Fit the reading and choose windows and thresholds on training photographs, and write them; without weights for the other methods."""
    natural: Any = load_prior("natural", precision="auto")
    cases, prior, reading = Cases.of(data, count), CardedClasses(weights, precision="auto") if weights else None, Reading.load()
    if prior is not None:
        table, bias = weights_of([maps_of(case, prior) for case in cases.bad], cases.truths)
        reading = replace(reading, levels=LEVELS, widths=WIDTHS, weights=table, bias=bias)
    blur, thresholds, generous, rated = {**reading.blur}, {**reading.thresholds}, {**reading.generous}, {**reading.rated}
    found = [scores_of(case, prior, None if prior else natural, reading) for case in cases.bad]
    for method in found[0]:
        tried = []
        for one in (0.0,) if method in ("reading", "segment") else BLURS:
            scores = [blurred(score[method], one) for score in found]
            tried.append((*best_threshold(scores, cases.truths), one, scores))
        rated[method], threshold, blur[method], scores = max(tried, key=lambda row: row[0])
        rated[method], thresholds[method] = round(rated[method], 3), round(threshold, 4)
        generous[method] = best_for_restoring(scores, threshold, cases, natural)
    best = max(METHODS, key=lambda one: rated.get(one, 0.0))
    print("mean IoU on training photographs", rated, blur, thresholds, generous, best)
    replace(reading, blur=blur, thresholds=thresholds, generous=generous, rated=rated, best=best).save(FILE)


def by_natural(photo: Tensor, prior: Denoiser) -> Tensor:
    """The outliers of the unconditional prior's own estimate of the photograph, as if it had noise of NATURAL_LEVEL, (1, H, W)."""
    with torch.no_grad():
        return unlikely(photo[None], prior(photo[None], NATURAL_LEVEL))


def restored(clean: Tensor, bad: Tensor, keep: Tensor, prior: Denoiser) -> Tensor:
    """PSNR of each crop, filled in where the masks say so, (B,)."""
    operator = Mask(bad.shape[1:], mask=keep.float())
    x = HQS().solve(Problem(operator, operator(bad), NoNoise()), prior, generator=0).x.clamp(0, 1)
    return -10 * (x - clean).square().flatten(1).mean(1).log10()


def shown(value: list[float], digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{np.mean(value):.{digits}f} +- {np.std(value, ddof=1) / math.sqrt(len(value)):.{digits}f}"


def harm(clean: Tensor, bad: Tensor, truth: Tensor) -> Tensor:
    """Weights of the pixels, (B, H, W), 1 to 1 + HARM: what calling a pixel wrongly does to the restored photograph.

    A piece that is missed stays; where nothing is damaged the filling is about as far off as a pixel is from its neighbours' mean.
    """
    missed = (bad - clean).square().mean(1)
    filled = (clean - torch.nn.functional.avg_pool2d(clean, 5, 1, 2, count_include_pad=False)).square().mean(1)
    return 1 + HARM * (torch.where(truth, missed, filled) / FAR**2).clamp_max(1)


def segmenter(data: Path, seconds: float, on: bool = False, seed: int = 13) -> None:
    """Train the segmenter, `on` from the shipped weights, by weighted cross entropy on crops with other sheets; seconds of one core."""
    shape, folder = (3, 96, 96), Path(__file__).parents[1] / "training"
    pairs = TrainConfig.load(folder / "damage.toml").pairs(shape, folder)
    assert isinstance(pairs, Damaged)
    crops = Crops([(data / "train" / name, share, (1.0, 0.75)) for name, share in (("bsds500", 0.6), ("photos/train.zip", 0.4))], shape[1])
    torch.manual_seed(seed)
    network, rng, began, steps = Segmenter(), np.random.default_rng(seed), time.process_time(), 0
    top = 1e-3 if on else 2e-3
    if on:
        network.load_state_dict(shipped().state_dict())
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.Adam(network.parameters(), lr=top)
    while (part := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = top * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part))) * min(1.0, (steps + 1) / 30)
        images = crops.sample(8, rng)
        parts = [pairs.part(shape[1:], rng) for _ in images]
        bad = torch.stack([pairs.paint(image, one, rng) for image, one in zip(images, parts, strict=True)])
        truth = (torch.stack(parts) == 0).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16("cpu")):
            logits = network(bad.contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth, weight=harm(images, bad, truth > 0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
        if steps % 100 == 0:
            print(steps, round(part, 4), round(loss.item(), 4), flush=True)
    print(f"segmenter: {steps} steps, {sum(value.numel() for value in network.parameters())} weights")
    save(network)


def one_density(
    photos: list[Tensor], name: str, priors: tuple[Any, Any], reading: Reading, kept: tuple[str, ...]
) -> dict[str, list[float]]:
    """Columns of the table: numbers of every photograph; `kept` are the methods whose masks are filled in."""
    columns: dict[str, list[float]] = {"damaged %": []}
    crops: dict[str, list[Tensor]] = {one: [] for one in ("clean", "bad", "true", *kept)}
    for index, photo in enumerate(photos):
        bad, keep = (middle(one, VIEW) for one in damaged(photo, DENSITIES[name], "test", index))
        columns["damaged %"].append(100 * float((~keep).double().mean()))
        scores = scores_of(bad, *priors, reading)
        for method, score in scores.items():
            bad_here = blurred(score, reading.blur[method])[0] > reading.thresholds[method]
            columns.setdefault(f"IoU {method}", []).append(overlap(bad_here, ~keep))
        for method in kept:
            level, pixels = reading.generous[method]
            crops[method].append(middle(~grown(blurred(scores[method], reading.blur[method]) > level, pixels), CROP))
        for one, value in (("true", keep[None]), ("clean", middle(photo, VIEW)), ("bad", bad)):
            crops[one].append(middle(value, CROP))
    if kept:
        stacked = {one: torch.stack(rows) for one, rows in crops.items()}
        columns["PSNR as it is"] = (-10 * (stacked["bad"] - stacked["clean"]).square().flatten(1).mean(1).clamp_min(1e-6).log10()).tolist()
        for method in ("true", *kept):
            columns[f"PSNR {method}"] = restored(stacked["clean"], stacked["bad"], stacked[method], priors[1]).tolist()
    return columns


def table(data: Path, weights: str, count: int, kept: tuple[str, ...]) -> None:
    """Print every density's columns as they come, and put them into the page's JSON file; without weights the methods without a prior."""
    prior = CardedClasses(weights, precision="auto") if weights else None
    natural = load_prior("natural", precision="auto") if kept or not weights else None
    photos, reading = photographs(data / "dev" / "bsds500_val32", count), Reading.load()
    held = json.loads(NUMBERS.read_text()) if NUMBERS.is_file() else {}
    for name in DENSITIES:
        held.setdefault(name, {}).update(one_density(photos, name, (prior, natural), reading, kept))
        for column, values in held[name].items():
            print(name, column, shown(values), flush=True)
        NUMBERS.write_text(json.dumps({key: rounded(value) for key, value in held.items()}))
    for path in sorted((data / "dev" / "ddnm_hq").glob("*.png")):
        keep = find_damage(read_image(path, channels=3)[0], prior).keep
        held.setdefault("others", {})[path.name] = [100 * (1 - float(keep.double().mean()))]
    NUMBERS.write_text(json.dumps({key: rounded(value) for key, value in held.items()}))
    print(held["others"])


def rounded(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Numbers with 4 digits behind the point."""
    return {name: [round(value, 4) for value in values] for name, values in columns.items()}


def figure(data: Path, weights: str) -> None:
    """The picture of the page: sound, damaged, true and found mask, restored; a photograph that may be shown."""
    photo = middle(read_image(data / "dev" / "permissive_skimage" / SHOWN, channels=3)[0], 2 * CROP)
    bad, keep = damaged(photo, 1.5 * DENSITIES["high"], "figure")
    prior = CardedClasses(weights, precision="auto") if weights else None
    found = find_damage(bad, prior, generous=True).keep
    operator = Mask(bad.shape, mask=found[None].float())
    x = HQS().solve(Problem(operator, operator(bad[None]), NoNoise()), load_prior("natural", precision="auto"), generator=0).x[0]
    masks = [one.float().expand(3, -1, -1) for one in (keep[None], found)]
    write_image(PAGE.with_suffix(".png"), picture_grid(torch.stack([bad, *masks, x.clamp(0, 1)]), 4))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["segmenter", "tune", "table", "figure"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="", help="of the prior; the methods without one unless given")
    parser.add_argument("--restore", nargs="*", default=[], help="methods whose masks are filled in")
    parser.add_argument("--count", type=int, default=0, help="photographs: 15 for tune, 20 for table")
    parser.add_argument("--on", action="store_true", help="train the shipped segmenter further")
    parser.add_argument("--seconds", type=float, default=50.0, help="of the segmenter's training")
    given = parser.parse_args()
    if given.what == "segmenter":
        segmenter(given.data, given.seconds, given.on, 14 if given.on else 13)
    elif given.what == "tune":
        tune(given.data, given.weights, given.count or 15)
    elif given.what == "table":
        table(given.data, given.weights, given.count or 20, tuple(given.restore))
    else:
        figure(given.data, given.weights)
