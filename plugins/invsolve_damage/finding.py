"""Where a photograph is damaged, told by a prior of clean and damaged photographs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from invsolve.errors import InputError
from invsolve.plugins import load_prior
from invsolve.priors import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve_damage.outliers import blurred, outliers
from invsolve_damage.reading import METHODS, Reading
from invsolve_damage.segment import segmented

CLEAN, DAMAGED = 0, 1
ALONE = ("segment", "outlier")  # the methods that ask no prior
# Pictures are looked at in tiles of this side, each with a margin that is thrown away.
TILE, MARGIN = 480, 32


class Found(NamedTuple):
    """What was found.

    Args:
        keep: (B, 1, H, W), bool: True where the photograph is sound, as `Mask` takes it.
        score: (B, H, W): what was thresholded.
    """

    keep: Tensor
    score: Tensor


def find_damage(
    photo: Tensor,
    prior: Denoiser | None = None,
    *,
    method: str | None = None,
    threshold: float | None = None,
    grow: int | None = None,
    generous: bool = False,
    draws: int = 2,
    seed: int = 0,
) -> Found:
    """Where photographs are damaged by dust and scratches: a mask for any inpainting solver, and the scores behind it.

        keep = score <= threshold, then without what is within `grow` pixels of damage

    Args:
        photo: (C, H, W) or (B, C, H, W) in [0, 1], C = 1 or 3; every photograph is looked at for itself.
        prior: conditional on `context["label"]`, 0 clean and 1 damaged; None for the shipped `damage`. A grey photograph is shown to it in
            three channels.
        method: "evidence", what `evidence` finds at four levels, added; "reading", a weighted sum of that, its differences and the
            outliers, fitted on training photographs; "difference", DiffEdit's |D(damaged) - D(clean)| over its mean; "outlier", the
            distance from the median around a pixel; "segment", a small network that was shown painted masks; these two need no prior.
            None for "evidence" where a prior is given, which then needs a threshold unless one was fitted, and else for the one that
            measured best on training photographs (`benchmarks/results/conditional/damage.md`).
        threshold: of the score; None for the one chosen on training photographs, by its overlap with the true mask.
        grow: pixels, 0 to 32, by which the damage is widened; None for 0.
        generous: whether threshold and growth are, unless given, those for restoration: what is missed stays in the picture, what is sound
            can mostly be filled in.
        draws: of noise at each level, 1 to 64; two network evaluations each.
        seed: of the noise.

    Returns:
        keep (B, 1, H, W) and score (B, H, W), both without B for a photograph without.

    Raises:
        InputError: no photograph, another method, a prior for one that asks none, a number outside its range.
    """
    reading = Reading.load()
    method = method if method is not None else reading.best if prior is None else "evidence"
    if prior is not None and method in ALONE:
        raise InputError(f"method {method!r} asks no prior; leave the prior out, or take evidence or difference, with a threshold")
    check(photo, method, draws, 0 if grow is None else grow, threshold)
    if method not in reading.rated and (threshold is None or method == "reading"):
        known = ", ".join(name for name in METHODS if name in reading.rated)
        raise InputError(f"nothing was fitted for method {method!r} yet, only for {known}; evidence and difference take a threshold")
    usual = reading.generous.get(method, (0.0, 0)) if generous else (reading.thresholds.get(method, 0.0), 0)
    level, pixels = usual[0] if threshold is None else threshold, usual[1] if grow is None else grow
    whole = photo[None] if photo.ndim == 3 else photo
    with torch.no_grad():
        score = score_of(whole, prior, method, draws, seed, reading)
    keep = ~grown(score > level, pixels)[:, None]
    return Found(keep[0], score[0]) if photo.ndim == 3 else Found(keep, score)


def grown(bad: Tensor, pixels: int) -> Tensor:
    """(B, H, W), bool, widened."""
    return functional.max_pool2d(bad[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0 if pixels else bad


def check(photo: Tensor, method: str, draws: int, grow: int, threshold: float | None) -> None:
    """Raise InputError for what `find_damage` does not take."""
    if not isinstance(photo, Tensor) or photo.ndim not in (3, 4) or photo.shape[-3] not in (1, 3) or not photo.is_floating_point():
        given = tuple(photo.shape) if isinstance(photo, Tensor) else type(photo).__name__
        raise InputError(f"photo must be floats (C, H, W) or (B, C, H, W) in [0, 1] with 1 or 3 channels; given {given}")
    if not bool(torch.isfinite(photo).all()) or float(photo.min()) < 0 or float(photo.max()) > 1:
        raise InputError("photo must lie in [0, 1]; divide 8-bit values by 255")
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; given {method!r:.60}")
    for name, value, low, high in (("draws", draws, 1, 64), ("grow", grow, 0, 32)):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{name} must be a whole number from {low} to {high}; given {value!r:.60}")
    if threshold is not None and not (isinstance(threshold, int | float) and math.isfinite(threshold)):
        raise InputError(f"threshold must be a finite number, or None; given {threshold!r:.60}")


def score_of(photo: Tensor, prior: Denoiser | None, method: str, draws: int, seed: int, reading: Reading) -> Tensor:
    """(B, H, W): large where damage is likely, by a method."""
    if method == "outlier":
        return blurred(outliers(photo), reading.blur["outlier"])
    shown = photo.expand(-1, 3, -1, -1) if photo.shape[1] == 1 else photo
    if method == "segment":
        return segmented(shown)
    told: Denoiser = load_prior("damage", precision="auto") if prior is None else prior
    # Each photograph has the same noise wherever it stands: it is looked at for itself.
    rng = Rng(seed, [0] * len(photo), purpose="damage")
    found = torch.stack(list(evidence(shown, told, reading.levels, draws, rng)), 1)
    if method == "evidence":
        return blurred(found[:, :, 0].sum(1), reading.blur.get("evidence", 0.0))
    if method == "difference":
        whole = found[:, :, 1].sum(1)
        return blurred(whole / whole.flatten(1).mean(1)[:, None, None].clamp_min(1e-12), reading.blur.get("difference", 0.0))
    return reading(torch.cat([found.flatten(1, 2), outliers(photo)[:, None]], 1))


def evidence(photo: Tensor, prior: Denoiser, levels: Sequence[float], draws: int = 4, rng: Rng | None = None) -> Iterator[Tensor]:
    """For each level what speaks for damage at each pixel, and how much the two estimates differ, (B, 2, H, W).

        x_s = x + s n,   r = mean (|x - D(x_s, s, clean)|^2 - |x - D(x_s, s, damaged)|^2) / s^2,   d = mean |D(damaged) - D(clean)| / s

    over draws and channels. A denoiser's error is a likelihood: channels times the sum of r over pixels, integrated over log s, is
    log p(x | damaged) - log p(x | clean). Where r is large the damaged hypothesis knows the pixel better. d is DiffEdit's difference.

    Args:
        photo: (B, C, H, W) in [0, 1].
        prior: conditional on `context["label"]`, 0 clean and 1 damaged.
        levels: s, in data units.
        draws: of the noise, the same for both.
        rng: of the noise.

    References:
        Your Diffusion Model is Secretly a Zero-Shot Classifier (Li et al., 2023), arXiv:2303.16203: errors of estimates as likelihoods.
        Information-Theoretic Diffusion (Kong et al., 2023), arXiv:2302.03792, eq. 9. Deviation: by pixel, in VE form.
        DiffEdit (Couairon et al., 2022), arXiv:2210.11427, section 3.2.
    """
    rng = Rng(0, [0] * len(photo), purpose="damage") if rng is None else rng
    clean, damaged = (hypothesis(prior, photo, label) for label in (CLEAN, DAMAGED))
    for level in levels:
        total = photo.new_zeros(len(photo), 2, *photo.shape[-2:])
        for _ in range(draws):
            x = photo + level * rng.normal_like(photo)
            first, second = tiled(clean, x, level), tiled(damaged, x, level)
            better = ((photo - first).square() - (photo - second).square()).mean(1) / level**2
            total += torch.stack([better, (second - first).abs().mean(1) / level], 1)
        yield total / draws


def hypothesis(prior: Denoiser, photo: Tensor, label: int) -> Denoiser:
    """The prior of pictures with a label, one for any number of items and any size."""
    labels = torch.full((1,), label, device=photo.device)
    problem = Problem.unconditional(photo.shape[1:], 1, dtype=photo.dtype, device=photo.device, context={"label": labels})
    return prior.given(problem)


def tiled(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """D(x, sigma); of large photographs by tiles, item by item, so that one needs no more memory than a small one."""
    if max(x.shape[-2:]) <= TILE + MARGIN:
        return denoiser(x, sigma)
    out = torch.empty_like(x)
    for item in range(len(x)):
        for top in range(0, x.shape[-2], TILE):
            for left in range(0, x.shape[-1], TILE):
                up, side = max(0, top - MARGIN), max(0, left - MARGIN)
                tile = x[item : item + 1, :, up : top + TILE + MARGIN, side : left + TILE + MARGIN]
                found = denoiser(tile.contiguous(), sigma)[0, :, top - up :, left - side :][:, :TILE, :TILE]
                out[item, :, top : top + TILE, left : left + TILE] = found
    return out
