"""CONTRIBUTING.md is true: its table names every kind and places that exist, and a solver is one file and one line, by doing it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT

from invsolve.plugins import KINDS

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACEHOLDERS = {"FAMILY": "*", "NAME": "*"}


def table(heading):
    """The rows of a chapter's table, a list of cells each."""
    chapter = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in chapter.splitlines() if line.startswith("| ")]
    return rows[1:]


def places(cell):
    """The paths that a cell names, links too; {FAMILY} and {NAME} stand for any."""
    found = re.findall(r"`([^`\s]+/[^`\s]*)`", cell) + re.findall(r"\]\(([^)]+)\)", cell)
    for path in found:
        for name, star in PLACEHOLDERS.items():
            path = path.replace(name, star)
        yield path


KIND_ROWS = table("A new one of a kind")


def test_the_table_has_a_row_for_every_kind():
    named = {row[0].partition(",")[0] for row in KIND_ROWS}
    assert named == set(KINDS)
    assert all(len(row) == 5 for row in KIND_ROWS)


@pytest.mark.parametrize("row", KIND_ROWS, ids=lambda row: row[0])
def test_what_a_row_names_is_there(row):
    for cell in row[1:]:
        assert list(places(cell)), cell
        for path in places(cell):
            assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("row", KIND_ROWS, ids=lambda row: row[0])
def test_the_test_of_a_row_reads_the_registry(row):
    """A new entry of the kind is found by it: the kind's entries are its cases."""
    kind = row[0].partition(",")[0]
    for path in places(row[4]):
        assert f'registry().of("{kind}")' in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", table("Where things are"), ids=lambda row: row[0].split("`")[1])
def test_the_places_are_there(row):
    for path in places(row[0]):
        assert (ROOT / path).exists(), path
    base = next(places(row[0]))
    for name in re.findall(r"`([\w/]+\.py)`", row[1]):
        assert (ROOT / base / name).is_file(), name
    for path in re.findall(r"`(\w+/)`", row[1]):
        assert (ROOT / base / path).is_dir(), path


# Where it is, and what three commands say, a form feed between them.
ADDED = """
import invsolve
from invsolve.cli import main
from invsolve.solvers import PlugAndPlay
print(invsolve.__file__, PlugAndPlay.__module__)
for words in ("list solver", "info solver added", "check solver added -k refuses"):
    print("\\f")
    try:
        main(words.split())
    except SystemExit as ended:
        assert not ended.code, words
"""


def test_a_solver_is_a_file_and_a_line(tmp_path):
    """The solver of the guide, put into a copy of the core: found, checked and importable, and nothing else was touched."""
    shutil.copytree(ROOT / "invsolve", tmp_path / "invsolve", ignore=shutil.ignore_patterns("__pycache__"))
    solvers = tmp_path / "invsolve" / "solvers"
    code = re.search(r"^```python\n(.*?)^```", (ROOT / "docs/guide/solver.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    (solvers / "splitting" / "added.py").write_text(f'"""The solver of the guide."""\n\n{code}', encoding="utf-8")
    with (solvers / "__init__.pyi").open("a", encoding="utf-8") as stub:
        stub.write("from .splitting.added import PlugAndPlay as PlugAndPlay  # added: gradient steps with a denoiser\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}

    done = subprocess.run(
        [sys.executable, "-c", ADDED], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where, listed, shown, checked = done.stdout.split("\f\n")
    assert where.split() == [str(tmp_path / "invsolve" / "__init__.py"), "invsolve.solvers.splitting.added"]
    assert re.search(r"^added +gradient steps with a denoiser", listed, re.MULTILINE)
    assert "sigma" in shown
    assert checked.endswith(" passed, 0 failed\n")
