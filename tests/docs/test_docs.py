"""The documentation is true: its Python runs, page by page, its shell lines name commands that exist, the catalogue is whole."""

import functools
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from fresh_cases import METHOD, PRELOADED, run_command, run_fresh
from PIL import Image
from places import ROOT

from invsolve.cli import main
from invsolve.plugins import KINDS, registry

DOCS = ROOT / "docs"
NUMBER = re.compile(r"[0-9.]+(e-[0-9]+)?")
PAGES = sorted(page for page in DOCS.rglob("*.md") if {"_build", "generated"}.isdisjoint(page.parts))
SESSIONS = [page for page in PAGES if "\n% run\n" in page.read_text(encoding="utf-8")]
CHAPTERS = {"dataset": "data"}  # file of the chapter, where it is not called as its kind


def blocks(page, language, mark=""):
    """(first line's number, text) of every block of a language: after a line that begins with a mark, or of those that are no files."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^(% [^\n]*\n)?```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [
        (text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in found
        if ((match[1] or "").startswith(mark) if mark else not (match[1] or "").startswith("% file: "))
    ]


# The sources of the notebooks run in test_notebooks.py.
WITH_PYTHON = [page for page in [*PAGES, DOCS / "llms.txt"] if page.parent.name != "notebooks" and blocks(page, "python")]


def write_files(page, folder):
    """The files that a page shows, each a block after `% file: NAME`."""
    text = page.read_text(encoding="utf-8")
    for name, content in re.findall(r"^% file: (\S+)\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def pages():
    """docs/pages.py, which writes the generated pages."""
    spec = importlib.util.spec_from_file_location("docs_pages", DOCS / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.catalogue = functools.cache(module.catalogue)
    return module


def test_the_pages_that_must_be_there():
    wanted = {"index", "install", "compose", "guide-your-own", "from-elsewhere", "which-solver", "results", "troubleshooting", "assistants"}
    assert wanted <= {page.stem for page in PAGES}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_chapter(kind):
    """The overview names it, and its Python runs (below)."""
    chapter = DOCS / "guide" / f"{CHAPTERS.get(kind, kind)}.md"
    assert f"](guide/{chapter.name})" in (DOCS / "guide-your-own.md").read_text(encoding="utf-8")
    assert chapter in WITH_PYTHON


# Before a page that calls the kit, but with --whole: a part of its settings, and an eighth of the solvers for a prior.
LIGHT = """
from solver_turns import Turn
from invsolve.testing import conditions, settings, units
settings.part = units.part = lambda found: found[:1] + found[3::4]
conditions.registry = lambda turn=Turn(0): turn
"""


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_in_order(page, tmp_path, pytestconfig):
    """One namespace a page, in a fresh process, beside its files; errors name the line. Quoted output is printed, but for its numbers."""
    for needed in re.findall(r"^% needs: (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        for module in needed.split():
            pytest.importorskip(module, reason=f"the page is about an extra: {module}")
    write_files(page, tmp_path)
    checked = "invsolve.testing" in page.read_text(encoding="utf-8") and not pytestconfig.getoption("--whole")
    program = f"exec({LIGHT!r}, {{}})\n" if checked else ""
    for first, text in blocks(page, "python"):
        padded = "\n" * (first - 1) + text
        program += f"exec(compile({padded!r}, {str(page)!r}, 'exec'))\n"
    done = run_fresh(program, tmp_path)
    assert done.returncode == 0, done.stderr
    quotations = re.findall(r"^% printed.*\n```text\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert quotations or page.stem != "operator"
    for quoted in quotations:
        assert NUMBER.sub("#", quoted.strip()) in NUMBER.sub("#", done.stdout)


def test_a_page_that_is_wrong_is_found(tmp_path, pytestconfig):
    page = tmp_path / "wrong.md"
    page.write_text("# Wrong\n\n```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 2\n```\n")
    assert blocks(page, "python") == [(4, "x = 1\n"), (10, "assert x == 2\n")]
    with pytest.raises(AssertionError, match="line 10"):
        test_the_python_of_a_page_runs_in_order(page, tmp_path, pytestconfig)


@pytest.mark.skipif(METHOD != "forkserver", reason="processes are not forked here")
def test_a_page_does_not_import_again_what_all_need(tmp_path):
    """What cannot be preloaded is passed over in silence, and then costs every page some seconds."""
    done = run_fresh("import sys; print(*sys.modules)", tmp_path)
    assert set(PRELOADED) <= set(done.stdout.split())
    assert "fresh_cases" in done.stdout.split()
    assert "pytest" not in done.stdout.split()


def test_there_is_a_session():
    assert [page.stem for page in SESSIONS] == ["plugin"]


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_the_session_of_a_page_runs(page, tmp_path):
    """The files of a page, and its shell lines after `% run`, line by line; pip installs without network, into a folder of its own.

    pip and the first of ours are real processes.
    """
    write_files(page, tmp_path)
    Image.new("RGB", (24, 20), (90, 120, 150)).save(tmp_path / "photo.png")
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    install = ["pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", "site", "."]
    for _, text in blocks(page, "bash", "% run"):
        for place, command in enumerate(text.strip().splitlines()):
            words = install if command.startswith("pip install") else shlex.split(command)
            if place < 2:
                run = [sys.executable, "-m", *words]
                done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
            else:
                done = run_command(words, tmp_path, str(tmp_path / "site"))
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    rows = (tmp_path / "runs" / "my-lab" / "rows.jsonl").read_text().splitlines()
    assert {json.loads(row)["status"] for row in rows} <= {"finished", "converged"}
    assert (tmp_path / "restored.png").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shell_lines_name_commands_that_exist(page):
    for _, text in blocks(page, "bash"):
        for command in re.split(r" && |\n", text.strip()):
            words = command.split()
            assert words[0] in ("invsolve", "pip", "cd", "pytest"), command
            group = main
            for word in words[1:] if words[0] == "invsolve" else []:
                if not hasattr(group, "commands"):
                    break
                assert word in group.commands, command
                group = group.commands[word]


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_in_the_catalogue(kind, pages):
    texts = pages.catalogue(kind)
    for name in registry().names(kind):
        entry = registry().entry(kind, name)
        mark, text = ("=", texts[f"solver-{name}"]) if kind == "solver" else ("-", texts[f"catalogue-{kind}"])
        assert f"\n{name}\n{mark * len(name)}\n" in text, f"{kind} '{name}' has no heading"
        assert entry.summary[1:] in text.replace("\\", "")


def test_every_public_name_is_on_its_page(pages):
    import invsolve

    texts = pages.api()
    for name in invsolve.__all__:
        assert f"<invsolve.{name}>`" in texts["api-invsolve"] or f"<api-invsolve.{name}>`" in texts["api-invsolve"]
    for name in invsolve.solvers.__all__:
        assert f"<invsolve.solvers.{name}>`" in texts["api-invsolve.solvers"]


def test_a_class_is_an_object_with_its_import_line(pages):
    text = pages.catalogue("operator")["catalogue-operator"]
    assert "\n    from invsolve_operators import GaussianBlur\n\n.. py:class:: invsolve_operators.GaussianBlur(in_shape" in text
    assert "\n    from invsolve.solvers import DDRM\n\n.. py:class:: invsolve.solvers.DDRM(" in pages.catalogue("solver")["solver-ddrm"]
    assert pages.escaped("in benchmarks/results/auto.md") == "in :doc:`benchmarks/results/auto.md </generated/results/auto>`"
    assert pages.escaped("see `GaussianBlur`") == "see \\ :py:obj:`GaussianBlur <invsolve_operators.GaussianBlur>`"


def test_a_picture_stands_in_the_gallery_and_beside_its_entry(pages):
    pictures = {("operator", "mask"): "a cat", ("solver", "ddrm"): "an eight"}
    text = pages.gallery(pictures)
    assert ".. figure:: pictures/operator-mask.png\n      :alt: a cat\n      :target: catalogue-operator.html#operator-mask" in text
    assert ":target: solver-ddrm.html" in text
    assert ".. image:: pictures/operator-mask.png" in pages.described(registry().entry("operator", "mask"), "-", pictures)


def test_tables_are_pages(tmp_path):
    """Their pictures are found, links to other tables stay, and what is no page is named."""
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    texts = tables.pages(DOCS / "generated")
    assert all(text.startswith("# ") for text in texts.values())
    assert "](../../../../benchmarks/results/conditional/sr.png)" in texts["results/conditional/sr.md"]
    assert "[sr](sr.md)" in texts["results/conditional/palette.md"]
    assert "`dncnn.toml`" in texts["results/priors/README.md"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("y = m * x with `mask` and |x|", r"y = m \* x with \ ``mask``\  and \|x\|"),
        ("One.\n\n    x <- y * z\n\nTwo.", "One.\n\n::\n\n        x <- y * z\n\nTwo.\n"),
        ("One.\n\nArgs:\n    a, b: first\n        goes on.\n    c: last.", "One.\n\n**Args**\n\n- a, b: first goes on.\n- c: last.\n"),
        (
            "References:\n    A (B, 2020). There\n    1-D values.\n    C (D).",
            "**References**\n\n- A (B, 2020). There 1-D values.\n- C (D).\n",
        ),
        ("- no list", r"\ - no list"),
    ],
)
def test_docstrings_become_restructured_text(text, wanted, pages):
    assert pages.restructured(text).strip() == wanted.strip()


@pytest.mark.parametrize(("page", "glob"), [("index.md", "*"), ("guide-your-own.md", "guide/*")])
def test_tables_of_contents_take_up_new_pages(page, glob):
    """A page put into docs/, or a chapter into docs/guide/, is found without a line there."""
    assert re.search(rf":glob:.*^{re.escape(glob)}$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_ci_builds_the_documentation():
    script = (DOCS.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[docs]'" in script
    assert re.search(r"^sphinx-build .*-W.* docs ", script, re.MULTILINE)
