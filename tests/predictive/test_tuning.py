"""Tuning against a risk known in closed form, its budget, and `solve(tune=)`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from invsolve_operators import GaussianBlur, Identity, PhaseRetrieval

from invsolve import GaussianNoise, PoissonNoise, Problem, Requires, Rng, Solution, Solver, Step
from invsolve.bench.presets import Preset
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator import Capability
from invsolve.predictive import Tuning, draw, tune
from invsolve.predictive.budget import Budget
from invsolve.predictive.candidates import Candidate
from invsolve.predictive.race import Trial, settled
from invsolve.priors import Denoiser, GaussianPrior, Prior, TotalVariation
from invsolve.ranges import Range
from invsolve.solvers import DPS, HQS, Auto, DiffPIR

SHAPE = (1, 8, 8)
PRIOR = GaussianPrior(0.0, 0.2)


@dataclass(frozen=True)
class Shrink(Solver):
    """x = a y, whose risk on N(0, s^2) is (1 - a)^2 s^2 + a^2 sigma^2: least at a = s^2 / (s^2 + sigma^2)."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    ranges: ClassVar[Mapping[str, Range]] = {"a": Range(0.0, 1.5)}
    a: float = 1.0

    def iterate(self, problem, prior, rng, start=None):
        if self.a < 0.1:
            raise ZeroDivisionError("a is too small")
        prior(problem.operator.adjoint(problem.y), 1.0)
        yield Step(0, 1, self.a * problem.y, self.a * problem.y)


@dataclass(frozen=True)
class Broken(Solver):
    requires: ClassVar[Requires] = Requires()
    ranges: ClassVar[Mapping[str, Range]] = {"a": Range(0.0, 1.5)}
    a: float = 1.0

    def iterate(self, problem, prior, rng, start=None):
        raise ZeroDivisionError("it never works")
        yield


def measured(noise=0.2, operator=None):
    x = PRIOR.sample(SHAPE, Rng(3, [0]), torch.zeros(1))
    return Problem.simulate(operator or Identity(SHAPE), x, GaussianNoise(noise), generator=3)


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.4])
def test_the_best_setting_is_found_where_it_is_known(noise):
    best = 0.04 / (0.04 + noise**2)
    found = tune(measured(noise), PRIOR, Shrink(), nfe=3000, draws=8, trials=41, method="grid")
    # The grid's step is 1.5 / 39; the minimum of the empirical risk on 512 pixels lies within 3 sqrt(2 / 512) of itself, about.
    assert found.solver.a == pytest.approx(best, abs=1.5 / 39 + 3 * best * math.sqrt(2 / 512))
    truth, a = found.draws.truths, found.solver.a
    risk = (a * found.draws.problem.y - truth).square().flatten(1).mean(1)
    assert found.best.scores == pytest.approx((-10 * torch.log10(risk)).tolist(), abs=1e-4)
    assert found.gain[0] > 0
    assert len(found.best.scores) == 8


def test_what_was_given_is_kept_where_nothing_is_better():
    best = tune(measured(0.2), PRIOR, Shrink(), nfe=3000, trials=13, method="grid").solver
    found = tune(measured(0.2), PRIOR, best, nfe=3000, trials=13, method="grid")
    assert found.solver == best
    assert found.best is found.trials[0]
    assert "nothing else tried was better" in found.why


def trial(*scores, reason=""):
    return Trial(Candidate("", Shrink(), PRIOR), list(scores), reason=reason)


@pytest.mark.parametrize(
    ("ahead", "given", "left"),
    [
        ((1.0, 3.0), (0.0, 1.5), True),  # gains 1 and 1.5: mean 1.25, standard error .25
        ((1.0, 3.0), (0.0, 0.0), True),  # 1 and 3: 2, 1
        ((1.0, 3.0), (1.5, 1.5), False),  # -.5 and 1.5: .5, 1
        ((0.0, 2.0), (0.0, 0.0), False),  # 0 and 2: 1, 1: not above it
        ((1.0,), (0.9,), True),  # one draw has no standard error
        ((1.0, 1.0, 1.0), (0.9, 0.9), True),  # the same gain on both
        ((1.0, 1.0), (1.0, 1.0), False),
    ],
)
def test_what_was_given_is_left_for_a_gain_above_its_standard_error_only(ahead, given, left):
    first, other = trial(*given), trial(*ahead)
    assert settled([first, other], first) is (other if left else first)
    assert settled([first], first) is first


def test_what_was_given_and_failed_is_left():
    other = trial(-5.0, 5.0)
    assert settled([other], trial(reason="broken")) is other
    assert settled([other], trial()) is other


