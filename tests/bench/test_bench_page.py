"""What a report says and draws: charts, budgets, verdicts, sorts of methods and grids, by hand."""

import math
import shutil

import pytest
import torch
from bench_cases import GAUSSIAN, TV, tiny

from invsolve.bench import open_run, run, write_report
from invsolve.bench.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart
from invsolve.bench.gallery import BRIGHTEST, spread, turned
from invsolve.bench.kinds import kind_of, side
from invsolve.bench.standings import board, leads, order
from invsolve.bench.verdicts import all_pairs, bought, card, cell, differences, paid, signed, targets, troubles

PSNR = {"label": "PSNR", "unit": "dB", "digits": 2, "higher": True, "of_sets": False}
RMSE = {"label": "rmse", "unit": "", "digits": 3, "higher": False, "of_sets": False}
RUN = {"metrics": {"psnr": PSNR, "rmse": RMSE}, "suite": {"operator": [{"label": "blur"}]}, "sets": []}
# solver, prior, mean of PSNR, NFE, seconds: ten pictures each, which differ by 1 dB from one to the next.
SOLVERS = {
    "adam-tv": ("tv", 24.0, 0, 0.5),
    "admm": ("dncnn", 25.0, 10, 0.2),
    "dps": ("natural", 26.0, 100, 10.0),
    "ddrm": ("natural", 26.0, 20, 1.0),
}


def rows(**changes):
    out = []
    for solver, (prior, level, nfe, seconds) in SOLVERS.items():
        for index in range(10):
            wobble = 0.3 * (-1) ** index if solver == "dps" else 0.0
            values = {"psnr": level + index + wobble, "rmse": 10 ** (-(level + index + wobble) / 20)}
            common = {"operator": "blur", "image": str(index), "status": "finished", "reason": "", "network_seconds": 0.0}
            out.append(
                {**common, "solver": solver, "solver_name": solver, "prior": prior, "metrics": values, "nfe": nfe, "seconds": seconds}
            )
            out[-1].update(changes.get(solver, {}))
    return out


@pytest.fixture(scope="module")
def told():
    return board(RUN, rows(), "blur")


def test_sorts_of_methods():
    assert kind_of("adam-tv", "tv") == "variational"
    assert kind_of("hqs", "dncnn") == kind_of("admm", "natural") == "plug-and-play"
    assert kind_of("dps", "natural") == kind_of("ddrm", "gaussian") == "diffusion"
    assert kind_of("bicubic", "tv") == "direct"
    assert kind_of("no such", "tv") == kind_of("dps", "no such") == "other"
    assert [side(kind) for kind in ("direct", "plug-and-play", "diffusion", "other")] == ["classical", "classical", "diffusion", ""]


def test_a_card_says_who_won_and_whether_it_is_sure(told):
    found = card(told, "psnr", PSNR)
    assert (found["best"], found["level"], found["alone"]) == ("dps", ["ddrm"], False)
    assert (found["mean"], found["cost"]) == ("30.50", "100 NFE · 10 s")
    assert (found["cheap"]["name"], found["cheap"]["cost"]) == ("ddrm", "20 NFE · 1 s")
    assert (found["rival"]["name"], found["rival"]["side"], found["rival"]["sure"]) == ("admm", "classical", True)
    # Less is better: the same order, and minus is worse here too.
    other = card(told, "rmse", RMSE)
    assert other["rival"]["name"] == "admm"
    assert other["rival"]["gap"].startswith("\N{MINUS SIGN}")


def test_a_cell_of_the_matrix(told):
    states = {solver: cell(told, "psnr", solver, PSNR, 2.0)["state"] for solver in SOLVERS}
    assert states == {"dps": "best", "ddrm": "level", "admm": "below", "adam-tv": "below"}
    found = cell(told, "psnr", "adam-tv", PSNR, 2.0)
    assert (found["text"], found["rank"], found["gap"]) == ("28.50", 4, "\N{MINUS SIGN}2.00")
    assert found["glyph"]["mid"] == pytest.approx(96 - 88)
    failed = board(RUN, rows(admm={"status": "failed", "reason": "boom", "metrics": {"psnr": None, "rmse": None}}), "blur")
    assert cell(failed, "psnr", "admm", PSNR, 1.0)["text"] == "failed"
    assert cell(failed, "psnr", "admm", PSNR, 1.0)["title"] == "boom"
    assert [one["solver"] for one in differences(failed, "psnr", PSNR)] == ["dps", "ddrm", "adam-tv"]


def test_all_pairs_are_row_minus_column(told):
    found = dict(all_pairs(told, "psnr", PSNR))
    assert list(found) == ["dps", "ddrm", "admm", "adam-tv"]
    minus = "\N{MINUS SIGN}1.00"
    assert [cell and (cell["text"], cell["sign"]) for cell in found["admm"]] == [(minus, -1), (minus, -1), None, ("+1.00", 1)]
    assert found["dps"][1]["sign"] == 0
    assert found["dps"][1]["title"].endswith("5 wins, 0 ties, 5 losses")


def test_solvers_are_ordered_by_sort_then_rank(told):
    assert [solver for solver, _ in order([told], "psnr")] == ["adam-tv", "admm", "dps", "ddrm"]
    assert [leads([told], "psnr", solver) for solver in SOLVERS] == [0, 0, 1, 1]


