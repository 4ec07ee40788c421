"""What a blur leaves behind in a picture, as a vector of numbers: its spectrum, how well three laws fit that, and how steep its edges are.

Everything is of the mean over the channels. The spectrum is that of windows of 64 pixels, read on a half-disk of directions and
frequencies; after a blur k it is

    S(w) = |k(w)|^2 A |w|^(-2 a) + sigma^2

with A and a those of the scene. A blurred step of height h has a steepest slope of h / sqrt(2 pi (s^2 + width^2)) under a derivative of
width s, whatever the scene's spectrum: the steepest slopes at five widths tell the width where the spectrum alone cannot. And an edge
that moved by a length leaves two, one where it began and one where it ended: slopes along the motion answer each other, with the
other sign, at that distance, and those of a disk about its diameter.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 64  # of a window, in pixels; no smaller picture is read
TURNS, RINGS = 24, 28  # directions over 180 degrees, frequencies from 1.5 / SIDE to 1/2 cycles a pixel
WIDTHS = (0.7, 1.2, 2.0, 3.2, 5.0)  # of the derivatives, in pixels
ECHOES = 30  # pixels: the distances at which slopes are compared
STEEP = (0.8, 0.95, 0.99, 0.998)  # quantiles of the slopes
FAINT = 1e-9  # power below any rounding of 8 bits
SLOPES = (0.8, 1.1, 1.4, 1.7)  # the exponents a that are tried
SIGMAS, RADII, LENGTHS = (0.5, 4.5), (1.0, 9.0), (3.0, 26.0)  # pixels: what the laws are tried at
TRIED = 20


class Half(NamedTuple):
    """The spectrum of a picture's liveliest part on a half-disk.

    Args:
        read: (directions, rings), its logarithm.
        floor: the power of the noise.
        turn: the direction of the motion that fits best.
    """

    read: Tensor
    floor: float
    turn: int


class Traits(NamedTuple):
    """What was read of a picture.

    Args:
        values: (465,), float32.
        half: from which the angle of a motion is read once its length is known.
    """

    values: Tensor
    half: Half


def traits(tiles: list[Tensor], sigma: float) -> Traits:
    """The numbers of a picture.

    Args:
        tiles: parts of it, (h, w) each in float64, no side under 64.
        sigma: standard deviation of the noise in them.
    """
    floor = sigma * sigma + FAINT
    powers = torch.cat([spectra(tile) for tile in tiles])
    whole, lively = powers.mean(0), liveliest(powers).mean(0)
    read = polar(torch.stack([whole, lively]))
    fits, turn, motion = motion_fits(read[1], floor)
    profiles = [part for one in read for part in along(torch.roll(one, -turn, 0))]
    laws = [round_fits(read[1].mean(0), floor, law) for law in (gaussians(), disks())]
    angle = turn * math.pi / TURNS
    last = torch.tensor([math.log(floor)], dtype=torch.float64)
    numbers = [*profiles, *laws, fits, motion, slopes(tiles, angle), echoes(tiles, angle), last]
    return Traits(torch.cat(numbers).float(), Half(read[1], floor, turn))


def spectra(tile: Tensor) -> Tensor:
    """(n, 64, 64): the power of each window, sigma^2 for noise of that variance."""
    windows = tile.unfold(0, SIDE, SIDE // 2).unfold(1, SIDE, SIDE // 2).reshape(-1, SIDE, SIDE)
    line = torch.hann_window(SIDE, periodic=False, dtype=tile.dtype)
    taper = line[:, None] * line
    mean = (windows * taper).sum((1, 2), keepdim=True) / taper.sum()
    return torch.fft.fft2((windows - mean) * taper).abs().square() / taper.square().sum()


def liveliest(powers: Tensor) -> Tensor:
    """The quarter of the windows with most detail, each made equal in it."""
    line = torch.fft.fftfreq(SIDE, dtype=powers.dtype)
    detail = (powers * (line[:, None].square() + line.square() > 0.004)).sum((1, 2))
    best = detail.argsort(descending=True)[: max(1, len(detail) // 4)]
    size = detail[best].clamp_min(1e-300)
    return powers[best] / size[:, None, None] * size.mean()


@cache
def grid() -> tuple[Tensor, Tensor]:
    """(directions in radians, cycles a pixel) of the half-disk."""
    return torch.arange(TURNS, dtype=torch.float64) * math.pi / TURNS, torch.linspace(1.5 / SIDE, 0.5, RINGS, dtype=torch.float64)


def polar(powers: Tensor) -> Tensor:
    """The logarithm of (n, 64, 64) smoothed by a neighbour each way, on directions and frequencies: (n, 24, 28)."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=powers.dtype)
    smooth = functional.conv2d(functional.pad(powers[:, None], (1, 1, 1, 1), mode="circular"), (line[:, None] * line)[None, None])
    middle = functional.pad(torch.fft.fftshift(torch.log(smooth + FAINT / 10), dim=(-2, -1)), (0, 1, 0, 1), mode="circular")
    turn, ring = grid()
    # Rows grow downwards, angles counter-clockwise; the middle is frequency 0 and the sides are 1/2.
    places = 2 * torch.stack([ring * turn.cos()[:, None], -ring * turn.sin()[:, None]], -1)
    return functional.grid_sample(middle, places.to(powers).expand(len(powers), -1, -1, -1), align_corners=True)[:, 0]


