"""A relative path in a problem file or a suite starts from the folder of that file, whatever argument it is; weights are a prior there."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import FileMask
from places import ROOT

from invsolve import GaussianNoise, InputError, InvsolveError, Problem, load_prior
from invsolve.bench import Suite, run
from invsolve.bench.plan import Workshop
from invsolve.cli import main
from invsolve.cli.setup import set_up
from invsolve.data import Here
from invsolve.io.images import write_image
from invsolve.plugins.typed import fitted
from invsolve.recipe import build
from invsolve.recipe.config import load_config
from invsolve.recipe.tables import part_of

WEIGHTS = ROOT / "plugins" / "invsolve_priors" / "weights"
PATHS = {
    "mask": '{ name = "file-mask", path = "known.png" }',
    "blur": '{ name = "file-blur", path = "kernel.npy" }',
    "inside": '{ name = "iterative-prox", operator = { name = "padded-file-blur", path = "kernel.npy", boundary = "reflect" } }',
    "chain": '{ chain = [{ name = "file-blur", path = "kernel.npy" }, { name = "file-mask", path = "known.png" }] }',
}


def fill(folder, seed):
    """A mask, a kernel and a picture of the same names as everywhere, other numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(seed)
    write_image(folder / "known.png", torch.from_numpy((draws.random((1, 12, 16)) < 0.5).astype(np.float32)))
    np.save(folder / "kernel.npy", draws.random((3, 3)))
    write_image(folder / "photo.npy", torch.from_numpy(draws.random((3, 12, 16)).astype(np.float32)))
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder of the file, and the current one, which holds others by the same names."""
    monkeypatch.chdir(fill(tmp_path / "here", 1))
    return fill(tmp_path / "there", 2)


def written(folder, operator):
    tail = '[noise]\nsigma = 0.05\n[prior]\nname = "tv"\n[solver]\nname = "adam-tv"\nsteps = 2\n[run]\nout = "out.npy"\n'
    (folder / "problem.toml").write_text(f'operator = {operator}\n[data]\nimage = "photo.npy"\nsimulate = true\n{tail}')
    solver = '[[solver]]\nname = "adam-tv"\nsteps = 2\nprior = { name = "tv" }\n'
    head = 'data = { shape = [3, 12, 16], images = 1 }\nnoise = { sigma = 0.05 }\nmetrics = ["psnr"]\n'
    (folder / "suite.toml").write_text(f"{head}operator = {operator}\n{solver}")


def direct(name, folder):
    """The operator with its paths in full."""
    text = PATHS[name].replace('path = "', f'path = "{folder}/')
    table = load_table(text)
    return build("operator", part_of(table, "operator"), Here(), in_shape=(3, 12, 16))


def load_table(text):
    return tomllib.loads(f"operator = {text}")["operator"]


@pytest.mark.parametrize("name", PATHS)
def test_paths_start_from_the_file_and_not_from_the_current_folder(name, places):
    written(places, PATHS[name])
    x = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    wanted, other = (direct(name, folder)(x) for folder in (places, places.parent / "here"))
    assert not torch.equal(wanted, other)
    assert torch.equal(set_up(load_config(places / "problem.toml")).problem.operator(x), wanted)
    suite = Suite.load(places / "suite.toml")
    shop = Workshop(suite, torch.device("cpu"))
    assert torch.equal(shop.operator(suite.operator[0], shop.pictures()[0])(x), wanted)


@pytest.mark.parametrize("name", PATHS)
def test_a_saved_configuration_and_a_saved_problem_hold_their_paths_in_full(name, places, tmp_path):
    """What the shell is given starts from here; the file that it writes lies elsewhere and says the same."""
    head = ["restore", "photo.npy", "--operator", PATHS[name], "--simulate", "--solver", "adam-tv", "--prior", "tv", "--json"]
    words = [*head, "--set", "solver.steps=2", "--out", str(tmp_path / "a.npy"), "--save-config", str(tmp_path / "far" / "p.toml")]
    (tmp_path / "far").mkdir()
    assert CliRunner().invoke(main, words).exit_code == 0
    again = CliRunner().invoke(main, ["run", str(tmp_path / "far" / "p.toml"), "--out", str(tmp_path / "b.npy")])
    assert again.exit_code == 0, again.output
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    written(places, PATHS[name])
    problem = set_up(load_config(places / "problem.toml")).problem
    problem.save(tmp_path / "problem")
    read = Problem.load(tmp_path / "problem").operator
    assert torch.equal(read(problem.image + 0.3), problem.operator(problem.image + 0.3))


def test_a_suite_that_is_moved_with_its_files_goes_on(places, tmp_path):
    """Where a file lies is no part of a result, what is in it is."""
    written(places, PATHS["chain"])
    (first,) = run(str(places / "suite.toml"), out=tmp_path / "run", progress=False)
    shutil.copytree(places, tmp_path / "moved")
    (second,) = run(str(tmp_path / "moved" / "suite.toml"), out=tmp_path / "run", progress=False)
    assert first["status"] == "finished"
    assert second["key"] == first["key"]
    np.save(tmp_path / "moved" / "kernel.npy", np.ones((3, 3)))
    (third,) = run(str(tmp_path / "moved" / "suite.toml"), out=tmp_path / "run", progress=False)
    assert third["key"] != first["key"]


@pytest.mark.parametrize("name", ["known.png", "kernel.npy"])
def test_a_file_that_lies_here_and_not_there_is_missing(name, places):
    operator = "file-mask" if name == "known.png" else "file-blur"
    written(places, f'{{ name = "{operator}", path = "{name}" }}')
    (places / name).unlink()
    with pytest.raises(InvsolveError, match="there"):
        set_up(load_config(places / "problem.toml"))


def test_text_or_a_path_is_a_path_and_other_text_is_text(tmp_path):
    def target(either: str | Path | None, text: str | None) -> None:
        del either, text

    assert fitted("a.png", "either", "x", target, Here(tmp_path)) == tmp_path / "a.png"
    assert fitted("a.png", "text", "x", target, Here(tmp_path)) == "a.png"
    assert fitted(None, "either", "x", target, Here(tmp_path)) is None
    with pytest.raises(InvsolveError, match="either must be a path"):
        fitted(3, "either", "x", target, Here(tmp_path))


# --- weights ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with weights and their card, and a problem file and a suite that name them; the current folder is another."""
    folder = tmp_path / "with weights"
    (folder / "nets").mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(WEIGHTS / f"mnist{suffix}", folder / "nets" / f"mine{suffix}")
    write_image(folder / "digit.npy", torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)))
    solver = 'name = "ddim"\nsteps = 3\n'
    (folder / "problem.toml").write_text(
        f'prior = {{ file = "nets/mine.safetensors", precision = "float64" }}\n[data]\nshape = [1, 32, 32]\n[solver]\n{solver}'
    )
    (folder / "suite.toml").write_text(
        'data = { shape = [1, 32, 32], images = 1 }\nnoise = { sigma = 0.1 }\nmetrics = ["psnr"]\noperator = { name = "identity" }\n'
        '[[solver]]\nname = "dps"\nsteps = 3\nprior = { file = "nets/mine.safetensors" }\n'
        '[[solver]]\nname = "dps"\nlabel = "by name"\nsteps = 3\nprior = "mnist"\n'
        '[[solver]]\nname = "dps"\nlabel = "for one"\nsteps = 3\nprior = { name = "gaussian" }\n'
        'for = { identity = { prior = "nets/mine.safetensors" } }\n'
    )
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_problem_file_names_weights(weights):
    setup = set_up(load_config(weights / "problem.toml"))
    wanted = load_prior(str(weights / "nets" / "mine.safetensors"), precision="float64")
    x = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(setup.prior(x, 0.3), wanted(x, 0.3))
    moved = load_config(weights / "problem.toml").toml()
    assert f'path = "{weights}/nets/mine.safetensors"' in moved


