"""Seconds that are taken several times: in turns, kept, refused where the cell would be another, and shown with their spread."""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false

import csv
import json
import shutil
import signal

import pytest
from bench_cases import GAUSSIAN, TV, Weighted, tiny
from click.testing import CliRunner

from invsolve.bench import health, open_run, run, write_report
from invsolve.bench.cells import Store
from invsolve.bench.clock import Clock, said
from invsolve.bench.compare import compare
from invsolve.bench.export import read_rows, read_run
from invsolve.bench.formats import exported
from invsolve.bench.job import Job
from invsolve.bench.numbers import Times, overlapping, repeated
from invsolve.bench.records import Conditions, Timing
from invsolve.bench.standings import board
from invsolve.bench.stop import InterruptedRunError
from invsolve.bench.table import format_plain
from invsolve.bench.timing import time_run, turned
from invsolve.bench.verdicts import card
from invsolve.cli import main
from invsolve.data import tensor_sha256
from invsolve.errors import InputError, UnknownNameError
from invsolve.plugins import Entry, registry

HERE = Conditions(device="cpu", hardware="a machine", versions={"torch": "1"})
SUITE = {
    "data": {"shape": [1, 8, 8], "images": 2},
    "operator": [{"name": "gaussian-blur", "sigma": 1.0}],
    "solver": [
        {"name": "ddrm", "steps": 2, "prior": GAUSSIAN},
        {"name": "dps", "steps": 2, "prior": {"name": "weighted", "mean": 0.5, "std": 0.25}},
        {"name": "adam-tv", "steps": 2, "prior": TV},
        {"name": "dps", "label": "no denoiser", "prior": TV},
    ],
    "metrics": ["psnr"],
}
NAMES = ["ddrm", "dps", "adam-tv"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry().entries, ("prior", "weighted"), Entry("prior", "weighted", "bench_cases:Weighted", "stranger 1.0"))
        out = tmp_path_factory.mktemp("time") / "run"
        run(tiny(**SUITE), out=out, progress=False)
        return out


