"""What a run's folder says of itself: how far, what is wrong with it, what nobody needs; and how a run in one process is stopped."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportOptionalOperand=false, reportOperatorIssue=false

import json
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import dataclass

import pytest
import torch
from bench_cases import GAUSSIAN, same, tiny
from click.testing import CliRunner

from invsolve.bench import batches, health, memory, run
from invsolve.bench.cells import Store
from invsolve.bench.export import read_run
from invsolve.bench.fingerprint import source_hash
from invsolve.bench.flight import Flight
from invsolve.bench.job import Job
from invsolve.bench.lock import busy, locked
from invsolve.bench.stop import InterruptedRunError
from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.plugins import Entry, registry
from invsolve.plugins.interrupts import OutOfTimeError, attempted
from invsolve.run.memory import out_of_memory
from invsolve.solution import Step
from invsolve.solver import Requires, Solver


def small(**changes):
    solvers = [{"name": "diffpir", "steps": 2, "prior": GAUSSIAN}, {"name": "dps", "steps": 2, "prior": {"name": "tv"}}]
    operators = [{"name": "gaussian-blur", "sigma": 1.0}]
    return tiny(**{"data": {"shape": [1, 8, 8], "images": 4}, "operator": operators, "solver": solvers, "metrics": ["psnr"], **changes})


def bench(*words):
    return CliRunner().invoke(main, ["bench", *map(str, words)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("health") / "run"
    return run(small(), out=out, progress=False), out


@pytest.fixture
def out(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    return tmp_path / "run"


def places(out, kind="cells", record="cell.json"):
    store = Store(out, kind, record)
    return [store.path(place["key" if kind == "cells" else "input"]) for place in read_run(out)["cells"]]


# --- how far ---------------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_done_is_sound_and_nothing_of_it_is_needless(out):
    state = health.status(out)
    assert (state.running, state.total, state.left) == (False, 8, 0.0)
    assert state.counts == {"finished": 4, "failed": 0, "skipped": 4, "missing": 0}
    assert health.doctor(out) == []
    assert health.gc(out) == ([], 0)
    assert bench("status", out).output == "not running: 8 cells, 4 finished, 4 skipped\n"
    assert (bench("doctor", out).output, bench("gc", out).output) == ("nothing is wrong\n", "nothing to remove\n")


def test_what_is_missing_in_flight_and_left(out):
    first, second = places(out)[:2]
    key = second.name
    for path in (first, second):
        shutil.rmtree(path)
    record = json.loads((out / "run.json").read_text())
    record["started"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() - 100))
    (out / "run.json").write_text(json.dumps(record))
    solved = [Store(out, "cells", "cell.json").read(path.name)["answer"]["seconds"] for path in places(out)[2:4]]
    with locked(out), Flight(out).over([key]):
        assert busy(out)
        state = health.status(out)
        shown = bench("status", out).output
    assert not busy(out)
    assert state.running
    assert (state.counts["finished"], state.counts["missing"]) == (2, 2)
    assert [(one["solver"], one["image"]) for one in state.flying] == [("diffpir", "drawing-1")]
    # Two cells of this kind were solved in 100 seconds, whatever else those went to: the two that are missing take as long.
    assert state.left == pytest.approx(2 * sum(solved) / 2 * 100 / sum(solved), rel=0.1)
    assert "in flight: gaussian-blur · diffpir · drawing-1, for 0 s on " in shown
    assert re.search(r"about (1\.[5-9]|9\d s)", shown)  # 100 s but for rounding and for what the clock went on
    assert "goes on" in bench("status", out).output
    assert json.loads(bench("status", out, "--json").output)["flying"] == []  # nobody runs: a mark would be a dead one's


def test_a_glance_keeps_no_run_from_starting(out):
    over = threading.Event()
    thread = threading.Thread(target=lambda: [busy(out) for _ in iter(over.is_set, True)])
    thread.start()
    try:
        for _ in range(50):
            with locked(out):
                pass
    finally:
        over.set()
        thread.join()


# --- what is wrong ---------------------------------------------------------------------------------------------------------------


def tear(out):
    path = places(out)[0] / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def strange(out):
    (out / "cells" / "notes.txt").write_text("mine")
    (out / "cells" / "ab").mkdir(exist_ok=True)
    (out / "cells" / "ab" / "cd").mkdir()
    (places(out)[0] / "more.txt").write_text("mine")


def rest(out):
    (out / "cells" / "ab").mkdir(exist_ok=True)
    (out / "cells" / "ab" / ".x.123-0123abcd.tmp").mkdir()


def rewritten(out, change):
    store = Store(out, "cells", "cell.json")
    for path in places(out)[:3]:
        record, tensors = store.read(path.name), store.tensors(path.name)
        change(record)
        store.write(path.name, record, tensors)


WRONG = {
    "torn": (tear, "torn or changed", 1),
    "foreign": (strange, "foreign", 3),
    "rest": (rest, "half written", 1),
    "missing": (lambda out: [shutil.rmtree(path) for path in places(out)[:3]], "not there yet", 3),
    "other version": (lambda out: rewritten(out, lambda record: record["answer"]["versions"].update(torch="1.0")), "torch 1.0, here 2", 3),
    "other source": (
        lambda out: rewritten(out, lambda record: record["inputs"]["solver"].update(source="0" * 64)),
        "its solver is another",
        3,
    ),
    "other prior": (lambda out: rewritten(out, lambda record: record["inputs"]["prior"].update(plugin="x 0")), "its prior is another", 3),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_counted_and_has_a_remedy(name, out):
    spoil, words, count = WRONG[name]
    spoil(out)
    (found,) = health.doctor(out)
    assert words in found.what
    assert found.count == count
    assert found.advice
    shown = bench("doctor", out)
    assert (shown.exit_code, words in shown.output) == (1, True)
    if name != "foreign":
        run(small(), out=out, progress=False, fresh=name.startswith("other"))
        assert health.doctor(out) == []


def test_a_solver_whose_source_has_changed_is_stale_from_then_on(out, monkeypatch):
    monkeypatch.setattr("invsolve.bench.fingerprint.source_hash", lambda module: source_hash(module) + ("!" if "diffpir" in module else ""))
    (found,) = health.doctor(out)
    assert (found.what, found.count) == ("stale: its solver is another one now", 4)


def test_a_folder_without_a_run_and_one_with_a_broken_list(out, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        health.doctor(tmp_path)
    (out / "run.json").write_text("{")
    assert [one.what for one in health.doctor(out)] == ["run.json cannot be read"]


# --- what nobody needs -----------------------------------------------------------------------------------------------------------


def test_gc_removes_what_the_suite_no_longer_uses_and_nothing_else(whole, out):
    changed = small(solver=[{"name": "diffpir", "steps": 3, "prior": GAUSSIAN}], data={"shape": [1, 8, 8], "images": 2})
    rows = run(changed, out=out, progress=False)
    tear(out)
    strange(out)
    rest(out)
    before = sorted(out.rglob("*"))
    paths, size = health.gc(out)
    assert sorted(out.rglob("*")) == before
    assert len(paths) == 8 + 2 + 1 + 1  # cells, measurements, a torn one and a rest
    assert size > 0
    with locked(out), pytest.raises(InputError, match="another run works"):
        health.gc(out, remove=True)
    assert "would be removed by --yes" in bench("gc", out).output
    assert f"removed {len(paths)} folders and files" in bench("gc", out, "--yes").output
    assert not any(path.exists() for path in paths)
    assert [one.what.partition(":")[0] for one in health.doctor(out)] == ["foreign", "not there yet"]
    assert list(map(same, run(changed, out=out, progress=False))) == list(map(same, rows))


# --- Ctrl-C in one process -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pressed(Solver):
    """Presses Ctrl-C so often after its first step, which a warm-up takes too, then answers."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))
    times: int = 0

    def iterate(self, problem, prior, rng, start=None):
        x = problem.operator.adjoint(problem.y)
        yield Step(0, 2, x, x)
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)
        yield Step(1, 2, x, x)


