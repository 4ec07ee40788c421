"""Sphinx: sphinx-build -W docs build/docs. Catalogue, gallery, API and tables are written from the registry into docs/generated."""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402
import pages  # noqa: E402
import tables  # noqa: E402

from invsolve.plugins.arguments import Remembering  # noqa: E402

project = "invsolve"
author = copyright = "the invsolve developers"  # noqa: A001
release = version = installed("invsolve")
extensions = ["myst_nb", "sphinx.ext.autodoc"]
# The sources of the notebooks have their names: the executed ones are the pages.
exclude_patterns = ["_build", *(f"notebooks/{page.name}" for page in (HERE / "notebooks").glob("*.md") if page.stem != "index")]
html_theme = "furo"
html_title = f"invsolve {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_extra_path = ["llms.txt"]
html_show_sphinx = False
highlight_language = "none"  # an indented formula is no program
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures are short without; the text gives shapes and units
maximum_signature_line_length = 80
myst_heading_anchors = 3
myst_enable_extensions = ["substitution"]
myst_substitutions = {"version": release}
nb_execution_mode = "off"  # docs/notebooks/make.py executes them
RESULT = re.compile(r"\]\((?:\.\./)+benchmarks/results/([\w/-]+\.md)")


def docstring(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text: make it what Sphinx reads."""
    lines[:] = pages.restructured("\n".join(lines)).splitlines()


def signature(app: Any, what: str, name: str, target: Any, options: Any, given: str | None, returned: str | None) -> tuple[str, str] | None:
    """What the constructor takes: a metaclass would hide it."""
    return (pages.signature(target), "") if isinstance(target, Remembering) else None


def linked(app: Any, name: str, source: list[str]) -> None:
    """A link to a table's file, as it works in the repository, leads to its page."""
    source[0] = RESULT.sub(r"](/generated/results/\1", source[0])


def setup(app: Any) -> None:
    """Write the generated pages, and connect the rest."""
    folder = HERE / "generated"
    pages.write_all(folder, gallery.draw(folder / "pictures"), tables.pages(folder))
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("source-read", linked)
