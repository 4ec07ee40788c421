"""What leaves a run: LaTeX, figures, CSV, JSON, Parquet, a notebook's summary; and two runs against each other."""

import csv
import io
import json
import re
import shutil

import pytest
from bench_cases import GAUSSIAN, HOSTILE, TV, tiny, values
from click.testing import CliRunner

from invsolve.bench import open_run, run
from invsolve.bench.compare import Change, compare, differing, times
from invsolve.bench.export import lines, read_rows
from invsolve.bench.formats import exported
from invsolve.bench.latex import escaped
from invsolve.bench.plots import slug, write_figures
from invsolve.bench.statistics import paired
from invsolve.cli import main
from invsolve.errors import InputError


def call(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Rows and folder of 2 operators x 4 solvers x 2 pictures."""
    out = tmp_path_factory.mktemp("export") / "run"
    return run(tiny(operator=values()["operator"][:2], metrics=["psnr", "residual"]), out=out, progress=False), out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run with names that are markup, formulas and LaTeX."""
    out = tmp_path_factory.mktemp("hostile") / "run"
    solvers = [
        {"name": "ddrm", "label": f"=cmd() {HOSTILE}", "steps": 2, "prior": GAUSSIAN},
        {"name": "adam-tv", "label": r"50% $x_1$ \input{a}", "steps": 3, "prior": TV},
    ]
    operators = [{"name": "gaussian-blur", "label": f"op {HOSTILE}"}]
    run(tiny(title=HOSTILE, operator=operators, solver=solvers), out=out, progress=False)
    return out


def test_latex_has_the_means_and_nothing_that_latex_would_run(finished, hostile):
    rows, out = finished
    text = exported(out, "latex")
    assert text.count(r"\begin{table}") == 2
    (line,) = [line for line in lines(rows, "hole") if line.solver == "ddrm"]
    mean, std = line.numbers["psnr"].mean, line.numbers["psnr"].std
    assert re.search(rf"ddrm & gaussian & (\\\w+{{)?{mean:.2f}}}? \$\\pm\$ {std:.2f} &", text)
    assert len(re.findall(r"\\textbf\{[\d.]+\}", text)) == 2  # a best one an operator
    assert "dps without a denoiser & tv & --" in text
    assert escaped(r"50% $x_1$ \input{a} <&>~^#") == (
        r"50\% \$x\_1\$ \textbackslash{}input\{a\} \textless{}\&\textgreater{}\textasciitilde{}\textasciicircum{}\#"
    )
    assert not re.search(r"[^\\]\\input", exported(hostile, "latex"))


def test_csv_json_and_parquet_hold_all_rows(finished, hostile, tmp_path):
    rows, out = finished
    flat = list(csv.DictReader(io.StringIO(exported(out, "csv"))))
    assert exported(out, "csv") == (out / "rows.csv").read_text()
    assert [float(one["psnr"]) for one in flat if one["psnr"]] == [
        row["metrics"]["psnr"] for row in rows if row["metrics"]["psnr"] is not None
    ]
    whole = json.loads(exported(out, "json"))
    assert whole["rows"] == json.loads(json.dumps(rows))
    assert next(csv.DictReader(io.StringIO(exported(hostile, "csv"))))["solver"].startswith("'=cmd()")
    with pytest.raises(InputError, match="one of csv, json, latex, parquet; given 'xls'"):
        exported(out, "xls")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    target = tmp_path / "rows.parquet"
    assert call("bench", "export", out, "--format", "parquet", "--out", target).exit_code == 0
    read = parquet.read_table(target).to_pylist()
    assert [one["psnr"] for one in read] == [row["metrics"]["psnr"] for row in rows]
    assert [one["solver"] for one in read] == [row["solver"] for row in rows]


def test_the_commands(finished, copy):
    _, out = finished
    done = call("bench", "export", out)
    assert (done.exit_code, done.output) == (0, exported(out, "csv"))
    assert call("bench", "export", "rows", out, "--format", "latex").output == exported(out, "latex")
    done = call("bench", "report", copy, "--latex", "--figures", "svg")
    assert done.exit_code == 0, done.output
    assert (copy / "tables.tex").read_text() == exported(out, "latex")
    assert (copy / "report.html").is_file()
    assert call("bench", "compare", out, copy, "--json").exit_code == 0
    assert call("bench", "export", copy / "cells").exit_code == 2


def test_figures_are_files_with_plain_names_and_equal_for_equal_runs(hostile, tmp_path):
    shutil.copytree(hostile, tmp_path / "a")
    found = open_run(tmp_path / "a")
    made = write_figures(tmp_path / "a", found.run, found.rows, "pdf")
    assert {path.parent for path in made} == {tmp_path / "a" / "figures"}
    assert all(re.fullmatch(r"[a-z0-9-_]+\.pdf", path.name) for path in made)
    assert all(path.read_bytes().startswith(b"%PDF") for path in made)
    first = [path.read_bytes() for path in made]
    assert [path.read_bytes() for path in write_figures(tmp_path / "a", found.run, found.rows, "pdf")] == first
    assert slug("../../etc/π") == "etc"
    with pytest.raises(InputError, match="figures are pdf, svg, png"):
        write_figures(tmp_path, found.run, found.rows, "exe")


def test_a_notebook_shows_who_won_and_no_markup_of_others(finished, hostile):
    found = open_run(finished[1])
    text = found._repr_html_()
    board = found.boards[0]
    assert f"<b>{board.contests['psnr'].best}</b>" in text
    assert "16 rows" in repr(found)
    assert "PSNR" in str(found)
    page = open_run(hostile)._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_a_run_against_itself_is_equal_and_against_another_seed_is_not_compared(finished, copy, tmp_path):
    _, out = finished
    found = compare(out, copy)
    assert (found.pairs, found.equal, found.alone, found.differing) == (16, 12, (0, 0), [])
    assert {one.verdict for one in found.changes} == {"equal"}
    assert all(ratio == pytest.approx(1.0) for *_, ratio in found.times)
    other = tmp_path / "other"
    run(tiny(operator=values()["operator"][:1], metrics=["psnr"]), out=other, seed=1, progress=False)
    apart = compare(out, other)
    assert (apart.pairs, apart.alone) == (0, (16, 8))
    assert ("seed", "0", "1") in apart.differing


def test_what_another_setting_changed(finished, tmp_path):
    _, out = finished
    other = tmp_path / "other"
    changed = [{"name": "dps", "steps": 8, "prior": GAUSSIAN}, {"name": "ddrm", "steps": 4, "prior": GAUSSIAN}]
    run(tiny(operator=values()["operator"][:2], solver=changed, metrics=["psnr"]), out=other, progress=False)
    found = compare(out, other)
    assert (found.pairs, found.alone) == (8, (8, 0))
    by = {(one.operator, one.solver, one.metric): one for one in found.changes}
    assert {key[1] for key, one in by.items() if one.verdict != "equal"} == {"dps"}
    before, after = (
        {row["image"]: row["metrics"]["psnr"] for row in read_rows(folder) if (row["operator"], row["solver"]) == ("hole", "dps")}
        for folder in (out, other)
    )
    change = by["hole", "dps", "PSNR"].change
    assert change.difference.mean == pytest.approx(sum(after[key] - before[key] for key in after) / 2)
    settings = [text for what, *text in found.differing if what == "hole, dps: settings"]
    assert len(settings) == 1
    assert "steps=4" in settings[0][0]
    assert "steps=8" in settings[0][1]
    text = found.text()
    assert "8 answers to the same measurements, 4 of them equal to the bit" in text
    assert "metric residual" in text  # the second run did not take it


def test_times_are_geometric_means_and_versions_are_told():
    row = {"operator": "o", "solver": "s", "config": "a", "prior": "p", "dtype": "float32"}
    pairs = [({**row, "seconds": 1.0}, {**row, "seconds": 4.0}), ({**row, "seconds": 2.0}, {**row, "seconds": 2.0, "config": "b"})]
    assert times(pairs) == [("o", "s", pytest.approx(2.0))]
    run_of = {"seed": 0, "device": "cpu", "batch": 1, "hardware": "h", "metrics": {}}
    found = differing({**run_of, "versions": {"torch": "1", "numpy": "2"}}, {**run_of, "versions": {"torch": "2", "numpy": "2"}}, pairs)
    assert found == [("torch", "1", "2"), ("o, s: settings", "a", "b")]
    one = paired({"a": 1.0}, {"a": 2.0}, higher=True)
    assert Change("o", "s", "m", one, 2).verdict == "no interval"