def along(turned: Tensor) -> list[Tensor]:
    """The mean over all directions, and those along, across and aslant of the first."""
    quarter = TURNS // 4
    aslant = [*range(quarter - 1, quarter + 2), *range(3 * quarter - 1, 3 * quarter + 2)]
    return [turned.mean(0), turned[[-1, 0, 1]].mean(0), turned[2 * quarter - 1 : 2 * quarter + 2].mean(0), turned[aslant].mean(0)]


def tried(between: tuple[float, float]) -> Tensor:
    """TRIED numbers, evenly spaced in their logarithm."""
    return torch.exp(torch.linspace(math.log(between[0]), math.log(between[1]), TRIED, dtype=torch.float64))


@cache
def gaussians() -> Tensor:
    """|k|^2 of Gaussians, (widths, rings): exp(-4 pi^2 sigma^2 w^2)."""
    return torch.exp(-((2 * math.pi * tried(SIGMAS)[:, None] * grid()[1]) ** 2))


@cache
def disks() -> Tensor:
    """|k|^2 of disks, (radii, rings): (2 J1(z) / z)^2 at z = 2 pi radius w."""
    z = 2 * math.pi * tried(RADII)[:, None] * grid()[1]
    return (2 * torch.special.bessel_j1(z) / z) ** 2


@cache
def motions() -> Tensor:
    """|k|^2 of straight motions, (turns, lengths, turns, rings): sinc^2 of the length times the frequency along it."""
    turn, ring = grid()
    part = torch.cos(turn - turn[:, None])[:, None, :, None] * ring
    return torch.sinc(tried(LENGTHS)[:, None, None] * part).square()


def round_fits(profile: Tensor, floor: float, law: Tensor) -> Tensor:
    """How far log S is from each width's law, in the mean square, then the best width's place: (TRIED + 1,).

    The exponent is the best of four, the amplitude that which makes the mean difference nought.
    """
    power = grid()[1] ** (-2 * torch.tensor(SLOPES, dtype=torch.float64)[:, None])
    shape = law[:, None] * power  # widths, slopes, rings
    size = torch.full_like(shape[..., :1], math.exp(float(profile[0])) / float(power[1, 0]))
    for _ in range(4):
        signal = size * shape
        share = signal / (signal + floor)
        gap = profile - torch.log(signal + floor)
        size = size * torch.exp((share * gap).sum(-1, keepdim=True) / share.sum(-1, keepdim=True).clamp_min(0.1)).clamp(0.05, 20)
    miss = (profile - torch.log(size * shape + floor)).square().mean(-1).amin(1)
    return torch.cat([miss.clamp_min(1e-4).log(), miss.argmin()[None].double() / TRIED])


def motion_fits(read: Tensor, floor: float) -> tuple[Tensor, int, Tensor]:
    """(misfit of each length at the best direction, that direction, its misfit and length): how directions differ, not how rings do."""
    miss = misfit(read, floor, motions())
    turn, length = divmod(int(miss.argmin()), TRIED)
    return miss[turn].clamp_max(5), turn, torch.tensor([float(miss.min()), length / TRIED], dtype=torch.float64)


