"""The notebooks: what is stored is what their sources say, their code runs, and its outputs are of the stored kinds."""

import base64
import json

import pytest
from fresh_cases import run_fresh
from notebook_cases import FOLDER, maker, run_cell, shortened

MAKE = maker()
NAMES = MAKE.names()
MOST_BYTES = 400_000


def sources(name, change=lambda text: text):
    """The cells of a notebook's page, (kind, source, alternative text)."""
    return MAKE.cells(change((FOLDER / f"{name}.md").read_text(encoding="utf-8")))


def code(name, change=lambda text: text):
    """Its code cells alone."""
    return [source for kind, source, _ in sources(name, change) if kind == "code"]


def stored(name):
    """The cells of the stored notebook."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def stored_kinds(cell):
    """Of the outputs of a stored cell."""
    found = set()
    for output in cell["outputs"]:
        found |= {"stream"} if output["output_type"] == "stream" else set(output["data"])
    return sorted(found)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """{name: the kinds of each cell's outputs, or the traceback}: all run at their short sizes in one process that has run nothing else."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "sources.json").write_text(json.dumps({name: code(name, shortened) for name in NAMES}), encoding="utf-8")
    done = run_fresh(f"from notebook_cases import run_all; run_all({str(folder)!r})", folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "kinds.json").read_text(encoding="utf-8"))


def test_the_notebooks_that_must_be_there():
    assert {"tutorial", "deblur", "inpaint", "operator", "solver", "benchmark", "mri"} <= set(NAMES)
    index = (FOLDER / "index.md").read_text(encoding="utf-8") + (FOLDER.parent / "index.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"\n{name}\n" in index or f"\nnotebooks/{name}\n" in index


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_the_source_says(name):
    """Code and text, cell by cell: after a change `python docs/notebooks/make.py NAME` writes it anew."""
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in stored(name)] == [one[:2] for one in sources(name)]


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_small_and_has_words(name):
    pictures = 0
    for cell, (_, _, alt) in zip(stored(name), sources(name), strict=True):
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            if "image/png" in output.get("data", {}):
                pictures += 1
                assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")
                assert len(alt) > 20
                assert cell["metadata"]["mystnb"]["image"]["alt"] == alt
    assert pictures


@pytest.mark.parametrize("name", NAMES)
def test_the_code_runs_and_gives_what_is_stored(name, kinds):
    assert isinstance(kinds[name], list), kinds[name]
    assert kinds[name] == [stored_kinds(cell) for cell in stored(name) if cell["cell_type"] == "code"]


def test_a_cell_that_fails_and_one_that_shows_another_kind_are_found(tmp_path):
    (tmp_path / "sources.json").write_text(json.dumps({"wrong": ["x = 1", "assert x == 2"]}), encoding="utf-8")
    done = run_fresh(f"from notebook_cases import run_all; run_all({str(tmp_path)!r})", tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'File "wrong, cell 1", line 1' in json.loads((tmp_path / "kinds.json").read_text())["wrong"]
    assert run_cell("print(1)\n2", "", {}) == ["stream", "text/plain"]
    assert run_cell("print(1)", "", {}) == ["stream"]
    assert run_cell("x = 2", "", {}) == []


def test_a_size_that_is_not_there_is_found():
    assert shortened("% tested with: side = 8\nside = 64\n") == "% tested with: side = 8\nside = 8\n"
    with pytest.raises(AssertionError, match="stands 0 times"):
        shortened("% tested with: side = 8\nwidth = 64\n")
