"""Numbers of noise models, problems and joined runs in closed form: what single-line faults (benchmarks/studies/mutants.py) asked for."""

import math

import pytest
import torch
from invsolve_operators import Identity, Mask

from invsolve import GaussianNoise, NoNoise, PoissonNoise, Problem
from invsolve.errors import InputError
from invsolve.noise import DRAWN, NoiseModel, drawn_level, level_at
from invsolve.operator.algebra import Scaled
from invsolve.operator.measurement import mapped
from invsolve.priors.base import Denoiser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import check_tensor
from invsolve.rng import Rng
from invsolve.run import pieces
from invsolve.solution import Status
from invsolve.solvers import DDIM

DOUBLE = torch.float64
SHAPE = (1, 4, 5)


def values(*numbers):
    return torch.tensor([numbers], dtype=DOUBLE)


# Noise models


def test_gaussian_nll():
    found = GaussianNoise(0.1).nll(values(0.3, 1.4), values(0.0, 1.0))
    assert float(found) == pytest.approx((0.3**2 + 0.4**2) / (2 * 0.1**2), rel=1e-12)
    per_item = GaussianNoise(torch.tensor([0.1, 0.2], dtype=DOUBLE)).nll(torch.ones(2, 3, dtype=DOUBLE), torch.zeros(2, 3, dtype=DOUBLE))
    assert per_item.tolist() == pytest.approx([3 / (2 * 0.1**2), 3 / (2 * 0.2**2)], rel=1e-12)


def test_gaussian_noise_of_complex_data_has_sigma_in_each_part():
    clean = torch.zeros(1, 40_000, dtype=torch.complex128)
    y = GaussianNoise(0.1).sample(clean, Rng(0, [0]))
    # The standard error of a standard deviation is sigma / sqrt(2 n): 0.35 % here, of which six.
    for part in (y.real, y.imag):
        assert float(part.std()) == pytest.approx(0.1, rel=6 / math.sqrt(2 * 40_000))


@pytest.mark.parametrize(
    "sigma", [-0.1, math.nan, math.inf, "much", torch.ones(2, 2), torch.tensor([0.1, -0.1]), torch.tensor([0.1, math.nan])]
)
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(InputError, match="sigma must be"):
        GaussianNoise(sigma)


def test_gaussian_noise_of_some_items():
    noise = GaussianNoise(torch.tensor([0.1, 0.2, 0.3]))
    assert noise.batch == 3
    assert noise.select(range(1, 3)).sigma.tolist() == pytest.approx([0.2, 0.3], rel=1e-6)
    assert GaussianNoise(0.1).batch is None
    assert noise.spread() == pytest.approx(0.3, rel=1e-6)
    assert GaussianNoise(torch.zeros(0)).spread() == 0.0
    assert noise.scaled(2.0).sigma.tolist() == pytest.approx([0.2, 0.4, 0.6], rel=1e-6)


def test_no_noise():
    noise, y = NoNoise(), values(0.3, 1.4)
    assert noise.nll(y, y).tolist() == [0.0]
    assert noise.nll(y, values(0.3, 1.5)).tolist() == [math.inf]
    assert noise.scaled(3.0) is noise
    assert noise.sample(y, Rng(0, [0])) is y
    assert float(noise.sigma) == 0
    assert noise.variance(y).tolist() == [[0.0, 0.0]]


def test_poisson_nll_above_and_below_a_tenth_of_a_count():
    noise = PoissonNoise(0.5)
    assert float(noise.nll(values(1.0), values(1.5))) == pytest.approx(3 - 2 * math.log(3), rel=1e-12)
    for m, k in ((0.02, 2.0), (-3.0, 2.0), (0.02, 0.0), (-3.0, 0.0)):
        # (m - k)^2 / (2 m_0) with the constant that makes it continuous at m_0
        wanted = 0.1 - k * math.log(0.1) + ((m - k) ** 2 - (0.1 - k) ** 2) / (2 * 0.1)
        assert float(noise.nll(values(0.5 * k), values(0.5 * m))) == pytest.approx(wanted, rel=1e-12)


def test_poisson_numbers():
    noise = PoissonNoise(0.04)
    assert noise.variance(values(0.5, -1.0)).tolist() == [[pytest.approx(0.02, rel=1e-12), 0.0]]
    assert noise.spread() == pytest.approx(0.2, rel=1e-12)
    assert noise.quantum == 0.04
    assert noise.scaled(3.0).gain == pytest.approx(0.12, rel=1e-12)
    y = noise.sample(torch.full((1, 40_000), 0.5, dtype=DOUBLE), Rng(0, [0]))
    assert torch.equal((y / 0.04).round() * 0.04, y)
    # mean 0.5, variance gain * 0.5: six standard errors of each
    assert float(y.mean()) == pytest.approx(0.5, abs=6 * math.sqrt(0.02 / 40_000))
    assert float(y.var()) == pytest.approx(0.02, rel=6 * math.sqrt(2 / 40_000) * 1.1)


