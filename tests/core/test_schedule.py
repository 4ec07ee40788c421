"""Schedules and grids: the figures of the papers, halved for [0, 1] data; grids decrease to 0 without equal entries."""

import math
from itertools import pairwise

import pytest
import torch

from invsolve.errors import CompatibilityError, InputError, UnknownNameError
from invsolve.noise import GaussianNoise
from invsolve.priors.base import DiffusionPrior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.schedule import EDM, GRIDS, VE, VP, Cosine, DiscreteVP, Flow, Schedule, karras, sigma_grid, vp_indices
from invsolve.solvers import DDIM, DDRM, DPS, DiffPIR, Heun, ScoreALD
from invsolve.testing.settings import SHAPE, Kept, truth
from invsolve.unit import Unit

# t: sigma_t, a_t of the linear schedule (beta 1e-4 .. 0.02, T = 1000) as published, each to half a unit of its last digit
LINEAR = {
    0: ("0.0100", ""),
    11: ("0.05", ""),
    26: ("0.10", ""),
    100: ("0.342", "0.895"),
    200: ("0.724", "0.656"),
    300: ("1.240", "0.394"),
    450: ("2.636", "0.126"),
    500: ("3.443", "0.078"),
    550: ("4.568", "0.0457"),
    800: ("25.7", "0.0015"),
    950: ("97.1", ""),
    999: ("157.4", ""),
}