def test_a_lucky_one_does_not_hide_one_that_is_surely_better():
    given, lucky, sure = trial(0.0, 0.0), trial(9.0, -1.0), trial(1.0, 1.2)  # gains 4 ± 5 and 1.1 ± .1
    assert settled([given, lucky, sure], given) is sure


def test_one_draw_is_enough_for_a_preset(tmp_path):
    found = tune(measured(), PRIOR, DiffPIR(steps=4, zeta=0.5), draws=1, nfe=200)
    found.save(tmp_path / "z.toml")
    assert DiffPIR(**Preset.read(tmp_path / "z.toml").solver.arguments) == found.solver


def test_what_a_choice_is_called():
    chosen = tune(measured(), PRIOR, "auto", nfe=200, draws=2, trials=4)
    assert chosen.best.label in chosen.why
    assert "as given" not in chosen.why
    alone = tune(measured(), PRIOR, DiffPIR(steps=20), nfe=30, draws=2)
    assert "30 evaluations left no other try" in alone.why or "30 nfe left no other try" in alone.why


def test_auto_takes_no_names_and_no_method():
    for wrong in ({"names": ["zeta"]}, {"method": "grid"}):
        with pytest.raises(InputError, match="auto compares several at their defaults"):
            tune(measured(), PRIOR, "auto", nfe=200, draws=2, **wrong)
    with pytest.raises(InputError, match="names is a list"):
        tune(measured(), PRIOR, DiffPIR(steps=4), nfe=200, names="zeta")


def test_candidates_are_compared_on_the_same_draws_and_streams():
    first = tune(measured(), PRIOR, DiffPIR(steps=4), nfe=600, trials=5)
    trial = first.best
    again = DiffPIR(steps=4, **trial.candidate.values).solve(first.draws.problem, PRIOR, generator=0)
    assert trial.scores == pytest.approx(again.psnr(first.draws.truths).tolist(), abs=1e-3)


def test_a_budget_of_evaluations_is_kept_and_decides_alone():
    one = tune(measured(), PRIOR, DiffPIR(steps=5), nfe=500)
    other = tune(measured(), PRIOR, DiffPIR(steps=5), budget="500 nfe")
    assert one.nfe <= 500
    assert one.nfe > 250  # and it is used
    assert [trial.label for trial in one.trials] == [trial.label for trial in other.trials]
    assert [trial.scores for trial in one.trials] == [trial.scores for trial in other.trials]
    assert one.solver == other.solver
    more = tune(measured(), PRIOR, DiffPIR(steps=5), nfe=1500)
    assert len(more.trials) > len(one.trials)
    assert [trial.candidate.values for trial in more.trials][: len(one.trials)] == [trial.candidate.values for trial in one.trials]


def test_a_budget_of_seconds_stops():
    found = tune(measured(), PRIOR, DiffPIR(steps=50), budget=0.5)
    assert found.best.scores
    assert len(found.best.scores) == 8
    assert found.seconds < 20  # one run of what was given, and not 64 of them


@pytest.mark.parametrize(
    ("given", "seconds", "nfe"),
    [("60s", 60, None), ("2 min", 120, None), ("1h", 3600, None), ("60", 60, None), (5, 5, None), ("9 NFE", None, 9)],
)
def test_budgets_are_read(given, seconds, nfe):
    assert Budget.make(given) == Budget(seconds, nfe)


@pytest.mark.parametrize("given", ["", "s", "-3s", "0s", 0, -1, math.nan, math.inf, True, None, [60], "3 days"])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(InputError, match="60s"):
        Budget.make(given)
    if given is not None:
        with pytest.raises(InputError, match="60s"):
            Shrink().solve(measured(), PRIOR, tune=given)


def test_a_candidate_that_fails_is_never_chosen_and_says_why():
    found = tune(measured(0.9), PRIOR, Shrink(0.2), trials=41, method="grid", nfe=3000)  # the optimum is .047, where it fails
    failed = [trial for trial in found.trials if trial.reason]
    assert failed
    assert all("a is too small" in trial.reason and trial.score == -math.inf for trial in failed)
    assert found.solver.a >= 0.1
    with pytest.raises(InputError, match=r"every candidate failed.*it never works"):
        tune(measured(), PRIOR, Broken(), nfe=100)


def test_scores():
    psnr = tune(measured(), PRIOR, Shrink(), nfe=300, trials=10)
    mine = tune(measured(), PRIOR, Shrink(), nfe=300, trials=10, for_=lambda solution, truth: solution.psnr(truth))
    assert psnr.solver == mine.solver
    worst = tune(measured(), PRIOR, Shrink(), nfe=300, trials=10, for_=lambda solution, truth: -solution.psnr(truth))
    assert worst.best.scores[0] == max(trial.scores[0] for trial in worst.trials if len(trial.scores) == 8)
    assert worst.solver != psnr.solver
    sampled = tune(measured(), PRIOR, DiffPIR(steps=4), nfe=2000, trials=4, for_="calibration")
    assert sampled.samples == 4
    assert sampled.best.score < 0
    for wrong, words in (("ssim", "psnr, perception, calibration"), (lambda solution, truth: 1.0, "number per item")):
        with pytest.raises(InputError, match=words):
            tune(measured(), PRIOR, Shrink(), nfe=100, for_=wrong)
    with pytest.raises(InputError, match="at least 2"):
        tune(measured(), PRIOR, DiffPIR(steps=2), nfe=100, for_="calibration", samples=1)


