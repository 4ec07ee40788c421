"""One language: what a suite says, a problem file and the shell say alike; files that run are printed and saved; every key has its line."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from language_cases import BLUR, CPU, HOLES, MEAN, config, named_folder, suite  # noqa: F401 (the fixture `folder`)

from invsolve import GaussianNoise, InvsolveError, Problem, load_prior
from invsolve.bench import Suite, run, write_report
from invsolve.bench.plan import Workshop, check
from invsolve.bench.suite import EXAMPLE as SUITE
from invsolve.cli import main
from invsolve.cli.setup import set_up
from invsolve.data import tensor_sha256
from invsolve.errors import ArgumentError, InputError
from invsolve.io.images import write_image
from invsolve.plugins import registry
from invsolve.recipe.config import EXAMPLE, Config, load_config
from invsolve.recipe.tables import Part, keys_at, line_of, read_toml, to_toml
from invsolve.solvers import HQS
from invsolve.training.config import TrainConfig

COMPOSITIONS = {
    "chain": {"chain": [BLUR, MEAN, HOLES]},
    "stack": {"stack": [BLUR, {"chain": [BLUR, MEAN]}]},
    "file": {"name": "mask", "mask": {"file": "mask.npy"}},
    "inside": {"name": "iterative-prox", "operator": {"chain": [BLUR, {"name": "mask", "mask": {"file": "mask.npy"}}]}},
    "own shape": {"name": "mask", "keep": 0.5, "in_shape": [3, 12, 16]},
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_same_table_is_the_same_operator_in_a_suite_and_in_a_problem_file(name, folder):
    chosen = suite([COMPOSITIONS[name]])
    chosen._folder = folder
    check(chosen)
    shop = Workshop(chosen, CPU)
    (picture,) = shop.pictures()
    mine = shop.operator(chosen.operator[0], picture)
    other = set_up(config(COMPOSITIONS[name], folder)).problem.operator
    x = picture.image[None]
    a, b = mine(x), other(x)
    assert all(map(torch.equal, a, b)) if isinstance(a, tuple) else torch.equal(a, b)
    assert mine.capabilities == other.capabilities


FAULTS = {
    "text for a number": ({"name": "mask", "keep": "half"}, r"keep must be Tensor or float; given the text 'half'"),
    "fraction": ({**MEAN, "factor": 2.5}, "factor must be int; given 2.5"),
    "unknown inside": ({"chain": [BLUR, {"name": "maks"}]}, "did you mean mask"),
    "unknown key inside": ({"stack": [{**HOLES, "kep": 1.0}]}, "did you mean keep"),
    "no file": ({"name": "mask", "mask": {"file": "gone.npy"}}, "gone.npy"),
    "a file that is a number": ({"name": "mask", "mask": {"file": 3}}, "takes the name of a file; given 3"),
    "not finite": ({**BLUR, "sigma": float("nan")}, "finite; given nan"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_fault_is_refused_in_the_same_words(name, folder):
    operator, message = FAULTS[name]
    said = []
    for make in (lambda: check(suite([operator])), lambda: set_up(config(operator, folder))):
        with pytest.raises(InvsolveError, match=message) as caught:
            make()
        said.append(re.search(message, str(caught.value))[0])
    assert said[0] == said[1]


def test_two_tables_are_alternatives_in_a_suite_and_a_composition_in_a_problem_file(folder):
    assert [one.label for one in suite([BLUR, MEAN]).operator] == ["gaussian-blur", "block-mean"]
    assert set_up(config([BLUR, MEAN], folder)).problem.operator.out_shape == (3, 6, 8)
    assert suite(BLUR).operator[0].name == "gaussian-blur"  # one table, as a problem file has it


def test_an_operator_has_a_noise_of_its_own(tmp_path):
    own = suite([{**HOLES, "noise": {"name": "poisson", "gain": 0.1}}, {**BLUR, "noise": {"sigma": 0.2}}, MEAN])
    shop = Workshop(own, CPU)
    assert [type(shop.noise(entry)).__name__ for entry in own.operator] == ["PoissonNoise", "GaussianNoise", "GaussianNoise"]
    assert [float(shop.noise(entry).sigma) for entry in own.operator[1:]] == pytest.approx([0.2, 0.05])
    (picture,) = shop.pictures()
    keys = [shop.inputs(entry, picture, 0)["noise"]["name"] for entry in own.operator]
    assert keys == ["poisson", "gaussian", "gaussian"]
    rows = run(own, out=tmp_path, progress=False)
    assert [row["status"] for row in rows] == ["skipped", "finished", "finished"]  # hqs takes Gaussian noise
    alone = suite([{**HOLES, "noise": {"sigma": 0.1}}], noise=None)
    assert float(Workshop(alone, CPU).noise(alone.operator[0]).sigma) == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"noise is missing.*block-mean"):
        suite([{**HOLES, "noise": {"sigma": 0.1}}, MEAN], noise=None)
    with pytest.raises(InputError, match=r"operator 'mask', noise: .*sigma must be .*float"):
        check(suite([{**HOLES, "noise": {"sigma": "low"}}]))


def test_a_saved_problem_is_an_entry(tmp_path):
    """Its operator and its noise measure the suite's pictures; other files in the folder are other cells."""
    mask = torch.zeros(1, 12, 16)
    mask[..., ::3] = 1
    operator = registry().build("operator", "mask", in_shape=(3, 12, 16), mask=mask)
    Problem.simulate(operator, torch.full((1, 3, 12, 16), 0.5), GaussianNoise(0.2), generator=0).save(tmp_path / "scanner")
    chosen = suite([{"problem": "scanner", "label": "as measured"}], noise=None)
    chosen._folder = tmp_path
    check(chosen)
    shop = Workshop(chosen, CPU)
    (picture,) = shop.pictures()
    assert torch.equal(shop.operator(chosen.operator[0], picture)(picture.image[None]), operator(picture.image[None]))
    assert float(shop.noise(chosen.operator[0]).sigma) == pytest.approx(0.2)
    (row,) = run(chosen, out=tmp_path / "out", progress=False)
    assert (row["status"], row["operator"]) == ("finished", "as measured")
    before = shop.inputs(chosen.operator[0], picture, 0)
    Problem.simulate(operator, torch.full((1, 3, 12, 16), 0.5), GaussianNoise(0.3), generator=0).save(tmp_path / "scanner")
    assert shop.inputs(chosen.operator[0], picture, 0) != before
    with pytest.raises(InputError, match="brings its own operator"):
        suite([{"problem": "scanner", "keep": 0.5}])
    larger = suite([{"problem": "scanner"}], noise=None, data={"shape": [3, 16, 16], "images": 1})
    larger._folder = tmp_path
    with pytest.raises(InputError, match=r"takes images \(3, 12, 16\).*crop the data"):
        Workshop(larger, CPU).operator(larger.operator[0], Workshop(larger, CPU).pictures()[0])


