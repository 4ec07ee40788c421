"""The benchmark harness: rows, fairness, resuming, refusals, table and report."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import csv
import json
import math
import re
import signal
import subprocess
import sys

import pytest
import torch
from bench_cases import GAUSSIAN, Exploding, same, tiny, values

from invsolve.bench import Suite, run, write_report
from invsolve.bench.cells import Store, encode
from invsolve.bench.export import read_rows
from invsolve.bench.plan import check
from invsolve.errors import InputError, UnknownNameError
from invsolve.solution import Step
from invsolve.solver import Solver


def test_a_row_for_every_operator_solver_and_picture(finished):
    rows, _ = finished
    assert len(rows) == 3 * 4 * 2
    assert len({(row["operator"], row["solver"], row["image"]) for row in rows}) == len(rows)
    for row in rows:
        assert {"suite", "prior", "reason", "seed", "device", "dtype", "versions", "network_seconds", "key"} <= set(row)
        if row["status"] != "skipped":
            assert row["status"] in ("finished", "converged")
            assert all(math.isfinite(row["metrics"][name]) for name in ("psnr", "ssim", "haarpsi", "residual"))
            assert row["seconds"] > 0
            assert row["steps"] == {"adam-tv": 5, "dps": 4, "ddrm": 4}[row["solver"]]
            assert row["nfe"] == {"adam-tv": 0, "dps": 4, "ddrm": 4}[row["solver"]]


def test_all_solvers_had_the_same_measurement_and_no_two_problems_share_one(finished):
    rows, _ = finished
    seen = {}
    for row in rows:
        seen.setdefault((row["operator"], row["image"]), set()).add(row["y_sha256"])
    assert all(len(hashes) == 1 for hashes in seen.values())
    assert len(set.union(*seen.values())) == 6


def test_an_incompatible_pair_is_a_row_with_its_reason(finished):
    skipped = [row for row in finished[0] if row["solver"] == "dps without a denoiser"]
    assert len(skipped) == 6
    assert all(row["status"] == "skipped" and "TotalVariation is not a Denoiser" in row["reason"] for row in skipped)
    assert all(row["metrics"]["psnr"] is None and row["nfe"] is None for row in skipped)


def test_running_again_computes_nothing_and_changes_nothing(finished, copy, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a finished cell was computed again")

    monkeypatch.setattr(Solver, "solve", refuse)
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi", "residual"]), out=copy, progress=False)
    assert again == finished[0]


def test_computing_again_gives_bitwise_the_same(finished, copy):
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi", "residual"]), out=copy, progress=False, fresh=True)
    assert list(map(same, again)) == list(map(same, finished[0]))


def test_pictures_solved_together_get_the_answers_they_get_alone(finished, tmp_path):
    together = run(tiny(metrics=["psnr"]), out=tmp_path, progress=False, batch=2)
    for one, other in zip(finished[0], together, strict=True):
        assert one["y_sha256"] == other["y_sha256"]
        if one["status"] != "skipped":
            assert other["batch"] == 2
            # float32 answers that differ by rounding alone: 1e-4 dB is an error of 1e-5 relative in a mean square.
            assert one["metrics"]["psnr"] == pytest.approx(other["metrics"]["psnr"], abs=1e-4)


def test_another_seed_is_another_measurement(finished, tmp_path):
    other = run(tiny(solver=[{"name": "ddrm", "steps": 2, "prior": GAUSSIAN}]), out=tmp_path, progress=False, seed=1)
    assert not {row["y_sha256"] for row in other} & {row["y_sha256"] for row in finished[0]}


def test_a_measurement_does_not_depend_on_the_other_pictures_or_operators(finished, tmp_path):
    changes = {"data": {"shape": [3, 16, 16], "images": 1}, "operator": values()["operator"][1:2], "solver": values()["solver"][:1]}
    (alone,) = run(tiny(**changes), out=tmp_path, progress=False)
    (held,) = [row for row in finished[0] if (row["operator"], row["image"], row["solver"]) == ("gaussian-blur", "drawing-0", "adam-tv")]
    assert alone["y_sha256"] == held["y_sha256"]
    assert alone["x_sha256"] == held["x_sha256"]


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)  # as in conftest.py: sums depend on the number of threads
from invsolve import files
from invsolve.bench import Suite, run
import json
put = files._put
count = 0
def killing(temporary, target):
    global count
    count += "cells" in target.parts
    if count == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    put(temporary, target)
files._put = killing
run(Suite.make(json.loads(sys.argv[1])), out=sys.argv[2], progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_writing_and_started_again_it_goes_on(finished, tmp_path, monkeypatch):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(values()), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "cells").rglob("*.tmp"))) == 1  # torn between writing and renaming
    assert len(read_rows(tmp_path)) == 7
    page = write_report(tmp_path).read_text()
    assert "not complete: 17 of 24 cells" in page
    solved, solve = [], Solver.solve
    monkeypatch.setattr(Solver, "solve", lambda self, *args, **options: solved.append(1) or solve(self, *args, **options))
    rows = run(tiny(), out=tmp_path, progress=False)
    # The first 6 cells are adam-tv, dps and ddrm on the first operator, the 7th a skipped one; 18 of the 24 are solvable.
    assert len(solved) == 18 - 6
    assert not list(tmp_path.rglob("*.tmp"))
    for mine, whole in zip(rows, finished[0], strict=True):
        assert [mine[key] for key in ("status", "nfe", "x_sha256", "y_sha256")] == [
            whole[key] for key in ("status", "nfe", "x_sha256", "y_sha256")
        ]
        assert mine["metrics"]["psnr"] == whole["metrics"]["psnr"]


def test_a_torn_cell_is_computed_again(finished, copy):
    rows = finished[0]
    first, second = (Store(copy, "cells", "cell.json").path(row["key"]) for row in rows[:2])
    text = (first / "cell.json").read_text()
    (first / "cell.json").write_text(text[: len(text) // 2])
    (second / "tensors.safetensors").unlink()
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi", "residual"]), out=copy, progress=False)
    assert list(map(same, again)) == list(map(same, rows))
    assert (second / "tensors.safetensors").is_file()


def test_rows_are_exported(finished):
    rows, out = finished
    assert [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()] == encode(rows)
    with (out / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(line["psnr"]) for line in table if line["psnr"]] == [row["metrics"]["psnr"] for row in rows if row["metrics"]["psnr"]]
    assert table[0]["version_torch"] == torch.__version__.split("+")[0] or table[0]["version_torch"] == torch.__version__


def test_solvers_that_saw_different_measurements_are_not_compared(finished, copy):
    store, key = Store(copy, "cells", "cell.json"), finished[0][0]["key"]
    record = store.read(key)
    record["answer"]["y_sha256"] = "0" * 64
    store.write(key, record, store.tensors(key))
    with pytest.raises(InputError, match="another measurement"):
        read_rows(copy)


# --- what goes wrong ---------------------------------------------------------------------------------------------------------


def test_what_fails_is_a_row_and_the_others_go_on(strangers, tmp_path):
    solvers = [
        {"name": "exploding", "prior": GAUSSIAN},
        {"name": "missing", "prior": GAUSSIAN},
        {"name": "ddrm", "label": "no prior", "prior": "unloadable"},
        {"name": "ddrm", "steps": 2, "prior": GAUSSIAN},
    ]
    rows = run(tiny(operator=values()["operator"][1:2], solver=solvers), out=tmp_path, progress=False, batch=2)
    by_solver = {row["solver"]: row for row in rows}
    assert [by_solver[name]["status"] for name in ("exploding", "missing", "no prior", "ddrm")] == ["failed"] * 3 + ["finished"]
    assert by_solver["exploding"]["reason"] == "RuntimeError: boom in step 1"
    assert "no_such_module" in by_solver["missing"]["reason"]
    assert "weights are gone" in by_solver["no prior"]["reason"]
    assert all(text in write_report(tmp_path).read_text() for text in ("boom in step 1", "weights are gone", "no_such_module"))


def test_a_failed_cell_is_tried_again(strangers, tmp_path, monkeypatch):
    suite = tiny(operator=values()["operator"][1:2], solver=[{"name": "exploding", "prior": GAUSSIAN}])
    assert {row["status"] for row in run(suite, out=tmp_path, progress=False)} == {"failed"}
    monkeypatch.setattr(Exploding, "iterate", lambda self, problem, *_: iter([Step(0, 1, problem.image, problem.image)]))
    assert {row["status"] for row in run(suite, out=tmp_path, progress=False)} == {"finished"}


def test_a_suite_with_faults_is_refused_with_all_of_them():
    faulty = tiny(
        operator=[{"name": "box-mask", "bax": 6}],
        solver=[
            {"name": "diffpri", "prior": GAUSSIAN},
            {"name": "dps", "stps": 3, "prior": {"name": "tv", "wait": 1}},
            {"name": "ddim", "eta": 3.0, "prior": GAUSSIAN},
        ],
        metrics=["pnsr"],
    )
    with pytest.raises(InputError) as error:
        check(faulty)
    for text in (
        "did you mean box",
        "did you mean diffpir",
        "did you mean steps",
        "did you mean weight",
        "eta must lie in [0, 1]",
        "did you mean psnr",
    ):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solvers": []}, "solvers: no such key; did you mean solver"),
        ({"operator": []}, "operator"),
        ({"operator": [{"name": "box-mask"}, {"name": "box-mask"}]}, "label used twice: box-mask"),
        ({"operator": [{"name": "gaussian-blur", "sigma": math.nan}]}, "finite"),
        ({"operator": [{"name": "../etc", "sigma": 1.0}]}, "is no name"),
        ({"solver": [{"name": "dps"}]}, "solver.0.prior: missing"),
        ({"solver": [{"name": "dps", "prior": "tv", "for": {"whole": {"steps": 3}}}]}, "no operator 'whole'; did you mean hole"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_what_is_no_suite_is_refused(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        tiny(**change)


def test_settings_for_one_operator(tmp_path):
    entry = {
        "name": "dps",
        "steps": 4,
        "prior": GAUSSIAN,
        "for": {"hole": {"steps": 9, "prior": {"std": 0.1}}, "block-mean": {"prior": "tv"}},
    }
    (solver,) = tiny(solver=[entry]).solver
    assert (solver.at("gaussian-blur")[0], solver.at("gaussian-blur")[1].parameters) == ({"steps": 4}, {"mean": 0.5, "std": 0.25})
    assert (solver.at("hole")[0], solver.at("hole")[1].parameters) == ({"steps": 9}, {"mean": 0.5, "std": 0.1})
    assert (solver.at("block-mean")[1].name, solver.at("block-mean")[1].parameters) == ("tv", {})


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot make the folder"):
        run("smoke", out=tmp_path / "file" / "run")


def test_unknown_suites_and_broken_files(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean quick"):
        Suite.load("quik")
    (tmp_path / "broken.toml").write_text("operator = [")
    with pytest.raises(InputError, match="not TOML"):
        Suite.load(tmp_path / "broken.toml")
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="device 'warp'"):
        run(tiny(), out=tmp_path, device="warp", progress=False)


# --- keys --------------------------------------------------------------------------------------------------------------------
