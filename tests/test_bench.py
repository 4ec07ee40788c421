"""The benchmark harness: rows, fairness, resuming, refusals, table and report."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import csv
import io
import json
import math
import re
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
import torch

from invsolve.bench import Suite, list_suites, run, write_report
from invsolve.bench.cells import Store, cell_key, encode
from invsolve.bench.data import load_pictures
from invsolve.bench.export import Spread, lines, read_rows, read_run
from invsolve.bench.fingerprint import read, source_hash
from invsolve.bench.job import Job, seed_of
from invsolve.bench.plan import check
from invsolve.bench.table import format_plain, print_tables
from invsolve.errors import InputError, UnknownNameError
from invsolve.operator import Capability
from invsolve.plugins import Entry, registry
from invsolve.priors.gaussian import GaussianPrior
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.dps import DPS

GAUSSIAN = {"name": "gaussian", "mean": 0.5, "std": 0.25}
TV = {"name": "tv", "weight": 8.0, "max_iter": 10}
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def values(**changes):
    """A tiny suite: 3 operators x 4 solvers x 2 pictures, one solver without a fitting prior."""
    return {
        "name": "tiny",
        "data": {"shape": [3, 16, 16], "images": 2},
        "noise": {"sigma": 0.05},
        "operator": [
            {"name": "box-mask", "label": "hole", "box": 6},
            {"name": "gaussian-blur", "sigma": 1.0},
            {"name": "block-mean", "factor": 2},
        ],
        "solver": [
            {"name": "adam-tv", "steps": 5, "prior": TV},
            {"name": "dps", "steps": 4, "prior": GAUSSIAN},
            {"name": "ddrm", "steps": 4, "prior": GAUSSIAN},
            {"name": "dps", "label": "dps without a denoiser", "prior": TV},
        ],
        "metrics": ["psnr"],
        **changes,
    }


def tiny(**changes):
    return Suite.make(values(**changes))


def same(row):
    """What must not change from run to run."""
    return {
        key: row[key]
        for key in ("operator", "image", "solver", "status", "reason", "nfe", "steps", "metrics", "x_sha256", "y_sha256", "key")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the tiny suite with all metrics, and its folder."""
    out = tmp_path_factory.mktemp("bench") / "run"
    return run(tiny(metrics=["psnr", "ssim", "haarpsi"]), out=out, progress=False), out


@pytest.fixture
def copy(finished, tmp_path):
    """A folder of that run to spoil."""
    shutil.copytree(finished[1], tmp_path / "copy")
    return tmp_path / "copy"


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
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi"]), out=copy, progress=False)
    assert again == finished[0]


def test_computing_again_gives_bitwise_the_same(finished, copy):
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi"]), out=copy, progress=False, fresh=True)
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
import os, signal, sys
from invsolve.bench import Suite, run
from invsolve.bench.cells import Store
import json
place = Store._place
count = 0
def killing(self, temporary, target):
    global count
    count += self.record == "cell.json"
    if count == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    place(self, temporary, target)
Store._place = killing
run(Suite.make(json.loads(sys.argv[1])), out=sys.argv[2], progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_writing_and_started_again_it_goes_on(finished, tmp_path, monkeypatch):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(values()), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "cells").glob(".tmp-*"))) == 1  # torn between writing and renaming
    assert len(read_rows(tmp_path)) == 7
    page = write_report(tmp_path).read_text()
    assert "not complete: 17 of 24 cells" in page
    solved, solve = [], Solver.solve
    monkeypatch.setattr(Solver, "solve", lambda self, *args, **options: solved.append(1) or solve(self, *args, **options))
    rows = run(tiny(), out=tmp_path, progress=False)
    # The first 6 cells are adam-tv, dps and ddrm on the first operator, the 7th a skipped one; 18 of the 24 are solvable.
    assert len(solved) == 18 - 6
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
    again = run(tiny(metrics=["psnr", "ssim", "haarpsi"]), out=copy, progress=False)
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
    path = Store(copy, "cells", "cell.json").path(finished[0][0]["key"]) / "cell.json"
    path.write_text(path.read_text().replace(finished[0][0]["y_sha256"], "0" * 64))
    with pytest.raises(InputError, match="another measurement"):
        read_rows(copy)


