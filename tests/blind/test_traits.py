"""What is read of a picture, where the law of its spectrum is known exactly."""

import math

import pytest
import torch

from invsolve.blind.features import (
    LENGTHS,
    RADII,
    SIGMAS,
    TRIED,
    direction,
    disks,
    gaussians,
    grid,
    motion_fits,
    polar,
    round_fits,
    spectra,
    traits,
    tried,
)

SIDE = 256
STEP = {law: (high / low) ** (1 / (TRIED - 1)) for law, (low, high) in {"gaussian": SIGMAS, "disk": RADII, "motion": LENGTHS}.items()}


def noise(seed=0, side=SIDE):
    return torch.randn(side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field(transfer, level=0.002, seed=0):
    """A periodic field of power 1e-3 |transfer|^2 / |w|^2, and white noise."""
    line = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    down, across = line[:, None], line[None, :]
    radius = (down.square() + across.square()).sqrt()
    amplitude = transfer(down, across, radius) * 0.03 / radius.clamp_min(1 / SIDE)
    amplitude[0, 0] = 0
    return 0.5 + torch.fft.ifft2(torch.fft.fft2(noise(seed)) * amplitude).real + level * noise(seed + 1)


def read(tile):
    return polar(spectra(tile).mean(0)[None])[0]


def test_the_power_of_noise_is_its_variance():
    """256 windows that overlap by half hold about 64 independent ones of 4096 / 2 numbers: .3 % of scatter, and five of those."""
    assert float(spectra(0.3 * noise()).mean()) == pytest.approx(0.09, rel=0.015)


@pytest.mark.parametrize("sigma", [1.0, 1.7, 3.0])
def test_the_best_gaussian(sigma):
    """The nearest of those tried, which are 12 % apart, or its neighbour: windows of 64 pixels smooth the spectrum."""
    made = field(lambda down, across, radius: torch.exp(-2 * (math.pi * sigma * radius) ** 2))
    fits = round_fits(read(made).mean(0), 0.002**2, gaussians())
    found = float(tried(SIGMAS)[fits[:-1].argmin()])
    assert abs(math.log(found / sigma)) < 1.5 * math.log(STEP["gaussian"])
    assert float(fits[-1]) == int(fits[:-1].argmin()) / TRIED


@pytest.mark.parametrize("radius", [2.0, 3.3, 5.0])
def test_the_best_disk(radius):
    def transfer(down, across, frequency):
        z = (2 * math.pi * radius * frequency).clamp_min(1e-9)
        return 2 * torch.special.bessel_j1(z) / z

    fits = round_fits(read(field(transfer)).mean(0), 0.002**2, disks())
    assert abs(math.log(float(tried(RADII)[fits[:-1].argmin()]) / radius)) < 1.5 * math.log(STEP["disk"])


@pytest.mark.parametrize(("length", "angle"), [(8.0, 20.0), (12.0, 95.0), (6.0, 150.0)])
def test_the_direction_and_length_of_a_motion(length, angle):
    """The direction is one of 24, 7.5 degrees apart; with the length it is found to a fraction of that."""
    turn = math.radians(angle)
    made = field(lambda down, across, radius: torch.sinc(length * (across * math.cos(turn) - down * math.sin(turn))))
    _, best, summary = motion_fits(read(made), 0.002**2)
    assert abs((7.5 * best - angle + 90) % 180 - 90) <= 7.5
    assert abs(math.log(float(tried(LENGTHS)[round(float(summary[1]) * TRIED)]) / length)) < 1.5 * math.log(STEP["motion"])
    found = direction(traits([made], 0.002).half, length)
    assert abs((found - angle + 90) % 180 - 90) < 2


def test_the_half_disk_counts_angles_as_blurs_do():
    """A wave along 30 degrees counter-clockwise from the horizontal, rows growing downwards, stands in that direction."""
    down, across = torch.meshgrid(*[torch.arange(SIDE, dtype=torch.float64)] * 2, indexing="ij")
    turn = math.radians(30)
    wave = torch.cos(2 * math.pi * 0.25 * (across * math.cos(turn) - down * math.sin(turn)))
    place = divmod(int(read(wave).argmax()), len(grid()[1]))
    assert 7.5 * place[0] == 30
    assert float(grid()[1][place[1]]) == pytest.approx(0.25, abs=0.5 / 64)


def test_traits_of_parts_are_those_of_the_whole():
    """Two equal halves have the spectrum, the slopes and the echoes of one."""
    tile = field(lambda down, across, radius: torch.exp(-2 * (math.pi * radius) ** 2))
    one, two = traits([tile], 0.002), traits([tile, tile], 0.002)
    torch.testing.assert_close(one.values, two.values, rtol=1e-5, atol=1e-5)
    assert bool(torch.isfinite(one.values).all())