def agrees(value, printed):
    """Whether the value rounds to what is printed."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-digits * (1 + 1e-9)


@pytest.mark.parametrize("t", LINEAR)
def test_the_linear_schedule_has_the_published_levels(t):
    sigma, a = LINEAR[t]
    scale, std = DiscreteVP()(torch.tensor(float(t), dtype=torch.float64))
    assert agrees(float(std / scale), sigma)
    assert not a or agrees(float(scale**2), a)
    assert float(scale**2 + std**2) == pytest.approx(1, abs=1e-12)


def test_sigma_is_one_at_257():
    sigmas = DiscreteVP().sigmas
    assert min(range(1000), key=lambda t: abs(sigmas[t] - 1)) in (257, 258)


def test_levels_are_plain_floats():
    """A numpy number times a float32 tensor may become float64, and prints as np.float64(...)."""
    assert all(type(sigma) is float for sigma in DiscreteVP(10).sigmas)
    for name in GRIDS:
        assert all(type(sigma) is float for sigma in sigma_grid(name, 5, low=0.01, high=10.0)), name


def test_the_network_s_levels_are_halved_in_data_units():
    """A network in [-1, 1] at sigma_999 = 157.4 is at 78.7 in [0, 1]."""
    grid = sigma_grid("vp-respaced", 5, low=1, high=2)
    sigmas = DiscreteVP().sigmas
    assert grid[0] == sigmas[999] / 2 == pytest.approx(78.7, abs=0.05)
    assert grid[-2:] == [sigmas[0] / 2, 0.0]


DIFFPIR_20 = [999, 770, 675, 602, 541, 487, 438, 393, 351, 311, 274, 239, 205, 172, 141, 111, 82, 54, 26, 0]


def test_diffpir_s_indices():
    assert vp_indices("vp-sqrt", 20, 1000) == DIFFPIR_20
    assert vp_indices("vp-sqrt", 100, 1000)[:4] == [999, 899, 857, 825]
    assert vp_indices("vp-sqrt", 100, 1000)[-5:] == [20, 15, 10, 5, 0]


def test_the_other_rules():
    assert vp_indices("vp-uniform", 20, 1000) == list(range(950, -1, -50))  # DDRM starts at T - T / K, not at T - 1
    assert vp_indices("vp-respaced", 5, 1000) == [999, 749, 500, 250, 0]
    assert vp_indices("vp-quadratic", 3, 1000) == [800, 200, 0]


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 400, 1000])
def test_grids_decrease_to_zero_without_equal_entries(name, steps):
    grid = sigma_grid(name, steps, low=0.002, high=80.0)
    assert grid[-1] == 0
    assert all(a > b for a, b in pairwise(grid))
    assert 2 <= len(grid) <= steps + 1


def test_equal_entries_are_removed_and_the_count_follows():
    """1000 sqrt-spaced indices hit some twice: the run is shorter and says so."""
    grid = sigma_grid("vp-sqrt", 1000, low=1, high=2)
    assert len(grid) < 1001
    prior = GaussianPrior(0.5, 0.25)
    prior.sigma_range = (0.002, 80.0)
    solution = DDIM(steps=1000, grid="vp-quadratic").solve(Problem.unconditional((1, 2, 2)), prior, generator=0)
    assert solution.nfe == solution.steps == len(prior.sigmas(1000, "vp-quadratic")) - 1 < 1000


def test_karras_has_the_published_form():
    """EDM eq. 5 with rho = 7: both ends, and the middle of an odd grid is the mean of the 7th roots."""
    grid = karras(5, 0.002, 80.0)
    assert grid[0] == pytest.approx(80, rel=1e-12)
    assert grid[-2:] == [pytest.approx(0.002, rel=1e-12), 0.0]
    assert grid[2] == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7, rel=1e-12)
    assert karras(1, 0.002, 80.0) == [80.0, 0.0]


def test_nonsense_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean karras"):
        sigma_grid("karas", 5, low=1, high=2)
    with pytest.raises(InputError, match="steps must be at least 1; given 0"):
        sigma_grid("karras", 0, low=1, high=2)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), DiscreteVP()], ids=["vp", "cosine", "discrete"])
def test_variance_preserving_schedules_preserve_variance(schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64) * (999 if isinstance(schedule, DiscreteVP) else 1)
    scale, std = schedule(t)
    assert torch.allclose(scale**2 + std**2, torch.ones_like(t), atol=1e-12, rtol=0)
    assert bool((schedule.sigma(t).diff() > 0).all())


def test_exploding_schedules():
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert VE(0.01, 100.0).sigma(t).tolist() == pytest.approx([0.01, 1.0, 100.0], rel=1e-12)
    assert EDM(0.002, 80.0).sigma(t).tolist() == pytest.approx([0.002, karras(3, 0.002, 80.0)[1], 80.0], rel=1e-12)
    assert VE()(t)[0].tolist() == [1, 1, 1]


def test_continuous_and_discrete_linear_schedules_agree():
    """betas 0.1 / T .. 20 / T: prod (1 - beta_i) = exp(-integral) up to sum beta^2 / 2 < T (20 / T)^2 / 2 / 3 = 0.067 at T = 1000 in
    log a, the index counting from its upper edge."""
    discrete, t = DiscreteVP(1000, 1e-4, 0.02), torch.arange(50, 1000, 50, dtype=torch.float64)
    ours, theirs = (2 * scale.log() for scale in (VP()((t + 1) / 1000)[0], discrete(t)[0]))
    assert float((ours - theirs).abs().max()) < 0.07


def test_index_inverts_sigma_and_interpolates_in_log_sigma():
    schedule = DiscreteVP()
    t = torch.tensor([0.0, 3.0, 500.0, 999.0], dtype=torch.float64)
    levels = torch.tensor([schedule.sigmas[int(index)] for index in t], dtype=torch.float64)
    assert torch.allclose(schedule.index(levels), t, atol=1e-9)
    between = math.sqrt(schedule.sigmas[10] * schedule.sigmas[11])
    assert float(schedule.index(torch.tensor([between], dtype=torch.float64))) == pytest.approx(10.5, abs=1e-9)
    ends = schedule.index(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    assert ends.tolist() == [0, 999]


CONTINUOUS = [VE(), EDM(), VP(), VP(0.0, 20.0), Cosine(), Flow(), Flow(t_min=0.01, shift=3.0)]


@pytest.mark.parametrize("schedule", CONTINUOUS, ids=str)
class TestInverse:
    """sigma -> t, in closed form and by bisection."""

    def test_times_come_back(self, schedule):
        """Rounding of sigma, 2^-53 a few times, divided by d log sigma / d log t: at least 0.03 (EDM and VE next to t = 0)."""
        t = torch.linspace(*schedule.times, 301, dtype=torch.float64)
        assert torch.allclose(schedule.time(schedule.sigma(t)), t, rtol=1e-12, atol=1e-15)

    def test_levels_come_back(self, schedule):
        """Rounding of t times d log sigma / d log t: at most 1 / (1 - t) = 1000 (Cosine and Flow), 1e-13."""
        table = schedule.levels()
        sigma = torch.logspace(math.log10(table[0]), math.log10(table[-1]), 301, dtype=torch.float64)[1:-1]
        assert torch.allclose(schedule.sigma(schedule.time(sigma)), sigma, rtol=1e-12, atol=0)

    def test_bisection_says_what_the_closed_form_says(self, schedule):
        table = schedule.levels()
        sigma = torch.tensor([[table[0], table[5], table[300]], [table[700], table[-2], table[-1]]], dtype=torch.float64)
        assert torch.allclose(Schedule.time(schedule, sigma), schedule.time(sigma), rtol=1e-12, atol=1e-15)

    def test_beyond_the_ends_is_at_the_ends(self, schedule):
        ends = torch.tensor(sorted(schedule.times, key=lambda t: float(schedule.sigma(torch.tensor(t, dtype=torch.float64)))))
        for beyond in ([0.0, 1e9], [1e-12, 1e5]):
            sigma = torch.tensor(beyond, dtype=torch.float64)
            assert torch.allclose(schedule.time(sigma), ends.double(), rtol=1e-7)
            assert torch.allclose(Schedule.time(schedule, sigma), ends.double(), rtol=1e-7)

    def test_it_keeps_type_and_shape(self, schedule):
        for dtype in (torch.float32, torch.float64):
            sigma = torch.tensor([[0.1, 1.0, 10.0]], dtype=dtype)
            for found in (schedule.time(sigma), Schedule.time(schedule, sigma), schedule.scale(sigma)):
                assert found.dtype == dtype
                assert found.shape == sigma.shape
            assert torch.allclose(schedule.time(sigma).double(), schedule.time(sigma.double()), rtol=1e-5)

    def test_the_scale_of_a_level(self, schedule):
        t = torch.linspace(*schedule.times, 50, dtype=torch.float64)
        scale, std = schedule(t)
        assert torch.allclose(schedule.scale(std / scale), scale, rtol=1e-12, atol=0)

    def test_levels_rise(self, schedule):
        levels = schedule.levels(20)
        assert len(levels) == 20
        assert levels[0] > 0
        assert all(low < high for low, high in pairwise(levels))
        assert all(type(level) is float for level in levels)


def test_times_worked_out_by_hand():
    def time(schedule, sigma):
        return float(schedule.time(torch.tensor(sigma, dtype=torch.float64)))

    assert time(Flow(), 3.0) == pytest.approx(0.25, rel=1e-14)
    assert time(VE(0.01, 100.0), 1.0) == pytest.approx(0.5, rel=1e-14)
    assert time(EDM(0.002, 80.0), karras(5, 0.002, 80.0)[3]) == pytest.approx(0.25, rel=1e-12)
    assert time(VP(), math.sqrt(math.expm1(0.1 * 0.5 + 19.9 * 0.5**2 / 2))) == pytest.approx(0.5, rel=1e-14)  # -log a = integral of beta
    assert time(VP(2.0, 2.0), math.sqrt(math.expm1(2 * 0.3))) == pytest.approx(0.3, rel=1e-14)
    start = math.cos(0.008 / 1.008 * math.pi / 2)
    a = (math.cos(math.pi / 4) / start) ** 2  # (t + 0.008) / 1.008 = 1/2
    assert time(Cosine(), math.sqrt((1 - a) / a)) == pytest.approx(0.496, rel=1e-12)


def test_a_flow_is_a_straight_line():
    t = torch.tensor([0.2, 0.75], dtype=torch.float64)
    scale, std = Flow()(t)
    assert torch.equal(scale, t)
    assert torch.equal(std, 1 - t)
    assert Flow(t_min=0.05).sigma(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(19.0, rel=1e-12)


def test_cosine_keeps_its_digits_near_the_image():
    """sigma^2 = cos^2 B / cos^2 A - 1 in rational steps: A - B = d small, against 50 digits' worth of series.

    sigma^2 cos^2 A = sin(d) sin(2 B + d); 1 - scale^2 in floats would lose twelve of sixteen digits at d = 1e-6.
    """
    from fractions import Fraction

    def sine(x):
        x, total, term = Fraction(x), Fraction(0), Fraction(x)
        for k in range(1, 12):
            total, term = total + term, -term * Fraction(x) ** 2 / ((2 * k) * (2 * k + 1))
        return total

    t = 1e-6
    start, turned = 0.008 / 1.008 * math.pi / 2, t / 1.008 * math.pi / 2
    wanted = math.sqrt(sine(turned) * sine(2 * Fraction(start) + Fraction(turned)) / (1 - sine(Fraction(start) + Fraction(turned)) ** 2))
    assert float(Cosine().sigma(torch.tensor(t, dtype=torch.float64))) == pytest.approx(wanted, rel=1e-13)


def test_index_is_the_older_name_of_time():
    sigma = torch.tensor([0.02, 0.5, 3.0], dtype=torch.float64)
    assert torch.equal(DiscreteVP().index(sigma), DiscreteVP().time(sigma))
    assert DiscreteVP().levels(7) == list(DiscreteVP().sigmas)
    assert DiscreteVP(10).times == (0, 9)


def test_the_grids_of_another_schedule_and_unit():
    assert sigma_grid("vp-respaced", 3, low=1, high=2, schedule=VE(0.01, 100.0), unit=Unit(0.0, 1.0)) == pytest.approx(
        [100.0, 0.01 * 1e4 ** (500 / 999), 0.01, 0.0], rel=1e-12
    )
    assert sigma_grid("vp-sqrt", 20, low=1, high=2, unit=Unit(0.0, 255.0))[0] == DiscreteVP().sigmas[999] / 255


def test_a_unit():
    unit, x = Unit(-1.0, 3.0), torch.tensor([0.0, 0.25, 1.0])
    assert (unit.width, unit.middle) == (4.0, 1.0)
    assert unit.to(x).tolist() == [-1.0, 0.0, 3.0]
    assert torch.equal(unit.back(unit.to(x)), x)
    assert (unit.to(0.5), unit.back(1.0), unit.sigma(0.5), unit.unsigma(2.0)) == (1.0, 0.5, 2.0, 0.5)
    assert Unit() == Unit(-1, 1)


class TestDiffusionPrior:
    prior = DiffusionPrior(GaussianPrior(0.5, 0.25), DiscreteVP())

    def test_brings_the_network_s_range_in_data_units(self):
        assert self.prior.sigma_range == (pytest.approx(0.005, rel=1e-3), pytest.approx(78.7, rel=1e-3))

    @pytest.mark.parametrize("grid", GRIDS)
    def test_snaps_to_its_own_levels(self, grid):
        own = {sigma / 2 for sigma in DiscreteVP().sigmas}
        levels = self.prior.sigmas(15, grid)
        assert levels[-1] == 0
        assert set(levels[:-1]) <= own
        assert all(a > b for a, b in pairwise(levels))

    def test_its_unit_is_a_value_or_the_older_number(self):
        inner = GaussianPrior(0.5, 0.25)
        assert self.prior.unit == DiffusionPrior(inner, DiscreteVP(), unit=0.5).unit == Unit(-1.0, 1.0)
        assert DiffusionPrior(inner, DiscreteVP(), unit=1).unit == Unit(0.0, 1.0)
        bytes_ = DiffusionPrior(inner, DiscreteVP(), unit=Unit(0.0, 255.0))
        assert bytes_.sigma_range[1] == DiscreteVP().sigmas[999] / 255
        assert DiffusionPrior(inner, DiscreteVP(), unit=1 / 255).sigma_range == bytes_.sigma_range

    def test_vp_rules_pick_its_indices(self):
        assert self.prior.sigmas(20, "vp-sqrt")[:-1] == [DiscreteVP().sigmas[index] / 2 for index in DIFFPIR_20]

    def test_sigma_max_caps_it(self):
        assert self.prior.sigmas(10, "karras", 1.0)[0] == max(sigma / 2 for sigma in DiscreteVP().sigmas if sigma <= 2.0)

    def test_state_of_the_network_maps_to_ve_form(self):
        """at(x_t, t) is D(x_t / scale, std / scale / 2), so x_t = scale x0 + (std / 2) n in data units."""
        t = torch.tensor([100.0, 700.0], dtype=torch.float64)
        scale, std = DiscreteVP()(t)
        x_t = truth(SHAPE, 2, torch.float64)
        sigma = std / scale / 2
        expected = GaussianPrior(0.5, 0.25)(x_t / scale.reshape(-1, 1, 1, 1), sigma)
        assert torch.equal(self.prior.at(x_t, t), expected)


@pytest.mark.parametrize("cls", [DPS, DiffPIR, DDRM, ScoreALD, DDIM, Heun])
def test_a_grid_that_leaves_the_prior_s_range_is_a_mismatch(cls):
    """The vp grids bring 78.7 at the top: a prior that is good up to 40 refuses them before anything is computed."""
    prior = GaussianPrior(0.5, 0.25)
    prior.sigma_range = (0.002, 40.0)
    problem = Problem.simulate(Kept(SHAPE), truth(SHAPE, 1, torch.float64), GaussianNoise(0.1), generator=0)
    problem = problem if cls.requires.measurement else Problem.unconditional(SHAPE)
    with pytest.raises(CompatibilityError, match=r"vp-respaced.*78\.7.*0\.002 \.\. 40"):
        cls(steps=8, grid="vp-respaced").solve(problem, prior)
    with pytest.raises(CompatibilityError, match=r"50 \.\..*40"):
        cls(steps=8, sigma_max=50.0).solve(problem, prior)
    with pytest.raises(CompatibilityError, match="no grid 'karas'"):
        cls(steps=8, grid="karas").solve(problem, prior)
    assert cls(steps=8, sigma_max=40.0).solve(problem, prior, generator=0).x.isfinite().all()


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_keeps_float32(grid):
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem.simulate(Kept(SHAPE), truth(SHAPE, 1, torch.float32), GaussianNoise(0.1), generator=0)
    for solver in (DPS(steps=5, grid=grid), DiffPIR(steps=5, grid=grid), DDRM(steps=5, grid=grid), ScoreALD(steps=5, grid=grid)):
        solution = solver.solve(problem, prior, generator=0, keep=1)
        assert {step.x.dtype for step in solution.trace} == {torch.float32}
