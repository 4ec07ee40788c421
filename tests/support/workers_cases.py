"""A run over workers is the run in one process: equal rows, and nobody's death costs more than the cell it was at."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from bench_cases import GAUSSIAN, same, tiny
from sweeps import thinned

from invsolve.bench import pool, run, worker
from invsolve.bench.cells import Store
from invsolve.bench.environment import versions
from invsolve.bench.flight import POISON, Flight
from invsolve.bench.job import Job
from invsolve.bench.stop import InterruptedRunError
from invsolve.bench.worker import Order, Place, work
from invsolve.errors import InputError

SHAPE = {"shape": [3, 8, 8], "images": 3}
LONG = {"name": "adam-tv", "label": "long", "steps": 100_000, "prior": {"name": "tv", "weight": 8.0}}
SOLVERS = [
    {"name": "diffpir", "steps": 2, "prior": GAUSSIAN},
    {"name": "adam-tv", "steps": 2, "prior": {"name": "tv", "weight": 8.0}},
    {"name": "dps", "label": "diverges", "steps": 9, "authors": True, "scale": 1e30, "prior": GAUSSIAN},
    {"name": "dps", "label": "does not fit", "prior": {"name": "tv"}},
]


def small(**changes):
    operators = [{"name": "gaussian-blur", "sigma": 1.0}, {"name": "block-mean", "factor": 2}]
    return tiny(**{"data": SHAPE, "operator": operators, "solver": SOLVERS, "metrics": ["psnr", "residual"], **changes})


def dask():
    pytest.importorskip("cryptography", reason="the extra dask is not installed")
    return pytest.importorskip("distributed", reason="the extra dask is not installed")


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return run(small(), out=tmp_path_factory.mktemp("serial"), progress=False)


class Hunter(threading.Thread):
    """Kills whoever computes a cell, at each of the first `times` times."""

    def __init__(self, out, key, times):
        super().__init__(daemon=True)
        self.path, self.times, self.killed = Flight(out).path(key), times, []

    def run(self):
        until = time.monotonic() + 60
        while len(self.killed) < self.times and time.monotonic() < until:
            mark = Flight(self.path.parents[1]).marks().get(self.path.stem)
            if mark and mark["pid"] not in self.killed and mark["pid"] != os.getpid():
                self.killed.append(mark["pid"])
                os.kill(mark["pid"], signal.SIGKILL)
            time.sleep(0.005)


def keys(suite, out):
    """The keys of a suite's cells by solver and picture, as a run in `out` will have them."""
    job = Job(suite, out, 0, torch.device("cpu"), 1, False)
    job.prepare()
    return {(cell.solver.label, cell.picture.id): cell.key for cell in job.cases}


@pytest.mark.whole  # an external scheduler's two workers below, the workers of Ctrl-C and of the campaign of kills are in every run
def test_two_workers_give_the_rows_of_one_process(serial, tmp_path, capfd):
    dask()
    rows = run(small(), out=tmp_path / "run", workers=2)
    assert list(map(same, rows)) == list(map(same, serial))
    assert {row["status"] for row in rows} == {"finished", "diverged", "skipped"}
    assert not (tmp_path / "run" / "flight").exists()
    assert "2 workers: 24 computed" in capfd.readouterr().err


def test_another_scheduler_gives_the_rows_of_one_process_and_killed_workers_cost_no_cell(serial, tmp_path):
    distributed = dask()
    poison = small(operator=[{"name": "gaussian-blur", "sigma": 1.0}], solver=[{**LONG, "label": "poison"}, {**LONG, "steps": 300}])
    found = keys(poison, tmp_path / "poison")
    picture = next(name for label, name in found if label == "poison")
    few = {**SHAPE, "images": 1}
    with pool.dask_config(), distributed.LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster:
        rows = run(small(), out=tmp_path / "run", progress=False, scheduler=cluster.scheduler_address, batch=2)
        assert [same(row)["x_sha256"] for row in rows] == [same(row)["x_sha256"] for row in serial]
        run(small(metrics=["psnr"]), out=tmp_path / "bare", progress=False)
        again = run(small(), out=tmp_path / "bare", progress=False, scheduler=cluster.scheduler_address)  # the metric that is missing
        assert list(map(same, again)) == list(map(same, serial))
        bad = Hunter(tmp_path / "poison", found["poison", picture], 3)
        once = Hunter(tmp_path / "poison", found["long", picture], 1)
        bad.start()
        once.start()
        rows = run(small(**{**poison.plain(), "data": few}), out=tmp_path / "poison", progress=False, scheduler=cluster.scheduler_address)
    bad.join()
    once.join()
    assert (len(bad.killed), len(once.killed)) == (3, 1)
    assert [(row["solver"], row["status"]) for row in rows] == [("poison", "failed"), ("long", "finished")]
    assert rows[0]["reason"] == POISON