@pytest.fixture
def out(whole, strangers, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def solved(monkeypatch):
    """The solvers that were called, in order, each answer by the real one."""
    names, real = [], Job.compute

    def compute(job, chunk, bar):
        names.append(chunk[0].solver.label)
        return real(job, chunk, bar)

    monkeypatch.setattr(Job, "compute", compute)
    return names


def timing(seconds, processor=None, x="a" * 64):
    spent = {"wall_seconds": seconds, "processor_seconds": processor or seconds}
    return Timing(seconds=seconds, network_seconds=0.0, **spent, x_sha256=x, taken="now")


def places(out, solver):
    return [place["key"] for place in read_run(out)["cells"] if place["solver"] == solver]


def given(out, seconds, conditions=HERE, processor=None):
    """Timings by hand, of the first picture of each solver."""
    rows = {row["key"]: row for row in read_rows(out)}
    for solver, values in seconds.items():
        key = places(out, solver)[0]
        Clock(out).write(key, conditions, [timing(value, processor, rows[key]["x_sha256"]) for value in values])


def by_hand(out):
    given(out, {"ddrm": [1.0, 3.0, 1.5], "dps": [1.4, 1.3, 1.2]})


def bench(*words):
    return CliRunner().invoke(main, ["bench", *map(str, words)])


# --- taking ----------------------------------------------------------------------------------------------------------------------


def test_columns_are_timed_in_turns_and_each_once_more_goes_on(out, solved):
    found = time_run(out, repeats=2, progress=False)
    assert solved == [*NAMES, *reversed(NAMES)]
    assert [(one.solver, one.image, one.reason, one.doubt) for one in found] == [
        *((name, "drawing-0", "", "") for name in NAMES),
        ("no denoiser", "drawing-0", "no finished cell", ""),
    ]
    assert [one.row.get("timings") for one in found] == [2, 2, 2, 0]
    first = Clock(out).read(places(out, "dps")[0]).timings
    solved.clear()
    time_run(out, repeats=3, progress=False)
    assert solved == NAMES
    assert Clock(out).read(places(out, "dps")[0]).timings[:2] == first
    solved.clear()
    time_run(out, repeats=3, progress=False)
    time_run(out, repeats=2, progress=False)
    assert solved == []
    time_run(out, repeats=1, solvers=["d*"], pictures=2, progress=False)
    assert solved == ["ddrm", "dps"]  # the second picture of each
    time_run(out, repeats=1, solvers=["ddrm"], fresh=True, progress=False)
    assert len(Clock(out).read(places(out, "ddrm")[0]).timings) == 1


def test_rounds_turn():
    assert [turned("abc", number) for number in range(3)] == [list("abc"), list("cba"), list("abc")]


def test_a_cell_is_timed_as_it_was_computed(out, monkeypatch):
    """After one discarded step, alone, by the same seed: every repeat gives the stored bits; rows and run.json stay what they were."""
    warmed, real = [], Job.warm_up

    def warm_up(job, case, *others):
        fresh = not job.warm
        real(job, case, *others)
        warmed.append(fresh)

    monkeypatch.setattr(Job, "warm_up", warm_up)
    before, rows = (out / "run.json").read_bytes(), read_rows(out)
    found = time_run(out, repeats=2, solvers=["dps", "adam-tv"], progress=False)
    assert warmed == [True] * 4
    assert all(one.row["timings_another"] == 0 and one.row["seconds_low"] <= one.row["seconds_median"] for one in found[:2])
    assert (out / "run.json").read_bytes() == before
    timed = {"seconds_median", "seconds_low", "seconds_high", "processor_seconds", "timings", "timings_busy", "timings_another", "timed_on"}
    assert [{key: row[key] for key in row.keys() - timed} for row in read_rows(out)] == [
        {key: row[key] for key in row.keys() - timed} for row in rows
    ]
    record = Clock(out).read(places(out, "dps")[0])
    assert all(0 < one.seconds <= one.wall_seconds and one.processor_seconds > 0 for one in record.timings)


def test_what_would_be_another_cell_is_not_timed(out, monkeypatch, solved):
    monkeypatch.setattr(Weighted, "weights_sha256", "b" * 64)
    with pytest.raises(InputError, match=r"1 of 4 cells would be others now.*· dps: its prior changed.*invsolve bench run SUITE --out"):
        time_run(out, progress=False)
    assert solved == []
    assert not (out / "times").exists()
    done = bench("time", out)
    assert done.exit_code == 2
    assert f"run the suite first: invsolve bench run SUITE --out {out}; or time only the rest by -s and -o\n" in done.output
    time_run(out, repeats=1, solvers=["ddrm"], progress=False)
    assert solved == ["ddrm"]


def test_another_answer_is_told(out):
    store, key = Store(out, "cells", "cell.json"), places(out, "ddrm")[0]
    record = store.read(key)
    x = store.tensors_of(record)["x"] + 1e-3
    answer = {**record["answer"], "x_sha256": tensor_sha256(x), "versions": {**record["answer"]["versions"], "torch": "0.1"}}
    store.write(key, {**record, "answer": answer}, {"x": x})
    done = bench("time", out, "--repeats", 1, "-s", "ddrm", "-s", "dps")
    assert done.exit_code == 1
    assert "another answer in 1: computed with torch 0.1, now" in done.output
    assert "another answer than the stored one: gaussian-blur · ddrm\n" in done.output
    assert "same answer" in done.output
    first, second, _ = json.loads(bench("time", out, "--repeats", 1, "-s", "ddrm", "-s", "dps", "--json").stdout)
    assert (first["timings_another"], second["timings_another"], second["doubt"]) == (1, 0, "")


def test_ctrl_c_keeps_what_is_timed_and_says_how_to_go_on(out, monkeypatch):
    real, calls = Job.compute, []

    def compute(job, chunk, bar):
        calls.append(chunk[0].solver.label)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(job, chunk, bar)

    monkeypatch.setattr(Job, "compute", compute)
    with pytest.raises(InterruptedRunError, match="kept"):
        time_run(out, repeats=2, progress=False)
    assert calls == ["ddrm", "dps"]
    assert [row["timings"] for row in read_rows(out) if row["image"] == "drawing-0"] == [1, 1, 0, 0]
    calls[:] = ["x"]
    done = bench("time", out, "--repeats", 2, "-s", "*", "--fresh")
    assert done.exit_code == 130
    assert f"invsolve bench time {out} --repeats 2 --only-solver '*'\n" in done.output
    time_run(out, repeats=1, progress=False)
    assert [row["timings"] for row in read_rows(out) if row["image"] == "drawing-0"] == [1, 1, 1, 0]


def test_what_cannot_be_timed_says_why(out, monkeypatch, solved):
    def reasons(**options):
        return [one.reason for one in time_run(out, repeats=1, progress=False, **options)]

    assert reasons(limit=1e-9)[0].endswith("more than the limit of 1e-09")
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "device": "cpu:0"}))
    assert reasons()[0] == "its cell was computed on cpu, the run is one on cpu:0: run it again with --fresh"
    (out / "run.json").write_text(json.dumps(record))
    assert solved == []

    def broken(job, chunk, bar):
        raise RuntimeError("boom")

    monkeypatch.setattr(Job, "compute", broken)
    assert reasons() == ["RuntimeError: boom"] * 3 + ["no finished cell"]
    assert bench("time", out, "--repeats", 1).exit_code == 1
    assert not (out / "times").exists()
    for options, said_so in (({"repeats": 0}, "repeats must"), ({"pictures": True}, "pictures must"), ({"limit": 0}, "limit must")):
        with pytest.raises(InputError, match=said_so):
            time_run(out, progress=False, **options)
    with pytest.raises(UnknownNameError, match="did you mean ddrm"):
        time_run(out, solvers=["ddrn"], progress=False)
    with pytest.raises(InputError, match="holds no run"):
        time_run(out / "cells", progress=False)


