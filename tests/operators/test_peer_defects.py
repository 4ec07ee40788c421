"""Defects found in peers, as behaviours of ours: each test carries the number it has in the list of peers' defects.

1.3.n: of deepinv 0.5.0; 2.1: of the DPS reference; pain n: of what users of the field ask for and hit.
"""

import math
from dataclasses import replace

import pytest
import torch
from turns import by_turns

from invsolve import GaussianNoise, NoNoise, PoissonNoise, Problem, registry
from invsolve.errors import ArgumentError, CompatibilityError, DivergedError, InputError
from invsolve.priors import Denoiser, GaussianPrior, rescale
from invsolve.rng import Rng
from invsolve.solvers import DDRM, DPS, DiffPIR
from invsolve.testing.oracle import DenseOperator
from invsolve.testing.settings import Coupled, Kept, Watched, same, settings, truth

SHAPE = (3, 6, 7)
SOLVERS = [solver for entry in registry().of("solver") for solver in entry.load().examples()]
POSTERIOR = [solver for solver in SOLVERS if solver.requires.measurement]
SAMPLERS = [DDRM(steps=6), DiffPIR(steps=6), DPS(steps=6)]


def named(value):
    return type(value).__name__


@pytest.fixture
def some(pytestconfig):
    """Of what a solver is tried in: one, by turns along the solvers; all with --whole. The kit tries them all."""

    def chosen(tried, solver):
        tried = list(tried)
        place = SOLVERS.index(solver) % max(1, len(tried))
        return tried if pytestconfig.getoption("--whole") else tried[place : place + 1]

    return chosen


def problem(operator=None, noise=None, dtype=torch.float64, batch=2):
    operator = operator or Kept(SHAPE)
    return Problem.simulate(operator, truth(operator.in_shape, batch, dtype), noise or GaussianNoise(0.1), generator=1)


class Recorded(GaussianPrior):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__(0.5, 0.25)
        self.seen = []

    def forward(self, x, sigma):
        self.seen.append((x.detach().clone(), float(torch.as_tensor(sigma).max())))
        return super().forward(x, sigma)


def test_1_3_1_ddrm_leaves_the_caller_s_data_alone():
    """deepinv's DDRM divided y by the singular values in place; two calls with one seed then differed."""
    half = 0.5 * Kept(SHAPE)
    given = problem(half)
    kept = given.y.clone()
    first, second = (DDRM(steps=6).solve(given, GaussianPrior(), generator=1).x for _ in range(2))
    assert torch.equal(given.y, kept)
    assert torch.equal(first, second)


def test_1_3_2_ddrm_hands_over_the_noise_it_claims():
    """Where nothing is measured the state is x0_hat + noise of the level the denoiser is told; deepinv's was smaller by sqrt(2).

    At sigma = 40 a prior of std 0.25 is swamped: std(state) / sigma = 1 within 5 standard errors, sqrt(1 / (2 n)) each, plus
    1e-4 for the prior. With eta = 0.85 the second state is sqrt(1 - eta^2) of the old direction and eta fresh, together 1.
    """
    shape = (1, 64, 64)
    blank = registry().build("operator", "mask", in_shape=shape, mask=torch.zeros(shape))
    prior = Recorded()
    DDRM(steps=12, sigma_max=60.0).solve(problem(blank, batch=1), prior, generator=0)
    count = math.prod(shape)
    for x, sigma in prior.seen:
        if sigma > 2.5:
            assert float((x - 0.5).std()) / sigma == pytest.approx(1, abs=5 / math.sqrt(2 * count) + 0.01)
    assert sum(sigma > 2.5 for _, sigma in prior.seen) >= 4


@pytest.mark.parametrize("solver", by_turns(SOLVERS, step=2), ids=named)
def test_1_3_3_zero_is_a_seed_and_the_global_generator_is_nobody_s(solver, some):
    for setting in some(settings(solver), solver):
        torch.manual_seed(5)
        first = solver.solve(setting.problem, setting.prior, generator=0).x
        state = torch.get_rng_state()
        torch.manual_seed(6)
        second = solver.solve(setting.problem, setting.prior, generator=0).x
        assert torch.equal(first, second)
        torch.manual_seed(5)
        assert torch.equal(state, torch.get_rng_state())


