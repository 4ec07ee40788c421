"""Sphinx: sphinx-build -W docs build/docs. The catalogue and the API pages are written from the registry into docs/generated."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402

from invsolve.plugins.arguments import Remembering  # noqa: E402

project = "invsolve"
author = copyright = "the invsolve developers"  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "invsolve"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures are short without; the text gives shapes and units
myst_heading_anchors = 3


def docstring(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text: make it what Sphinx reads."""
    lines[:] = pages.restructured("\n".join(lines)).splitlines()


def signature(app: Any, what: str, name: str, target: Any, options: Any, given: str | None, returned: str | None) -> tuple[str, str] | None:
    """What the constructor takes: a metaclass would hide it."""
    return (pages.signature(target), "") if isinstance(target, Remembering) else None


def setup(app: Any) -> None:
    """Write the generated pages, and connect both."""
    pages.write_all(HERE / "generated")
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
