"""A suite as a benchmark of benchopt: the folder that is written, the same measurements and metrics, and that benchopt takes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_cases import GAUSSIAN, TV, tiny
from click.testing import CliRunner

from invsolve.bench import run
from invsolve.bench.benchopt import export, opened
from invsolve.cli import main
from invsolve.errors import InputError


def small(**changes):
    solvers = [{"name": "ddrm", "steps": 3, "prior": GAUSSIAN}, {"name": "dps", "label": "dps of TV", "prior": TV}]
    operators = [{"name": "box-mask", "label": "hole", "box": 4}, {"name": "gaussian-blur", "sigma": 1.0}]
    values = {"data": {"shape": [3, 8, 8], "images": 2}, "operator": operators, "solver": solvers, "metrics": ["psnr", "residual"]}
    return tiny(**{**values, **changes})


def test_the_cells_are_those_of_a_run(tmp_path):
    """The same y, answer and metrics, by the picture and the seed; a pair that does not fit is skipped with its reason."""
    suite = small(seeds=2)
    rows = run(suite, out=tmp_path / "run", progress=False)
    cases = opened(export(suite, tmp_path / "made") / "objective.py")
    for row in rows:
        place = {"operator": row["operator"], "picture": row["image"], "seed": row["seed"]}
        gaps = cases.gaps(row["solver"], **place)
        assert gaps == row["reason"]
        if not gaps:
            found = cases.scores(**cases.result(cases.ready(row["solver"], **place)()), **place)
            assert {name: found[name] for name in ("psnr", "residual")} == pytest.approx(row["metrics"])
            assert (found["value"], found["nfe"]) == (pytest.approx(-row["metrics"]["psnr"]), row["nfe"])
    grey = cases.blank("hole", "drawing-0", 0)
    assert np.all(grey == 0.5)
    assert cases.scores(grey, 0, 0, "hole", "drawing-0", 0)["value"] < 0


def test_what_is_written(tmp_path):
    (tmp_path / "made").mkdir()
    made = export(small(), tmp_path / "made")
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {
        "objective.py",
        "suite.json",
        "datasets/hole.py",
        "datasets/gaussian_blur.py",
        "solvers/ddrm.py",
        "solvers/dps_of_tv.py",
    }
    (made / "solvers" / "own.py").write_text("# mine\n")
    export(small(solver=[{"name": "ddrm", "label": "a/b [c=1]", "prior": GAUSSIAN}]), made)
    assert {path.name for path in (made / "solvers").iterdir()} == {"own.py", "a_b_c_1.py"}
    assert "name = 'a b  c 1'" in (made / "solvers" / "a_b_c_1.py").read_text()
    with pytest.raises(InputError, match="would take these for one"):
        export(small(solver=[{"name": "ddrm", "label": label, "prior": GAUSSIAN} for label in ("a b", "a-b")]), made)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files"):
        export(small(), tmp_path / "other")
    with pytest.raises(InputError, match=r"no suite\.json beside"):
        opened(tmp_path)


def test_paths_of_the_suite_stay_right(tmp_path):
    from invsolve.io.images import write_image

    write_image(tmp_path / "mask.npy", (torch.arange(8) % 2).expand(1, 8, 8).float())
    text = 'data = { shape = [3, 8, 8], images = 1 }\nnoise = { sigma = 0.1 }\noperator = { name = "file-mask", path = "mask.npy" }\n'
    (tmp_path / "s.toml").write_text(text + '[[solver]]\nname = "ddrm"\nprior = "gaussian"\n')
    done = CliRunner().invoke(main, ["bench", "export", "benchopt", str(tmp_path / "made"), "--suite", str(tmp_path / "s.toml")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "made" / "suite.json").read_text())["operator"][0]["path"] == str(tmp_path / "mask.npy")


@pytest.mark.slow
def test_benchopt_takes_it(tmp_path):
    """`benchopt run` and `benchopt test`, each a process that imports everything; pytest-benchmark's fixture has the
    name of benchopt's, and installing is conda's."""
    pytest.importorskip("benchopt", reason="benchopt is not installed: pip install 'benchopt>=1.10'")
    made = export(
        small(data={"shape": [3, 8, 8], "images": 1}, solver=[{"name": "ddrm", "steps": 3, "prior": GAUSSIAN}]), tmp_path / "made"
    )
    tool = str(Path(sys.executable).with_name("benchopt"))
    commands = (
        [tool, "run", str(made), "--no-plot", "-r", "1", "-n", "1"],
        [tool, "test", str(made), "--", "--skip-install", "-p", "no:benchmark"],
    )
    where = os.pathsep.join([str(Path(tool).parent), os.environ["PATH"]])  # benchopt calls the pytest that it finds
    for command in commands:
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=500, env={**os.environ, "PATH": where}, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list((made / "outputs").glob("*"))