def test_1_3_4_dps_obeys_its_seed():
    given = problem()
    runs = [DPS(steps=6).solve(given, GaussianPrior(), generator=seed).x for seed in (3, 3, 4)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("mask_shape", [(2, 1, 6, 7), (2, 3, 6, 7), (1, 6, 7), (3, 6, 7)], ids=str)
def test_1_3_5_ddrm_takes_masks_per_image_and_per_channel(mask_shape):
    mask = Kept(SHAPE).mask.expand(mask_shape[-3:]).contiguous()
    mask = torch.stack([mask, mask.roll(1, -1)]) if len(mask_shape) == 4 else mask
    given = problem(registry().build("operator", "mask", in_shape=SHAPE, mask=mask))
    batch = DDRM(steps=6).solve(given, GaussianPrior(), generator=0).x
    for item in range(2):
        same(DDRM(steps=6).solve(given[item], GaussianPrior(), generator=0).x[0], batch[item], 1e-10, f"item {item}")


def test_1_3_5_ddrm_colourises():
    given = problem(registry().build("operator", "grey", in_shape=SHAPE))
    assert DDRM(steps=6).solve(given, GaussianPrior(), generator=0).x.shape == (2, *SHAPE)


@pytest.mark.parametrize("solver", by_turns(POSTERIOR, first=1, step=2), ids=named)
def test_1_3_6_noise_levels_may_differ_per_image(solver, some):
    levels = GaussianNoise(torch.tensor([0.02, 0.2], dtype=torch.float64))
    tried = [(setting, problem(setting.problem.operator, levels)) for setting in settings(solver)]
    fitting = [one for one in tried if not solver.mismatches(one[1], one[0].prior)]  # others are of counts, or of data without noise
    for setting, given in some(fitting, solver):
        batch = solver.solve(given, setting.prior, generator=0).x
        for item, sigma in enumerate((0.02, 0.2)):
            plain = Problem(given.operator, given.y[item : item + 1], GaussianNoise(sigma), items=(item,))
            same(solver.solve(plain, setting.prior, generator=0).x[0], batch[item], 1e-10, f"{setting.label}, item {item}")


@pytest.mark.parametrize("solver", by_turns(POSTERIOR, first=2, step=2), ids=named)
@pytest.mark.parametrize("noise", [NoNoise(), GaussianNoise(0.0)], ids=["none", "sigma-0"])
def test_1_3_7_no_noise_is_solved_or_refused_never_nan(solver, noise):
    for setting in settings(solver):
        given = problem(setting.problem.operator, noise)
        given = replace(given, context={name: rows[: given.batch] for name, rows in setting.problem.context.items()})
        if gaps := solver.mismatches(given, setting.prior):
            assert "sigma" in " ".join(gaps)
            continue
        assert solver.solve(given, setting.prior, generator=0).x.isfinite().all()


def test_1_3_7_ddrm_without_noise_ends_consistent():
    """eta_b = 1: H x = y, to some roundings of values of order 1."""
    given = problem(Coupled(SHAPE), NoNoise())
    x = DDRM(steps=6).solve(given, GaussianPrior(), generator=0).x
    same(given.operator(x), given.y, 1e-12, "H x and y")


def test_1_3_8_diffpir_knows_one_sigma_and_keeps_no_state():
    """Another problem in between changes nothing: the noise level is the problem's alone."""
    solver, quiet, loud = DiffPIR(steps=6), problem(noise=GaussianNoise(0.05)), problem(noise=GaussianNoise(0.3))
    first = solver.solve(quiet, GaussianPrior(), generator=0).x
    solver.solve(loud, GaussianPrior(), generator=0)
    assert torch.equal(solver.solve(quiet, GaussianPrior(), generator=0).x, first)
    assert not hasattr(solver, "sigma")


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), torch.tensor([0.1, -0.1])])
def test_1_3_9_negative_sigma_is_refused(sigma):
    with pytest.raises(InputError, match="not negative"):
        GaussianNoise(sigma)


def test_1_3_10_nan_in_y_is_refused_before_anything_runs():
    y = problem().y
    y[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"1 NaN or infinite values, the first at index \(0, 0, 0, 0\)"):
        Problem(Kept(SHAPE), y, GaussianNoise(0.1))