def saved_measurement(folder, items):
    x = torch.rand(items, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    operator = registry().build("operator", "mask", in_shape=(3, 12, 16), keep=0.5)
    problem = Problem.simulate(operator, x, GaussianNoise(0.1), generator=5)
    problem.save(folder / "scanner")
    write_image(folder / "truth.npy", x if items > 1 else x[0])
    return problem, x


@pytest.mark.parametrize("items", [1, 2])
def test_with_its_truth_a_saved_problem_is_solved_as_it_was_measured(items, tmp_path):
    """The rows are what Python gives for the saved y, one a picture; no data set is needed, and one beside it does not take part."""
    problem, x = saved_measurement(tmp_path, items)
    entry = {"problem": "scanner", "truth": "truth.npy", "label": "scanner"}
    solver = {"name": "hqs", "steps": 2, "prior": {"name": "tv", "weight": 3.0}}
    alone = suite([entry], noise=None, data=None, solver=[solver])
    beside = suite([entry, HOLES], solver=[solver])
    expected = HQS(steps=2).solve(problem, load_prior("tv", weight=3.0)).x
    for name, chosen in (("alone", alone), ("beside", beside)):
        chosen._folder = tmp_path
        check(chosen)
        rows = run(chosen, out=tmp_path / name, progress=False, batch=2)
        mine = [row for row in rows if row["operator"] == "scanner"]
        assert [row["status"] for row in mine] == ["finished"] * items
        assert [row["image"] for row in mine] == (["truth"] if items == 1 else ["truth-0", "truth-1"])
        assert [row["x_sha256"] for row in mine] == [tensor_sha256(one) for one in expected]
        psnr = [-10 * float((one.clamp(0, 1) - two).square().mean().log10()) for one, two in zip(expected, x, strict=True)]
        assert [row["metrics"]["psnr"] for row in mine] == pytest.approx(psnr, abs=1e-4)  # float32 means of 576 squares
        assert len(rows) == len(mine) + (name == "beside")
        assert "scanner" in write_report(tmp_path / name).read_text()


def test_a_saved_measurement_with_an_operator_for_each_item_is_refused(tmp_path):
    x = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    masks = (torch.rand(2, 1, 12, 16, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    operator = registry().build("operator", "mask", in_shape=(3, 12, 16), mask=masks)
    Problem.simulate(operator, x, GaussianNoise(0.1), generator=5).save(tmp_path / "scanner")
    write_image(tmp_path / "truth.npy", x)
    chosen = suite([{"problem": "scanner", "truth": "truth.npy"}], noise=None, data=None)
    chosen._folder = tmp_path
    with pytest.raises(InputError, match="an operator or a noise for each item; save each item on its own"):
        run(chosen, out=tmp_path / "out", progress=False)


def test_saved_measurements_that_do_not_fit_are_refused(tmp_path):
    saved_measurement(tmp_path, 2)
    write_image(tmp_path / "small.npy", torch.zeros(3, 8, 8))
    small = suite([{"problem": "scanner", "truth": "small.npy"}], noise=None, data=None)
    double = suite([{"problem": "scanner", "truth": "truth.npy"}], noise=None, data=None, dtype="float64")
    for chosen, message in ((small, r"truth has shape \(1, 3, 8, 8\), the saved"), (double, 'give the suite dtype = "float32"')):
        chosen._folder = tmp_path
        with pytest.raises(InputError, match=message):
            run(chosen, out=tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="brings its own operator"):
        suite([{"problem": "scanner", "name": "mask"}])
    with pytest.raises(InputError, match="its own noise: leave out noise"):
        suite([{"problem": "scanner", "truth": "truth.npy", "noise": {"sigma": 0.1}}])
    with pytest.raises(InputError, match="truth goes with problem"):
        suite([{**HOLES, "truth": "a.png"}])
    with pytest.raises(InputError, match="data is missing"):
        suite([{"problem": "scanner"}], noise=None, data=None)


# --- files that are printed and saved ----------------------------------------------------------------------------------------


def test_the_printed_problem_file_runs(tmp_path):
    printed = CliRunner().invoke(main, ["run", "--example"])
    assert (printed.exit_code, printed.output) == (0, EXAMPLE)
    (tmp_path / "problem.toml").write_text(printed.output)
    done = CliRunner().invoke(main, ["run", str(tmp_path / "problem.toml"), "solver.steps=3", "data.crop=[24, 24]"])
    assert done.exit_code == 0, done.output
    assert "psnr" in done.output


def test_the_printed_suite_runs(tmp_path):
    printed = CliRunner().invoke(main, ["bench", "run", "--example"])
    assert (printed.exit_code, printed.output) == (0, SUITE)
    smaller = {"32, 32": "16, 16", "steps = 40": "steps = 3", "steps = 20": "steps = 3", "box = 12": "box = 6"}
    text = 'metrics = ["psnr"]\n' + printed.output
    for old, new in smaller.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "own.toml").write_text(text)
    rows = run(tmp_path / "own.toml", out=tmp_path / "out", progress=False)
    assert [row["status"] for row in rows] == ["finished"] * 8


def test_what_restore_saves_gives_the_same_answer(folder, monkeypatch):
    monkeypatch.chdir(folder)
    line = ["restore", "photo.npy", "--operator", "mask", "--set", 'operator.mask={ file = "mask.npy" }', "--set", "solver.steps=4"]
    line += ["--set", "prior.weight=3", "--noise", "0.1", "--solver", "adam-tv", "--prior", "tv", "--seed", "3", "--simulate"]
    done = CliRunner().invoke(main, [*line, "--out", "a.npy", "--save-config", "sub/saved.toml"])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(main, ["run", "sub/saved.toml", "--out", "b.npy"])
    assert again.exit_code == 0, again.output
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
    assert load_config("sub/saved.toml").run.seed == 3
    other = CliRunner().invoke(main, ["run", "sub/saved.toml", "solver.steps=5", "--out", "c.npy"])
    assert other.exit_code == 0
    assert not np.array_equal(np.load("a.npy"), np.load("c.npy"))


def test_tables_are_written_as_they_are_read(tmp_path):
    values = {
        "title": 'a "quoted" \\ text\nwith \u00fc, \U0001f600 and \x7f',
        "n": {"a": 1, "b": 0.1, "c": -1e-300, "d": True, "e": [1, [2.5, "x"]], "f": {"g.h": 1, "": {}}, "left out": None},
        "x y": {"z": "\t"},
    }
    (tmp_path / "a.toml").write_text(to_toml(values), encoding="utf-8")
    found, _ = read_toml(tmp_path / "a.toml", "file")
    del values["n"]["left out"]
    assert found == values


# --- keys --------------------------------------------------------------------------------------------------------------------


def models_of(model):
    """Every model within a model."""
    from invsolve.recipe.tables import models

    found, waiting = [], [model]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.append(one)
            waiting += [inner for field in one.model_fields.values() for inner in models(field.annotation)]
    return found


@pytest.mark.parametrize("model", [Config, Suite, TrainConfig], ids=lambda model: model.__name__)
def test_every_key_has_a_line_in_the_reference(model):
    path = Path(__file__).resolve().parent
    docs = next(parent / "docs" / "pages.py" for parent in path.parents if (parent / "docs" / "pages.py").is_file())
    spec = importlib.util.spec_from_file_location("docs_pages", docs)
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    text = pages.keys()
    for one in models_of(model):
        for name, field in one.model_fields.items():
            assert field.description, f"{one.__name__}.{name} has no description"
            if one is not Part:
                assert f"- ``{field.alias or name}`` (" in text


def test_near_names_are_those_of_the_table():
    assert keys_at(Suite, ("solver", 0))[:2] == ["name", "label"]
    assert "for" in keys_at(Suite, ("solver", 0))
    assert keys_at(TrainConfig, ("objective", "sigmas", "uniform")) == ["kind", "low", "high"]
    assert keys_at(Config, ()) == ["data", "operator", "noise", "prior", "solver", "run"]


TEXT = """title = "x"
data = "quick-photos"
noise = { sigma = 0.05 }

operator = [
    { name = "mask" },
]

[[solver]]
name = "hqs"
prior = "tv"
[[solver]]
name = "dps"
label = 3
prior = "natural"
[solver.for."mask"]
steps = 3
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [(("title",), 1), (("operator", 0, "label"), 5), (("solver", 1, "label"), 14), (("solver", 0, "label"), 9), (("gone",), None)],
)
def test_faults_name_the_line(place, line):
    assert line_of(TEXT, place) == line


def test_the_line_stands_in_the_error(tmp_path):
    (tmp_path / "s.toml").write_text(TEXT)
    with pytest.raises(InputError, match=r"solver\.1\.label: .*given 3.*\(line 14\)"):
        Suite.load(tmp_path / "s.toml")


def test_the_line_of_an_argument_stands_in_the_error(tmp_path):
    (tmp_path / "s.toml").write_text(TEXT.replace("label = 3", 'steps = "3"').replace("steps = 3", "stps = 3"))
    with pytest.raises(InputError) as caught:
        check(Suite.load(tmp_path / "s.toml"))
    for line in (r"steps must be int; given '3' \(line 14\)", r"for 'mask': .*'stps'.*\(line 17\)"):
        assert re.search(line, str(caught.value))
    (tmp_path / "p.toml").write_text(EXAMPLE.replace("steps = 60", "steps = 6.5"))
    number = EXAMPLE.splitlines().index("steps = 60") + 1
    with pytest.raises(ArgumentError, match=rf"solver 'adam-tv': steps must be int; given 6\.5 \(line {number}\)"):
        set_up(load_config(tmp_path / "p.toml"))
    with pytest.raises(ArgumentError, match=r"given 6\.5$"):  # an override is in no line
        set_up(load_config(tmp_path / "p.toml", ["solver.steps=6.5"]))


def test_settings_for_an_operator_keep_the_solver():
    with pytest.raises(InputError, match="name stays hqs; another solver is a table of its own"):
        suite([BLUR], solver=[{"name": "hqs", "prior": "tv", "for": {"gaussian-blur": {"name": "dps"}}}])


def test_settings_for_an_operator_that_are_no_table():
    with pytest.raises(InputError, match="prior must be a name or a table; given 3"):
        suite([BLUR], solver=[{"name": "hqs", "prior": "tv", "for": {"gaussian-blur": {"prior": 3}}}])