def test_a_suite_names_weights_and_its_rows_depend_on_them(weights, tmp_path):
    """The same network by path, by its name and for one operator only: the same images; another file: another row."""
    rows = run(str(weights / "suite.toml"), out=tmp_path / "run", progress=False)
    assert {row["status"] for row in rows} == {"finished"}, [row["reason"] for row in rows]
    assert len({row["x_sha256"] for row in rows}) == 1
    for suffix in (".safetensors", ".json"):
        shutil.copy(WEIGHTS / f"dncnn-gray{suffix}", weights / "nets" / f"mine{suffix}")
    again = run(str(weights / "suite.toml"), out=tmp_path / "run", progress=False)
    assert [one["key"] == two["key"] for one, two in zip(rows, again, strict=True)] == [False, True, False]


def test_the_shell_takes_weights(weights):
    path = str(weights / "nets" / "mine.safetensors")
    words = ["restore", str(weights / "digit.npy"), "--operator", "identity", "--solver", "dps", "--set", "solver.steps=2", "--json"]
    done = CliRunner().invoke(main, [*words, "--prior", path, "--out", "a.npy"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, [*words, "--prior", "mnist", "--out", "b.npy"]).exit_code == 0
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
    fits = json.loads(
        CliRunner().invoke(main, ["which", "--operator", "identity", "--shape", "1", "32", "32", "--prior", path, "--json"]).output
    )
    assert {one["solver"] for one in fits if one["fits"]} > {"dps", "ddrm"}


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ('{ file = "nets/none.safetensors" }', "none.safetensors"),
        ("{ file = 3 }", "path must be a path"),
        ('{ file = "problem.toml" }', "problem.toml"),
        ('{ file = "nets/mine.safetensors", precison = "float64" }', "precision"),
        ('{ file = "nets/mine.safetensors", name = "tv" }', "file"),
    ],
)
def test_what_is_wrong_with_weights_is_said(weights, prior, words):
    text = (weights / "problem.toml").read_text().splitlines()
    (weights / "problem.toml").write_text("\n".join([f"prior = {prior}", *text[1:]]))
    with pytest.raises(InvsolveError, match=words):
        set_up(load_config(weights / "problem.toml"))


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ('{ file = "nets/none.safetensors" }', "none.safetensors"),
        ('"nets/none.safetensors"', "none.safetensors"),
        ('{ file = "suite.toml" }', "suite.toml"),
        ('{ file = "nets/mine.safetensors", precison = "float64" }', "did you mean precision"),
        ('{ name = "natural", precision = "float12" }', "float12"),
        ('{ name = "gaussian", std = -1.0 }', "std"),
    ],
)
def test_what_is_wrong_with_a_prior_is_refused_before_a_suite_runs(weights, tmp_path, monkeypatch, prior, words):
    """For a solver, and for one operator only; the other cells are not computed, and nothing is written."""
    text = (weights / "suite.toml").read_text()
    monkeypatch.setattr("invsolve.solver.Solver.solve", lambda *given, **named: pytest.fail("it went to work"))
    for right, where in (
        ('"mnist"', "solver 'by name', prior: "),
        ('"nets/mine.safetensors" } }', "solver 'for one' for 'identity', prior: "),
    ):
        assert text.count(right) == 1
        (weights / "suite.toml").write_text(text.replace(right, prior + " } }" * right.endswith(" } }")))
        with pytest.raises(InputError, match=rf"(?s)cannot be run:\n  - {where}.*{words}.*\(line \d+\)$"):
            run(str(weights / "suite.toml"), out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()


def test_arguments_that_are_paths_are_kept_in_full_by_files(tmp_path, monkeypatch):
    """A program's relative path starts from where it runs, and a saved problem is read from anywhere."""
    monkeypatch.chdir(fill(tmp_path / "here", 1))
    operator = FileMask((3, 12, 16), Path("known.png"))
    Problem(operator, torch.zeros(1, 3, 12, 16), GaussianNoise(0.1)).save("problem")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(Problem.load("here/problem").operator.mask, operator.mask)