@pytest.fixture
def stranger(monkeypatch):
    for name, attribute in (("pressed", "Pressed"), ("greedy", "Greedy")):
        monkeypatch.setitem(registry().entries, ("solver", name), Entry("solver", name, f"{__name__}:{attribute}", "stranger 1.0"))


@pytest.mark.parametrize(("times", "kept"), [(1, 1), (2, 0)])
def test_ctrl_c_once_keeps_the_cell_and_twice_drops_it(times, kept, stranger, tmp_path, capfd):
    suite = small(solver=[{"name": "pressed", "times": times, "prior": GAUSSIAN}])
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(suite, out=tmp_path, progress=False)
    assert isinstance(caught.value, InterruptedRunError) is (times == 1)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(list(tmp_path.glob("cells/*/*/cell.json"))) == kept
    assert "finishing the cells in flight" in capfd.readouterr().err
    assert Flight(tmp_path).marks() == {}


def test_the_command_says_how_to_go_on_and_ends_with_130(stranger, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'data = { shape = [1, 8, 8], images = 2 }\nnoise = { sigma = 0.05 }\noperator = [{ name = "gaussian-blur" }]\nmetrics = ["psnr"]\n'
        '[[solver]]\nname = "pressed"\ntimes = 1\nprior = { name = "gaussian" }\n'
    )
    found = bench("run", file, "--out", tmp_path / "run", "--fresh", "--batch", "1", "--seed", "3")
    assert found.exit_code == 130
    assert f"invsolve bench run {file} --seed 3 --batch 1 --out {tmp_path / 'run'}\n" in found.output