# --- what goes wrong ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exploding(Solver):
    """Fails on the second step."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))
    steps: int = 3

    def iterate(self, problem, prior, rng, start=None):
        yield Step(0, 3, problem.image, problem.image)
        raise RuntimeError("boom in step 1")


class Weighted(GaussianPrior):
    """Has weights with a hash, as networks do."""

    weights_sha256 = "a" * 64


def unloadable():
    raise OSError("weights are gone")


@pytest.fixture
def strangers(monkeypatch):
    """Entries of this file, as a plug-in would bring them."""
    for kind, name, attribute in (
        ("solver", "exploding", "Exploding"),
        ("prior", "weighted", "Weighted"),
        ("prior", "unloadable", "unloadable"),
    ):
        monkeypatch.setitem(registry().entries, (kind, name), Entry(kind, name, f"{__name__}:{attribute}", "stranger 1.0"))
    monkeypatch.setitem(registry().entries, ("solver", "missing"), Entry("solver", "missing", "no_such_module:Solver", "stranger 1.0"))


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
            {"name": "dsp", "prior": GAUSSIAN},
            {"name": "dps", "stps": 3, "prior": {"name": "tv", "wait": 1}},
            {"name": "ddim", "eta": 3.0, "prior": GAUSSIAN},
        ],
        metrics=["pnsr"],
    )
    with pytest.raises(InputError) as error:
        check(faulty)
    for text in (
        "did you mean box",
        "did you mean dps",
        "did you mean steps",
        "did you mean weight",
        "eta must lie in [0, 1]",
        "did you mean psnr",
    ):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solvers": []}, "solvers: Extra inputs are not permitted"),
        ({"operator": []}, "operator"),
        ({"operator": [{"name": "box-mask"}, {"name": "box-mask"}]}, "label used twice: box-mask"),
        ({"operator": [{"name": "gaussian-blur", "sigma": math.nan}]}, "finite"),
        ({"operator": [{"name": "../etc", "sigma": 1.0}]}, "match"),
        ({"solver": [{"name": "dps"}]}, "prior: Field required"),
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


def keys_of(suite, folder, seed=0):
    job = Job(suite, folder, seed, torch.device("cpu"), 1, False)
    job.prepare()
    return [case.key for case in job.cases]


def test_a_key_changes_with_every_input_and_with_nothing_else(tmp_path):
    def first(seed=0, **changes):
        return keys_of(
            tiny(**{"operator": values()["operator"][1:2], "solver": [{"name": "dps", "prior": GAUSSIAN}], **changes}), tmp_path, seed
        )[0]

    base = first()
    others = [
        first(seed=1),
        first(noise={"sigma": 0.06}),
        first(operator=[{"name": "gaussian-blur", "sigma": 1.1}]),
        first(solver=[{"name": "dps", "steps": 7, "prior": GAUSSIAN}]),
        first(solver=[{"name": "ddrm", "prior": GAUSSIAN}]),
        first(solver=[{"name": "dps", "prior": {**GAUSSIAN, "std": 0.3}}]),
        first(data={"shape": [3, 16, 16], "images": 1, "seed": 1}),
        first(dtype="float64"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert first(metrics=["ssim"], title="another", data={"images": 2, "shape": [3, 16, 16]}) == base
    # A default that is written out is the same run; so is a label.
    assert first(solver=[{"name": "dps", "label": "my DPS", "steps": DPS().steps, "prior": GAUSSIAN}]) == base


def test_weights_are_part_of_the_key(strangers, tmp_path, monkeypatch):
    suite = tiny(solver=[{"name": "dps", "prior": "weighted"}])
    one = keys_of(suite, tmp_path)
    monkeypatch.setattr(Weighted, "weights_sha256", "b" * 64)
    assert not set(one) & set(keys_of(suite, tmp_path))


def test_source_is_part_of_the_key_and_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "keyed_stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "solver.py").write_text("from keyed_stranger import helper\n")
    (package / "helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry().entries, ("solver", "keyed"), Entry("solver", "keyed", "keyed_stranger.solver:X", "s 1"))
    hashes = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        (package / "helper.py").write_text(text)
        source_hash.cache_clear()
        read.cache_clear()
        hashes.append(source_hash("keyed_stranger.solver"))
    assert hashes[0] == hashes[2] != hashes[1]


def test_keys_do_not_depend_on_the_order_of_a_table_and_refuse_nan():
    assert cell_key({"a": 1, "b": [0.1, None]}) == cell_key({"b": [0.1, None], "a": 1})
    assert cell_key({"a": 0.1}) != cell_key({"a": 0.1 + 2**-56})
    with pytest.raises(ValueError, match="JSON"):
        cell_key({"a": math.nan})


def test_seeds_leave_solvers_out():
    assert seed_of(0, "s", "blur", "noise") != seed_of(0, "s", "mask", "noise") != seed_of(1, "s", "mask", "noise")


# --- tables and the report ---------------------------------------------------------------------------------------------------


def test_means_and_spreads_are_those_over_images(finished):
    rows, out = finished
    (line,) = [line for line in lines(rows, "hole") if line.solver == "ddrm"]
    psnr = [row["metrics"]["psnr"] for row in rows if row["operator"] == "hole" and row["solver"] == "ddrm"]
    spread = line.numbers["psnr"]
    assert spread.mean == pytest.approx(statistics.mean(psnr), rel=1e-12)
    assert spread.std == pytest.approx(statistics.stdev(psnr), rel=1e-12)
    text = format_plain(read_run(out), rows)
    assert f"{spread.mean:.2f} ± {spread.std:.2f}" in text
    assert "skipped: prior TotalVariation is not a Denoiser" in text
    assert "k1 0.01" in text  # metric settings are printed
    infinite = Spread.of([math.inf, 20.0])
    assert (infinite.mean, infinite.std, infinite.infinite) == (math.inf, None, 1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_same_numbers_are_drawn_and_labels_stay_text(tmp_path):
    solver = {"name": "ddrm", "label": "[bold]x[/bold] [/]", "steps": 2, "prior": GAUSSIAN}
    rows = run(tiny(operator=values()["operator"][1:2], solver=[solver]), out=tmp_path, progress=False)
    stream = Terminal()
    print_tables(tmp_path, stream)
    (line,) = lines(rows, "gaussian-blur")
    assert "[bold]x[/bold] [/]" in stream.getvalue()
    assert line.numbers["psnr"].text(2).replace(" ± ", "±") in stream.getvalue()


class Page(HTMLParser):
    """Tags, what they load, and their text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.attributes, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "xlink:href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_file_that_loads_nothing(finished):
    _, out = finished
    path = write_report(out)
    text = path.read_text()
    page = Page(text)
    assert path == out / "report.html"
    assert "script" not in page.tags
    assert "link" not in page.tags
    # truth, measurement and three answers for each of 2 pictures and 3 operators; the skipped solver has none
    assert len(page.loads) == 2 * 3 * 5
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", text)
    seen = "".join(page.text)
    for wanted in ("hole", "TotalVariation is not a Denoiser", "CC0-1.0", "k1 0.01", "AdamTV(steps=5", finished[0][0]["y_sha256"]):
        assert wanted in seen


