"""Finding dust and scratches: what is fitted on training photographs, and how well masks and restorations are on others.

    python benchmarks/studies/damage.py tune --data DATA        # plugins/invsolve_damage/weights/damage-reading.json
    python benchmarks/studies/damage.py table --data DATA       # the numbers of benchmarks/results/conditional/damage.md
    python benchmarks/studies/damage.py figure --data DATA      # its picture

DATA holds train/bsds500, dev/bsds500_val32, dev/ddnm_hq and dev/permissive_skimage. Masks of both are other ones than those of the
training, and so are the photographs of `table`.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from invsolve_damage.finding import evidence, find_damage, grown
from invsolve_damage.outliers import blurred, outliers, unlikely
from invsolve_damage.reading import FILE, METHODS, Reading
from invsolve_operators import FilmMask, Mask
from invsolve_weights.classes import CardedClasses
from torch import Tensor

from invsolve import NoNoise, Problem, load_prior
from invsolve.io.images import picture_grid, read_image, write_image
from invsolve.priors import Denoiser
from invsolve.rng import Rng, derive
from invsolve.solvers import HQS
from invsolve.training.damage import Paint

DENSITIES = {"low": 0.5, "medium": 1.0, "high": 2.0}
LEVELS, WIDTHS, DRAWS = (0.05, 0.1, 0.2, 0.4), (0.0, 1.0, 3.0), 2
BLURS = (0.0, 0.5, 0.8)
BLANK = Reading(LEVELS, WIDTHS, (), 0.0, {}, {}, {}, "outlier")
PAGE = Path(__file__).parents[1] / "results" / "conditional" / "damage.md"
NUMBERS = PAGE.with_suffix(".json")
CROP = 160
NATURAL_LEVEL = 0.1
RESTORED = ("reading", "outlier")
SHOWN = "astronaut.png"
# Mean square error of what hqs fills in: 39 dB where a twentieth of a picture is missing.
FILLED = 0.0025


def damaged(photo: Tensor, density: float, *key: object) -> tuple[Tensor, Tensor]:
    """A photograph (C, H, W) with painted film damage, and the mask (H, W), True where it is sound."""
    seed = derive("damage study", density, *key)
    keep = FilmMask((1, *photo.shape[1:]), density, seed=seed % 2**31).mask.reshape(photo.shape[1:])
    return Paint()(photo, keep, np.random.default_rng(seed)), keep > 0


def photographs(folder: Path, count: int, every: int = 1) -> list[Tensor]:
    """Photographs of a folder, in name order."""
    return [read_image(path, channels=3)[0] for path in sorted(folder.rglob("*.jpg"))[::every][:count]]


def overlap(found: Tensor, true: Tensor) -> float:
    """Intersection over union of two masks of damage."""
    union = float((found | true).sum())
    return float((found & true).sum()) / union if union else 1.0


def maps_of(photo: Tensor, prior: Denoiser) -> Tensor:
    """What a reading reads, (1, maps, H, W)."""
    found = list(evidence(photo[None], prior, LEVELS, DRAWS, Rng(0, [0], purpose="damage")))
    return torch.cat([*found, outliers(photo[None])[:, None]], 1)


def scores_of(maps: Tensor, reading: Reading) -> dict[str, Tensor]:
    """Unblurred scores (1, H, W) of the methods without weights."""
    pairs = maps[:, :-1].unflatten(1, (len(LEVELS), 2)).sum(1)
    return {"evidence": pairs[:, 0], "difference": pairs[:, 1] / pairs[:, 1].mean(), "outlier": maps[:, -1], "reading": reading(maps)}


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
    """60 thresholds: quantiles of all scores."""
    pooled = torch.cat([score.flatten()[::7] for score in scores]).double()
    return torch.quantile(pooled[:: 1 + len(pooled) // 200_000], torch.linspace(0.75, 0.998, 60, dtype=torch.float64)).tolist()


def best_threshold(scores: list[Tensor], truths: list[Tensor]) -> tuple[float, float]:
    """(mean IoU, threshold) of the best."""

    def mean(level: float) -> float:
        return float(np.mean([overlap(one[0] > level, true) for one, true in zip(scores, truths, strict=True)]))

    return max((mean(level), level) for level in candidates(scores))


def best_for_restoring(scores: list[Tensor], truths: list[Tensor], errors: list[Tensor]) -> tuple[float, int]:
    """(threshold, growth) of the largest mean PSNR, where what is masked is filled in with FILLED, and what is missed stays."""

    def psnr(level: float, pixels: int) -> float:
        found = []
        for score, true, error in zip(scores, truths, errors, strict=True):
            masked = grown(score > level, pixels)[0]
            found.append(-10 * math.log10(float((FILLED * masked + error * (true & ~masked)).mean())))
        return float(np.mean(found))

    _, level, pixels = max((psnr(level, pixels), level, pixels) for level in candidates(scores) for pixels in (0, 1, 2))
    return round(level, 4), pixels


def cases_of(data: Path, prior: Denoiser, count: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """(maps, true damage, squared error of the damage) of training photographs, a third of them with each density."""
    cases, truths, errors = [], [], []
    for index, photo in enumerate(photographs(data / "train" / "bsds500", count, 19)):
        density = list(DENSITIES.values())[index % 3]
        bad, keep = damaged(photo, density, "tune", index)
        cases.append(maps_of(bad, prior))
        truths.append(~keep)
        errors.append((bad - photo).square().mean(0))
    return cases, truths, errors


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
    """Fit the reading and choose blurs and thresholds on training photographs, and write them."""
    cases, truths, errors = cases_of(data, CardedClasses(weights, precision="auto"), count)
    table, bias = weights_of(cases, truths)
    reading = replace(BLANK, weights=table, bias=bias)
    blur, thresholds, generous, rated = {}, {}, {}, {}
    for method in METHODS:
        tried = []
        for one in (0.0,) if method == "reading" else BLURS:
            scores = [blurred(scores_of(maps, reading)[method], one) for maps in cases]
            tried.append((*best_threshold(scores, truths), one, scores))
        rated[method], threshold, blur[method], scores = max(tried, key=lambda row: row[0])
        thresholds[method] = round(threshold, 4)
        generous[method] = best_for_restoring(scores, truths, errors)
    natural = load_prior("natural", precision="auto")
    photos = photographs(data / "train" / "bsds500", 6, 19)
    pairs = [(damaged(photo, list(DENSITIES.values())[index % 3], "tune", index)[0], truths[index]) for index, photo in enumerate(photos)]
    rated["natural"], thresholds["natural"] = best_threshold([by_natural(bad, natural) for bad, _ in pairs], [true for _, true in pairs])
    best = max(METHODS, key=lambda one: rated[one])
    print("mean IoU on training photographs", {name: round(value, 3) for name, value in rated.items()}, blur, thresholds, generous)
    replace(reading, blur=blur, thresholds=thresholds, generous=generous, best=best).save(FILE)


def by_natural(photo: Tensor, prior: Denoiser) -> Tensor:
    """The outliers of the unconditional prior's own estimate of the photograph, as if it had noise of NATURAL_LEVEL, (1, H, W)."""
    with torch.no_grad():
        return unlikely(photo[None], prior(photo[None], NATURAL_LEVEL))


