"""Does a network do what is said of it: a smooth picture with noise at five levels, and the conventions that fit it better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from invsolve.priors.base import Denoiser
from invsolve.priors.convert import NetworkDenoiser
from invsolve.rng import Rng
from invsolve_weights.formats import Convention

if TYPE_CHECKING:
    from invsolve_weights.cards import Card

SIDE = 64
RANGES = ((0.0, 1.0), (-1.0, 1.0))
# A denoiser leaves less than this much of the noise in a picture without detail; one of another convention leaves more.
GOOD = 0.6
CLEARLY = 0.7
# What a network foreign to that picture may leave at every level and still be one that was trained: the digits' leaves 0.43 to 0.85.
# An untrained one adds noise, or leaves nearly all of it at low levels, whatever its preconditioning takes out at high ones.
PROMISED = 0.9
# float32 kernels of other processors and orders of summation: far below; another weight file: far above.
KEPT = 0.02


@dataclass(frozen=True)
class SelfTest:
    """What was measured.

    Args:
        levels: (sigma, |x - D| / |noise|: 1 is promised for a smooth picture, |D - x0| / |noise|: 0 is promised).
        left: mean of the last over the levels.
        better: a convention that leaves clearly less, and how much; None without one.
        kept: whether a card's promise of these very numbers is kept; None without a promise.
    """

    levels: list[tuple[float, float, float]]
    left: float
    better: tuple[Convention, float] | None = None
    kept: bool | None = None

    @property
    def passed(self) -> bool:
        """Whether it denoises and no other convention does clearly better; with a promise, whether that is kept."""
        return self.kept if self.kept is not None else self.left < GOOD and self.better is None

    def text(self, stated: Convention) -> str:
        """One line for a reader."""
        table = ", ".join(f"sigma {sigma:.3g}: takes out {taken:.2f}, leaves {left:.2f}" for sigma, taken, left in self.levels)
        if self.kept is not None:
            return f"leaves {'what' if self.kept else 'other than what'} its card promises of a smooth picture's noise ({table})"
        if self.passed:
            return f"denoises a smooth picture as promised (of the noise: {table})"
        said = f"kind {stated.kind!r}, range {stated.range}, schedule {stated.schedule!r}"
        if self.better is None:
            return f"does not denoise as {said}, nor by any other convention tried (of the noise: {table}); are the weights trained?"
        other, left = self.better
        differ = [name for name in ("kind", "range", "schedule") if getattr(other, name) != getattr(stated, name)]
        names = ", ".join(f"{name}={getattr(other, name)!r}" for name in differ)
        return f"does not behave as {said}: it leaves {self.left:.2f} of the noise, and {left:.2f} with {names} ({table})"


def smooth_picture(channels: int, side: int = SIDE) -> Tensor:
    """(1, C, side, side) in [0.05, 0.95]: slow waves, other in each channel."""
    across = torch.linspace(0, 1, side)
    waves = [torch.sin(math.pi * (across[:, None] * (1 + 0.3 * c) + across * (0.7 - 0.2 * c)) + c) for c in range(channels)]
    return (0.5 + 0.45 * torch.stack(waves))[None]


def levels_of(denoiser: Denoiser, count: int = 5) -> list[float]:
    """Five levels within the denoiser's range, between 0.02 and 1 where it reaches there."""
    low, high = denoiser.sigma_range
    low, high = (max(low, 0.02), min(high, 1.0)) if low < 1.0 and high > 0.02 else (low, high)
    return [math.exp(math.log(low) + k / (count - 1) * (math.log(high) - math.log(low))) for k in range(count)]


@torch.no_grad()
def measured(denoiser: Denoiser, channels: int, levels: list[float], enough: float = math.inf) -> list[tuple[float, float, float]]:
    """Each level with what is taken out and what is left, in units of the noise; no more of them once `enough` is left in sum."""
    picture, found = smooth_picture(channels), []
    for index, sigma in enumerate(levels):
        noise = sigma * Rng(0, [index], purpose="self-test").normal_like(picture)
        estimate = denoiser(picture + noise, sigma)
        size = float(noise.norm())
        found.append((sigma, float((picture + noise - estimate).norm()) / size, float((estimate - picture).norm()) / size))
        if sum(left for _, _, left in found) > enough:
            break
    return found


def others(stated: Convention) -> Iterator[Convention]:
    """The usual mistakes: another target, a range of twice the width, both."""
    for kind in ("x0", "eps", "v") if stated.schedule != "none" else ("x0", "eps"):
        for bounds in RANGES:
            if (kind, bounds) != (stated.kind, tuple(stated.range)):
                yield replace(stated, kind=kind, range=bounds)


def self_test(make: Callable[[Convention], Denoiser], stated: Convention, channels: int) -> SelfTest:
    """Measure a network as stated, and by the other conventions.

    Args:
        make: the denoiser of a convention.
        stated: what is said of the network.
        channels: of its images.
    """
    denoiser = make(stated)
    levels = levels_of(denoiser)
    found = measured(denoiser, channels, levels)
    left = mean_left(found)
    if left < GOOD / 4:
        return SelfTest(found, left)  # hardly to be beaten: the others need not be tried
    bound = min(CLEARLY * left, GOOD)
    enough = bound * len(levels)  # one that has left so much cannot come below the bound at the levels that remain
    rivals = [(other, mean_left(measured(make(other), channels, levels, enough))) for other in others(stated)]
    best = min(rivals, key=lambda pair: pair[1])
    return SelfTest(found, left, best if best[1] < bound else None)


def promise_of(network: nn.Module, card: Card) -> list[tuple[float, float]]:
    """What a network leaves of the smooth picture's noise, to be kept on its card: (sigma, part) by level.

    Empty for one that denoises the picture as any denoiser of photographs would, and for one that does not denoise at all.
    """
    denoiser = NetworkDenoiser(network, "x0", sigma_range=card.sigma_range)
    found = measured(denoiser, channels_of(card), [float(f"{level:.4g}") for level in levels_of(denoiser)])
    return [(sigma, round(left, 4)) for sigma, _, left in found] if mean_left(found) >= GOOD and is_promise(found) else []


def is_promise(levels: Sequence[Sequence[float]]) -> bool:
    """Whether clearly less than all noise is left (the last entry) at every level."""
    return bool(levels) and all(level[-1] < PROMISED for level in levels)


def channels_of(card: Card) -> int:
    """Image channels of a card's network."""
    return int(card.arguments.get("channels", 3))


def card_test(network: nn.Module, card: Card) -> SelfTest:
    """Measure a network of ours against its card's promise, else against what a denoiser of photographs does."""

    def make(one: Convention) -> Denoiser:
        return NetworkDenoiser(network, one.kind, sigma_range=card.sigma_range)

    stated = Convention(sigma_range=card.sigma_range)
    if is_promise(card.promise):
        return promised_test(make(stated), channels_of(card), card.promise)
    return self_test(make, stated, channels_of(card))


def promised_test(denoiser: Denoiser, channels: int, promise: list[tuple[float, float]]) -> SelfTest:
    """Measure a network of pictures unlike the smooth one (digits) against what its card says it leaves there."""
    found = measured(denoiser, channels, [sigma for sigma, _ in promise])
    kept = all(abs(left - said) <= KEPT * said for (_, _, left), (_, said) in zip(found, promise, strict=True))
    return SelfTest(found, mean_left(found), kept=kept)


def mean_left(found: list[tuple[float, float, float]]) -> float:
    """Mean over levels of what is left; infinite where it is not a number."""
    value = sum(left for _, _, left in found) / len(found)
    return value if math.isfinite(value) else math.inf
