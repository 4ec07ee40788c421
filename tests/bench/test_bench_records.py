"""Records of a run cannot lie: whatever a row depends on is in its key or taken anew, and what is damaged is computed again."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import errno
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from bench_cases import GAUSSIAN, same, tiny
from sweeps import thinned

import invsolve
from invsolve.bench import Suite, run, write_report
from invsolve.bench.cells import Store
from invsolve.bench.export import read_rows, read_run
from invsolve.bench.fingerprint import code_hash, data_hash
from invsolve.bench.lock import locked
from invsolve.bench.measurements import alike
from invsolve.bench.table import format_plain
from invsolve.errors import InputError
from invsolve.io.files import replacing_folder, sweep
from invsolve.plugins import Entry, registry
from invsolve.solver import Solver

STUDIES = Path(invsolve.__file__).resolve().parents[1] / "benchmarks" / "studies"


def study(name):
    """A campaign, as a module."""
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOLVERS = [{"name": "adam-tv", "steps": 2, "prior": {"name": "tv", "weight": 8.0}}, {"name": "ddrm", "steps": 2, "prior": GAUSSIAN}]


def small(**changes):
    return tiny(**{"operator": [{"name": "gaussian-blur", "sigma": 1.0}], "solver": SOLVERS, "metrics": ["psnr", "residual"], **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "run"
    return run(small(), out=out, progress=False), out


@pytest.fixture
def out(whole, tmp_path):
    """A folder of that run to spoil."""
    shutil.copytree(whole[1], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def solved(monkeypatch):
    """How many solves there were."""
    calls, solve = [], Solver.solve
    monkeypatch.setattr(Solver, "solve", lambda self, *args, **options: calls.append(1) or solve(self, *args, **options))
    return calls


# --- one thing is changed ----------------------------------------------------------------------------------------------------

FAST = [
    "kernel file, and a solver more",
    "saved problem's mask",
    "metric more",
    "plug-in's helper",
    "plug-in's data file",
    "solver.samples",
]


def test_a_resumed_run_shows_the_rows_of_a_fresh_one(tmp_path):
    found = study("change_one_thing").campaign(tmp_path, FAST)
    assert {name: wrong for name, (_, wrong, _) in found.items() if wrong} == {}
    assert all(moved > 0 for _, _, moved in found.values()), found  # each change is one that rows show


@pytest.mark.slow
def test_every_field_of_a_suite_and_every_file(tmp_path, pytestconfig):
    """Every fourth in a plain run: of what is renamed, changed, added or gone of operators, solvers and metrics some."""
    module = study("change_one_thing")
    names = [name for name in module.CHANGES if name not in FAST]
    found = module.campaign(tmp_path, names if pytestconfig.getoption("--whole") else names[::4])
    assert {name: wrong for name, (_, wrong, _) in found.items() if wrong} == {}


def test_equal_settings_under_two_labels_are_two_rows_and_one_solve(tmp_path, solved):
    twins = [{**SOLVERS[1], "label": label} for label in ("ours", "baseline")]
    rows = run(small(solver=twins), out=tmp_path, progress=False)
    assert [row["solver"] for row in rows] == ["ours"] * 2 + ["baseline"] * 2
    assert [row["x_sha256"] for row in rows[:2]] == [row["x_sha256"] for row in rows[2:]]
    assert len(solved) == 2
    assert "baseline" in format_plain(read_run(tmp_path), rows)
    run(small(solver=twins), out=tmp_path, progress=False, fresh=True)
    assert len(solved) == 4


def test_labels_and_metrics_are_taken_anew_and_nothing_is_solved_again(whole, out, solved):
    renamed = [{**SOLVERS[0], "label": "TV"}, SOLVERS[1]]
    rows = run(small(solver=renamed, metrics=["ssim", "psnr"]), out=out, progress=False)
    assert solved == []
    assert [row["solver"] for row in rows] == ["TV"] * 2 + ["ddrm"] * 2
    assert all(list(row["metrics"]) == ["ssim", "psnr"] and row["metrics"]["ssim"] is not None for row in rows)
    assert [row["metrics"]["psnr"] for row in rows] == [row["metrics"]["psnr"] for row in whole[0]]


def test_a_plug_ins_files_are_part_of_its_key(tmp_path, monkeypatch):
    package = tmp_path / "with_data"
    (package / "tables").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "solver.py").write_text("x = 1\n")
    (tmp_path / "alone_with_data.py").write_text("from pathlib import Path\nNAME = 'alone.npy'\n")
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ("with_data.solver", "alone_with_data"):
        monkeypatch.setitem(registry().entries, ("solver", kind), Entry("solver", kind, f"{kind}:X", "s 1"))

    def hashes():
        data_hash.cache_clear()  # as every run does
        return [data_hash(name) for name in ("with_data.solver", "alone_with_data", "invsolve.solvers.diffusion.dps")]

    first = hashes()
    (package / "tables" / "t.json").write_text("1")
    (tmp_path / "alone.npy").write_bytes(b"1")
    (tmp_path / "not_named.npy").write_bytes(b"1")
    second = hashes()
    (package / "__pycache__").mkdir(exist_ok=True)  # there already where bytecode is written
    (package / "__pycache__" / "x.pyc").write_bytes(b"1")
    (package / ".hidden").write_text("1")
    (tmp_path / "not_named.npy").write_bytes(b"2")
    assert hashes() == second
    assert [one != other for one, other in zip(first, second, strict=True)] == [True, True, False]


def test_what_is_typed_into_a_notebook_is_known_by_its_code(monkeypatch):
    typed = (
        "from invsolve.bench import Metric\nclass Off(Metric):\n    label = 'off'\n    def compute(self, x_hat, x):\n        return {}\n"
    )
    hashes = []
    for body in (
        "x.mean((1, 2, 3))",
        "(x_hat - x).mean((1, 2, 3))",
        "x.mean((1, 2))",
        "[a for a in x]",
        "[b + 1 for b in x]",
        "x.mean((1, 2, 3))",
    ):
        cell = types.ModuleType("typed_cell")
        exec(typed.format(body), cell.__dict__)
        monkeypatch.setitem(sys.modules, "typed_cell", cell)
        hashes.append(code_hash(cell.Off))
    assert hashes[0] == hashes[-1]
    assert len(set(hashes)) == 5


# --- damage ------------------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = [flip, cut, empty, folder, Path.unlink]


@pytest.mark.parametrize("how", DAMAGE, ids=lambda how: how.__name__)
@pytest.mark.parametrize("where", ["cells/*/*/tensors.safetensors", "cells/*/*/cell.json", "inputs/*/*/tensors.safetensors"])
def test_what_is_damaged_is_computed_again(where, how, whole, out, solved):
    for path in sorted(out.glob(where)):
        how(path)
    rows = run(small(), out=out, progress=False)
    assert list(map(same, rows)) == list(map(same, whole[0]))
    assert len(solved) == (4 if where.startswith("cells") else 0)  # a measurement that is drawn to the same bits changes no answer
    stores = Store(out, "cells", "cell.json"), Store(out, "inputs", "input.json")
    assert all(stores[0].tensors(row["key"]) for row in rows)
    assert all(stores[1].tensors(place["input"]) for place in read_run(out)["cells"])


def test_a_number_that_somebody_wrote_into_a_record_is_not_shown(whole, out):
    path = Store(out, "cells", "cell.json").path(whole[0][0]["key"]) / "cell.json"
    record = json.loads(path.read_text())
    record["measures"] = dict.fromkeys(record["measures"], 99.0)
    path.write_text(json.dumps(record))
    assert len(read_rows(out)) == 3
    assert list(map(same, run(small(), out=out, progress=False))) == list(map(same, whole[0]))


def test_another_measurement_than_the_one_drawn_now_is_replaced_and_its_cells_computed_again(whole, out, solved, caplog):
    store = Store(out, "inputs", "input.json")
    for key in {place["input"] for place in read_run(out)["cells"]}:
        tensors = store.tensors(key)
        store.write(key, store.read(key), {**tensors, "y0": tensors["y0"] * 0.9})
    with caplog.at_level("WARNING", "invsolve"):
        rows = run(small(), out=out, progress=False)
    assert list(map(same, rows)) == list(map(same, whole[0]))
    assert "another than the one drawn now" in caplog.text


def test_a_measurement_that_differs_by_rounding_is_kept():
    y = torch.linspace(0, 1, 100)[None]
    held = {"truth": y, "y0": y}
    assert alike(held, {"truth": y, "y0": y * (1 + 4 * torch.finfo(y.dtype).eps)})
    assert not alike(held, {"truth": y, "y0": y + 1e-3})
    assert not alike(held, {"truth": y + 1e-7, "y0": y})
    assert not alike(held, {"truth": y, "y0": y[:, :50]})
    assert not alike(held, {"truth": y, "y0": y.double()})
    assert not alike(held, {"truth": y})
    assert not alike(held, {"truth": y, "y0": y * float("nan")})


def test_what_lies_where_a_cell_belongs_is_replaced(whole, out):
    key = whole[0][0]["key"]
    shutil.rmtree(out / "cells" / key[:2])
    (out / "cells" / key[:2]).write_text("not a folder")
    assert list(map(same, run(small(), out=out, progress=False))) == list(map(same, whole[0]))


def test_damaged_folders_end_in_clear_errors_or_answers(tmp_path):
    counts, bad = study("damaged_runs").campaign(tmp_path, 25, seed=1)
    assert bad == []
    assert counts["report: answered"] + counts["report: refused"] == 25
    assert counts["resumed: answered"] > 15


def test_runs_of_an_earlier_version_are_named(out):
    record = json.loads((out / "run.json").read_text())
    del record["schema"]
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"another version of invsolve.*run the suite again"):
        write_report(out)


# --- two at once, kills, disks, clocks -----------------------------------------------------------------------------------------


def test_one_run_at_a_time_in_a_folder(out):
    pytest.importorskip("fcntl")
    with locked(out) as held:
        assert held
        with pytest.raises(InputError, match="another run works in"):
            run(small(), out=out, progress=False)
    run(small(), out=out, progress=False)


def write_often(folder, start):
    start.wait()
    for index in range(60):
        with replacing_folder(folder / f"cell{index % 3}", None) as temporary:
            (temporary / "cell.json").write_text("1" * 100)
            (temporary / "tensors").write_text("2" * 100)


def test_twins_that_write_the_same_cells_both_succeed(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    twins = [context.Process(target=write_often, args=(tmp_path, start)) for _ in range(3)]
    for one in twins:
        one.start()
    start.set()
    for one in twins:
        one.join(120)
    assert [one.exitcode for one in twins] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell0", "cell1", "cell2"]
    assert all((tmp_path / f"cell{index}" / "tensors").read_text() == "2" * 100 for index in range(3))


def test_only_what_writers_left_is_swept(tmp_path):
    for name in (".cell.123-0123abcd.tmp", "deep/.x.json.1-ffffffff.tmp"):
        (tmp_path / name).mkdir(parents=True)
    kept = [tmp_path / name for name in (".mine.tmp", "x.tmp", "deep/cell")]
    for path in kept:
        path.mkdir()
    assert sweep(tmp_path) == 2
    assert all(path.is_dir() for path in kept)
    assert sweep(tmp_path) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs fork and /proc")
@pytest.mark.parametrize(("alone", "cells"), thinned([(4, 60), (26, 120)], lambda place: place == 0))
def test_no_finished_cell_is_lost_by_thirty_kills_of_drivers_and_workers(alone, cells):
    """Of runs in one process, of three workers and of their driver; thirty in one campaign with --whole, eight in a plain run."""
    pytest.importorskip("cryptography", reason="the extra dask is not installed")
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    sizes = ["--kills", str(alone + 4), "--cells", str(cells), "--alone", str(alone), "--spread", "1", "--each", "3", "--longest", "0.4"]
    done = subprocess.run(
        [sys.executable, str(STUDIES / "kill_campaign.py"), *sizes], capture_output=True, text=True, check=True, timeout=500
    )
    assert "finished cells lost: 0, torn: 0, computed again: 0; processes left 5 s after their driver: 0" in done.stdout
    assert "folders that ended with other rows or remains: 0" in done.stdout
    assert int(re.search(r"(\d+) workers", done.stdout)[1]) >= 3


@pytest.mark.parametrize(
    ("place", "number", "word"),
    [("fsync", errno.ENOSPC, "No space left"), ("replace", errno.EROFS, "Read-only"), ("rename", errno.EACCES, "Permission denied")],
)
def test_a_disk_that_takes_nothing_ends_in_a_sentence_and_is_no_solvers_fault(place, number, word, whole, out, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"invsolve.io.files.os.{place}", refuse)
    with pytest.raises(InputError, match=f"cannot write .*{word}"):
        run(small(metrics=["ssim"]), out=out, progress=False)
    if place == "replace":
        with pytest.raises(InputError, match=f"cannot write .*report.html.*{word}"):
            write_report(out)
    monkeypatch.undo()
    assert not list(out.rglob("*.tmp"))
    assert list(map(same, run(small(), out=out, progress=False))) == list(map(same, whole[0]))


FULL = """
import json, resource, signal, sys, torch
torch.set_num_threads(1)
from invsolve.bench import Suite, run
from invsolve.errors import InputError
suite = Suite.make(json.loads(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    run(suite, out=sys.argv[2], progress=False)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_real_limit_of_file_size_ends_in_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, json.dumps(small().plain()), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot write ")
    assert "File too large" in done.stdout


def test_durations_do_not_follow_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", iter(range(10**9, 0, -(10**6))).__next__)  # every look at the clock is eleven days earlier
    run(small(), out=tmp_path, progress=False)
    assert 0 <= read_run(tmp_path)["seconds"] < 600
    assert time.monotonic() > 0


def test_the_old_module_is_the_function_and_both_spellings_work():
    import invsolve.bench.run as module
    from invsolve.bench import run as same_function
    from invsolve.bench.run import run as old
    from invsolve.bench.runner import run as new

    assert old is same_function is new is module


def test_a_suite_as_it_is_stored_can_be_run_again(whole, tmp_path):
    again = run(Suite.make(read_run(whole[1])["suite"]), out=tmp_path, progress=False)
    assert list(map(same, again)) == list(map(same, whole[0]))