# --- memory, and the limit of a thread ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Greedy(Solver):
    """Has room for so many pictures together."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))
    room: int = 1

    def iterate(self, problem, prior, rng, start=None):
        if problem.batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        x = problem.operator.adjoint(problem.y)
        yield Step(0, 1, x, x)


def test_what_memory_runs_out_with_inside_a_solver_is_cut_there(stranger, tmp_path):
    data = {"shape": [1, 8, 8], "images": 7}
    for room in (2, 0):
        suite = small(data=data, solver=[{"name": "greedy", "room": room, "prior": GAUSSIAN}])
        rows = run(suite, out=tmp_path / str(room), progress=False, batch=8)
        assert {(row["status"], row["batch"]) for row in rows} == {("finished", 7) if room else ("failed", None)}


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """The rows of seven pictures, each by itself."""
    return run(small(data={"shape": [1, 8, 8], "images": 7}), out=tmp_path_factory.mktemp("seven") / "run", progress=False)


@pytest.mark.parametrize(("room", "sizes"), [(2, [2, 2, 2, 2, 2, 2, 1]), (5, [4, 4, 4, 4, 3, 3, 3]), (1, [1] * 7)])
def test_what_memory_runs_out_with_outside_of_one_is_halved_and_stays_so(room, sizes, seven, tmp_path, monkeypatch):
    compute, tried = Job.compute, []

    def small_machine(self, chunk, bar):
        tried.append(len(chunk))
        if len(chunk) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return compute(self, chunk, bar)

    monkeypatch.setattr(Job, "compute", small_machine)
    rows = run(small(data={"shape": [1, 8, 8], "images": 7}), out=tmp_path / "cut", progress=False, batch=7)
    assert [row["batch"] for row in rows if row["solver"] == "diffpir"] == sizes
    for mine, alone in zip(rows, seven, strict=True):  # a batch rounds otherwise than its pictures alone, by parts in 1e7
        assert mine["metrics"]["psnr"] == (None if alone["metrics"]["psnr"] is None else pytest.approx(alone["metrics"]["psnr"], rel=1e-5))


def test_messages_of_allocators_are_known():
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("x"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes. Error code 12 (Cannot allocate memory)"),
    ):
        assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_auto_fills_half_of_the_memory_that_is_free(stranger, tmp_path, monkeypatch):
    suite = small(data={"shape": [1, 8, 8], "images": 7}, solver=[{"name": "greedy", "room": 99, "prior": GAUSSIAN}])
    monkeypatch.setattr(batches, "room", lambda device: 600)
    monkeypatch.setattr(memory.Peak, "__exit__", lambda self, *_: setattr(self, "bytes", 100))
    rows = run(suite, out=tmp_path, progress=False, batch="auto")
    assert [row["batch"] for row in rows] == [1, 3, 3, 3, 3, 3, 3]
    assert read_run(tmp_path)["batch"] == "auto"


@pytest.mark.skipif(not memory.STATUS.is_file(), reason="needs /proc")
def test_there_is_room_and_less_when_it_is_taken():
    free = memory.room(torch.device("cpu"))
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_limit_holds_in_other_threads_and_ends_with_its_block():
    found = []

    def spin():
        while True:
            time.sleep(0.002)

    def all_of_it():
        found.append(attempted(spin, 0.05))
        found.append(attempted(lambda: 5, 0.05))
        time.sleep(0.2)
        found.append("alive")

    thread = threading.Thread(target=all_of_it)
    thread.start()
    thread.join()
    assert isinstance(found[0], OutOfTimeError)
    assert found[1:] == [5, "alive"]
