"""A fair comparison, in the records: one y and one H, noise that no solver moves, seeds, what did not finish, what was tuned where."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import json
from dataclasses import dataclass

import pytest
import torch
from bench_cases import GAUSSIAN, TV, tiny

from invsolve.bench import run
from invsolve.bench.cells import Store
from invsolve.bench.export import read_rows, read_run
from invsolve.bench.fairness import UNFINISHED, check_fair, counts
from invsolve.bench.memory import Peak
from invsolve.bench.table import format_plain
from invsolve.errors import InputError
from invsolve.plugins import Entry, registry
from invsolve.solution import Step
from invsolve.solver import Requires, Solver


@dataclass(frozen=True)
class Growing(Solver):
    """Leaves every bound."""

    requires = Requires(prior=(object,))  # pyright: ignore[reportAssignmentType]
    steps: int = 4

    def iterate(self, problem, prior, rng, start=None):
        for index in range(self.steps):
            x = torch.full_like(problem.image, torch.inf if index == 2 else 1.0)
            yield Step(index, self.steps, x, x)


@pytest.fixture
def growing(monkeypatch):
    monkeypatch.setitem(registry().entries, ("solver", "growing"), Entry("solver", "growing", f"{__name__}:Growing", "stranger 1.0"))


SOLVERS = [{"name": "ddrm", "steps": 2, "prior": GAUSSIAN}, {"name": "adam-tv", "steps": 2, "prior": TV}]
HOLE = {"name": "box-mask", "label": "hole", "box": 6}


def small(**changes):
    return tiny(**{"operator": [HOLE], "data": {"shape": [3, 8, 8], "images": 1}, "solver": SOLVERS, **changes})


def test_rows_prove_that_all_saw_one_measurement_and_one_operator(tmp_path):
    rows = run(small(), out=tmp_path, progress=False)
    for name in ("y_sha256", "h_sha256"):
        assert len({row[name] for row in rows}) == 1
        assert all(row[name] for row in rows)
    check_fair(rows)
    for name, what in (("y_sha256", "measurement"), ("h_sha256", "operator")):
        with pytest.raises(InputError, match=f"adam-tv had another {what} of"):
            check_fair([rows[0], {**rows[1], name: "0" * 64}])
    check_fair([rows[0], {**rows[1], "y_sha256": "0" * 64, "seed": 1}])  # another seed is another measurement


def test_a_table_is_refused_where_a_cell_had_another_operator(tmp_path):
    """The check stands where tables are made: a cell with another H in the folder is found by `read_rows`."""
    row = run(small(), out=tmp_path, progress=False)[1]
    store = Store(tmp_path, "cells", "cell.json")
    record = store.read(row["key"])
    tensors = store.tensors_of(record)
    record["answer"]["h_sha256"] = "0" * 64
    store.write(row["key"], {name: record[name] for name in ("inputs", "answer", "measures", "faults")}, tensors)
    with pytest.raises(InputError, match="had another operator"):
        read_rows(tmp_path)


def test_no_solver_moves_the_noise(tmp_path):
    """Alone, among others, in another order and with other settings: the same y."""
    several = {row["y_sha256"] for row in run(small(), out=tmp_path / "a", progress=False)}
    for index, solvers in enumerate([SOLVERS[:1], SOLVERS[1:], SOLVERS[::-1], [{**SOLVERS[0], "steps": 3, "label": "other"}]]):
        assert {row["y_sha256"] for row in run(small(solver=solvers), out=tmp_path / str(index), progress=False)} == several


def test_seeds_repeat_the_suite(tmp_path):
    """The rows of seeds = [0, 2] are those of two runs with those seeds, and batches keep them apart."""
    both = run(small(seeds=[0, 2], data={"shape": [3, 8, 8], "images": 2}), out=tmp_path / "both", progress=False, batch=4)
    assert [row["seed"] for row in both] == [0, 0, 0, 0, 2, 2, 2, 2]
    for seed in (0, 2):
        alone = run(small(data={"shape": [3, 8, 8], "images": 2}), out=tmp_path / str(seed), progress=False, seed=seed)
        mine = [row for row in both if row["seed"] == seed]
        assert [(row["key"], row["y_sha256"]) for row in mine] == [(row["key"], row["y_sha256"]) for row in alone]
        assert {row["batch"] for row in mine} == {2}
    assert len({row["y_sha256"] for row in both}) == 4


def test_costs_stand_in_the_rows(tmp_path):
    solvers = [*SOLVERS, {"name": "dps", "steps": 3, "prior": GAUSSIAN}]
    rows = {row["solver"]: row for row in run(small(solver=solvers), out=tmp_path, progress=False)}
    assert [(rows[name]["nfe"], rows[name]["backward"]) for name in ("ddrm", "adam-tv", "dps")] == [(2, 0), (0, 0), (3, 3)]
    assert all(row["peak_bytes"] is None or row["peak_bytes"] >= 0 for row in rows.values())
    assert {row["selected_by"] for row in rows.values()} == {"last iterate"}


def test_the_peak_is_what_was_held_within():
    with Peak(torch.device("cpu")) as peak:
        held = torch.ones(2**25)  # 128 MiB, too large to come from memory that was given back
        del held
    if peak.bytes is None:
        pytest.skip("this system does not count the memory of a process")
    assert 0.9 * 2**27 < peak.bytes < 1.5 * 2**27


def test_what_did_not_finish_is_counted(tmp_path, growing):
    solvers = [*SOLVERS, {"name": "growing", "prior": TV}, {"name": "dps", "prior": TV}]
    rows = run(small(solver=solvers), out=tmp_path, progress=False)
    assert [row["status"] for row in rows] == ["finished", "finished", "diverged", "skipped"]
    assert set(UNFINISHED) >= {"diverged", "skipped"}
    assert {name: dict(count) for name, count in counts(rows).items()} == {"growing": {"diverged": 1}, "dps": {"skipped": 1}}
    text = format_plain(read_run(tmp_path), rows)
    assert "growing: 1 diverged of 1 rows" in text
    assert "dps: 1 skipped of 1 rows" in text


def test_tuned_set_and_default_are_told_apart(tmp_path):
    tuned = {"name": "hqs", "steps": 2, "prior": TV, "tuned": {"on": "other drawings", "by": "psnr", "trials": 5}}
    first = run(small(solver=[{"name": "ddrm", "prior": GAUSSIAN}, SOLVERS[1], tuned]), out=tmp_path, progress=False)
    assert [row["settings"] for row in first] == ["default", "set", "tuned on other drawings by psnr, 5 trials"]
    (picture,) = json.loads((tmp_path / "run.json").read_text())["pictures"]
    cheated = {**tuned, "tuned": {"on": "drawings", "pictures": [picture["sha256"][:16]]}}
    (row,) = run(small(solver=[cheated]), out=tmp_path, progress=False)
    assert row["settings"] == "tuned on drawings, THIS PICTURE AMONG THEM"
    assert row["key"] == first[2]["key"]  # where a number comes from is not part of what it does


def test_seeds_are_no_further_pictures(tmp_path):
    """In tables and ranks a picture counts once, with its mean over the seeds; one seed that failed takes it out."""
    from invsolve.bench.export import lines
    from invsolve.bench.standings import values

    rows = run(small(seeds=2, data={"shape": [3, 8, 8], "images": 2}), out=tmp_path, progress=False)
    found = values(rows, "ddrm", "psnr")
    assert list(found) == ["drawing-0", "drawing-1"]
    for image, value in found.items():
        assert value == pytest.approx(sum(row["metrics"]["psnr"] for row in rows if (row["solver"], row["image"]) == ("ddrm", image)) / 2)
    broken = [{**row, "status": "diverged"} if row is rows[0] else row for row in rows]
    assert values(broken, rows[0]["solver"], "psnr")[rows[0]["image"]] is None
    shown = {line.solver: line for line in lines(rows, rows[0]["operator"])}
    one, other = (value or 0.0 for value in found.values())
    assert (shown["ddrm"].done, shown["ddrm"].total) == (2, 2)
    assert shown["ddrm"].numbers["psnr"].std == pytest.approx(abs(one - other) / 2**0.5)
    left = next(line for line in lines(broken, rows[0]["operator"]) if line.solver == rows[0]["solver"])
    assert (left.done, left.total, left.numbers["psnr"].count) == (1, 2, 1)
