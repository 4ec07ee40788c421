"""What a solver's card says of the truth page is what the page says."""

import json
from pathlib import Path

import pytest
import torch
from invsolve_benchmarks.truth import cards

from invsolve import GaussianNoise, Problem
from invsolve.bench.own import OwnSuite, published
from invsolve.cli.describe import describe_entry
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior
from invsolve.testing.settings import Kept

PAGE = Path(__file__).parents[2] / "benchmarks" / "results" / "truth"


def test_the_cards_hold_the_cells_of_the_committed_page():
    rows = json.loads((PAGE / "truth.json").read_text(encoding="utf-8"))
    assert cards.published() == cards.leaderboard(rows)


def test_a_cell_of_a_card_is_the_mean_over_the_problems_of_the_page():
    lines = (PAGE / "truth.csv").read_text(encoding="utf-8").splitlines()
    head = lines[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:] if line.startswith("mmps,")]
    found = [float(row["cov"]) for row in rows if row["family"] == "gaussian" and row["budget"] == "100" and row["cov"]]
    # the table has five digits, the card four after the point
    assert cards.published()["mmps"]["100"]["gaussian cov"] == [pytest.approx(sum(found) / len(found), abs=1e-4), len(found)]


def test_a_figure_has_the_number_of_problems_that_it_is_over():
    """Two Gaussian problems taken, of which one drew: the mean over both, the covariance over one; what the cells took, least and most."""

    def row(measures, nfe, backward):
        measures = {name: [number, 0.0] for name, number in measures.items()}
        spent = {"nfe": nfe, "backward": backward}
        return {"solver": "it", "problem": f"p{nfe}", "family": "gaussian", "budget": 20, "status": "done", "measures": measures, **spent}

    cells = cards.leaderboard([row({"mean": 0.2, "cov": 0.5}, 19, 30), row({"mean": 0.4}, 20, 30)])["it"]["20"]
    assert cells == {"gaussian mean": [pytest.approx(0.3), 2], "gaussian cov": [0.5, 1], "nfe": [19, 20], "backward": [30, 30]}
    said = cards.told(cells)
    assert "the mean 0.3 posterior standard deviations off [2], the covariance 50% off [1]" in said
    assert "19 to 20 evaluations and 30 backward passes an answer" in said


def test_the_card_of_a_solver_shows_it():
    known = describe_entry(registry().entry("solver", "mmps"))["known"]
    assert "covariance 8% off" in known["truth at 100 evaluations"]
    known = describe_entry(registry().entry("solver", "ddim"))["known"]
    assert not any(key.startswith("truth") for key in known)  # it samples no posterior


def test_every_solver_on_the_page_has_a_card_and_every_one_that_samples_a_posterior_is_on_it():
    shown = set(cards.published()) - {"exact draws", "prior alone"}
    assert shown <= set(registry().names("solver"))
    drawing = {entry.name for entry in registry().of("solver") if "cov" in entry.load().declared_bias and entry.load().requires.measurement}
    # its priors are of images, which solvers of codes refuse
    problem = Problem(Kept((1, 4, 4)), torch.zeros(1, 1, 4, 4), GaussianNoise(0.1))
    of_codes = {
        name for name in drawing if "not one of codes" in str(registry().load("solver", name)().mismatches(problem, GaussianPrior()))
    }
    assert drawing - shown - of_codes == set()


def test_a_suite_of_a_plug_in_says_what_it_knows(monkeypatch):
    class Mine(OwnSuite):
        title = "mine"

        def run(self, out, *, seed=0, fresh=False, limit=None):
            raise NotImplementedError

        def check(self, entry, out, *, limit=None):
            raise NotImplementedError

        def known(self, solver):
            return {"mine": f"{solver} is fine"}

    class Entry:
        def __init__(self, value):
            self.value = value

        def load(self):
            if self.value is None:
                raise ImportError("broken")
            return self.value

    class Registry:
        def of(self, kind):
            assert kind == "suite"
            return [Entry(None), Entry("a.toml"), Entry(Mine())]

    monkeypatch.setattr("invsolve.plugins.registry", Registry)
    assert published("dps") == {"mine": "dps is fine"}