def test_hostile_names_stay_text(tmp_path):
    suite = tiny(
        title=HOSTILE[:100],
        operator=[{"name": "gaussian-blur", "label": f"op {HOSTILE}"}],
        solver=[
            {"name": "ddrm", "label": f"=cmd() {HOSTILE}", "steps": 2, "prior": GAUSSIAN},
            {"name": "dps", "label": f"\x1b[2J{HOSTILE}", "prior": TV},
        ],
    )
    rows = run(suite, out=tmp_path, progress=False)
    page = Page(write_report(tmp_path).read_text())
    assert "script" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert HOSTILE in "".join(page.text)
    assert "\x1b" not in format_plain(read_run(tmp_path), rows)
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["solver"].startswith("'=cmd()")
    assert all(
        re.fullmatch(
            r"[0-9a-f]{64}|[0-9a-f]{2}|cells|inputs|(run|cell|input)\.json|tensors\.safetensors|rows\.(csv|jsonl)|report\.html", path.name
        )
        for path in tmp_path.rglob("*")
    )


# --- what is shipped ---------------------------------------------------------------------------------------------------------


def test_the_shipped_suites_fit_what_is_installed():
    listed = {listing.name: listing for listing in list_suites()}
    assert {"quick", "smoke"} <= set(listed)
    assert not [listing for listing in listed.values() if listing.error]
    for name in ("quick", "smoke"):
        check(Suite.load(name))
    assert len(listed["quick"].operators) == 3
    solvers = [(entry.name, entry.prior.name) for entry in Suite.load("quick").solver]
    classical = [("adam-tv", "tv"), ("hqs", "tv"), ("hqs", "dncnn"), ("admm", "dncnn")]
    assert solvers == classical + [(name, "natural") for name in ("dps", "diffpir", "ddrm", "score-ald")]


def test_the_photographs_are_what_the_list_says():
    pictures = load_pictures("quick-photos", {})
    assert [picture.id for picture in pictures] == ["astronaut", "camera", "chelsea", "coffee"]
    for picture in pictures:
        assert picture.image.shape == (3, 128, 128)
        assert picture.image.dtype == torch.float32
        assert 0 <= float(picture.image.min()) < 0.2
        assert 0.8 < float(picture.image.max()) <= 1
        assert picture.licence.startswith(("CC0", "Public domain"))


def test_a_changed_photograph_is_refused(tmp_path):
    from invsolve_benchmarks.datasets import FOLDER, listed_photos

    shutil.copytree(FOLDER / "quick", tmp_path / "quick")
    with (tmp_path / "quick" / "coffee.png").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match=r"coffee\.png has sha256"):
        listed_photos(tmp_path / "quick")


def test_synthetic_pictures_do_not_depend_on_their_number():
    one, three = (load_pictures("synthetic", {"shape": [1, 9, 14], "images": count}) for count in (1, 3))
    assert torch.equal(one[0].image, three[0].image)
    assert len({picture.sha256 for picture in three}) == 3


def test_listing_suites_does_not_import_torch():
    code = "import sys, invsolve_benchmarks; from invsolve.bench.suite import list_suites; list_suites(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
