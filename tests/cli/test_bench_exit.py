"""What `invsolve bench run` says to the shell of a run without a result."""

import json

import pytest
from click.testing import CliRunner

from invsolve.bench.table import in_vain
from invsolve.cli import main

SUITE = """
metrics = {metrics}
[data]
shape = [1, 16, 16]
images = 1
[noise]
sigma = 0.05
[[operator]]
name = "gaussian-blur"
{solvers}
"""
DDRM, ADAM = (f'[[solver]]\nname = "{name}"\nsteps = 2\nprior = {{ name = "tv" }}\n' for name in ("ddrm", "adam-tv"))
CROPPED = '{ name = "ssim", crop = 50 }'


@pytest.fixture
def bench(tmp_path):
    """Runs a suite of some solvers and metrics: (click's result, the rows)."""

    def call(solvers, metrics='["psnr"]'):
        (tmp_path / "own.toml").write_text(SUITE.format(metrics=metrics, solvers=solvers))
        done = CliRunner().invoke(main, ["bench", "run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "out")])
        return done, [json.loads(row) for row in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]

    return call


def test_a_run_of_skipped_rows_alone_says_that_nothing_was_solved(bench):
    done, rows = bench(DDRM)
    assert done.exit_code == 1
    assert "nothing was solved, 1 of 1 rows were skipped: " in done.stderr
    assert "prior tv is not a denoiser" in done.stderr
    assert [row["status"] for row in rows] == ["skipped"]
    assert "report:" in done.stdout


def test_a_skipped_row_beside_a_solved_one_is_no_fault(bench):
    done, rows = bench(DDRM + ADAM)
    assert (done.exit_code, done.stderr.count("Error")) == (0, 0)
    assert [row["status"] for row in rows] == ["skipped", "finished"]


def test_a_metric_that_failed_everywhere(bench):
    done, rows = bench(ADAM, f'["psnr", {CROPPED}]')
    assert done.exit_code == 1
    assert "Error: SSIM gave no number in the whole run: " in done.stderr
    assert "PSNR gave" not in done.stderr
    assert [row["status"] for row in rows] == ["finished"]
    assert rows[0]["metrics"]["psnr"] > 0


@pytest.mark.parametrize(("values", "words"), [([None, None], 1), ([None, 2.5], 0), ([0.0, None], 0)])
def test_a_metric_of_sets_counts_as_failed_where_no_set_has_a_number(values, words):
    sets = [{"metric": "distance", "value": value, "reason": "" if value is not None else "no features"} for value in values]
    run = {"metrics": {"distance": {"label": "Distance"}}, "sets": sets}
    told = in_vain(run, [{"status": "finished", "reason": "", "metrics": {}, "faults": {}}])
    assert told == ["Distance gave no number in the whole run: no features"] * words


def test_a_metric_that_is_not_defined_is_no_failure(bench):
    """Coverage of a run without samples: nothing went wrong, there is nothing to measure."""
    done, rows = bench(ADAM, '["psnr", "coverage"]')
    assert done.exit_code == 0
    assert rows[0]["metrics"]["coverage"] is None