@pytest.mark.parametrize(("times", "steps", "kept"), thinned([(1, 400, range(2, 4)), (2, 100_000, range(1))], lambda place: place == 0))
def test_ctrl_c_once_finishes_what_is_in_flight_and_twice_stops_now(times, steps, kept, tmp_path):
    dask()
    suite = small(operator=[{"name": "gaussian-blur", "sigma": 1.0}], solver=[{**LONG, "steps": steps}])
    handler = signal.getsignal(signal.SIGINT)

    def press():
        until = time.monotonic() + 60
        while len(Flight(tmp_path).marks()) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(suite, out=tmp_path, progress=False, workers=2)
    thread.join()
    assert isinstance(caught.value, InterruptedRunError) is (times == 1)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(list((tmp_path / "cells").glob("*/*/cell.json"))) in kept


DRIVER = """
import sys
from workers_cases import LONG, small
from invsolve.bench import run
run(small(operator=[{"name": "gaussian-blur", "sigma": 1.0}], solver=[LONG]), out=sys.argv[1], progress=False, workers=2)
"""


@pytest.mark.whole
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_workers_that_cannot_look_at_a_pipe_end_with_their_driver(tmp_path):
    """They are stopped, so that nothing of theirs runs; only the kernel can end them then."""
    dask()
    path = [str(Path(__file__).parent), *sys.path]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env={**os.environ, "PYTHONPATH": os.pathsep.join(path)})
    until = time.monotonic() + 240  # seconds of a quiet machine; of a busy one, minutes
    while len(workers := {mark.get("pid") for mark in Flight(tmp_path).marks().values()} - {None}) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    driver.kill()
    driver.wait()
    until = time.monotonic() + 5
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def alive(pid):
    """Whether a process runs; one that has ended may still wait for a parent to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- what a worker refuses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def order(tmp_path):
    suite = small()
    job = Job(suite, tmp_path, 0, torch.device("cpu"), 1, False)
    job.prepare()
    cell = job.cases[0]
    place = Place(cell.operator.label, cell.solver.label, cell.picture.id, cell.base, cell.key)
    return Order("a run", suite, str(tmp_path), 0, "cpu", 1, False, None, versions(), 1), place


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(worker, "HELD", {})
    monkeypatch.setattr(worker, "PATIENCE", 0.0)


def test_a_worker_writes_the_cell_and_does_not_write_it_again(order, tmp_path):
    order, place = order
    store = Store(tmp_path, "cells", "cell.json")
    threads = torch.get_num_threads()
    assert work(order, [place]) == ""
    assert torch.get_num_threads() == threads == 1
    written = (store.path(place.key) / "cell.json").stat().st_mtime_ns
    with Flight(tmp_path).over([place.key]):  # its worker died after it had written
        assert work(order, [place]) == ""
    assert (store.path(place.key) / "cell.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"versions": {"torch": "1.0"}}, {}, "it has torch .*, not 1.0: install the same"),
        ({"out": "/nowhere"}, {}, "does not see the run's folder /nowhere"),
        ({}, {"picture": "other"}, "finds no picture 'other'"),
        ({}, {"key": "0" * 64}, "is another than the one asked for"),
        ({}, {"base": 1}, "measurement of .* is another than the one in the folder"),
    ],
)
def test_a_worker_that_would_compute_something_else_says_so(changes, where, words, order, tmp_path):
    import re

    order, place = order
    said = work(dataclasses.replace(order, **changes), [place._replace(**where)])
    assert re.search(words, said), said
    assert not (tmp_path / "cells").exists()


def test_a_cell_that_killed_three_workers_is_left_out_and_its_neighbours_are_not(order, tmp_path):
    order, place = order
    others = [place._replace(picture=cell.picture.id, key=cell.key) for cell in _job(order).cases[:3]]
    flight = Flight(tmp_path)
    for left in (1, 2, 3):  # what three killed workers leave: the chunk's marks first, then those of the bad one alone
        for cell in others if left == 1 else others[1:2]:
            with flight.over([cell.key]):
                text = flight.path(cell.key).read_text()
            flight.path(cell.key).write_text(text)
    assert [flight.tries(cell.key) for cell in others] == [1, 3, 1]
    assert work(dataclasses.replace(order, batch=3), others) == ""
    answers = [Store(tmp_path, "cells", "cell.json").read(cell.key)["answer"] for cell in others]
    assert [(one["status"], one["reason"]) for one in answers] == [("finished", ""), ("failed", POISON), ("finished", "")]
    assert [one["batch"] for one in answers] == [1, None, 1]
    assert flight.marks() == {}


def _job(order):
    job = Job(order.suite, worker.Path(order.out), 0, torch.device("cpu"), 1, False)
    job.prepare()
    return job


# --- what is asked for wrongly ---------------------------------------------------------------------------------------------------


def test_without_dask_the_extra_is_named_and_nothing_is_computed(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(pool, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'invsolve\[dask\]'"):
        run(small(), out=tmp_path, progress=False, workers=2)
    assert not (tmp_path / "cells").exists()


def test_what_cannot_be_is_refused(tmp_path):
    for wrong, words in (
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, "give one of them"),
        ({"batch": 0}, 'or "auto"'),
    ):
        with pytest.raises(InputError, match=words):
            run(small(), out=tmp_path, progress=False, **wrong)


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    dask()
    monkeypatch.setattr(pool, "SECONDS", "200ms")
    with pytest.raises(InputError, match=r"no dask scheduler answers at tcp://127.0.0.1:9"):
        run(small(), out=tmp_path, progress=False, scheduler="tcp://127.0.0.1:9")
