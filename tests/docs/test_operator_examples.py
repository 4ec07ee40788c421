"""Every operator that README, the page of files, and the docstrings of the language show in TOML is made, and applied to a small image."""

import re
import tomllib

import pytest
import torch
from places import ROOT

from invsolve import GaussianNoise, Problem
from invsolve.bench import Suite
from invsolve.bench.plan import Workshop, check
from invsolve.data import Here
from invsolve.io.images import write_image
from invsolve.plugins import registry
from invsolve.recipe.parts import inside

SHAPE = (3, 16, 24)
PLACES = ["README.md", "docs/files.md", "docs/compose.md", "docs/guide/suite.md", "docs/photographs.md"]
PLACES += ["invsolve/recipe/config.py", "invsolve/recipe/parts.py", "invsolve/bench/suite.py"]
NAMES = set(registry().names("operator"))


def value(text):
    """The TOML value that a text begins with, None where it begins with none."""
    for end in (found.end() for found in re.finditer(r"[}\]]", text[:2000])):
        try:
            return tomllib.loads(f"it = {text[:end]}")["it"]
        except tomllib.TOMLDecodeError:
            continue
    return None


def shown(text):
    """Every value that stands after `operator =`, and every table of an operator on a line or in a sentence by itself."""
    found = [value(text[one.end() :]) for one in re.finditer(r"^[ \t]*operator = (?=[{\[])", text, re.MULTILINE)]
    found += [value(text[one.end() :]) for one in re.finditer(r"(?:^[ \t]*|`)(?={ (?:name|stack|chain) = )", text, re.MULTILINE)]
    return [table for one in found if one is not None for table in (one if isinstance(one, list) else [one])]


def bare(table):
    """Without what a suite adds."""
    return {key: one for key, one in table.items() if key not in ("label", "noise")}


def examples():
    for place in PLACES:
        for table in shown((ROOT / place).read_text(encoding="utf-8")):
            named = table.get("name", next((key for key in ("chain", "stack") if key in table), None))
            if named in NAMES:
                yield place, table


EXAMPLES = list(examples())


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "mask.npy", (torch.arange(24) % 3 > 0).expand(16, 24).float())
    write_image(tmp_path / "mask.png", (torch.arange(24) % 3 > 0).expand(1, 16, 24).float())
    return tmp_path


def test_the_examples_are_found():
    places = [place for place, _ in EXAMPLES]
    assert {"README.md", "docs/files.md", *PLACES[-3:]} <= set(places)
    assert places.count("docs/files.md") >= 7
    listed = shown('text\n    operator = [ # one\n { name = "mask" },\n { name = "identity" }]\n')
    assert [one["name"] for one in listed] == ["mask", "identity", "mask", "identity"]  # of the list, and each on its line


@pytest.mark.parametrize(("place", "table"), EXAMPLES, ids=[f"{place} {table}"[:120] for place, table in EXAMPLES])
def test_an_operator_that_is_shown_can_be_made(place, table, folder):
    operator = inside("operator", bare(table), "operator", Here(folder), {"in_shape": SHAPE})
    y = operator(torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)))
    assert all(bool(one.isfinite().all()) for one in (y if isinstance(y, tuple) else (y,)))


def test_the_suite_of_the_page_of_files_fits_together(tmp_path):
    """Its saved problem and its data are of one size, too."""
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    (text,) = [one for one in re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "[[solver]]" in one]
    (tmp_path / "own.toml").write_text(text)
    suite = Suite.load(tmp_path / "own.toml")
    assert suite.data is not None
    side = suite.data.crop
    assert isinstance(side, int)
    saved = registry().build("operator", "mask", in_shape=(3, side, side), keep=0.5)
    Problem.simulate(saved, torch.rand(1, 3, side, side), GaussianNoise(0.1), generator=0).save(tmp_path / "scanner")
    check(suite)
    shop = Workshop(suite, torch.device("cpu"))
    assert len(suite.operator) == 3
    for entry in suite.operator:
        for picture in shop.pictures(entry)[:2]:
            assert shop.operator(entry, picture)(picture.image[None]).isfinite().all()
    assert f"{side} x {side}: crop the data" in page