@pytest.mark.parametrize("solver", SAMPLERS, ids=named)
def test_1_3_10_nan_on_the_way_is_named_with_its_step(solver):
    with pytest.raises(DivergedError, match="step 3 of 6"):
        solver.solve(problem(), Watched(GaussianPrior(0.5, 0.25), poison=4), generator=0)


def test_1_3_11_a_wrong_channel_count_never_broadcasts():
    with pytest.raises(InputError, match=r"\(B, 3, 6, 7\); given \(2, 1, 6, 7\)"):
        Problem(Kept(SHAPE), problem().y[:, :1], GaussianNoise(0.1))
    grey = GaussianPrior(torch.full((1, 6, 7), 0.5))
    with pytest.raises(CompatibilityError, match=r"\(1, 6, 7\), the operator \(3, 6, 7\)"):
        DiffPIR(steps=2).solve(problem(), grey)


def test_1_3_12_unknown_keywords_are_not_swallowed():
    with pytest.raises(ArgumentError, match="'scael'; did you mean scale"):
        DPS(scael=3.0)
    with pytest.raises(ArgumentError, match="'stesp'; did you mean steps"):
        registry().build("solver", "hqs", stesp=1)


def test_1_3_13_an_operator_without_an_svd_is_explained():
    with pytest.raises(CompatibilityError, match=r"operator Composed lacks 'svd' \(it has: adjoint, differentiable, linear\)"):
        DDRM(steps=2).solve(problem(Coupled(SHAPE) @ Kept(SHAPE)), GaussianPrior())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: y * 255, r"divide 0\.\.255 data by 255"),
        (lambda y: (y.clamp(0, 1) * 255).to(torch.uint8), r"y\.float\(\) / 255"),
        (lambda y: y.numpy(), r"given ndarray; torch\.as_tensor"),
        (lambda y: y[0], r"\(B, 3, 6, 7\); given \(3, 6, 7\)"),
    ],
    ids=["0..255", "uint8", "numpy", "3-D"],
)
def test_1_3_14_other_units_types_and_ranks_are_noticed(spoil, words):
    with pytest.raises(InputError, match=words):
        Problem(Kept(SHAPE), spoil(problem().y), GaussianNoise(0.1))


def test_1_3_15_ddrm_refuses_other_noise_instead_of_inventing_a_sigma():
    with pytest.raises(CompatibilityError, match="PoissonNoise lacks 'sigma'"):
        DDRM(steps=2).solve(problem(noise=PoissonNoise(0.01)), GaussianPrior())


@pytest.mark.parametrize("sigma_max", [0.02, 0.1, 0.3])
def test_1_3_15_a_first_level_below_the_measurement_s_noise_gives_no_nan(sigma_max):
    """sigma_T < sigma_y / s: the root of a negative number in deepinv."""
    given = problem(0.5 * Kept(SHAPE), GaussianNoise(0.3))
    assert DDRM(steps=6, sigma_max=sigma_max).solve(given, GaussianPrior(), generator=0).x.isfinite().all()


class CountingOperator(DenseOperator):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def test_1_3_16_dps_calls_the_operator_once_a_step():
    """deepinv ran 51 extra products to learn a shape."""
    matrix = torch.eye(8, dtype=torch.float64)[:5]
    given = problem(CountingOperator(matrix))
    CountingOperator.calls = 0
    DPS(steps=6).solve(given, GaussianPrior(), generator=0)
    assert CountingOperator.calls == 6


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_1_3_17_the_answer_has_y_s_dtype_whatever_the_default(default):
    old = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        for dtype in (torch.float32, torch.float64):
            for solver in SAMPLERS:
                assert solver.solve(problem(dtype=dtype), GaussianPrior(), generator=0).x.dtype == dtype
    finally:
        torch.set_default_dtype(old)


def test_1_3_17_nothing_is_kept_unasked_and_one_step_is_enough():
    for cls in (DPS, DDRM, DiffPIR):
        solution = cls(steps=1).solve(problem(), GaussianPrior(), generator=0)
        assert solution.trace == ()
        assert solution.x.isfinite().all()
        assert solution.nfe == 1


