"""Conformal intervals: the theorem on exchangeable draws, factor 1 for the exact posterior, groups, units and batches."""

import math

import pytest
import torch
from invsolve_operators import BoxMask, Identity

from invsolve import GaussianNoise, Problem, Rng, Solution, Status
from invsolve.errors import InputError
from invsolve.predictive import Calibration, Draws, Fit, calibrate, expected_coverage, simulated
from invsolve.predictive.calibration import groups_of, spreads
from invsolve.priors import GaussianPrior
from invsolve.solvers import HQS, DiffPIR

SHAPE = (1, 6, 6)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solution(samples):
    """A Solution with these samples (n, B, *shape)."""
    return Solution(samples, Status.FINISHED, 1, 1, 0.0, 0.0, 0, HQS(), samples=len(samples))


def made(truths, samples, groups=None):
    """A Calibration of arrays: truths (N, ...), samples (n, N, ...)."""
    problem = Problem(Identity(SHAPE), truths.float(), GaussianNoise(1.0), check_range=False)
    answer = solution(samples)
    groups = torch.zeros(1, *SHAPE, dtype=torch.long) if groups is None else groups
    return Calibration(Draws(truths, problem, "arrays"), answer.mean, spreads(answer), samples, groups, Fit(math.nan), "none", 0.0)


def world(seed, count, spread=0.3, samples=5):
    """`count` exchangeable (truth, samples): errors that are correlated over the image, heavy-tailed in scale, samples too narrow."""
    scale = normal(seed, count, 1, 1, 1).exp()
    common = normal(seed + 1, count, 1, 1, 1)
    truths = scale * (0.7 * common + 0.7 * normal(seed + 2, count, *SHAPE))
    return truths, spread * normal(seed + 3, samples, count, *SHAPE)


@pytest.mark.parametrize(("count", "level"), [(9, 0.9), (19, 0.9), (7, 0.5)])
def test_the_promise_holds_on_average_over_exchangeable_draws(count, level):
    """E[coverage of the next draw] lies in [level, level + 1 / (N + 1)]: conformal risk control, whatever the sampler does."""
    repeats, covered = 250, []
    for repeat in range(repeats):
        truths, samples = world(10 * repeat, count + 1)
        calibration = made(truths[:-1], samples[:, :-1])
        low, high = calibration.interval(solution(samples[:, -1:]), level)
        covered.append(float(((truths[-1:] >= low) & (truths[-1:] <= high)).double().mean()))
    found = torch.tensor(covered, dtype=torch.float64)
    error = 3.5 * float(found.std()) / repeats**0.5
    # 36 pixels a draw: the losses jump by 1 / (36 N), which is how far the upper end may be missed beside 1 / (N + 1)
    assert level - error <= float(found.mean()) <= level + 1 / (count + 1) + 1 / (36 * count) + error


@pytest.mark.parametrize("of", ["pixel", "number"])
def test_split_conformal_intervals_hold_exactly_as_often_as_they_say(of):
    """With N draws and one score each the truth is covered with probability ceil((N + 1) level) / (N + 1)."""
    count, level, repeats, covered = 9, 0.75, 250, []
    for repeat in range(repeats):
        truths, samples = world(10 * repeat + 100_000, count + 1)
        calibration, last = made(truths[:-1], samples[:, :-1]), solution(samples[:, -1:])
        if of == "pixel":
            low, high = calibration.interval(last, level, per="pixel")
            covered.append(float(((truths[-1:] >= low) & (truths[-1:] <= high)).double().mean()))
        else:
            _, low, high = calibration.number(last, lambda x: x[..., :3, :3].flatten(1).mean(1), level)
            truth = float(truths[-1, ..., :3, :3].mean())
            covered.append(float(low[0] <= truth <= high[0]))
    expected = math.ceil(10 * level) / 10
    found = torch.tensor(covered, dtype=torch.float64)
    assert abs(float(found.mean()) - expected) < 3.5 * float(found.std()) / repeats**0.5


