"""bench plan: what a suite would take, before it runs; -s, -o and -d choose a part of it."""

import json
import os

import pytest
import torch
from bench_cases import GAUSSIAN, TV, tiny
from click.testing import CliRunner

from invsolve.bench import run
from invsolve.bench.forecast import forecast
from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.io.images import write_image
from invsolve.plugins import registry

SUITE = """data = { label = "mine", wants = "any picture", crop = 8 }
noise = { sigma = 0.1 }
operator = [{ name = "box-mask", label = "hole", box = 4 }, { name = "block-mean", factor = 2 }]
metrics = ["psnr"]
[[solver]]
name = "ddrm"
steps = 2
prior = "gaussian"
[[solver]]
name = "adam-tv"
steps = 2
prior = "tv"
"""


def test_a_plan_counts_what_a_run_counts(tmp_path):
    """Cells, evaluations forward and backward: those of the run; and it writes nothing."""
    solvers = [
        {"name": "dps", "steps": 50, "prior": GAUSSIAN},
        {"name": "ddrm", "steps": 4, "samples": 3, "prior": GAUSSIAN},
        {"name": "dps", "label": "none", "prior": TV},
    ]
    suite = tiny(solver=solvers, operator=[{"name": "box-mask", "label": "hole", "box": 6}], seeds=2)
    found = forecast(suite, out=tmp_path / "run", probe=1e-9)
    assert not (tmp_path / "run").exists()
    assert [(one.cells, one.there, one.nfe, one.backward) for one in found] == [(4, 0, 50, 50), (4, 0, 12, 0), (4, 0, None, None)]
    assert [one.source.partition(":")[0] for one in found] == ["probe", "probe", "skipped"]
    assert all(one.seconds > 0 and one.left == pytest.approx(4 * one.seconds) for one in found[:2])  # pyright: ignore
    rows = run(suite, out=tmp_path / "run", progress=False)
    assert [row["nfe"] for row in rows[::2]][:4] == [50, 12, None, 50]
    known = forecast(suite, out=tmp_path / "run", probe=0)
    assert [(one.there, one.source, one.left) for one in known] == [(4, "records", 0), (4, "records", 0), (0, "", None)]
    with pytest.raises(InputError, match="probe must be"):
        forecast(suite, probe=-1)


def test_a_part_is_planned_and_run(tmp_path):
    write_image(tmp_path / "one.png", torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "s.toml").write_text(SUITE)
    shell, place = CliRunner(), os.path.relpath(tmp_path)
    common = [str(tmp_path / "s.toml"), "-d", f"mine={place}", "--out", str(tmp_path / "out")]
    planned = shell.invoke(main, ["bench", "plan", *common, "-s", "ddrm", "-o", "h*", "--json"])
    assert planned.exit_code == 0, planned.output
    found = json.loads(planned.output)
    assert (found["cells"], [(one["operator"], one["solver"], one["nfe"]) for one in found["columns"]]) == (1, [("hole", "ddrm", 2)])
    text = shell.invoke(main, ["bench", "plan", *common])
    assert "4 cells, 0 there; about" in text.output
    done = shell.invoke(main, ["bench", "run", *common, "-s", "ddrm", "-d", "mine"])
    assert done.exit_code == 0, done.output
    kept = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [(row["operator"], row["solver"]) for row in kept] == [("hole", "ddrm"), ("block-mean", "ddrm")]
    for wrong, said in ((["-s", "dddrm"], "has no solver 'dddrm'; did you mean ddrm"), (["-d", "your=x"], "no data set 'your'")):
        refused = shell.invoke(main, ["bench", "run", *common, *wrong])
        assert refused.exit_code != 0
        assert said in refused.output
    assert "leave out -s" in shell.invoke(main, ["bench", "run", "truth", "-s", "dps"]).output
    planned = shell.invoke(main, ["bench", "plan", "truth"])
    assert planned.exit_code == 0
    assert f"{len(registry().names('solver'))} solvers, 17 problems" in planned.output
    assert len(json.loads(shell.invoke(main, ["bench", "plan", "truth", "--json"]).output)["operators"]) == 17
    assert "leave out -s" in shell.invoke(main, ["bench", "plan", "truth", "-s", "dps"]).output