def direction(half: Half, length: float) -> float:
    """The angle of a motion whose length is known, in degrees counter-clockwise from the horizontal: the best of 25 about the one of 24."""
    angles = (half.turn + torch.linspace(-1.2, 1.2, 25, dtype=torch.float64)) * math.pi / TURNS
    part = torch.cos(grid()[0] - angles[:, None])[:, :, None] * grid()[1]
    miss = misfit(half.read, half.floor, torch.sinc(length * part).square())
    return math.degrees(float(angles[int(miss.argmin())])) % 180


def misfit(read: Tensor, floor: float, law: Tensor) -> Tensor:
    """How far the differences between directions are from those of laws (..., turns, rings), over those that there are."""
    mean = read.mean(0)
    share = (1 - floor / mean.exp()).clamp_min(1e-3) * grid()[1].clamp_min(0.03)
    size = (read.quantile(0.85, dim=0).exp() - floor).clamp_min(0.02 * floor)
    expected = torch.log(size * law.clamp_min(1e-4) + floor)
    expected, found = expected - expected.mean(-2, keepdim=True), read - mean
    return ((expected - found).square() * share).sum((-2, -1)) / (found.square() * share).sum().clamp_min(1e-9)


def slopes(tiles: list[Tensor], angle: float) -> Tensor:
    """log of the square of the steepest slopes: at each width their quantiles of all, along the angle and across it."""
    found = []
    for width in WIDTHS:
        across, up = zip(*(derivatives(tile, width) for tile in tiles), strict=True)
        right, high = torch.cat([one.flatten() for one in across]), torch.cat([one.flatten() for one in up])
        turned = math.cos(angle) * right + math.sin(angle) * high, math.cos(angle) * high - math.sin(angle) * right
        for values in (right.hypot(high), *(one.abs() for one in turned)):
            ordered = values.sort().values
            found += [ordered[int(part * len(ordered))] for part in STEEP]
    return torch.log(torch.stack(found).square() + FAINT)


def derivatives(tile: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The slopes to the right and upwards of the picture under a Gaussian of a width, 1 for a ramp of 1 a pixel."""
    reach = math.ceil(3 * width)
    index = torch.arange(-reach, reach + 1, dtype=tile.dtype)
    bell = torch.exp(-0.5 * (index / width) ** 2)
    bell, slope = bell / bell.sum(), index * bell / (index.square() * bell).sum()
    row, column = tile[None, None], (1, 1, -1, 1)
    right = functional.conv2d(functional.conv2d(row, bell.reshape(column)), slope[None, None, None])
    up = functional.conv2d(functional.conv2d(row, -slope.reshape(column)), bell[None, None, None])
    return right[0, 0], up[0, 0]


def echoes(tiles: list[Tensor], angle: float) -> Tensor:
    """The correlation of the slopes at distances of 1 to ECHOES pixels: of those along the angle in that direction, then of all in all."""
    reach, total = ECHOES + 2, 0
    for tile in tiles:
        right, up = derivatives(tile, WIDTHS[0])
        sloped = torch.stack([math.cos(angle) * right + math.sin(angle) * up, right, up])
        power = torch.fft.rfft2(sloped, s=[side + reach for side in sloped.shape[1:]]).abs().square()
        total = total + torch.fft.irfft2(power, s=[side + reach for side in sloped.shape[1:]])
    near = torch.cat([total[..., -reach:], total[..., : reach + 1]], -1)  # pyright: ignore[reportIndexIssue]
    near = torch.cat([near[:, -reach:], near[:, : reach + 1]], 1)
    near = torch.stack([near[0], near[1] + near[2]])
    near = near / near[:, reach, reach].clamp_min(1e-12)[:, None, None]
    distance, turn = torch.arange(1, ECHOES + 1, dtype=torch.float64), grid()[0]
    places = torch.stack([distance * turn.cos()[:, None], -distance * turn.sin()[:, None]], -1) / reach
    line = distance * torch.tensor([math.cos(angle), -math.sin(angle)], dtype=torch.float64)[:, None] / reach
    along = functional.grid_sample(near[None, :1], line.mT[None, None], align_corners=True)[0, 0, 0]
    around = functional.grid_sample(near[None, 1:], places[None], align_corners=True)[0, 0].mean(0)
    # The answer of an edge is a kink.
    return torch.cat([along, around, along.diff(n=2), around.diff(n=2)])