def test_equal_budgets_and_what_a_quality_costs(told):
    spent = {row["budget"]: row for row in bought(told, "psnr", "nfe", PSNR)}
    assert list(spent) == ["0 NFE", "10 NFE", "20 NFE", "50 NFE", "100 NFE"]
    assert (spent["0 NFE"]["classical"]["solver"], spent["0 NFE"]["diffusion"]) == ("adam-tv", None)
    assert (spent["10 NFE"]["classical"]["solver"], spent["20 NFE"]["diffusion"]["solver"]) == ("admm", "ddrm")
    assert targets([30.5, 30.5, 29.5, 28.5], higher=True, digits=2) == [30.5, 30.0, 29.5, 29.0, 28.5]
    assert targets([0.03, 0.05], higher=False, digits=3) == [0.03, 0.035, 0.04, 0.045, 0.05]
    reached = {row["target"]: row for row in paid(told, "psnr", "seconds", PSNR)}
    assert reached["30.50"]["classical"] is None
    assert reached["30.50"]["diffusion"]["solver"] == "ddrm"
    assert reached["29.00"]["classical"]["solver"] == "admm"


def test_a_chart_by_hand(told):
    drawing = chart(told, "psnr", "nfe", higher=True, digits=2, unit="dB")
    marks = {mark.solver: mark for mark in drawing.marks}
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    # Free: 3.5 % from the left; 10 to 100 evaluations on the remaining 90 %, with .08 and .12 decades of air.
    assert marks["adam-tv"].x == pytest.approx(LEFT + 0.035 * wide)
    assert marks["admm"].x == pytest.approx(LEFT + 0.1 * wide + 0.08 / 1.2 * 0.9 * wide)
    assert marks["dps"].x == pytest.approx(LEFT + 0.1 * wide + 1.08 / 1.2 * 0.9 * wide)
    assert {mark.solver for mark in drawing.marks if mark.front} == {
        "admm",
        "ddrm",
        "adam-tv",
    }
    assert marks["dps"].y == pytest.approx(marks["ddrm"].y)
    assert marks["admm"].y - marks["dps"].y == pytest.approx(marks["adam-tv"].y - marks["admm"].y)
    assert TOP < marks["dps"].y < marks["adam-tv"].y < TOP + tall
    assert all(mark.label for mark in drawing.marks)
    upside = chart(told, "rmse", "seconds", higher=False, digits=3, unit="")
    found = {mark.solver: mark for mark in upside.marks}
    assert found["dps"].y < found["adam-tv"].y  # better is higher
    assert chart(told, "psnr", "peak_bytes", higher=True, digits=2, unit="dB") is None


def test_one_very_bad_solver_does_not_flatten_the_others():
    far = rows()
    for row in far:
        if row["solver"] == "adam-tv":
            row["metrics"] = {"psnr": -40.0, "rmse": 100.0}
    drawing = chart(board(RUN, far, "blur"), "psnr", "nfe", higher=True, digits=2, unit="dB")
    marks = {mark.solver: mark for mark in drawing.marks}
    assert marks["adam-tv"].below
    assert marks["adam-tv"].y == HEIGHT - BOTTOM
    assert marks["admm"].y - marks["dps"].y > 100


def test_what_did_not_work_is_counted():
    bad = rows(dps={"status": "diverged", "reason": "not finite"})
    bad[0].update(status="skipped", reason="no prox")
    assert [(one["solver"], one["status"], one["count"], one["total"]) for one in troubles(bad)] == [
        ("adam-tv", "skipped", 1, 10),
        ("dps", "diverged", 10, 10),
    ]


def test_signs_and_spreads():
    assert (signed(0.126, 2), signed(-0.126, 2), signed(-0.001, 2)) == ("+0.13", "\N{MINUS SIGN}0.13", "0.00")
    samples = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), BRIGHTEST * math.sqrt(2))])
    # the standard deviation of 0 and a sqrt(2) is a: the map is white
    import base64
    import io

    from PIL import Image

    shown = Image.open(io.BytesIO(base64.b64decode(spread(samples).partition(",")[2])))
    assert set(shown.get_flattened_data() if hasattr(shown, "get_flattened_data") else shown.getdata()) == {255}
    assert spread(samples[:1]) is None
    assert spread(None) is None


def test_every_operator_has_its_first_picture_before_any_has_its_second():
    pairs = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("b", "3")]
    assert turned(pairs) == [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("b", "3")]


def test_runs_without_ranks_or_without_answers_have_a_page(tmp_path):
    blur, ddrm = [{"name": "gaussian-blur", "sigma": 1.0}], [{"name": "ddrm", "steps": 2, "prior": GAUSSIAN}]
    run(tiny(operator=blur, solver=ddrm, metrics=["residual"]), out=tmp_path / "unranked", progress=False)
    assert "No metric of this run ranks solvers" in write_report(tmp_path / "unranked").read_text()
    unfit = [{"name": "dps", "steps": 2, "prior": TV}]
    run(tiny(operator=blur, solver=unfit), out=tmp_path / "unfit", progress=False)
    text = write_report(tmp_path / "unfit").read_text()
    assert "2 of 2 rows have no answer" in text
    assert "TotalVariation is not a Denoiser" in text
    assert open_run(tmp_path / "unfit").boards[0].contests["psnr"].names == ()
    shutil.rmtree(tmp_path / "unranked" / "cells")
    assert "2 of 2 cells are not there yet" in write_report(tmp_path / "unranked").read_text()
