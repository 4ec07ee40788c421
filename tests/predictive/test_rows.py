"""A suite's rows that are tuned on draws: what they are called, what they cost, and that others keep their keys."""

import pytest

from invsolve.bench import Suite, run
from invsolve.bench.forecast import with_tuning
from invsolve.bench.runner import Job
from invsolve.errors import InputError

SOLVER = {"name": "diffpir", "steps": 4, "prior": {"name": "gaussian", "std": 0.2}}
SUITE = {
    "data": {"shape": [1, 12, 12], "images": 2},
    "noise": {"sigma": 0.1},
    "operator": [{"name": "gaussian-blur", "sigma": 1.0}],
    "metrics": ["psnr"],
    "solver": [SOLVER, {**SOLVER, "label": "tuned", "tune": "200 nfe"}],
}


def test_a_tuned_row_says_so_and_bears_its_cost(tmp_path):
    rows = run(Suite.make(SUITE), out=tmp_path, progress=False)
    plain, tuned = ([row for row in rows if row["solver"] == label] for label in ("diffpir", "tuned"))
    assert all(row["settings"] == "tuned on draws from the prior (predictive), 200 nfe" for row in tuned)
    assert all(row["settings"] == "set" for row in plain)
    assert {row["nfe"] for row in plain} == {4}
    first, second = (row["nfe"] for row in tuned)
    assert 100 < first <= 204
    assert first == second  # the second picture's settings cost the same, though they were at hand
    assert all(one["seconds"] > 5 * other["seconds"] for one, other in zip(tuned, plain, strict=True))
    assert {row["config"] for row in tuned} != {row["config"] for row in plain}
    again = run(Suite.make(SUITE), out=tmp_path, progress=False)
    assert [row["x_sha256"] for row in again] == [row["x_sha256"] for row in rows]


def test_a_row_without_has_the_key_that_it_had(tmp_path):
    import torch

    job = Job(Suite.make(SUITE), tmp_path, 0, torch.device("cpu"), 1, False)
    job.prepare()
    plain, tuned = (next(cell for cell in job.cases if cell.solver.label == label) for label in ("diffpir", "tuned"))
    assert "tune" not in plain.inputs
    assert tuned.inputs["tune"] == "200 nfe"
    assert plain.key != tuned.key


@pytest.mark.parametrize("budget", ["soon", "60", 60, "-1 s", "5 days"])
def test_a_wrong_budget_is_refused_before_anything_runs(budget):
    with pytest.raises(InputError, match="tune"):
        Suite.make({**SUITE, "solver": [{**SOLVER, "tune": budget}]})


@pytest.mark.parametrize(
    ("tune", "nfe", "seconds"), [(None, 10, 2.0), ("500 nfe", 510, 102.0), ("60s", 10, 62.0), ("2 min", 10, 122.0), (".5h", 10, 1802.0)]
)
def test_a_plan_counts_the_tuning(tune, nfe, seconds):
    found = with_tuning(tune, {"nfe": 10.0, "backward": 0.0}, 2.0)
    assert (found["nfe"], found["seconds"]) == (nfe, pytest.approx(seconds))
