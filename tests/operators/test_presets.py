"""What papers measure: every row of the tables against the operator it stands for, its arguments written out here."""

import copy
import inspect
import math
import pickle

import invsolve_operators
import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import (
    Bicubic,
    BlockMean,
    KernelBlur,
    PaddedBlur,
    RandomBoxMask,
    RandomRangeMask,
    SeparableBlur,
    SeparableGaussianBlur,
    StrokeMask,
)
from invsolve_operators.blurs.kernels import shake
from invsolve_operators.preset import Preset, Row

from invsolve import GaussianNoise, Problem
from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.rng import Rng

TWENTY = (3, 20, 24)


def bell(sigma, reach):
    """A normalised Gaussian without its last tap, mirrored, as DDRM's loop applies it: its first tap is the missing one."""
    values = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-reach, reach + 1)]
    return [0.0, *[value / sum(values) for value in values[:-1]][::-1]]


def nine(shape, items):
    """DiffPIR's kernels by two loops."""
    u = Rng(1, range(items), purpose="diffpir-blur").uniform((), torch.empty(0, dtype=torch.float64))
    found = []
    for width in (3 + 6 * float(one) for one in u):
        row = [math.exp(-0.5 * (place / width) ** 2) for place in range(-30, 31)]
        found.append([[a * b / sum(row) ** 2 for b in row] for a in row])
    return KernelBlur(shape, torch.tensor(found, dtype=torch.float64))


# name: (the preset's arguments after the shape, the operator it stands for, sigma_y, the paper's arXiv number, bits or rounding)
WANTED = {
    "dps-box-mask": ({"seed": 4, "items": 2}, lambda: RandomBoxMask(TWENTY, 10, 1, 4, 2), 0.025, "2209.14687", 0),
    "dps-random-mask": ({"seed": 4, "items": 2}, lambda: RandomRangeMask(TWENTY, 0.3, 0.7, 4, 2), 0.025, "2209.14687", 0),
    "daps-random-mask-70": ({"seed": 4, "items": 2}, lambda: RandomRangeMask(TWENTY, 0.7, 0.7, 4, 2), 0.025, "2407.01521", 0),
    "repaint-wide-mask": ({"seed": 4, "items": 2}, lambda: StrokeMask(TWENTY, "wide", 0.5, 4, 2), 0, "2201.09865", 0),
    "repaint-narrow-mask": ({"seed": 4, "items": 2}, lambda: StrokeMask(TWENTY, "narrow", 0.5, 4, 2), 0, "2201.09865", 0),
    "dps-gaussian-blur-61": ({}, lambda: SeparableGaussianBlur(TWENTY, 3.0, "reflect", 4.0), 0.025, "2209.14687", 0),
    "dps-motion-blur-61": ({"seed": 4}, lambda: PaddedBlur(TWENTY, shake(61, 0.5, 4), "reflect"), 0.025, "2209.14687", 0),
    "dps-super-resolution-4": ({}, lambda: Bicubic(TWENTY, 4, "symmetric", -0.5), 0.025, "2209.14687", 0),
    "diffpir-gaussian-blur-61": ({"seed": 1, "items": 2}, lambda: nine(TWENTY, 2), 0.05, "2305.08995", 1e-15),
    "diffpir-motion-blur-61": ({"seed": 4}, lambda: KernelBlur(TWENTY, shake(61, 0.5, 4)), 0.05, "2305.08995", 0),
    "ddrm-uniform-blur-9": ({}, lambda: SeparableBlur(TWENTY, [0.0] + [1 / 9] * 8, None, "zero"), 0.05, "2201.11793", 0),
    "ddrm-gaussian-blur-5": ({}, lambda: SeparableBlur(TWENTY, bell(10, 2), None, "zero"), 0.05, "2201.11793", 1e-15),
    "ddrm-anisotropic-blur-9": ({}, lambda: SeparableBlur(TWENTY, bell(1, 4), bell(20, 4), "zero"), 0.05, "2201.11793", 1e-15),
    "red-diff-gaussian-blur-5": ({}, lambda: SeparableBlur(TWENTY, bell(25, 2), None, "zero"), 0, "2305.04391", 1e-15),
    "ddrm-super-resolution-4": ({}, lambda: BlockMean(TWENTY, 4), 0.05, "2201.11793", 0),
}
FOUND = {entry.name: entry.load() for entry in registry().of("operator")}
PRESETS = {name: cls for name, cls in FOUND.items() if isinstance(cls, type) and issubclass(cls, Preset)}


