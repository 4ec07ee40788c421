"""Where good values are looked for: ranges, random and grid settings, and what solvers and regularisers declare."""

import inspect
import math

import pytest

from invsolve.errors import InputError
from invsolve.plugins import registry
from invsolve.ranges import Choice, Range, drawn, fitting, gridded

DECLARED = [entry for entry in registry().of("solver") if entry.load().ranges]


def test_the_values_of_a_range():
    assert [Range(1.0, 100.0, log=True).at(u) for u in (0, 0.5, 1)] == [1, 10, 100]
    assert [Range(1, 8, whole=True).at(u) for u in (0, 0.5, 1)] == [1, 4, 8]
    assert Range(0.3, 3.0, log=True, unit="sigma_x").points(3, sigma_x=0.1) == pytest.approx([0.03, 0.09487, 0.3])
    assert Range(1.0, 3.0, unit="1/sigma_x").at(0, sigma_x=0.05) == 20
    assert [Choice(("a", "b")).at(u) for u in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]
    for wrong in ((1.0, 1.0, False), (0.0, 1.0, True), (0.0, math.inf, False), (2.0, 1.0, False)):
        with pytest.raises(InputError, match="a range goes from low to high"):
            Range(*wrong)


def test_random_settings_do_not_depend_on_their_number():
    ranges = {"a": Range(0.0, 1.0), "b": Choice((1, 2, 3))}
    assert list(drawn(ranges, 5, 0))[:3] == list(drawn(ranges, 3, 0))
    assert list(drawn(ranges, 5, 0)) != list(drawn(ranges, 5, 1))
    places = [one["a"] for one in drawn(ranges, 400, 0)]
    assert abs(sum(places) / 400 - 0.5) < 4 / math.sqrt(12 * 400)  # four standard errors of a uniform mean
    assert {one["b"] for one in drawn(ranges, 40, 0)} == {1, 2, 3}


def test_a_grid_has_at_most_so_many_points():
    ranges = {"a": Range(0.0, 1.0), "b": Choice((1, 2))}
    assert gridded(ranges, 6) == [{"a": a, "b": b} for a in (0, 0.5, 1) for b in (1, 2)]
    assert len(gridded(ranges, 7)) == 6
    assert [one["a"] for one in gridded({"a": Range(0.0, 1.0)}, 5)] == [0, 0.25, 0.5, 0.75, 1]
    with pytest.raises(InputError, match="3 trials are too few for a grid over a, c"):
        gridded({"a": Range(0.0, 1.0), "c": Range(0.0, 1.0)}, 3)


def test_names_are_chosen_by_the_kind_of_prior():
    ranges = {"a": Range(0.0, 1.0), "b": Range(0.0, 1.0, only="regulariser")}
    assert list(fitting(ranges, "denoiser")) == ["a"]
    assert list(fitting(ranges, "regulariser", ["b"])) == ["b"]
    with pytest.raises(InputError, match="nothing declares a range for b; there are: a"):
        fitting(ranges, "denoiser", ["b"])


@pytest.mark.parametrize("entry", DECLARED, ids=lambda entry: entry.name)
def test_every_value_of_a_declared_range_is_taken(entry):
    """Ends and middle make a solver, alone and together; a default that is a number lies inside; steps, a cost, is none of them."""
    cls = entry.load()
    defaults = {name: one.default for name, one in inspect.signature(cls).parameters.items()}
    assert set(cls.ranges) <= set(defaults)
    assert "steps" not in cls.ranges
    for name, one in cls.ranges.items():
        for value in one.points(3, sigma_x=0.05):
            assert getattr(cls(**{name: value}), name) == value
        default = defaults[name]
        if isinstance(one, Range) and isinstance(default, int | float) and not one.unit:
            assert one.low <= default <= one.high
        if isinstance(one, Choice):
            assert default in one.values
    for u in (0, 0.5, 1):
        cls(**{name: one.at(u, 0.05) for name, one in cls.ranges.items()})


def test_the_main_solvers_declare_ranges():
    wanted = {
        "adam-tv",
        "hqs",
        "admm",
        "pgm",
        "red",
        "diffpir",
        "dps",
        "ddrm",
        "score-ald",
        "pigdm",
        "spectral",
        "red-diff",
        "daps",
        "ddnm-plus",
    }
    assert wanted <= {entry.name for entry in DECLARED}
    weight = registry().load("prior", "tv").ranges["weight"]
    # c / sigma, c = .6 for denoising and holes (TotalVariation's own advice), within a factor of four of the ends.
    assert 4 * weight.low < 0.6 <= weight.high