def test_calibration_prefers_the_right_spread():
    """Of samplers with one mean CRPS is least for the one whose spread is its error's: the exact one."""

    @dataclass(frozen=True)
    class Sampler(Solver):
        requires: ClassVar[Requires] = Requires()
        ranges: ClassVar[Mapping[str, Range]] = {"wide": Range(0.0, 3.0)}
        wide: float = 0.1

        def iterate(self, problem, prior, rng, start=None):
            posterior = 0.04 * 0.04 / (0.04 + 0.04)
            x = 0.5 * problem.y + self.wide * posterior**0.5 * rng.normal_like(problem.y)
            prior(x, 1.0)
            yield Step(0, 1, x, x)

    found = tune(measured(0.2), PRIOR, Sampler(), nfe=20_000, trials=31, method="grid", for_="calibration", samples=6)
    # CRPS is flat at its minimum: a width that is wrong by a fifth costs 1 % of it; the grid's step is .1
    assert found.solver.wide == pytest.approx(1.0, abs=0.3)


def test_ranges_and_methods_are_checked():
    with pytest.raises(InputError, match="nothing declares a range for b"):
        tune(measured(), PRIOR, Shrink(), nfe=100, names=["b"])
    with pytest.raises(InputError, match="random, grid"):
        tune(measured(), PRIOR, Shrink(), nfe=100, method="annealing")
    with pytest.raises(InputError, match="trials must be"):
        tune(measured(), PRIOR, Shrink(), nfe=100, trials=0)
    with pytest.raises(InputError, match="declares nothing to tune"):
        tune(measured(), PRIOR, HQS(), nfe=100, names=()) if not HQS.ranges else tune(measured(), PRIOR, Plain(), nfe=100)
    with pytest.raises(InputError, match="order is"):
        tune(PRIOR, measured(), Shrink())
    with pytest.raises(InputError, match="auto"):
        tune(measured(), PRIOR, Shrink, nfe=100)


@dataclass(frozen=True)
class Plain(Solver):
    requires: ClassVar[Requires] = Requires()

    def iterate(self, problem, prior, rng, start=None):
        yield Step(0, 1, problem.y, problem.y)


def test_what_does_not_fit_is_said_before_anything_is_drawn():
    class Undrawable(Denoiser):
        def forward(self, x, sigma):
            raise AssertionError("it was drawn from")

    problem = Problem(PhaseRetrieval(SHAPE), PhaseRetrieval(SHAPE)(torch.rand(1, *SHAPE)), GaussianNoise(0.1), check_range=False)
    with pytest.raises(CompatibilityError):
        tune(problem, Undrawable(), HQS())
    with pytest.raises(CompatibilityError):
        HQS().solve(problem, Undrawable(), tune="60s")


def test_a_prior_that_is_a_penalty_is_tuned_on_draws_of_another():
    problem = measured(0.1, GaussianBlur(SHAPE, 1.0))
    found = tune(problem, TotalVariation(), HQS(steps=10), budget=10, trials=4, draws=4, pool=PRIOR)
    assert {name for trial in found.trials[1:] for name in trial.candidate.values} >= {"prior.weight"}
    assert isinstance(found.prior, TotalVariation)
    if found.best is not found.trials[0]:
        assert found.prior.weight == found.best.candidate.values["prior.weight"]


@pytest.mark.parametrize("given", [{"nfe": 400, "trials": 8}, pytest.param({"budget": 8}, marks=pytest.mark.whole)], ids=str)
def test_the_portfolio_takes_the_best_of_several(given):
    found = tune(measured(0.1, GaussianBlur(SHAPE, 1.0)), PRIOR, "auto", draws=2, **given)
    sound = [trial for trial in found.trials if len(trial.scores) == 2]
    assert found.best.score == max(trial.score for trial in sound)
    assert found.trials[0].label.startswith("auto: ")
    assert any("tv" in trial.label and trial.scores for trial in found.trials)
    assert len({trial.label for trial in found.trials}) == len(found.trials)
    counts = Problem.simulate(Identity(SHAPE), torch.full((1, *SHAPE), 0.5), PoissonNoise(0.02), generator=0)
    assert tune(counts, GaussianPrior(0.5, 0.1), "auto", budget=2, draws=2).best.scores


