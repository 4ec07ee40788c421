"""invsolve tune: trials are cells, the best is a preset, with the truth of other pictures or without any."""

# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportArgumentType=false

import json

import pytest
import torch
from bench_cases import GAUSSIAN, tiny
from click.testing import CliRunner

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.bench import Suite, run
from invsolve.bench.metrics import Case
from invsolve.bench.presets import Preset
from invsolve.bench.sure import SURE
from invsolve.bench.tune import tune
from invsolve.cli import main
from invsolve.errors import InputError, InvsolveError
from invsolve.io.images import write_image
from invsolve.plugins import registry
from invsolve.solver import Solver
from invsolve.solvers import ADMM, OneShot

DRAWINGS = {"shape": [3, 8, 8], "images": 2, "label": "drawings"}


def small(**changes):
    noise = {"name": "identity", "label": "denoising"}
    solver = {"name": "one-shot", "prior": GAUSSIAN}
    return tiny(**{"data": DRAWINGS, "operator": [noise], "solver": [solver], "noise": {"sigma": 0.25}, **changes})


@pytest.fixture
def strength(monkeypatch):
    """One-shot's factor on the level, which is best at 1 for pictures of the prior."""
    from invsolve.ranges import Range

    monkeypatch.setattr(OneShot, "ranges", {"strength": Range(0.25, 4.0, log=True)}, raising=False)