def test_poisson_takes_what_rounding_leaves_below_zero_and_no_more():
    eps = torch.finfo(DOUBLE).eps
    assert float(PoissonNoise(0.1).sample(values(-50 * eps), Rng(0, [0]))) == 0
    with pytest.raises(InputError, match=r"H\(x\) >= 0"):
        PoissonNoise(0.1).sample(values(-200 * eps), Rng(0, [0]))
    PoissonNoise(0.1).check(values(0.0))
    with pytest.raises(InputError, match="y >= 0"):
        PoissonNoise(0.1).check(values(-1e-9))
    for call in (lambda y: PoissonNoise(0.1).check(y), lambda y: PoissonNoise(0.1).sample(y, Rng(0, [0]))):
        with pytest.raises(InputError, match="complex"):
            call(torch.ones(1, 2, dtype=torch.complex128))


@pytest.mark.parametrize("gain", [0.0, -1.0, math.inf, math.nan, "a"])
def test_a_gain_that_is_none_is_refused(gain):
    with pytest.raises(InputError, match="gain must be"):
        PoissonNoise(gain)


class Uniform(NoiseModel):
    """y = clean + u, u uniform in [-a, a], which says nothing else about itself: its standard deviation is a / sqrt(3)."""

    def __init__(self, a=0.3):
        super().__init__()
        self.a = a

    def sample(self, clean, rng):
        def one(part):
            drawn = [2 * self.a * rng.uniform(part.shape[1:], part.real) - self.a for _ in range(2 if part.is_complex() else 1)]
            return part + (torch.complex(*drawn) if part.is_complex() else drawn[0])

        return mapped(one, clean)


@pytest.mark.parametrize("kind", [DOUBLE, torch.complex128])
@pytest.mark.parametrize("size", [7, 5000])
def test_a_level_from_draws(size, kind):
    clean = torch.zeros(2, size, dtype=kind)
    found = drawn_level(Uniform(), clean)
    # The difference of two has kurtosis 2.4: sqrt(1.4 / n) / 2 off, n the least that is drawn, of which six.
    off = 6 * math.sqrt(1.4 / max(size, min(DRAWN, 256 * size))) / 2
    assert found.tolist() == pytest.approx([0.3 / math.sqrt(3)] * 2, rel=off)
    assert found[0] == found[1]


def test_a_level_from_draws_where_it_counts():
    """The noise of the second half is ten times as strong, and not asked for."""

    class Two(Uniform):
        def sample(self, clean, rng):
            noise = super().sample(torch.zeros_like(clean), rng)
            return clean + torch.cat([noise[:, :2000], 10 * noise[:, 2000:]], 1)

    seen = torch.cat([torch.ones(1, 2000, dtype=DOUBLE), torch.zeros(1, 2000, dtype=DOUBLE)], 1)
    found = drawn_level(Two(), torch.zeros(1, 4000, dtype=DOUBLE), seen)
    assert float(found) == pytest.approx(0.3 / math.sqrt(3), rel=6 * math.sqrt(1.4 / 4000) / 2)


def test_the_level_of_a_model_with_a_variance_is_the_root_of_its_mean():
    assert float(level_at(PoissonNoise(0.04), values(0.25, 0.75))) == pytest.approx(math.sqrt(0.04 * 0.5), rel=1e-12)


# Problems


def problem(operator, y, noise, **options):
    return Problem(operator, torch.full((1, *operator.out_shape), float(y), dtype=DOUBLE), noise, **options)


def test_levels_in_units_of_the_image():
    one = problem(Scaled(Identity(SHAPE), 4.0), 1.0, GaussianNoise(0.1), check_range=False)
    assert float(one.gain) == pytest.approx(4.0, rel=1e-12)
    assert float(one.sigma_x) == pytest.approx(0.025, rel=1e-12)
    assert float(one.sigma) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(("noise", "wanted"), [(GaussianNoise(0.1), 0.1), (NoNoise(), 1.0), (PoissonNoise(0.25), 0.25)])
def test_where_nothing_is_measured_the_unit_is_that_of_the_noise(noise, wanted):
    one = problem(Mask(SHAPE, mask=torch.zeros(4, 5)), 0.0, noise)
    assert float(one.gain) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("y", "fits"), [(2.99, True), (3.01, False), (-1.99, True), (-2.01, False)])
def test_how_far_y_may_leave_the_range(y, fits):
    """The width of [0, 1] and ten standard deviations of 0.1: from -2 to 3."""
    if fits:
        problem(Identity(SHAPE), y, GaussianNoise(0.1))
    else:
        with pytest.raises(InputError, match="y spans"):
            problem(Identity(SHAPE), y, GaussianNoise(0.1))
    problem(Identity(SHAPE), y, GaussianNoise(0.1), check_range=False)