# --- keeping ---------------------------------------------------------------------------------------------------------------------


def test_torn_and_foreign_records_count_as_none_and_are_taken_again(out, solved):
    by_hand(out)
    clock, (key, other) = Clock(out), places(out, "ddrm")
    path = clock.store.path(key) / "time.json"
    sound = path.read_text()
    assert clock.read(key) is not None
    torn = (sound[:-9], sound.replace("3.0", "0.1"), "[]", "nonsense", json.dumps({"key": key, "schema": 2, "timings": []}))
    for text in torn:
        path.write_text(text)
        assert clock.read(key) is None
        assert read_rows(out)[0]["timings"] == 0
    good = timing(1.0).model_dump()
    bad = [
        [],
        [{**good, "seconds": -1.0}],
        [{**good, "seconds": "nan"}],
        [{**good, "more": 1}],
        "none",
        [{**good, "x_sha256": "<script>"}],
    ]
    for timings in bad:  # with a hash that fits
        clock.store.write(key, {"conditions": HERE.model_dump(), "timings": timings}, {})
        assert clock.read(key) is None
    path.write_text(sound[:-9])
    shutil.copytree(clock.store.path(key), clock.store.path(other))
    assert clock.read(other) is None
    found = {one.what: one for one in health.doctor(out)}
    assert found["torn timings"].advice == "bench time takes them again"
    assert set(found) == {"torn timings"}
    time_run(out, repeats=1, solvers=["ddrm"], progress=False)
    assert solved == ["ddrm"]
    assert len(clock.read(key).timings) == 1


def test_timings_of_another_machine_give_way(out, solved, caplog):
    by_hand(out)
    assert read_rows(out)[0]["timed_on"] == "a machine"
    time_run(out, repeats=2, solvers=["ddrm"], progress=False)
    assert solved == ["ddrm"] * 2
    assert "1 cells were timed on another machine" in caplog.text
    assert read_rows(out)[0]["timings"] == 2


def test_timings_of_cells_that_no_run_needs_are_collected(out):
    by_hand(out)
    assert health.gc(out) == ([], 0)
    run(tiny(**{**SUITE, "solver": SUITE["solver"][1:]}), out=out, progress=False)
    assert {path.relative_to(out).parts[0] for path in health.gc(out)[0]} == {"cells", "times"}


# --- showing ---------------------------------------------------------------------------------------------------------------------


def test_median_and_spread():
    assert repeated([3.0, 1.0, 1.5]) == (1.5, 1.0, 3.0)
    assert repeated([5.0, 1.0, 2.0, 3.0, 4.0]) == (3.0, 2.0, 4.0)  # quartiles
    assert Times(1.0, None, 1, low=0.9, high=2.0).text(2) == "1.00 [0.90, 2.00]"
    one, other = Times(1.0, None, 1, low=0.9, high=1.1), Times(1.2, None, 1, low=1.1, high=1.3)
    assert overlapping(one, other)
    assert not overlapping(one, Times(1.2, None, 1, low=1.15, high=1.3))
    assert not overlapping(one, None)


