"""A stranger's plug-in from nothing: made, installed beside ours, tested by itself, listed, checked, and run in a suite of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_cases import run_command, run_fresh

import invsolve

NAME = "stranger"
OWN = {
    "operator": "stranger-vignette",
    "noise": "stranger-laplace",
    "prior": "stranger-ridge",
    "solver": "stranger-proximal-gradient",
    "metric": "stranger-mae",
    "dataset": "stranger-discs",
    "suite": "stranger",
}
CHECKED = {"operator": 20, "noise": 10}  # the least number of checks that pass; its own tests run those of the prior and the solver
pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")


def run(arguments, environment, cwd):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300, check=False)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """(the project's folder, the environment of a process that sees it as pip installed it)."""
    folder = tmp_path_factory.mktemp("stranger")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("INVSOLVE_", "PYTEST_"))}
    environment |= {"OMP_NUM_THREADS": "1"}
    made = run(["invsolve.cli", "plugins", "new", NAME, "--into", folder], environment, folder)
    assert made.returncode == 0, made.stdout + made.stderr
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    installed = run(["pip", "install", *options, "--target", folder / "site", folder / NAME], environment, folder)
    assert installed.returncode == 0, installed.stderr
    path = [str(folder / "site"), *filter(None, [environment.get("PYTHONPATH")])]
    return folder / NAME, {**environment, "PYTHONPATH": os.pathsep.join(path)}


def mentions():
    """Files of the installed package, and of what lies beside it in the source tree, that name the stranger's entries."""
    root = Path(invsolve.__file__).parent
    folders = [root, *(root.parent / name for name in ("operators", "plugins", "benchmarks") if (root.parent / ".git").exists())]
    files = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".pyi", ".toml", ".tmpl", ".md"))
    return [path for path in files if NAME in path.name or OWN["operator"] in path.read_text(encoding="utf-8")]


OWN_TESTS = """
import os, sys
for name in [name for name in os.environ if name.startswith(("INVSOLVE_", "PYTEST_"))]:
    del os.environ[name]
sys.path.insert(0, {site!r})
import pytest
from invsolve.testing import settings, units
if not {whole}:
    settings.part = units.part = lambda found: found[:1] + found[3::4]
more = [] if {whole} else ["--deselect", "tests/test_benchmark.py::test_suite"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *more]))
"""


def test_its_own_conformance_run_passes(stranger, pytestconfig):
    """In a plain run but for its suite, which `test_its_suite_runs_all_of_them` runs, and in a third of the settings of its solver."""
    project, _ = stranger
    done = run_fresh(OWN_TESTS.format(site=str(project.parent / "site"), whole=pytestconfig.getoption("--whole")), project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 60  # the checked kinds together
    assert "passed" in done.stdout.splitlines()[-1]


def test_list_shows_its_entries(stranger):
    project, environment = stranger
    done = run(["invsolve.cli", "list", "--json"], environment, project)
    listed = {(one["kind"], one["name"]): one["plugin"] for one in json.loads(done.stdout)}
    assert {key: listed.get(key) for key in OWN.items()} == dict.fromkeys(OWN.items(), "invsolve-stranger 0.1.0")
    without = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    assert NAME not in run(["invsolve.cli", "list"], without, project).stdout


@pytest.mark.parametrize("kind", CHECKED)
def test_check_passes(kind, stranger, tmp_path):
    project, _ = stranger
    done = run_command(["invsolve", "check", kind, OWN[kind]], tmp_path, str(project.parent / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    passed, _, failed, _ = done.stdout.splitlines()[-1].replace(",", "").split()
    assert int(passed) >= CHECKED[kind]
    assert failed == "0"


def test_its_suite_runs_all_of_them(stranger, tmp_path):
    project, _ = stranger
    done = run_command(["invsolve", "bench", "run", NAME, "--out", str(tmp_path / "out")], tmp_path, str(project.parent / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(text) for text in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 3  # operators, pictures, solvers
    assert {row["status"] for row in rows} == {"finished"}, [row["reason"] for row in rows]
    assert {(row["operator"], row["solver"]) for row in rows} >= {("vignette", "own solver, own prior")}
    assert all(row["metrics"]["psnr"] > 5 and 0 < row["metrics"][OWN["metric"]] < 0.5 for row in rows)
    assert {row["image"] for row in rows} == {"discs-0", "discs-1"}
    assert (tmp_path / "out" / "report.html").is_file()
    assert mentions() == []  # none of our files had to know
