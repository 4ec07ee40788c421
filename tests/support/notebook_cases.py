"""The notebooks' code, run cell by cell without a kernel, and what kinds of output a cell has."""

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import sys
import traceback
import types
from pathlib import Path

from places import ROOT

FOLDER = ROOT / "docs" / "notebooks"
SHORT = re.compile(r"^% tested with: (\w+) = (.*)$", re.MULTILINE)
SHOWN = {"_repr_html_": "text/html", "_repr_png_": "image/png"}


def maker():
    """docs/notebooks/make.py."""
    spec = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortened(text):
    """A page with the sizes that it is tested with: smaller pictures, fewer steps, else the same."""
    for name, value in SHORT.findall(text):
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"'{name} = ...' stands {count} times"
    return text


def kinds_of(value, printed):
    """The kinds of output of a cell whose last value this is."""
    shown = [] if value is None else ["text/plain", *(kind for method, kind in SHOWN.items() if hasattr(value, method))]
    return sorted(shown + (["stream"] if printed else []))


def run_cell(source, name, namespace):
    """Run one; its kinds of output."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, name, "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace) if last else None
    return kinds_of(value, printed.getvalue())


def run_all(folder):
    """Run every notebook of a folder's `sources.json`, each in its own namespace and folder; `kinds.json` has what came out."""
    found = {}
    for name, sources in json.loads((Path(folder) / "sources.json").read_text(encoding="utf-8")).items():
        place = Path(folder) / name
        place.mkdir()
        os.chdir(place)
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            found[name] = [run_cell(source, f"{name}, cell {index}", vars(sys.modules["__main__"])) for index, source in enumerate(sources)]
        except Exception:
            found[name] = traceback.format_exc()
    (Path(folder) / "kinds.json").write_text(json.dumps(found), encoding="utf-8")
