"""The benchmark harness: keys, seeds, tables, the report and the shipped suites and pictures."""

import base64
import csv
import hashlib
import io
import math
import re
import shutil
import statistics
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from bench_cases import GAUSSIAN, HOSTILE, TV, Weighted, tiny, values

from invsolve.bench import Suite, list_suites, run, write_report
from invsolve.bench.cells import cell_key
from invsolve.bench.data import load_pictures
from invsolve.bench.export import Spread, lines, read_run
from invsolve.bench.fingerprint import read, source_hash
from invsolve.bench.job import Job, seed_of
from invsolve.bench.plan import check
from invsolve.bench.table import format_plain, print_tables
from invsolve.errors import InputError
from invsolve.plugins import Entry, registry
from invsolve.solvers.diffusion.dps import DPS


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


def only_ours(text):
    """One style and one script, those whose hashes the policy names, and no style of an element."""
    page = Page(text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
        assert page.tags.count(tag) == 1
    assert "style" not in page.attributes


def test_the_report_is_one_file_that_loads_nothing(finished):
    _, out = finished
    path = write_report(out)
    text = path.read_text()
    page = Page(text)
    assert path == out / "report.html"
    assert "link" not in page.tags
    # truth, measurement and three answers for each of 2 pictures and 3 operators; the skipped solver has none
    pictures = [load for load in page.loads if load.startswith("data:image/png;base64,")]
    assert len(pictures) == 2 * 3 * 5
    assert {load for load in page.loads if load[0] != "#"} - set(pictures) == {"rows.csv", "rows.jsonl", "run.json"}
    only_ours(text)
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
    only_ours((tmp_path / "report.html").read_text())
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(load.startswith(("data:image/png;base64,", "#")) or load in ("rows.csv", "rows.jsonl", "run.json") for load in page.loads)
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
    assert len(listed["quick"].operators) == 4
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