def images(operator):
    return torch.rand((operator.batch or 2, *operator.in_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_every_row_is_held_against_numbers():
    assert set(WANTED) == set(PRESETS)


@pytest.mark.parametrize("name", WANTED)
def test_a_row_is_the_operator_that_the_paper_measures(name):
    """To the bit, but where the taps are computed here by Python's exp: an ulp of 1 on sums of weights of at most 1."""
    arguments, wanted, sigma, paper, rounding = WANTED[name]
    operator, other = PRESETS[name](TWENTY, **arguments), wanted()
    x = images(operator)
    assert isinstance(operator, type(other))
    assert (operator(x) - other(x)).abs().max() <= 4 * rounding
    row: Row = type(operator).row
    assert row.noise == sigma
    assert f"arXiv:{paper}" in row.source


@pytest.mark.parametrize("name", WANTED)
def test_a_row_is_a_class_like_others(name, tmp_path):
    """Its name, its signature, its pickles, its files, its copies, its items."""
    arguments, cls = WANTED[name][0], PRESETS[name]
    operator = cls(TWENTY, **arguments)
    x = images(operator)
    assert getattr(invsolve_operators, cls.__name__) is cls
    assert list(inspect.signature(cls).parameters) == ["in_shape", "seed", "items"][: 1 + len(arguments)]
    assert operator.arguments == {"in_shape": TWENTY, **arguments}
    assert repr(operator).startswith(f"{cls.__name__}(")
    for again in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
        assert type(again) is cls
        assert torch.equal(again(x), operator(x))
    Problem.simulate(operator, x.float(), GaussianNoise(0.05), generator=0).save(tmp_path / "problem")
    read: Operator = Problem.load(tmp_path / "problem").operator
    assert type(read) is cls
    assert torch.equal(read(x), operator(x))
    if operator.batch:
        # Libraries sum several transforms in another order than one: eps log2(480 pixels) of values up to 1.
        assert (operator[1](x[1:]) - operator(x)[1:]).abs().max() <= 2e-15
    with pytest.raises(InputError, match="shape"):
        cls((20, 24))


@pytest.mark.parametrize("name", WANTED)
def test_info_says_where_it_comes_from_and_its_noise(name):
    """The docstring is written from the row, and shown."""
    _, _, sigma, paper, _ = WANTED[name]
    shown = CliRunner().invoke(main, ["info", "operator", name]).output
    assert f"arXiv:{paper}" in shown.partition("References")[2]
    assert (f"sigma_y {sigma:g} in [0, 1]" if sigma else "no noise") in shown.partition("References")[0]
    row = PRESETS[name].row
    assert " ".join(row.differs.split()) in " ".join(shown.split())


def test_a_preset_is_a_row():
    """A new one: no code."""
    from invsolve_operators.preset import OnePerImage

    class MineMask(OnePerImage, RandomRangeMask, row=Row(fixed={"least": 0.2, "most": 0.2}, noise=0.1, source="Me (2026)")):
        """Mine: 20 % removed."""

    assert round(1 - float(MineMask((1, 10, 10), items=3).mask.mean()), 6) == 0.2
    assert MineMask.__doc__.splitlines()[:3] == ["Mine: 20 % removed.", "", "Its noise: sigma_y 0.1 in [0, 1]."]
    assert [one.batch for one in MineMask.examples()] == [None, 3]
