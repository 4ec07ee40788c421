"""What the package does without diffusers: it costs nothing, says how to get it, and its classes serve networks of anybody."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from invsolve_diffusers.told import Told, Words
from torch import nn

from invsolve import CapabilityError, InputError, load_prior
from invsolve.cli import main
from invsolve.priors import DiffusionPrior
from invsolve.priors.guidance import Guided
from invsolve.recipe.tables import located, whole
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP, Flow
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import prior_checks

S = 0.6


def posterior_mean(x, sigma, centre):
    """E[x0 | x0 + sigma n = x] of N(centre, S^2)."""
    return centre + (x - centre) * (S**2 / (S**2 + sigma**2))


class Velocity(nn.Module):
    """The velocity x0 - n of N(centre, S^2) at x_t = t x0 + (1 - t) n, told its centre."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))

    def forward(self, x, t, centre):
        t = t.reshape(-1, 1, 1, 1)
        x0 = posterior_mean(x / t, (1 - t) / t, centre)
        return self.one * (x0 - x) / (1 - t)


class Beside(Velocity):
    """Told nothing: the centre stands in a channel beside x_t."""

    def forward(self, x, t):
        return super().forward(x[:, :3], t, x[:, 3:])


class Grey(nn.Module):
    """Sees the mean of y over that of a white image's as a channel."""

    def gaps(self, problem):
        return [] if problem.y.ndim == 4 else ["this network looks at an image y"]

    def forward(self, problem):
        white = problem.operator(torch.ones_like(problem.image)).mean((1, 2, 3), keepdim=True)
        return (problem.y.mean((1, 2, 3), keepdim=True) / white).expand(-1, 1, *problem.y.shape[-2:])


def words(*centres, each=False):
    return Words({"centre": torch.tensor(centres, dtype=torch.float64).reshape(-1, 1, 1, 1)}, each)


def told(says, without=None, **options):
    return Told(Velocity(), "velocity", Flow(), channels=3, words=says, without=without, **options)


X = Rng(5, [0, 1]).normal((3, 4, 5), torch.zeros(1, dtype=torch.float64))
# x_t is made of x by a factor t and back: some roundings of values below 10.
CLOSE = {"rtol": 0.0, "atol": 1e-13}


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_words_reach_the_network_for_each_item(sigma):
    alike, own = told(words(0.3)), told(words(0.3, -0.4, each=True))
    torch.testing.assert_close(alike(X, sigma), posterior_mean(X, sigma, 0.3), **CLOSE)
    centres = torch.tensor([0.3, -0.4], dtype=torch.float64).reshape(2, 1, 1, 1)
    torch.testing.assert_close(own(X, sigma), posterior_mean(X, sigma, centres), **CLOSE)
    torch.testing.assert_close(own[1](X[1:], sigma), posterior_mean(X[1:], sigma, -0.4), **CLOSE)
    assert own.batch == 2
    with pytest.raises(InputError, match="rows for 2 items"):
        own(X[:1].expand(3, -1, -1, -1), sigma)
    with pytest.raises(InputError, match="one row"):
        words(0.3, 0.4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance_of_words_is_in_closed_form(scale):
    """D_u + scale (D_c - D_u) of two Gaussians of one spread is the posterior mean about the centre led alike."""
    prior = DiffusionPrior(Guided(told(words(0.3), words(-0.2)), scale), Flow())
    from invsolve import Problem

    led = prior.given(Problem.unconditional((3, 4, 5), 2, dtype=torch.float64))
    torch.testing.assert_close(led(X, 2.0), posterior_mean(X, 2.0, -0.2 + scale * 0.5), **CLOSE)
    torch.testing.assert_close(prior.unconditional()(X, 2.0), posterior_mean(X, 2.0, -0.2), **CLOSE)


def test_without_other_words_there_is_no_guidance():
    with pytest.raises(CapabilityError, match="takes no text"):
        Guided(told(words(0.3)), 2.0)


def test_the_kit_passes_a_network_of_ones_own():
    prior = told(words(0.3), words(0.0))
    assert failures(prior, prior_checks(prior)) == {}
    sees = Told(Beside(), "velocity", Flow(), channels=3, sees=Grey())
    assert sees.sees_y
    checks = [(name, check) for name, check in prior_checks(sees) if name != "check_in_solvers"]
    assert failures(sees, checks) == {}


@pytest.mark.parametrize(
    ("code", "shown"),
    [("import invsolve_diffusers", "[]"), ("from invsolve.plugins import registry; registry().names('prior')", "[]")],
)
def test_importing_it_imports_nothing_heavy(code, shown):
    code += "; import sys; print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shown


@pytest.fixture
def folder(tmp_path):
    """What is looked at before diffusers is asked for."""
    parts = {name: ["diffusers", "Any"] for name in ("unet", "vae", "scheduler")}
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    return tmp_path


def test_it_says_how_to_get_diffusers(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'invsolve\[diffusers\]'"):
        load_prior(f"diffusers:{folder}")


def test_its_checks_are_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr("invsolve_diffusers.examples.installed", lambda: False)
    done = CliRunner().invoke(main, ["check", "prior", "diffusers"])
    assert done.exit_code == 0, done.output
    assert "SKIP  prior diffusers  examples  there is nothing to check without" in done.output
    assert "pip install 'invsolve[diffusers]'" in done.output


@pytest.mark.parametrize("part", ["../outside", "un et"])
def test_parts_are_folders_beside_each_other(folder, part):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: ["diffusers", "Any"]}))
    with pytest.raises(InputError, match="no name of a part"):
        load_prior(f"diffusers:{folder}")


def test_schedules_are_read_by_their_settings(folder):
    from invsolve_diffusers.folder import schedule_of

    stable = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    assert schedule_of(stable, folder) == ("eps", DiscreteVP(1000, 0.00085, 0.012, law="scaled-linear"))
    assert schedule_of({**stable, "prediction_type": "v_prediction"}, folder)[0] == "v"
    assert schedule_of({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, folder) == ("velocity", Flow(shift=3.0))
    # Stable Diffusion ends at sqrt(a_T) = .068: what is left of the picture where its sampling begins
    last = schedule_of(stable, folder)[1].levels()[-1]
    assert (1 + last**2) ** -0.5 == pytest.approx(0.0683, abs=1e-4)


def test_addresses_in_files(tmp_path):
    """A place that is there is relative to the file; one on the hub is none."""
    (tmp_path / "sd").mkdir()
    (tmp_path / "odd:name.pt").write_text("")
    there = located(tmp_path, "diffusers:sd")
    assert str(there) == f"diffusers:{tmp_path / 'sd'}"
    assert whole(there) == str(there)
    remote = "hub:owner/name/file.pt@0123456789abcdef0123456789abcdef01234567"
    assert str(located(tmp_path, remote)) == whole(located(tmp_path, remote)) == remote
    assert located(tmp_path, "odd:name.pt") == tmp_path / "odd:name.pt"
    assert located(tmp_path, "mine.pt") == tmp_path / "mine.pt"