def test_the_exact_posterior_needs_no_factor():
    """x ~ N(0, 1) and samples of it: k is what Student's t says, 1 but for chance."""
    count, samples = 40, 12
    calibration = made(normal(1, count, *SHAPE), normal(2, samples, count, *SHAPE))
    # The place of k among 1,440 scores has the relative error sqrt(p (1 - p) / 1440) / (p' quantile), about .03 at 90 %; 4 of them.
    # The floor of a tenth of the rms spread widens narrow pixels by .5 % in the mean.
    for level in (0.5, 0.9):
        assert calibration.inflation(level)[0] == pytest.approx(1, abs=0.13)
    narrow = made(normal(1, count, *SHAPE), 0.5 * normal(2, samples, count, *SHAPE))
    assert narrow.inflation(0.9)[0] == pytest.approx(2, abs=0.26)


def test_ranks_tell_the_posterior_from_what_is_none():
    count, samples = 200, 9
    truths, draws = normal(3, count, *SHAPE), normal(4, samples, count, *SHAPE)
    right = made(truths, draws)
    # seven tests of a right null: that the least p is below .0005 happens once in 280 seeds
    assert min(one.p for one in [*simulated(right), expected_coverage(right)]) > 0.0005
    for wrong, words in ((0.3 * draws, "too little"), (4 * draws, "too much"), (draws + 2, "too high")):
        found = {one.name: one for one in simulated(made(truths, wrong))}
        key = "brightness" if "high" in words else "direction 1"
        assert found[key].p < 1e-3
        assert words in found[key].said
    assert expected_coverage(made(truths, 0.3 * draws)).p < 1e-3
    assert 0.05 < simulated(made(truths, 0.3 * draws))[2].covered(0.9) < 0.75


def test_ranks_of_ties_are_drawn():
    truths = torch.zeros(200, *SHAPE, dtype=torch.float64)
    found = simulated(made(truths, torch.cat([truths[None]] * 3 + [truths[None] + 1])), {"mean": lambda x: x.flatten(1).mean(1)})[0]
    assert set(found.ranks) == {0, 1, 2, 3}


def test_a_solver_without_spread_has_intervals_of_one_width():
    truths = normal(5, 19, *SHAPE)
    zero = torch.zeros(1, 19, *SHAPE, dtype=torch.float64)
    for samples in (zero, zero.expand(4, -1, -1, -1, -1)):
        calibration = made(truths, samples)
        k = calibration.factors(0.9)[0]
        assert float((truths.abs() <= k).double().mean()) == pytest.approx(1 - (0.1 * 20 - 1) / 19, abs=1 / (19 * 36) + 1e-9)
        with pytest.raises(InputError, match="without spread"):
            calibration.inflation()
        with pytest.raises(InputError, match="differ"):
            simulated(calibration)


def test_groups_have_factors_of_their_own():
    groups = torch.zeros(1, *SHAPE, dtype=torch.long)
    groups[..., 3:] = 1
    truths = normal(6, 30, *SHAPE) * (1 + 9 * groups)
    calibration = made(truths, normal(7, 6, 30, *SHAPE), groups)
    one, other = calibration.factors(0.9)
    # a scale of 10 between the groups, each quantile known to about 4 % of itself
    assert other / one == pytest.approx(10, rel=0.2)
    width = calibration.width(solution(normal(8, 6, 1, *SHAPE)), 0.9)
    assert float(width[..., 3:].mean() / width[..., :3].mean()) == pytest.approx(other / one, rel=0.25)


def test_the_unit_goes_through():
    truths, samples = world(1, 12)
    answer = samples[:, -1:]
    one, other = made(truths[:-1], samples[:, :-1]), made(255 * truths[:-1], 255 * samples[:, :-1])
    assert torch.allclose(255 * one.width(solution(answer), 0.9), other.width(solution(255 * answer), 0.9), rtol=1e-9)


