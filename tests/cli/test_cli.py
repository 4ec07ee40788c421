"""The command line: what it prints, what it writes, and its exit codes."""

import json
import re
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from invsolve import Problem, Solution
from invsolve.cli import main
from invsolve.errors import DivergedError, PluginError
from invsolve.io.images import read_image, read_tensor, write_image
from invsolve.plugins import Entry, registry

SOLVERS = set(registry().names("solver"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with photo.png, 3 x 12 x 16: a smooth picture."""
    monkeypatch.chdir(tmp_path)
    rows, columns = torch.linspace(0, 3, 12)[:, None], torch.linspace(0, 3, 16)
    write_image("photo.png", torch.stack([0.5 + 0.4 * (k + rows).sin() * columns.cos() for k in range(3)]))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


RESTORE = ("restore", "photo.png", "--operator", "gaussian-blur", "--solver", "adam-tv", "--prior", "tv")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["restore", "--help"], ["list", "solver"], ["plugins", "list"], ["bench", "--help"]]
)
def test_help_and_lists_import_no_torch(arguments):
    code = f"import sys\nfrom invsolve.cli import main\ntry: main({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
    code += "heavy = {'torch', 'deepinv', 'numpy', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)\nassert not heavy, heavy\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_names_the_commands_of_plugins_too():
    shown = call("--help").output
    assert re.search(r"^  train +Train a prior", shown, re.M)
    assert re.search(r"^  weights +List, verify", shown, re.M)


def test_list_solvers():
    done = call("list", "solver", "--json")
    assert done.exit_code == 0
    assert {one["name"] for one in json.loads(done.output)} >= SOLVERS
    assert call("list", "solvers", "--json").output == done.output
    plain = call("list", "solver").output
    assert all(name in plain for name in SOLVERS)


def test_list_without_a_kind_lists_everything_that_is_listed():
    listed = {(one["kind"], one["name"]) for one in json.loads(call("list", "--json").output)}
    assert listed == {key for key, entry in registry().entries.items() if entry.listed}
    assert ("solver", "deepinv-dps") not in listed
    assert ("solver", "dps") in listed


def test_plugins_list():
    records = json.loads(call("plugins", "list", "--json").output)
    assert [one["name"] for one in records][:6] == ["core", "operators", "deepinv", "weights", "priors", "benchmarks"]
    assert sum(one["entries"] for one in records) == len(registry().entries)
    assert call("plugins", "list").exit_code == 0


@pytest.mark.parametrize(("kind", "name"), [("solver", "adam-tv"), ("operator", "gaussian-blur"), ("prior", "tv"), ("noise", "gaussian")])
def test_info(kind, name):
    done = call("info", kind, name, "--json")
    assert done.exit_code == 0
    facts = json.loads(done.output)
    assert (facts["kind"], facts["name"]) == (kind, name)
    assert facts["description"]
    assert "Args:" not in facts["description"]
    assert all(one["text"] for one in facts["parameters"]), facts["parameters"]
    shown = call("info", kind, name).output
    assert all(one["signature"] in shown for one in facts["parameters"])


def test_info_finds_the_kind_of_a_name_that_only_one_has():
    assert call("info", "diffpir", "--json").output == call("info", "solver", "diffpir", "--json").output
    assert "give the name of a solver, too" in call("info", "solver").output
    assert "bicubic is of the kinds operator, solver" in call("info", "bicubic").output
    assert "did you mean diffpir" in call("info", "difpir").output


def test_which_names_operators_that_help_as_they_are_typed():
    shown = call("which", "--operator", "padded-blur", "--set", "operator.kernel=[[1]]").output
    assert "krylov-svd(H, rank=...) in place of H gives what" in shown
    assert "KrylovSVD" not in shown


def test_info_says_what_a_solver_costs_and_how_far_it_may_be_from_the_posterior():
    shown = call("info", "solver", "diffpir").output
    assert "cost: 30 steps unless said" in shown
    assert "the mean at most 0.75 posterior standard deviations off, the covariance at most 60 % off" in shown
    assert "the total variance 0.4 to 0.65 times the posterior's" in shown
    assert "no bound anywhere else" in shown
    assert "gradients go through the network" in call("info", "solver", "dps").output
    assert "  cost:" not in call("info", "solver", "warm-start").output  # it has no steps of its own


def test_info_states_needs_and_abilities():
    needs = json.loads(call("info", "solver", "ddrm", "--json").output)["needs"]
    assert (needs["operator"], needs["prior"]) == ("svd", "Denoiser")
    assert "none" in json.loads(call("info", "solver", "ddim", "--json").output)["needs"]["operator"]
    assert "svd" in json.loads(call("info", "operator", "identity", "--json").output)["can"]["capabilities"]
    assert json.loads(call("info", "prior", "gaussian", "--json").output)["can"]["sigma_range"] == "(0.002, 80.0)"


def test_restore_simulated(here):
    done = call(*RESTORE, "--simulate", "--set", "solver.steps=20", "--out", "r.png", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.output)
    assert facts["image"] == [1, 3, 12, 16]
    assert (facts["status"], facts["steps"], facts["nfe"], facts["seed"]) == ("finished", 20, 0, 0)
    assert facts["out"] == ["r.png"]
    truth, _ = read_image("photo.png")
    result, _ = read_image("r.png")
    # The file is rounded to 8 bits: each pixel moves by at most 1/510, the root of the mean square by no more.
    of_file = float((result.double() - truth).square().mean().sqrt())
    assert abs(10 ** (-facts["psnr"][0] / 20) - of_file) <= 1 / 510 + 1e-6
    assert 0.3 < facts["residual"][0] < 3
    plain = call(*RESTORE, "--simulate", "--set", "solver.steps=20").output
    assert f"{facts['psnr'][0]:.4g}" in plain


def test_restore_takes_the_image_as_the_measurement(here):
    done = call(*RESTORE, "--set", "solver.steps=5", "--noise", "0.02", "--out", "r.npy", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["psnr"] is None
    assert read_tensor("r.npy").shape == (3, 12, 16)
    again = call(*RESTORE, "--set", "solver.steps=5", "--noise", "0.02", "--out", "s.npy")
    assert again.exit_code == 0
    assert torch.equal(read_tensor("r.npy"), read_tensor("s.npy"))


def test_seed_changes_the_simulated_noise_and_zero_is_a_seed(here):
    def psnr(*seed):
        return json.loads(call(*RESTORE, "--simulate", "--set", "solver.steps=3", "--json", *seed).output)["psnr"]

    assert psnr() == psnr("--seed", 0) != psnr("--seed", 1)


def test_samples_and_folder(here):
    arguments = ["--operator", "mask", "--solver", "ddrm", "--prior", "gaussian", "--set", "solver.steps=3", "--simulate"]
    done = call("restore", "photo.png", *arguments, "--samples", 2, "--out", "saved", "--json")
    assert done.exit_code == 0, done.output
    assert Solution.load("saved").x.shape == (2, 1, 3, 12, 16)


PROBLEM = """
data = { image = "../photo.png", simulate = true }
operator = [{ name = "block-mean", factor = 2 }, { name = "mask", keep = 0.5 }]
noise = { sigma = 0.02 }
prior = { name = "tv" }
solver = { name = "adam-tv", steps = 4 }
run = { seed = 3, out = "in-file.npy" }
"""


def test_run(here):
    (here / "sub").mkdir()
    (here / "sub" / "problem.toml").write_text(PROBLEM)
    done = call("run", "sub/problem.toml", "solver.steps=6", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["steps"] == 6
    assert json.loads(done.output)["seed"] == 3
    assert (here / "sub" / "in-file.npy").is_file()
    done = call("run", "sub/problem.toml", "--seed", 0, "--device", "cpu", "--out", "here.npy", "--json")
    assert json.loads(done.output)["seed"] == 0
    assert (here / "here.npy").is_file()


def test_run_unconditional_writes_one_file_an_item(here):
    (here / "p.toml").write_text(
        'data = { shape = [1, 4, 4], batch = 2 }\nprior = { name = "gaussian" }\nsolver = { name = "ddim", steps = 3 }\n'
    )
    done = call("run", "p.toml", "--out", "x.png", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["residual"] is None
    assert sorted(path.name for path in here.glob("x*")) == ["x_item0.png", "x_item1.png"]


def test_a_saved_problem_runs(here):
    setup = call("restore", "photo.png", "--operator", "identity", "--solver", "hqs", "--prior", "tv", "--set", "solver.steps=2")
    assert setup.exit_code == 0
    from invsolve import GaussianNoise

    operator = registry().build("operator", "gaussian-blur", in_shape=(1, 6, 6), sigma=1.0)
    Problem.simulate(operator, torch.rand(2, 1, 6, 6), GaussianNoise(0.1), generator=0).save("saved")
    (here / "p.toml").write_text('data = { problem = "saved" }\nprior = { name = "tv" }\nsolver = { name = "adam-tv", steps = 2 }\n')
    done = call("run", "p.toml", "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output)["residual"]) == 2


USAGE = {
    "no such command": ["lst"],
    "no such kind": ["list", "operater"],
    "no such name": ["info", "solver", "dsp"],
    "no such file": ["run", "gone.toml"],
    "an option that does not exist": ["list", "--jsn"],
    "a missing option": ["restore", "photo.png", "--operator", "mask", "--solver", "dps"],
    "an override that is none": ["restore", "photo.png", "--operator", "mask", "--solver", "dps", "--prior", "tv", "--set", "steps"],
    "an unfit prior": ["restore", "photo.png", "--operator", "mask", "--solver", "dps", "--prior", "tv"],
    "an unknown argument": [*RESTORE, "--set", "operator.sigmo=1"],
    "a bad value": [*RESTORE, "--set", "operator.sigma=-1"],
    "negative noise": [*RESTORE, "--noise", "-1"],
    "a device that is not there": [*RESTORE, "--device", "abacus"],
    "a suffix that cannot be written": [*RESTORE, "--set", "solver.steps=1", "--out", "r.bmp"],
    "check of a suite": ["check", "suite", "quick"],
    "check of nothing": ["check"],
    "check of one and all": ["check", "operator", "mask", "--all"],
    "no such suite": ["bench", "run", "quik"],
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_use_is_one_message_and_exit_code_2(name, here):
    done = call(*USAGE[name])
    assert done.exit_code == 2, done.output
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_messages_suggest_near_names(here):
    assert "did you mean operator" in call("list", "operater").stderr
    assert "did you mean diffpir" in call("info", "solver", "diffpri").stderr
    assert "did you mean sigma" in call(*RESTORE, "--set", "operator.sigmo=1").stderr
    unfit = call("restore", "photo.png", "--operator", "mask", "--solver", "dps", "--prior", "tv").stderr
    assert "prior tv is not a denoiser" in unfit
    assert "adam-tv" in unfit


@pytest.mark.parametrize(
    ("error", "code"), [(DivergedError("step 3"), 1), (PluginError("needs pip"), 3), (MemoryError(), 3), (RuntimeError("a bug"), 1)]
)
def test_exit_codes_of_failures(error, code, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr(Entry, "load", fail)
    done = call("info", "solver", "dps")
    assert done.exit_code == code
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert "Traceback" in call("--debug", "info", "solver", "dps").stderr


def test_check_passes_and_fails(monkeypatch):
    done = call("check", "operator", "identity")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(lines) - 1} passed, 0 failed"
    assert all(line.startswith("PASS  operator identity  ") for line in lines[:-1])

    from invsolve_operators import Identity

    monkeypatch.setattr(Identity, "forward", lambda self, x: x - x.mean())  # couples the items of a batch
    done = call("check", "operator", "identity")
    assert done.exit_code == 1
    assert "FAIL  operator identity  " in done.stdout
    assert not done.stdout.rstrip().endswith(" 0 failed")


def test_check_all_goes_on_after_an_entry_that_cannot_be_loaded(monkeypatch):
    from invsolve.plugins import Registry

    known = Registry([])
    known.add("operator", "broken", "invsolve_nowhere:Thing")
    known.add("operator", "identity", "invsolve_operators:Identity")
    monkeypatch.setattr("invsolve.plugins.registry", lambda: known)
    done = call("check", "operators", "--all")
    assert done.exit_code == 1
    assert "FAIL  operator broken  examples  PluginError" in done.stdout
    assert "PASS  operator identity" in done.stdout
    assert done.stdout.rstrip().endswith(" 1 failed")


def test_bench_list():
    listed = json.loads(call("bench", "list", "--json").output)
    assert "quick" in [one["name"] for one in listed]
    assert "quick" in call("bench", "list").output


SUITE = """
data = { name = "synthetic", images = 1, shape = [1, 12, 16] }
noise = { sigma = 0.1 }
operator = [{ name = "identity" }]
metrics = ["psnr"]
[[solver]]
name = "adam-tv"
steps = 2
prior = { name = "tv" }
[[solver]]
name = "dps"
steps = 2
prior = { name = "tv" }
"""


def test_bench_run_and_report(here):
    (here / "tiny.toml").write_text(SUITE)
    done = call("bench", "run", "tiny.toml", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "adam-tv" in done.stdout
    assert "not a Denoiser" in done.stdout  # the pair that cannot work says why
    report = here / "out" / "report.html"
    assert report.is_file()
    report.unlink()
    done = call("bench", "report", "out")
    assert done.exit_code == 0, done.output
    assert report.is_file()
    assert call("bench", "report", ".").exit_code == 2


def test_check_takes_a_device_for_operators():
    done = call("check", "operator", "identity", "--device", "cpu")
    assert done.exit_code == 0, done.output
    wrong = call("check", "operator", "identity", "--device", "nonsense")
    assert wrong.exit_code == 2
    assert "nonsense" in wrong.output
    elsewhere = call("check", "solver", "ddim", "--device", "meta")
    assert elsewhere.exit_code == 2
    assert "operators" in elsewhere.output