def restored(clean: Tensor, bad: Tensor, keep: Tensor, prior: Denoiser) -> Tensor:
    """PSNR of each crop, filled in where the masks say so, (B,)."""
    operator = Mask(bad.shape[1:], mask=keep.float())
    x = HQS().solve(Problem(operator, operator(bad), NoNoise()), prior, generator=0).x.clamp(0, 1)
    return -10 * (x - clean).square().flatten(1).mean(1).log10()


def scored(bad: Tensor, prior: Denoiser, natural: Denoiser, reading: Reading) -> dict[str, Tensor]:
    """(1, H, W) for every method of `find_damage`, as it has them, and for the baseline `natural`."""
    found = scores_of(maps_of(bad, prior), reading)
    return {**{name: blurred(one, reading.blur[name]) for name, one in found.items()}, "natural": by_natural(bad, natural)}


def middle(image: Tensor) -> Tensor:
    """The crop (..., CROP, CROP) from the middle."""
    top, left = ((side - CROP) // 2 for side in image.shape[-2:])
    return image[..., top : top + CROP, left : left + CROP]


def shown(value: list[float], digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{np.mean(value):.{digits}f} +- {np.std(value, ddof=1) / math.sqrt(len(value)):.{digits}f}"


def one_density(photos: list[Tensor], name: str, priors: tuple[Denoiser, Denoiser], reading: Reading) -> dict[str, list[float]]:
    """Columns of the table: numbers of every photograph."""
    columns: dict[str, list[float]] = {"damaged %": []}
    crops: dict[str, list[Tensor]] = {one: [] for one in ("clean", "bad", "true", *RESTORED)}
    for index, photo in enumerate(photos):
        bad, keep = damaged(photo, DENSITIES[name], "test", index)
        columns["damaged %"].append(100 * float((~keep).double().mean()))
        scores = scored(bad, *priors, reading)
        for method, score in scores.items():
            columns.setdefault(f"IoU {method}", []).append(overlap(score[0] > reading.thresholds[method], ~keep))
        for method in RESTORED:
            level, pixels = reading.generous[method]
            crops[method].append(middle(~grown(scores[method] > level, pixels)))
        crops["true"].append(middle(keep[None]))
        crops["clean"].append(middle(photo))
        crops["bad"].append(middle(bad))
    stacked = {one: torch.stack(rows) for one, rows in crops.items()}
    columns["PSNR as it is"] = (-10 * (stacked["bad"] - stacked["clean"]).square().flatten(1).mean(1).log10()).tolist()
    for method in ("true", *RESTORED):
        columns[f"PSNR {method}"] = restored(stacked["clean"], stacked["bad"], stacked[method], priors[1]).tolist()
    return columns


def table(data: Path, weights: str, count: int) -> None:
    """Print every density's columns as they come, and write them as JSON for the page."""
    priors = CardedClasses(weights, precision="auto"), load_prior("natural", precision="auto")
    photos, reading = photographs(data / "dev" / "bsds500_val32", count), Reading.load()
    held: dict[str, dict[str, list[float]]] = {}
    for name in DENSITIES:
        held[name] = one_density(photos, name, priors, reading)
        for column, values in held[name].items():
            print(name, column, shown(values), flush=True)
        NUMBERS.write_text(json.dumps(held))
    others = {}
    for path in sorted((data / "dev" / "ddnm_hq").glob("*.png")):
        keep = find_damage(read_image(path, channels=3)[0], priors[0]).keep
        others[path.name] = 100 * (1 - float(keep.double().mean()))
        print(path.name, others[path.name], flush=True)
    NUMBERS.write_text(json.dumps({**held, "others": others}))


def figure(data: Path, weights: str) -> None:
    """The picture of the page: damaged, what was found, restored; a photograph that may be shown."""
    photo = middle(read_image(data / "dev" / "permissive_skimage" / SHOWN, channels=3)[0][:, ::2, ::2])
    bad, keep = damaged(photo, 2 * DENSITIES["high"], "figure")
    found = find_damage(bad, CardedClasses(weights, precision="auto"), generous=True).keep
    operator = Mask(bad.shape, mask=found[None].float())
    x = HQS().solve(Problem(operator, operator(bad[None]), NoNoise()), load_prior("natural", precision="auto"), generator=0).x[0]
    masks = [one.float().expand(3, -1, -1) for one in (keep[None], found)]
    write_image(PAGE.with_suffix(".png"), picture_grid(torch.stack([photo, bad, *masks, x.clamp(0, 1)]), 5))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "table", "figure"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="damage")
    parser.add_argument("--count", type=int, default=0, help="photographs: 15 for tune, 20 for table")
    given = parser.parse_args()
    if given.what == "tune":
        tune(given.data, given.weights, given.count or 15)
    elif given.what == "table":
        table(given.data, given.weights, given.count or 20)
    else:
        figure(given.data, given.weights)