def test_a_width_does_not_depend_on_the_batch():
    truths, samples = world(2, 13)
    calibration = made(truths[:-3], samples[:, :-3])
    whole = calibration.width(solution(samples[:, -3:]), 0.9)
    for item in range(3):
        alone = calibration.width(solution(samples[:, -3 + item : (-2 + item) or None]), 0.9)
        assert torch.equal(whole[item : item + 1], alone)


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, True, "0.9"])
def test_levels_are_checked(level):
    with pytest.raises(InputError, match="between 0 and 1"):
        made(*world(3, 9)).factors(level)


def test_too_few_draws_say_how_many_it_takes():
    calibration = made(*world(3, 9))
    calibration.factors(0.9)  # 9 draws are just enough
    with pytest.raises(InputError, match="draws=19"):
        calibration.factors(0.95)
    with pytest.raises(InputError, match="5 samples"):
        calibration.width(solution(normal(0, 4, 1, *SHAPE)))
    with pytest.raises(InputError, match="group or pixel"):
        calibration.width(solution(normal(0, 5, 1, *SHAPE)), per="edge")
    with pytest.raises(InputError, match="number per image"):
        calibration.number(solution(normal(0, 5, 1, *SHAPE)), lambda x: x.mean())


def test_a_run_is_calibrated_from_end_to_end():
    """On fresh problems of the same kind: DiffPIR's spread is half of what it should be, its calibrated intervals are right."""
    prior, operator, noise = GaussianPrior(0.5, 0.2), BoxMask((1, 12, 12), 6), GaussianNoise(0.05)
    fresh = prior.sample((1, 12, 12), Rng(99, range(40)), torch.zeros(1))
    problem = Problem.simulate(operator, fresh, noise, generator=99)
    solver = DiffPIR(steps=8)
    calibration = calibrate(problem, prior, solver, samples=6, draws=19)
    answer = solver.solve(problem, prior, generator=5, samples=6)
    plain = answer.interval(0.6)
    low, high = calibration.attach(answer).interval(0.9)
    covered = ((fresh >= low) & (fresh <= high)).double().flatten(1).mean(1)
    # 19 draws of 144 pixels choose k, 40 judge it: both errors are below .01 here, and the promise is .9 to .95
    assert 0.9 - 0.03 < float(covered.mean()) < 0.95 + 0.03
    raw = ((fresh >= plain[0]) & (fresh <= plain[1])).double().mean()
    assert float(raw) < 0.6 - 0.1
    assert calibration.draws.problem.items == tuple(range(19))


def test_known_pixels_are_known():
    prior, operator = GaussianPrior(0.5, 0.2), BoxMask((1, 8, 8), 4)
    problem = Problem.simulate(operator, prior.sample((1, 8, 8), Rng(0, [0]), torch.zeros(1)), GaussianNoise(0.0), generator=0)
    calibration = calibrate(problem, prior, HQS(), samples=None, draws=9)
    width = calibration.width(HQS().solve(problem, prior), 0.9)
    shown = groups_of(problem)[0] == 0
    assert not width[0][shown].any()
    assert bool((width[0][~shown] > 0.1).all())


def test_the_problem_and_the_draws_share_no_stream():
    """With one seed everywhere the run on the problem must not repeat that on draw 0."""
    prior = GaussianPrior(0.5, 0.2)
    problem = Problem.simulate(Identity(SHAPE), torch.full((1, *SHAPE), 0.5), GaussianNoise(0.5), generator=0)
    calibration = calibrate(problem, prior, DiffPIR(steps=6, zeta=1.0), samples=2, draws=2, generator=0)
    own = DiffPIR(steps=6, zeta=1.0).solve(problem, prior, generator=0, samples=2)
    noise = own.x[1] - own.x[0]
    theirs = calibration.samples[1] - calibration.samples[0]
    cosine = torch.nn.functional.cosine_similarity(noise.flatten(1).float(), theirs[:1].flatten(1).float())
    assert abs(float(cosine)) < 0.7  # 36 independent directions: .17 rms
