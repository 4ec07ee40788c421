"""Bars, large pictures and what follows no law: none of them changes what is read of a photograph."""

import importlib

import pytest
import torch
from test_found import noisy, photo

from invsolve.blind import identify
from invsolve.blind.reading import read
from invsolve.plugins import registry

IDENTIFY = importlib.import_module("invsolve.blind.identify")  # the function of that name hides the module


def blurred(sigma=2.0):
    x = photo("astronaut")
    operator = registry().build("operator", "gaussian-blur", in_shape=tuple(x.shape), sigma=sigma).double()
    return noisy(operator(x[None])[0], 0.006)


@pytest.mark.parametrize("bars", [((1, 0, 24),), ((1, 0, 20), (1, -12, None)), ((2, 0, 33),), ((1, 0, 9), (2, -17, None))])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bars_along_the_sides_are_cut_off_to_the_pixel(bars, value):
    y = blurred()
    shown = torch.nn.functional.pad(y, (40, 40, 40, 40), value=value)
    for axis, first, last in bars:
        y = y.clone()
        length = y.shape[axis]
        first = first % length
        y.narrow(axis, first, (length if last is None else last) - first).fill_(value)
    cut = IDENTIFY.lit(y)
    rows = y.shape[1] - sum((y.shape[1] if last is None else last) - first % y.shape[1] for axis, first, last in bars if axis == 1)
    columns = y.shape[2] - sum((y.shape[2] if last is None else last) - first % y.shape[2] for axis, first, last in bars if axis == 2)
    assert cut.shape[1:] == (rows, columns)
    assert torch.equal(IDENTIFY.lit(shown), blurred())


def test_a_picture_without_bars_and_one_that_is_almost_nothing_else_stay_whole():
    y = blurred()
    assert IDENTIFY.lit(y) is y
    little = torch.zeros_like(y)
    little[:, 10:50, 10:50] = y[:, 10:50, 10:50]
    assert IDENTIFY.lit(little).shape == little.shape


def test_a_letterbox_hides_no_blur():
    """The same pixels are read."""
    y = blurred()
    plain, boxed = identify(y), identify(torch.nn.functional.pad(y, (0, 0, 30, 30)))
    assert (plain.family, plain.parameters, plain.noise) == (boxed.family, boxed.parameters, boxed.noise)
    assert plain.parameters["sigma"] == pytest.approx(2, rel=4 * plain.spread)


def test_the_likelihood_is_of_the_liveliest_window():
    grey = torch.zeros(700, 300, dtype=torch.float64)
    grey[400:600] = torch.rand(200, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = IDENTIFY.window(grey)
    assert part.shape == (256, 256)
    assert float((part != 0).double().mean()) > 0.7
    assert IDENTIFY.window(grey[:90, :70]).shape == (90, 70)


def test_whether_there_is_a_blur_is_what_the_networks_say_and_the_spectrum_is_worth_a_hundred_to_one():
    y = blurred()
    found = IDENTIFY.shown(y, 0.006)
    weighed, blurs = IDENTIFY.weighed(y, 0.006, found)
    plain = read(found.values)
    assert weighed.chances["none"] == plain.chances["none"]
    assert sum(weighed.chances.values()) == pytest.approx(1)
    assert set(blurs) == {"gaussian", "defocus", "motion"}
    for one in blurs:
        for other in blurs:
            before = max(plain.chances[one], 1e-6) / max(plain.chances[other], 1e-6)
            odds = weighed.chances[one] / weighed.chances[other] / before
            assert 1 / 101 < odds < 101