def test_solve_with_tune():
    problem = measured()
    found = tune(problem, PRIOR, DiffPIR(steps=4), nfe=400, generator=5)
    solution = DiffPIR(steps=4).solve(problem, PRIOR, tune="400 nfe", generator=5)
    assert solution.solver == found.solver
    assert solution.tuning["tried"] == found.record()["tried"]
    assert torch.equal(solution.x, found.solver.solve(problem, PRIOR, generator=5).x)
    assert "tuned by psnr on 8 exact draws" in solution.why
    again = DiffPIR().solve(problem, PRIOR, tune=found, generator=5)  # made before: nothing is searched
    assert torch.equal(again.x, solution.x)
    assert torch.equal(found.solve(problem, generator=5).x, solution.x)
    best = Auto().solve(problem, PRIOR, tune="60 nfe", generator=5)
    assert best.tuning["tried"][0]["label"].startswith("auto: ")


def test_the_record_is_stored(tmp_path):
    solution = DiffPIR(steps=4).solve(measured(), PRIOR, tune="300 nfe", generator=5)
    solution.save(tmp_path / "answer")
    assert Solution.load(tmp_path / "answer").tuning == solution.tuning


def test_the_preset_is_one_that_suites_read(tmp_path):
    found = tune(measured(), PRIOR, DiffPIR(steps=4), nfe=600)
    found.save(tmp_path / "mine.toml")
    preset = Preset.read(tmp_path / "mine.toml")
    made = DiffPIR(**preset.solver.arguments)
    assert made == found.solver
    assert preset.tuned.by == "predictive psnr"
    with pytest.raises(InputError, match="not registered"):
        tune(measured(), PRIOR, Shrink(), nfe=100).preset()


def test_regret_falls_to_nothing_and_counts_what_was_spent():
    found = tune(measured(), PRIOR, Shrink(), nfe=400, trials=15)
    assert found.regret[-1][2] == pytest.approx(0)
    assert found.regret[0][2] >= 0
    spent = [point[0] for point in found.regret]
    assert spent == sorted(spent)
    assert spent[-1] == found.nfe


def test_the_caller_can_watch_and_stop():
    seen = []

    def stop(trial):
        seen.append(trial.label)
        return len(seen) < 4

    found = tune(measured(), PRIOR, Shrink(), nfe=400, trials=15, callback=stop)
    assert found.best is found.trials[0]  # no other saw all the draws
    assert sum(bool(trial.scores) for trial in found.trials) <= 4


def test_one_and_the_same_for_all_items_of_a_batch():
    x = PRIOR.sample(SHAPE, Rng(3, range(3)), torch.zeros(1))
    whole = Problem.simulate(Identity(SHAPE), x, GaussianNoise(0.2), generator=3)
    together, alone = tune(whole, PRIOR, Shrink(), nfe=300), tune(whole[1], PRIOR, Shrink(), nfe=300)
    assert together.solver == alone.solver


def test_a_measurement_unlike_the_draws_is_said_so():
    strange = Problem(Identity(SHAPE), 3 + torch.zeros(1, *SHAPE), GaussianNoise(0.2), check_range=False)
    found = tune(strange, PRIOR, Shrink(), nfe=200)
    assert not found.fit.fits
    assert "DOES NOT LOOK LIKE THE DRAWS" in found.why
    assert tune(measured(), PRIOR, Shrink(), nfe=200).fit.fits


def test_draws_made_before_serve_again():
    draws = draw(measured(), PRIOR, 6)
    found = tune(measured(), PRIOR, Shrink(), nfe=200, draws=draws)
    assert found.draws is draws
    assert isinstance(found, Tuning)
    assert isinstance(found.prior, Prior)


def test_dps_counts_its_backward_passes():
    found = tune(measured(), PRIOR, DPS(steps=3), nfe=200, trials=2, draws=2)
    assert found.trials[0].nfe == 6


def test_optuna_asks_one_after_the_other():
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    found = tune(measured(0.2), PRIOR, Shrink(), nfe=400, method="optuna")
    assert found.nfe <= 400
    failed = sum(bool(trial.reason) for trial in found.trials)
    assert len(found.trials) == 50 + failed  # eight evaluations each of those that work
    assert failed < 10
    assert all(len(trial.scores) == 8 for trial in found.trials if not trial.reason)
    # its error after 49 trials of one number, measured at .02 over seeds; the minimum of 512 pixels is known to .1
    assert found.solver.a == pytest.approx(0.5, abs=0.15)
    few = tune(measured(0.2), PRIOR, Shrink(), nfe=400, method="optuna", trials=5)
    assert [one.label for one in few.trials] == [one.label for one in found.trials[:5]]