@pytest.mark.parametrize("solver", SAMPLERS, ids=named)
def test_1_3_18_clipping_is_in_the_data_s_range(solver):
    """A prior of [-1, 1] clipped to (-1, 1) clips to (0, 1) here; x0_hat never leaves it and both ends are reached."""
    wide = Watched(GaussianPrior(0.0, 600.0))
    wide.clip, wide.sigma_range = (-1.0, 1.0), (0.004, 160.0)
    prior = rescale(wide, (-1.0, 1.0))
    assert prior.clip == (0.0, 1.0)
    steps = solver.solve(problem(Kept(SHAPE)), prior, generator=0, keep=1).trace
    hidden = (Kept(SHAPE).mask == 0).expand(2, *SHAPE)
    estimates = torch.stack([step.x0_hat[hidden] for step in steps if step.x0_hat is not None])
    assert float(estimates.min()) >= -1e-9
    assert float(estimates.max()) <= 1 + 1e-9
    assert float(estimates[0].max()) == pytest.approx(1)
    assert float(estimates[0].min()) == pytest.approx(0)


def test_2_1_dps_normalises_each_residual_by_itself():
    """One norm over the batch would make a loud neighbour shrink everybody's step."""
    quiet = problem(batch=1)
    y = torch.cat([quiet.y, 3 * problem(batch=2).y[1:]])
    both = Problem(Kept(SHAPE), y, GaussianNoise(0.1), check_range=False)
    alone = DPS(steps=6).solve(both[0], GaussianPrior(), generator=0).x
    same(DPS(steps=6).solve(both, GaussianPrior(), generator=0).x[:1], alone, 1e-10, "the quiet item beside a loud one")


DENOISING = [solver for solver in SOLVERS if Denoiser in solver.requires.prior]


@pytest.mark.parametrize("solver", by_turns(DENOISING, first=4, step=2), ids=named)
def test_pain_3_a_prior_in_minus_one_to_one_gives_the_same_image(solver, some):
    """The factor of two in sigma, the commonest silent error: sigma = 0.05 on [0, 1] is 0.1 on [-1, 1]."""
    wide = GaussianPrior(0.0, 0.5)
    wide.sigma_range = (0.004, 160.0)
    for setting in some([one for one in settings(solver) if isinstance(one.prior, GaussianPrior)], solver):
        ours = solver.solve(setting.problem, setting.prior, generator=0).x
        same(solver.solve(setting.problem, rescale(wide, (-1.0, 1.0)), generator=0).x, ours, 1e-10, setting.label)


def test_pain_3_sigma_is_the_standard_deviation_of_what_is_added():
    """100,000 values: std within 5 / sqrt(2 n) of 0.05."""
    clean = torch.full((2, 1, 250, 200), 0.5, dtype=torch.float64)
    given = Problem.simulate(Coupled((1, 250, 200)), clean, GaussianNoise(0.05), generator=0)
    residual = given.y - given.operator(clean)
    assert float(residual.std()) == pytest.approx(0.05, rel=5 / math.sqrt(2 * residual.numel()))


@pytest.mark.parametrize("solver", by_turns(SOLVERS, first=3, step=2), ids=named)
@pytest.mark.parametrize("batch", [5])  # the kit asks it of 3
def test_pain_7_batch_size_and_order_change_nothing(solver, batch, some):
    """The last item of any batch is what it is alone, and of a slice too."""
    for setting in some(settings(solver, batch=batch), solver):
        whole = solver.solve(setting.problem, setting.prior, generator=0).x
        alone = solver.solve(setting.problem[-1], setting.prior, generator=0).x
        same(alone[0], whole[-1], 1e-10, setting.label)
        part = solver.solve(setting.problem[batch // 2 :], setting.prior, generator=0).x
        same(part, whole[batch // 2 :], 1e-10, setting.label)


def test_pain_12_streams_of_neighbours_are_not_correlated():
    """Seeds, items and samples next to each other: |r| of 10,000 numbers below 5 / 100."""
    like = torch.zeros(1, dtype=torch.float64)
    rows = [Rng(seed, [item], sample).normal((10_000,), like)[0] for seed in (0, 1) for item in (0, 1) for sample in (0, 1)]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows), dtype=torch.float64)
    assert float(correlation.abs().max()) < 0.05