def test_items_and_their_slices():
    y = torch.arange(3.0, dtype=DOUBLE).reshape(3, 1, 1, 1).expand(3, *SHAPE) / 4
    noise, context = GaussianNoise(torch.tensor([0.1, 0.2, 0.3])), {"label": torch.tensor([5, 6, 7])}
    whole = Problem(Identity(SHAPE), y, noise, (10, 20, 30), context=context)
    for index, items in ((0, (10,)), (-1, (30,)), (slice(1, 3), (20, 30)), (slice(None, None, 2), (10, 30))):
        part = whole[index]
        assert part.items == items
        rows = [one // 10 - 1 for one in items]
        assert torch.equal(part.y, y[rows])
        assert part.noise.sigma.tolist() == noise.sigma[rows].tolist()
        assert part.context["label"].tolist() == [5 + row for row in rows]
    assert whole.repeat(2).items == tuple(range(6))
    assert torch.equal(whole.repeat(2).y, torch.cat([y, y]))
    assert tuple(whole.image.shape) == (3, *SHAPE)
    assert float(whole.image.abs().sum()) == 0
    with pytest.raises(InputError, match="items must differ"):
        Problem(Identity(SHAPE), y, noise, (1, 1, 2))
    with pytest.raises(InputError, match="2 ids, y has 3"):
        Problem(Identity(SHAPE), y, noise, (1, 2))


def test_what_a_mask_does_not_measure_is_no_data():
    mask = torch.ones(4, 5)
    mask[:, 2] = 0
    one = problem(Mask(SHAPE, mask=mask), 0.5, GaussianNoise(0.1))
    assert torch.equal(one.y, 0.5 * mask.double().expand(1, *SHAPE))


def test_no_measurement():
    one = Problem.unconditional(SHAPE, 2)
    assert one.batch == 2
    assert tuple(one.image.shape) == (2, *SHAPE)
    with pytest.raises(InputError, match="batch must be at least 1"):
        Problem.unconditional(SHAPE, 0)


# Several runs joined


def test_the_worst_status_of_several():
    """Diverged before stopped before finished before converged, in any order."""
    order = [Status.CONVERGED, Status.FINISHED, Status.STOPPED, Status.DIVERGED]
    for place, worse in enumerate(order):
        for better in order[: place + 1]:
            assert Status.worst([worse, better]) == worse
            assert Status.worst([better, worse, better]) == worse


class TurnsNaN(Denoiser):
    """The Gaussian's denoiser, and NaN from a call on."""

    def __init__(self, first):
        super().__init__()
        self.first, self.calls = first, 0

    def forward(self, x, sigma):
        self.calls += 1
        return GaussianPrior(0.5, 0.25)(x, sigma) * (math.nan if self.calls >= self.first else 1.0)


@pytest.mark.parametrize(("first", "status"), [(5, Status.DIVERGED), (100, Status.FINISHED)])
def test_a_run_of_which_a_later_part_diverges_has_diverged(first, status):
    """Two parts of one image each: four steps, then call 5 is the second part's first."""
    solution = DDIM(steps=4).solve(Problem.unconditional(SHAPE, 2), TurnsNaN(first), generator=0, chunk=1, throw=False)
    assert solution.status == status
    assert bool(torch.isfinite(solution.x).all())


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 6), (2, [2, 1, 2, 1]), (3, [3, 3]), (6, [6]), (4, [4, 2]), (100, [6])])
def test_pieces_smaller_than_a_batch_never_reach_into_the_next_sample(size, lengths):
    rows = [(sample, item) for sample in range(2) for item in range(3)]
    made = list(pieces(rows, size, 3))
    assert [len(one) for one in made] == lengths
    assert [pair for one in made for pair in one] == rows
    if size < 3:
        assert all(len({sample for sample, _ in one}) == 1 for one in made)


def test_counts_of_joined_parts_are_per_item():
    problem = Problem.unconditional(SHAPE, 3)
    plain, cut = (DDIM(steps=4).solve(problem, GaussianPrior(0.5, 0.25), generator=0, chunk=chunk) for chunk in (None, 2))
    assert (plain.nfe, cut.nfe) == (4, 4)
    many = DDIM(steps=4).solve(problem, GaussianPrior(0.5, 0.25), generator=0, samples=2, chunk=2)
    assert many.nfe == 8
    assert torch.equal(many.x[0], cut.x)


@pytest.mark.parametrize(
    ("dtype", "allowed", "fits"), [(torch.complex64, True, True), (torch.complex64, False, False), (DOUBLE, False, True)]
)
def test_what_kinds_of_numbers_a_tensor_may_have(dtype, allowed, fits):
    x = torch.ones(1, 2, dtype=dtype)
    if fits:
        check_tensor("y", x, allow_complex=allowed)
    else:
        with pytest.raises(InputError, match="y "):
            check_tensor("y", x, allow_complex=allowed)


def test_the_first_value_that_is_none_is_named():
    x = torch.zeros(2, 3, dtype=DOUBLE)
    x[1, 2] = x[1, 0] = math.nan
    with pytest.raises(InputError, match=r"2 NaN or infinite values, the first at index \(1, 0\)"):
        check_tensor("y", x)


def test_the_spread_of_a_model_that_says_nothing_is_that_of_its_draws():
    # 256 pairs of 1024 entries are more than the 4096 that are drawn; 6 standard errors as above
    assert Uniform().spread() == pytest.approx(0.3 / math.sqrt(3), rel=6 * math.sqrt(1.4 / DRAWN) / 2)
