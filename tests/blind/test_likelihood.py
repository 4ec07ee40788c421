"""The width of a blur from the law of the spectrum, where that law is known exactly: fields that were drawn from it."""

import math

import pytest
import torch
from test_traits import field
from turns import one_in

from invsolve.blind.features import traits
from invsolve.blind.likelihood import Scene, functions, likeliest, smeared, vertex, windowed
from invsolve.plugins import registry

LEVEL = 0.002
BLURS = {"gaussian": ("gaussian-blur", {"sigma": 1.7}), "defocus": ("defocus-blur", {"radius": 3.7})}
BLURS["motion"] = ("motion-blur", {"length": 9.0, "angle": 35.0})


def blurred(family, seed=0):
    """A part of a field of the law |w|^-2, blurred, with white noise."""
    scene = field(lambda down, across, radius: torch.ones_like(radius), 0.0, seed)
    name, given = BLURS[family]
    y = registry().build("operator", name, in_shape=(1, *scene.shape), **given).double()(scene[None, None])[0, 0]
    y = y[:160, :160]  # its edges do not meet, as in a photograph
    return y + LEVEL * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed + 9), dtype=y.dtype)


def test_the_window_mixes_neighbours_as_said():
    """The expectation of the windowed power of a field with any law on the whole plane is that law smeared: for one wave it is exact."""
    side, down, across = 16, 3, 5
    places = torch.arange(side, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * (down * places[:, None] + across * places) / side + 0.3)
    law = torch.fft.rfft2(wave).abs().square() / side**2
    window = (1 - torch.cos(2 * math.pi * places / side)) / 2
    power = torch.fft.rfft2(wave * window[:, None] * window).abs().square() / (window.square().sum() ** 2)
    # waves at +-w stay apart (their neighbours do not meet), so that the power has no cross terms
    assert torch.allclose(power, smeared(law), atol=1e-12)


@pytest.mark.parametrize("column", [0, 1, 7, 8])
def test_smearing_wraps_round_the_whole_plane(column):
    """The half-plane's neighbours beyond its sides are conjugates of those that it holds."""
    generator = torch.Generator().manual_seed(column)
    whole = torch.fft.fft2(torch.randn(16, 16, generator=generator, dtype=torch.float64)).abs().square()
    for axis in (0, 1):
        whole = whole * (2 / 3) + (whole.roll(1, axis) + whole.roll(-1, axis)) / 6
    half = torch.fft.fft2(torch.randn(16, 16, generator=torch.Generator().manual_seed(column), dtype=torch.float64)).abs().square()[:, :9]
    assert torch.allclose(smeared(half)[:, column], whole[:, column])


def test_noise_has_its_variance_in_every_window():
    """16,000 numbers of which each 3.8 are worth one: 1.5 % of scatter, and four of those."""
    noise = 0.3 * torch.randn(128, 130, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(windowed(noise).mean()) == pytest.approx(0.09, rel=0.06)


@pytest.mark.parametrize(("wrong", "family"), one_in(2, [pytest.param(w, f) for w in (0.85, 1.12) for f in BLURS], lambda *cell: cell))
def test_the_width_and_the_angle_are_found_from_a_reading_that_is_wrong(family, wrong):
    """Within four of the spreads that are said, which follow from the likelihood itself; and these are small where zeros tell."""
    y, (_, given) = blurred(family), BLURS[family]
    width, angle = next(iter(given.values())), given.get("angle", 0.0)
    scene = Scene(y, LEVEL)
    found = likeliest(scene, family, wrong * width, 0.2, angle + (4.0 if family == "motion" else 0.0))
    assert abs(math.log(found.width / width)) < 4 * max(found.spread, 0.002)
    assert found.spread < (0.05 if family == "gaussian" else 0.01)
    if family == "motion":
        assert found.angle == pytest.approx(angle, abs=1)


@pytest.mark.parametrize("family", BLURS)
def test_the_true_family_is_likeliest(family):
    scene = Scene(blurred(family, 3)[:128, :128], LEVEL)
    angle = BLURS["motion"][1]["angle"] if family == "motion" else 0.0
    deviation = {"gaussian": 1.7, "defocus": 3.7 / 2, "motion": 9 / math.sqrt(12)}[family]
    widths = {"gaussian": deviation, "defocus": 2 * deviation, "motion": math.sqrt(12) * deviation}
    costs = {name: likeliest(scene, name, width, 0.2, angle).cost for name, width in widths.items()}
    costs["none"] = scene.cost(torch.ones_like(scene.all[..., 0]), None, 15)[0]
    assert min(costs, key=costs.__getitem__) == family


def test_the_same_answer_in_any_unit_and_any_light():
    """Powers and noise scale together, and c's constant with them; its mean is what sharp photographs in [0, 1] have, so only nearly."""
    y = blurred("defocus")
    one, other = (likeliest(Scene(scale * y + shift, scale * LEVEL), "defocus", 3.5, 0.2) for scale, shift in ((1, 0), (0.5, 0.2)))
    assert other.width == pytest.approx(one.width, rel=1e-3)


def test_a_parabola_has_its_vertex_where_it_is_and_a_slope_none():
    places = [-1.0, 0.0, 1.0, 2.0]
    assert vertex(places, [(one - 0.3) ** 2 for one in places]) == pytest.approx(0.3)
    assert vertex(places, places) == -1.0


def test_small_odd_and_long_pictures_are_read():
    """64 pixels are the least that `identify` reads; odd sides lose a row."""
    for shape in ((64, 64), (65, 97), (64, 160)):
        kept = functions(*(side // 2 * 2 for side in shape))[1]
        y = blurred("defocus")[: shape[0], : shape[1]]
        scene = Scene(y, LEVEL)
        assert scene.power.numel() == int(kept.sum())
        # a fifth of the pixels: five times the variance, and the edges are no circle's
        assert likeliest(scene, "defocus", 3.4, 0.2).width == pytest.approx(3.7, rel=0.04)
        assert traits([y], LEVEL).values.isfinite().all()
