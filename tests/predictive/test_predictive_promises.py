"""What the promise must not be made for, and what must not end a search: faults of another kind than wrong numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BoxMask, GaussianBlur, Identity, Mask

from invsolve import GaussianNoise, PoissonNoise, Problem, Requires, Rng, Solution, Solver, Step
from invsolve.cli.app import main
from invsolve.errors import InputError, Note
from invsolve.io.writing import write_image
from invsolve.predictive import Budget, calibrate, certify, draw, tune
from invsolve.predictive.calibration import groups_of
from invsolve.predictive.draws import window
from invsolve.predictive.kept import recalled
from invsolve.priors import GaussianPrior
from invsolve.ranges import Range
from invsolve.solvers import HQS, Auto, DiffPIR

SHAPE = (1, 12, 12)
PRIOR = GaussianPrior(0.5, 0.2)


class Local(Identity):
    """An operator without a name in the registry."""


def measured(operator=None, noise=0.05, batch=1, seed=3):
    operator = operator or Identity(SHAPE)
    x = PRIOR.sample(operator.in_shape, Rng(seed, range(batch)), torch.zeros(1))
    return Problem.simulate(operator, x, GaussianNoise(noise), generator=seed, check_range=False), x


@dataclass(frozen=True)
class Shrink(Solver):
    requires: ClassVar[Requires] = Requires()
    ranges: ClassVar[Mapping[str, Range]] = {"a": Range(0.1, 1.5)}
    a: float = 0.8

    def __post_init__(self):
        if self.a > 1.2:
            raise ValueError("a above 1.2 is not allowed")

    def iterate(self, problem, prior, rng, start=None):
        prior(problem.y, 1.0)
        yield Step(0, 1, self.a * problem.y, self.a * problem.y)


@pytest.mark.parametrize("box", [20, 100])
def test_hidden_pixels_of_a_large_picture_have_a_factor_of_their_own(box):
    """Whatever the hole is beside the window: in the hole the coverage is what was promised, not that of the pixels around."""
    problem, x = measured(BoxMask((1, 160, 160), box), 0.02)
    found = certify(problem, PRIOR, HQS(), samples=None, draws=9)
    low, high = found.interval()
    held, hidden = ((x >= low) & (x <= high)).double(), groups_of(problem) == 1
    # white pixels: the window's hidden ones, some hundreds in each of nine draws, choose k; 400 or more judge it
    assert float(held[hidden].mean()) > 0.9 - 0.03
    assert float(held[~hidden].mean()) > 0.9 - 0.03


def test_groups_that_the_draws_lack_are_refused():
    problem, _ = measured(BoxMask((1, 64, 64), 20))
    blank = draw(measured(Identity(SHAPE))[0], PRIOR, 9)
    with pytest.raises(InputError, match="another operator"):
        certify(problem, PRIOR, HQS(), samples=None, draws=blank)


def test_items_that_differ_are_certified_one_at_a_time():
    masks = torch.ones(2, *SHAPE)
    masks[0, ..., :6], masks[1, ..., 6:] = 0, 0
    x = PRIOR.sample(SHAPE, Rng(0, [0, 1]), torch.zeros(1))
    by_mask = Problem.simulate(Mask(SHAPE, mask=masks), x, GaussianNoise(0.05), generator=0)
    by_noise = Problem.simulate(Identity(SHAPE), x, GaussianNoise(torch.tensor([0.01, 0.3])), generator=0)
    for problem in (by_mask, by_noise):
        with pytest.raises(InputError, match="one at a time"):
            certify(problem, PRIOR, HQS(), samples=None, draws=9)
        with pytest.raises(InputError, match="at least that many"):
            draw(problem, PRIOR, 1)
    found = certify(by_mask[1], PRIOR, HQS(), samples=None, draws=9)
    low, high = found.interval()
    assert bool((high - low)[0, 0, :, 6:].min() > (high - low)[0, 0, :, :6].max())


def test_the_solution_must_be_this_solvers_and_this_problems():
    problem, _ = measured()
    other, _ = measured(batch=3)
    for solution in (HQS(steps=2).solve(problem, PRIOR), HQS().solve(other, PRIOR), DiffPIR(steps=2).solve(problem, PRIOR)):
        with pytest.raises(InputError, match="another's"):
            certify(problem, PRIOR, HQS(), samples=None, draws=9, solution=solution)
    assert certify(problem, PRIOR, HQS(), samples=None, draws=9, solution=HQS().solve(problem, PRIOR)).certified


def test_y_is_looked_at_with_draws_made_before():
    problem = Problem(Identity((1, 96, 96)), 0.02 * torch.ones(1, 1, 96, 96), GaussianNoise(0.05), check_range=False)
    draws = draw(window(problem), PRIOR, 9)
    assert not certify(problem, PRIOR, HQS(), samples=None, draws=draws).certified
    assert not tune(problem, PRIOR, Shrink(), nfe=100, draws=draws).fit.fits


@pytest.mark.parametrize("operator", [Identity(SHAPE), BoxMask(SHAPE, 4), GaussianBlur((1, 80, 80), 1.0)])
@pytest.mark.parametrize("samples", [None, 4])
def test_a_calibration_is_kept_with_its_solution(operator, samples, tmp_path):
    problem, _ = measured(operator)
    found = certify(problem, PRIOR, DiffPIR(steps=2), samples=samples, draws=9)
    found.solution.save(tmp_path / "answer")
    loaded = Solution.load(tmp_path / "answer")
    for mine, theirs in zip(loaded.interval(0.9), found.interval(0.9), strict=True):
        assert torch.equal(mine, theirs)
    assert loaded.calibration.covered(0.5) == found.calibration.covered(0.5)
    assert loaded.calibration.fit == found.calibration.fit
    assert torch.equal(loaded.calibration.draws.problem.y, found.calibration.draws.problem.y)
    again = certify(problem, PRIOR, DiffPIR(steps=2), samples=samples, draws=loaded.calibration.draws, solution=loaded)
    assert torch.equal(again.interval()[0], found.interval()[0])


def test_a_calibration_that_cannot_be_made_again_says_that_it_is_lost(tmp_path):
    problem, _ = measured(Local(SHAPE))
    found = certify(problem, PRIOR, HQS(), samples=None, draws=9)
    with pytest.warns(Note, match=r"calibration is not saved with the solution \(its operator Local cannot"):
        found.solution.save(tmp_path / "answer")
    assert Solution.load(tmp_path / "answer").calibration is None


@pytest.mark.parametrize(
    "change",
    [
        {"mean": None},
        {"mean": torch.zeros(9, 1, 12, 11)},
        {"samples": torch.zeros(2, 3, 1, 12, 12)},
        {"groups": torch.zeros(1, 1, 12, 12)},
        {"groups": torch.full((1, 1, 12, 12), 7)},
        {"groups": torch.zeros(12, 12, dtype=torch.long)},
        {"own": torch.ones(1)},
        {"truths": torch.zeros(9)},
        {"solver": 3},
        {"seconds": "long"},
        {"fit": {"p": 0.5}},
        {"fit": {"p": "x", "what": "", "score": 0.0, "level": 0.01}},
    ],
)
def test_a_stored_calibration_is_checked(change):
    problem, _ = measured()
    data = certify(problem, PRIOR, DiffPIR(steps=2), samples=2, draws=9).calibration.record()
    assert recalled(data).factors() == recalled(dict(data)).factors()
    with pytest.raises(InputError, match="malformed calibration"):
        recalled({**data, **change})


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 8, 8, 8), (1, 8, 5, 8)])
def test_volumes(shape):
    problem = Problem.simulate(Identity(shape), torch.rand(1, *shape), GaussianNoise(0.1), generator=0)
    pool = torch.rand(11, *shape, generator=torch.Generator().manual_seed(0))
    found = certify(problem, PRIOR, HQS(), samples=None, draws=9, pool=pool)
    assert found.interval()[0].shape == (1, *shape)
    assert "of 11 images of a pool" in found.calibration.draws.origin


def test_draws_that_cannot_be_measured_say_what_to_do():
    counts = Problem.simulate(Identity(SHAPE), torch.rand(1, *SHAPE), PoissonNoise(0.02), generator=0)
    with pytest.raises(InputError, match=r"draws from GaussianPrior cannot be measured.*pool="):
        draw(counts, GaussianPrior(0.3, 0.3), 9)


def test_every_kind_of_seed():
    problem, _ = measured()
    for generator in (None, 3, torch.Generator().manual_seed(3), Rng(3, [0, 1, 2])):
        assert certify(problem, PRIOR, HQS(), samples=None, draws=9, generator=generator).solution.x.shape == (1, *SHAPE)
        assert tune(problem, PRIOR, Shrink(), nfe=80, trials=2, generator=generator).best.scores
    for generator in (1.5, "3", True):
        with pytest.raises(InputError, match="generator must be"):
            tune(problem, PRIOR, Shrink(), nfe=80, generator=generator)


def test_settings_that_cannot_be_made_are_never_chosen():
    found = tune(measured()[0], PRIOR, Shrink(), nfe=400, trials=20)
    failed = [trial for trial in found.trials if "not allowed" in trial.reason]
    assert failed
    assert found.best not in failed
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    assert tune(measured()[0], PRIOR, Shrink(), nfe=300, method="optuna").best.scores


def test_a_score_that_fails_or_is_no_number_rules_its_candidate_out():
    def moody(solution, truth):
        if solution.solver.a > 0.9:
            raise RuntimeError("my scorer")
        return torch.full((len(truth),), math.nan) if solution.solver.a < 0.5 else solution.psnr(truth)

    found = tune(measured()[0], PRIOR, Shrink(), nfe=400, trials=20, for_=moody)
    assert 0.5 <= found.solver.a <= 0.9
    reasons = {trial.reason for trial in found.trials if trial.reason}
    assert any("my scorer" in reason for reason in reasons)
    assert any("not finite" in reason for reason in reasons)
    with pytest.raises(InputError, match="every candidate failed"):
        tune(measured()[0], PRIOR, Shrink(), nfe=100, for_=lambda solution, truth: torch.full((len(truth),), math.nan))


def test_what_is_at_hand_costs_what_it_would():
    """So that a budget of evaluations chooses the same in the first run and in the second, whose draws are at hand."""

    class Sampled(GaussianPrior):
        sample = None

    prior, problem = Sampled(0.5, 0.2), measured()[0]
    one, other = (tune(problem, prior, DiffPIR(steps=2), nfe=200, draws=2, generator=12345) for _ in range(2))
    assert not one.draws.held
    assert other.draws.held
    assert one.draws.nfe > 0
    assert one.nfe == other.nfe
    assert [trial.label for trial in one.trials] == [trial.label for trial in other.trials]


def test_the_preset_of_a_portfolio_names_its_prior():
    blocks = torch.rand(8, 1, 3, 3, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = tune(measured(GaussianBlur(SHAPE, 1.0))[0], PRIOR, "auto", nfe=400, draws=2, trials=8, pool=blocks)
    classical = [trial for trial in found.trials if trial.candidate.prior is not PRIOR and trial.scores]
    assert classical
    from dataclasses import replace

    chosen = classical[0]
    preset = replace(found, best=chosen, solver=chosen.candidate.solver, prior=chosen.candidate.prior).preset()
    assert preset.prior is not None
    assert preset.prior.arguments["weight"] == chosen.candidate.prior.weight


def test_a_tuning_serves_its_own_solver_and_prior():
    problem, _ = measured()
    found = tune(problem, PRIOR, DiffPIR(steps=2), nfe=100, trials=2)
    with pytest.raises(InputError, match="another prior"):
        DiffPIR().solve(problem, GaussianPrior(-3, 0.01), tune=found)
    with pytest.raises(InputError, match="not of HQS"):
        HQS().solve(problem, PRIOR, tune=found)
    same = GaussianPrior(0.5, 0.2)
    assert torch.equal(Auto().solve(problem, same, tune=found, generator=0).x, found.solve(problem, generator=0).x)


@pytest.mark.parametrize(
    "options", [{"keep": -1}, {"chunk": 0}, {"samples": 0}, {"budget_s": 0}, {"callback": 3}, {"x_init": torch.zeros(2)}]
)
def test_options_are_refused_before_the_search(options):
    class Undrawable(GaussianPrior):
        def sample(self, shape, rng, like):
            raise AssertionError("it was drawn from")

    with pytest.raises(InputError):
        DiffPIR(steps=2).solve(measured()[0], Undrawable(0.5, 0.2), tune="50 nfe", **options)


def test_a_callback_that_ends_it_is_not_called_again():
    seen = []
    tune(measured()[0], PRIOR, Shrink(), nfe=400, trials=10, callback=lambda trial: bool(seen.append(trial.label)))
    assert len(seen) == 1


def test_windows_have_no_regions():
    problem, _ = measured(Identity((1, 96, 96)))
    found = certify(problem, PRIOR, HQS(), samples=None, draws=9, side=32)
    with pytest.raises(InputError, match="side=96"):
        found.region(torch.ones(96, 96, dtype=torch.bool))
    with pytest.raises(InputError, match="side=96"):
        found.calibration.interval(found.solution, per="pixel")
    whole = certify(problem, PRIOR, HQS(), samples=None, draws=9, side=96)
    assert whole.region(torch.ones(96, 96, dtype=torch.bool))[0].shape == (1,)


def test_other_units_are_cut_into_windows_too():
    prior = GaussianPrior(127.5, 40)
    x = prior.sample((1, 128, 128), Rng(0, [0]), torch.zeros(1))
    problem = Problem.simulate(Identity((1, 128, 128)), x, GaussianNoise(12.0), generator=0, check_range=False)
    assert max(window(problem, 64).operator.in_shape[1:]) == 64
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        tune(problem, prior, Shrink(), nfe=40, for_="perception")


def test_budgets_and_samples_are_checked():
    with pytest.raises(InputError, match="Budget"):
        Budget()
    found = certify(measured()[0], PRIOR, DiffPIR(steps=2), samples=3, draws=9)
    with pytest.raises(InputError, match="0 to 2"):
        found.apart(0, 9)


def test_damage_to_the_cache_is_drawn_again(tmp_path):
    from safetensors.torch import save_file

    from invsolve.predictive import draws as place

    class Sampled(GaussianPrior):
        sample = None

    first = draw(measured()[0], Sampled(0.5, 0.2), 2, cache=tmp_path, generator=77)
    (file,) = tmp_path.glob("*")
    save_file({"x": torch.full((2, *SHAPE), math.nan)}, file)
    place._held.clear()
    again = draw(measured()[0], Sampled(0.5, 0.2), 2, cache=tmp_path, generator=77)
    assert not again.held
    assert torch.equal(again.truths, first.truths)
    place._held.clear()
    with pytest.raises(InputError):
        draw(measured()[0], Sampled(0.5, 0.2), 2, cache=file, generator=78)


PROBLEM = """
data = { image = "photo.png", simulate = true }
operator = "gaussian-blur"
noise = { sigma = 0.1 }
prior = { name = "gaussian", std = 0.2 }
solver = { name = "diffpir", steps = 2 }
run = { tune = "200 nfe" }
"""


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.png", PRIOR.sample((3, 12, 12), Rng(0, [0]), torch.zeros(1))[0])
    (tmp_path / "p.toml").write_text(PROBLEM)
    invoke = CliRunner().invoke
    result = invoke(main, ["certify", "p.toml", "--draws", "9", "--samples", "2"])
    assert "tuned by psnr" in result.output, result.output  # what is certified is what `run` would give
    for words, said in (
        (["tune", "p.toml", "--workers", "3"], "--workers means nothing for a problem"),
        (["tune", "quick", "-s", "DPS", "--pool", "x"], "--pool means nothing for a suite"),
        (["tune", "missing.toml"], "missing.toml"),
        (["tune", "quick"], "--solver"),
    ):
        bad = invoke(main, words)
        assert bad.exit_code == 2, bad.output
        assert said in bad.output
    (tmp_path / "n.toml").write_text(PROBLEM.replace('solver = { name = "diffpir", steps = 2 }', ""))
    assert "solver" in invoke(main, ["tune", "n.toml"]).output
    assert not invoke(main, ["-q", "tune", "p.toml", "--budget", "60 nfe"]).stdout


def test_a_picture_of_a_pool_counts_once():
    problem, x = measured()
    with pytest.raises(InputError, match="1 of 9 differ"):
        certify(problem, PRIOR, HQS(), samples=None, draws=9, pool=x)


def test_draws_and_solutions_of_something_else_are_refused():
    problem, _ = measured()
    other, _ = measured(noise=0.1)
    with pytest.raises(InputError, match="another noise"):
        certify(problem, PRIOR, HQS(), samples=None, draws=draw(other, PRIOR, 9))
    blurred, _ = measured(GaussianBlur(SHAPE, 1.0))
    with pytest.raises(InputError, match="another operator"):
        calibrate(problem, PRIOR, HQS(), samples=None, draws=draw(blurred, PRIOR, 9))
    calibration = calibrate(problem, PRIOR, DiffPIR(steps=2, zeta=0.1), samples=2, draws=9)
    with pytest.raises(InputError, match="other settings, other errors"):
        calibration.attach(DiffPIR(steps=2).solve(problem, PRIOR, samples=2))


def test_draws_that_calibrate_are_not_those_that_settings_were_chosen_on():
    problem, _ = measured()
    chosen = tune(problem, PRIOR, DiffPIR(steps=2), nfe=100, draws=9, generator=5)
    calibration = calibrate(problem, PRIOR, DiffPIR(steps=2), samples=2, draws=9, generator=5)
    assert not torch.isclose(chosen.draws.truths, calibration.draws.truths).any(0).all()


def test_few_held_pictures_give_no_verdict_and_say_so():
    problem, _ = measured()
    held = 3 * torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)) - 1
    rows = dict(certify(problem, PRIOR, HQS(), samples=None, draws=9, held=held).rows())
    assert "fewer than 3 give no verdict" in rows["coverage on 2 held pictures"]


def test_an_interval_that_says_nothing_is_called_so():
    problem, _ = measured(BoxMask(SHAPE, 10))
    narrow = dict(certify(measured()[0], PRIOR, HQS(), samples=None, draws=9).rows())
    assert "AS WIDE AS" not in narrow["half width of the interval"]
    wide = dict(certify(problem, PRIOR, DiffPIR(steps=2), samples=2, draws=9).rows())
    assert "AS WIDE AS ALL THAT PICTURES HOLD" in wide["half width of the interval"]


def test_a_prior_of_a_pool_takes_the_problem_s_channels():
    problem, _ = measured(Identity((1, 16, 16)))
    with pytest.raises(InputError, match="no file, no folder and no prior"):
        draw(problem, PRIOR, 2, pool="nosuchprior")
    assert draw(problem, PRIOR, 2, pool="natural").truths.shape == (2, 1, 16, 16)


@pytest.mark.parametrize("level", ["0.9", True, 0, 1.0])
def test_levels_of_a_calibrated_solution(level):
    problem, _ = measured()
    solution = certify(problem, PRIOR, HQS(), samples=None, draws=9).solution
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        solution.interval(level)