def test_sure_is_exact_where_the_answer_is_linear():
    """x_hat = mu + a (y - mu): the divergence is a in every direction, so SURE = r^2 - 1 + 2 a to rounding; its mean is the error's."""
    shape, sigma, std = (1, 16, 16), 0.2, 0.25
    a = std**2 / (std**2 + sigma**2)
    prior = load_prior("gaussian", mean=0.5, std=std).double()
    truth = 0.5 + std * torch.randn(64, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, arguments in (("identity", {}), ("mask", {"keep": 0.5})):
        operator = registry().build("operator", name, in_shape=shape, **arguments)
        problem = Problem.simulate(operator, truth, GaussianNoise(sigma), generator=0)
        solver = OneShot() if name == "identity" else ADMM(steps=60, tol=0.0)
        solution = solver.solve(problem, prior, generator=0)
        found = SURE().measure(Case(problem, truth, solution, prior))
        kept = torch.ones(256) if name == "identity" else operator.mask.expand(shape).flatten().double()
        if name == "identity":
            expected = ((solution.x - problem.y).flatten(1).square().mean(1)) / sigma**2 - 1 + 2 * a
            assert torch.allclose(found, expected, atol=1e-9)
        error = ((solution.x - truth).flatten(1) * kept).square().sum(1) / kept.sum() / sigma**2
        apart = found - error
        assert abs(float(apart.mean())) < 4 * float(apart.std()) / 64**0.5  # unbiased: four standard errors
    assert SURE().measure(Case(problem, truth, solution)).isnan().all()


def test_the_best_trial_is_a_preset_and_trials_are_cells(strength, tmp_path, monkeypatch):
    found = tune(small(), "one-shot", trials=6, method="grid", out=tmp_path, replaced=True, progress=False)
    assert [one.values.get("strength") for one in found.trials] == [None, 0.25, 0.5, 1.0, 2.0, 4.0]
    scores = [one.score for one in found.trials]
    assert found.best.score == max(scores)
    assert scores[0] == pytest.approx(scores[3])  # the default is 1
    preset = Preset.read(tmp_path / "preset.toml")
    assert preset == found.preset
    assert preset.solver.arguments == found.best.values
    assert (preset.tuned.on, preset.tuned.by, preset.tuned.trials, len(preset.tuned.pictures)) == ("drawings", "psnr", 6, 2)
    assert [one.get("score") for one in preset.record["tried"]] == pytest.approx(scores)
    monkeypatch.setattr(Solver, "solve", lambda *_args, **_options: pytest.fail("a finished trial was computed again"))
    again = tune(small(), "one-shot", trials=6, method="grid", out=tmp_path, replaced=True, progress=False)
    assert [one.score for one in again.trials] == scores


def test_a_suite_that_names_the_preset_says_so_and_on_which_pictures(strength, tmp_path):
    tune(small(), "one-shot", trials=3, out=tmp_path, replaced=True, progress=False)
    text = 'metrics = ["psnr"]\noperator = "identity"\nnoise = {{ sigma = 0.25 }}\n'
    text += "data = {{ shape = [3, 8, 8], images = {}, seed = {} }}\n[[solver]]\n"
    for seed, said in ((0, ", THIS PICTURE AMONG THEM"), (5, "")):
        (tmp_path / "s.toml").write_text(
            text.format(1, seed) + 'preset = "preset.toml"\nprior = { name = "gaussian", mean = 0.5, std = 0.25 }\n'
        )
        (row,) = run(tmp_path / "s.toml", out=tmp_path / str(seed), progress=False)
        assert row["settings"] == f"tuned on drawings by psnr, 3 trials{said}"


def test_without_the_truth_the_suites_own_pictures_will_do(strength, tmp_path):
    """Of drawings with the prior's own mean and spread both rules find the least error near strength 1, as the truth does."""
    with pytest.raises(InputError, match=r"with the truth, and these are the pictures.*-d LABEL=FOLDER.*--by discrepancy or --by sure"):
        tune(small(), "one-shot", trials=3, out=tmp_path, progress=False)
    by_truth = tune(small(), "one-shot", trials=6, method="grid", out=tmp_path / "psnr", replaced=True, progress=False)
    by_sure = tune(small(), "one-shot", trials=6, method="grid", by="sure", out=tmp_path / "sure", progress=False)
    assert by_sure.best.values == by_truth.best.values
    assert by_sure.preset.tuned.pictures == []  # no truth was looked at
    by_noise = tune(small(), "one-shot", trials=6, method="grid", by="discrepancy", out=tmp_path / "noise", progress=False)
    assert by_noise.best.score == min(one.score for one in by_noise.trials)


def test_a_regularisers_weight_goes_with_the_noise(tmp_path):
    solver = {"name": "fista", "steps": 3, "prior": {"name": "tv", "max_iter": 5}, "for": {"denoising": {"prior": {"weight": 9.0}}}}
    options = {"trials": 3, "out": tmp_path, "replaced": True, "progress": False}
    found = tune(small(solver=[solver]), "fista", method="grid", names=["prior.weight"], **options)
    assert [one.values["prior.weight"] for one in found.trials[1:]] == pytest.approx([0.02 / 0.25, 2.0 / 0.25])
    chosen = found.preset.prior
    assert (chosen is None) == (found.best is found.trials[0])
    assert len({one.score for one in found.trials}) == 3  # what was set for the operator gave way
    both = [{"name": "identity", "label": "a"}, {"name": "identity", "label": "b", "noise": {"sigma": 0.1}}]
    with pytest.raises(InputError, match=r"prior.weight goes with the noise.*differs \(a 0\.25, b 0\.1\): tune one at a time, -o"):
        tune(small(operator=both, solver=[solver | {"for": {}}]), "fista", **options)


REFUSALS = {
    "one trial": ({"trials": 1}, "trials must be at least 2"),
    "no metric": ({"by": "psnrr"}, "did you mean psnr"),
    "no side": ({"by": "residual"}, "does not say which of two answers is better"),
    "no range": ({"names": ["eta"]}, "nothing declares a range for eta; there are: strength"),
    "method": ({"method": "guess"}, "method must be random, grid or optuna"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_tuned(name, strength, tmp_path):
    changes, message = REFUSALS[name]
    with pytest.raises(InvsolveError, match=message):
        tune(small(), "one-shot", **{"trials": 3, "out": tmp_path, "replaced": True, "progress": False, **changes})


def test_optuna_asks_for_one_setting_after_the_other(strength, tmp_path):
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    found = tune(small(), "one-shot", trials=4, method="optuna", out=tmp_path, replaced=True, progress=False)
    again = tune(small(), "one-shot", trials=4, method="optuna", out=tmp_path, replaced=True, progress=False)
    assert [one.values for one in found.trials] == [one.values for one in again.trials]
    assert len({one.values.get("strength") for one in found.trials}) == 4


def test_the_command(strength, tmp_path):
    write_image(tmp_path / "one.png", torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "s.toml").write_text(
        'data = { label = "mine", wants = "pictures" }\nnoise = { sigma = 0.2 }\noperator = "identity"\n'
        '[[solver]]\nname = "one-shot"\nprior = { name = "gaussian", mean = 0.5, std = 0.25 }\n'
    )
    common = ["tune", str(tmp_path / "s.toml"), "-s", "one-shot", "--trials", "3", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*common, "-d", f"mine={tmp_path}", "--save", str(tmp_path / "mine.toml")])
    assert done.exit_code == 0, done.output
    assert 'a suite names it: preset = "mine.toml"' in done.output
    assert Preset.read(tmp_path / "mine.toml").tuned.on == "mine"
    assert len(json.loads((tmp_path / "out" / "run.json").read_text())["cells"]) == 3
    assert isinstance(Suite.load(tmp_path / "s.toml", {"mine": str(tmp_path)}), Suite)
