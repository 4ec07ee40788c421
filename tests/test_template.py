"""plugins/template is a distribution of its own: installed by pip, found by its entry point, and conforming."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "plugins" / "template"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed"),
    pytest.mark.skipif(not TEMPLATE.is_dir(), reason="the source tree is not here"),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that sees the template as pip installed it."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(TEMPLATE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--target", folder / "site", folder / "source"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INVSOLVE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def invsolve(environment, *arguments):
    return subprocess.run([sys.executable, "-m", "invsolve.cli", *arguments], capture_output=True, text=True, env=environment, check=False)


def test_it_is_not_there_before(installed):
    without = {**installed, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    if importlib.util.find_spec("invsolve_template") is not None:
        pytest.skip("invsolve-template is installed here")
    assert "flip" not in [one["name"] for one in json.loads(invsolve(without, "list", "operator", "--json").stdout)]


def test_list_finds_it(installed):
    done = invsolve(installed, "list", "operator", "--json")
    (flip,) = [one for one in json.loads(done.stdout) if one["name"] == "flip"]
    assert flip["plugin"] == "invsolve-template 0.1.0"
    plugins = json.loads(invsolve(installed, "plugins", "list", "--json").stdout)
    (template,) = [one for one in plugins if one["name"] == "template"]
    assert (template["distribution"], template["version"], template["entries"], template["error"]) == ("invsolve-template", "0.1.0", 1, "")


def test_it_conforms(installed):
    done = invsolve(installed, "check", "operator", "flip")
    assert done.returncode == 0, done.stdout + done.stderr
    passed, _, failed, _ = done.stdout.splitlines()[-1].replace(",", "").split()
    assert int(passed) >= 8  # shapes, dtype, batches, linearity, the adjoint ...
    assert failed == "0"


def test_its_own_tests_pass(installed):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(TEMPLATE), "-c", os.devnull]
    done = subprocess.run([*command, str(TEMPLATE / "tests")], capture_output=True, text=True, env=installed, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