def test_tables_reports_and_exports_have_median_and_spread(out):
    before = open_run(out).boards[0]
    assert "seconds: once, while computing\n" in format_plain(read_run(out), read_rows(out))
    assert "Seconds: once, while computing. The machine may have been busy" in write_report(out).read_text()
    by_hand(out)
    rows = read_rows(out)
    text = format_plain(read_run(out), rows)
    assert "1.50 [1.00, 3.00]" in text
    assert "seconds: median of 3 repeats [least, most] of drawing-0, in turns, on an otherwise idle processor" in text
    assert "seconds of gaussian-blur · adam-tv: once, while computing" in text
    assert "every repeat gave the stored answer, to the bit" in text
    assert "repeated on a machine" in text
    after = open_run(out).boards[0]
    assert {name: after.costs["seconds"][name] for name in ("ddrm", "dps")} == {"ddrm": 1.5, "dps": 1.3}
    assert after.costs["seconds"]["adam-tv"] == before.costs["seconds"]["adam-tv"]
    page = write_report(out).read_text()
    for shown in ("1.50 [1.00, 3.00]", "1.3 s [1.2, 1.4]", "median of 3 repeats", "1.3 seconds [1.2, 1.4]", "Lines across"):
        assert shown in page
    assert "1.50 [1.00, 3.00]" in exported(out, "latex")
    first, second, *_ = csv.DictReader(exported(out, "csv").splitlines())
    columns = ("seconds_median", "seconds_low", "seconds_high", "timings")
    assert [first[name] for name in columns] == ["1.5", "1.0", "3.0", "3"]
    assert [second[name] for name in columns] == ["", "", "", "0"]
    assert json.loads(exported(out, "json"))["rows"][0]["seconds_low"] == 1.0


def test_rows_on_the_disk_follow(out):
    time_run(out, repeats=1, solvers=["ddrm"], progress=False)
    assert json.loads((out / "rows.jsonl").read_text().splitlines()[0])["timings"] == 1


@pytest.mark.parametrize(("seconds", "processor", "wanted"), [(1.0, 0.5, "2 of 2"), (1.0, 0.81, ""), (1.0, 0.79, "2 of 2")])
def test_a_busy_machine_is_named(out, seconds, processor, wanted):
    given(out, {"ddrm": [seconds] * 2}, processor=processor)
    (text, *_) = said(read_rows(out))
    busy = "on a busy machine: in 2 of 2 timings the clock went on more than 1.25 times as long as the processor (gaussian-blur · ddrm)"
    assert (busy in text) is bool(wanted)
    given(out, {"ddrm": [seconds] * 2}, HERE.model_copy(update={"device": "cuda"}), processor=processor)
    assert "busy" not in said(read_rows(out))[0]


def test_words_for_many_repeats_and_machines(out):
    given(out, {"ddrm": [1.0] * 6})
    assert "median of 6 repeats [quartiles] of drawing-0" in said(read_rows(out))[0]
    given(out, {"dps": [1.0] * 2}, HERE.model_copy(update={"hardware": "another"}))
    texts = said(read_rows(out), "a machine")
    assert "median of 2 to 6 repeats [least, most; from 5 on quartiles]" in texts[0]
    assert "seconds are of 2 machines, and no comparison: a machine; another" in texts
    assert said([]) == []


def test_a_difference_within_the_spreads_is_none(out, tmp_path):
    """Of two runs, and of the winner and the cheapest that is not told apart from it."""
    shutil.copytree(out, tmp_path / "second")
    given(out, {"ddrm": [1.0, 2.0], "dps": [1.0, 1.1]})
    given(tmp_path / "second", {"ddrm": [1.9, 3.0], "dps": [2.0, 2.2]})
    found = compare(out, tmp_path / "second")
    assert found.level == [("gaussian-blur", "ddrm")]
    ratios = {solver: ratio for _, solver, ratio in found.times}
    assert (ratios["ddrm"], ratios["dps"], ratios["adam-tv"]) == (pytest.approx(2.45 / 1.5), pytest.approx(2.0), 1.0)
    text = found.text()
    assert "ddrm: x 1.63, not told apart: the spreads of the repeats overlap\n" in text
    assert "dps: x 2.00\n" in text

    def cheap(low, high):
        metric = {"label": "PSNR", "unit": "dB", "digits": 2, "higher": True, "of_sets": False}
        known = {"metrics": {"psnr": metric}, "suite": {"operator": [{"label": "blur"}]}, "sets": []}
        common = {"operator": "blur", "status": "finished", "reason": "", "prior": "tv", "nfe": 0, "timings": 3}
        common |= {"seconds": 9.0, "network_seconds": 0.0}
        spans = {"a": (2.0, 1.5, 2.5), "b": (1.0, low, high)}
        rows = [
            {**common, "solver": name, "solver_name": "x", "image": str(place), "metrics": {"psnr": 20 + wobble * (0.1 + (-1) ** place)}}
            for name, wobble in (("a", 1), ("b", 0))
            for place in range(8)
        ]
        for row in rows:
            row["seconds_median"], row["seconds_low"], row["seconds_high"] = spans[row["solver"]]
        return card(board(known, rows, "blur"), "psnr", metric)["cheap"]

    assert cheap(0.9, 1.6) is None
    assert cheap(0.9, 1.1)["name"] == "b"
