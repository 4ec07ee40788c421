"""Pages from the registry: every registered operator, prior, solver, noise model, metric, data set and suite, and the public names.

Docstrings are plain text with indented formulas and the sections Args, Raises, References; `restructured` turns them into RST.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from invsolve.bench.suite import Suite
from invsolve.cli.describe import SECTIONS, describe_entry, parameters
from invsolve.plugins import Entry, registry
from invsolve.plugins.typed import words
from invsolve.recipe.config import Config
from invsolve.recipe.tables import Part, models
from invsolve.training.config import TrainConfig

TITLES = {
    "operator": "Operators",
    "prior": "Priors",
    "solver": "Solvers",
    "noise": "Noise models",
    "metric": "Metrics",
    "dataset": "Data sets",
    "suite": "Benchmark suites",
}
SINGLE = ("solver",)  # a page each: people come to one of them from a search
PUBLIC = ("invsolve", "invsolve.priors", "invsolve.solvers", "invsolve.testing")
FOREIGN = tuple(
    f"invsolve.operator.{name}" for name in ("function.FunctionOperator", "matrix.MatrixOperator", "matrix.SparseMatrixOperator")
)
BRIDGE = ("invsolve.operator.scipy.ScipyOperator", "invsolve.operator.scipy.ScipyView")
FILES = (("Problem files", Config), ("Suites", Suite), ("Training configs", TrainConfig))
KEYS_OF_FILES = (
    "Every key, what it takes and what it is unless said. A part is a table with the name of something registered; its other keys are the "
    'arguments of the constructor, an argument may be `{ file = "mask.npy" }`, and an operator made of others takes tables: '
    '`{ chain = [...] }`, `{ stack = [...] }`. A prior may be `{ file = "mine.safetensors" }`. A relative path, of a key or of an argument '
    "that is one (`invsolve info` shows `Path`), starts from the folder of the file it stands in."
)
CODE = re.compile(r"`([^`]+)`")


def escaped(text: str) -> str:
    """One line of prose: `code` in double backquotes, everything else without a meaning for RST."""
    pieces = CODE.split(text)
    for index in range(0, len(pieces), 2):
        pieces[index] = re.sub(r"([\\*_|`])", r"\\\1", pieces[index])
    for index in range(1, len(pieces), 2):
        pieces[index] = f"``{pieces[index].strip()}``"
    joined = "\\ ".join(piece for piece in pieces if piece) if len(pieces) > 1 else pieces[0]
    # A line of prose must not look like a list item, a directive or a heading.
    return re.sub(r"^(\s*)(?=[-+.:=>~#^\"'(]|\w+[.)] )", r"\1\\ ", joined)


def restructured(text: str) -> str:
    """A docstring as RST: paragraphs, indented lines as literal blocks, sections as bold words with lists."""
    out: list[str] = []
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    for block in blocks:
        lines = block.splitlines()
        if lines and lines[0].strip() in SECTIONS:
            title = lines[0].strip().rstrip(":")
            out += [f"**{title}**", "", *items(lines[1:], sentences=title == "References"), ""]
            continue
        for indented, group in grouped(lines):
            out += ["::", "", *(f"    {line}" for line in group), ""] if indented else [*map(escaped, group), ""]
    return "\n".join(out)


def grouped(lines: list[str]) -> list[tuple[bool, list[str]]]:
    """Neighbouring lines together, by whether they are indented."""
    found: list[tuple[bool, list[str]]] = []
    for line in lines:
        indented = line.startswith(" ")
        if found and found[-1][0] == indented:
            found[-1][1].append(line)
        else:
            found.append((indented, [line]))
    return found


def items(lines: list[str], *, sentences: bool = False) -> list[str]:
    """A section as a bullet list: a deeper line goes on with the item before it, and so does one after an unfinished sentence."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    found: list[str] = []
    for line in lines:
        deeper = len(line) - len(line.lstrip()) > margin
        if found and (deeper or (sentences and not found[-1].endswith("."))):
            found[-1] += f" {line.strip()}"
        else:
            found.append(line.strip())
    return [f"- {escaped(item)}" for item in found]


def signature(target: type) -> str:
    """(a: int, b: float = 1.0) of a constructor."""
    return f"({', '.join(one['signature'] for one in parameters(target, ''))})"


def heading(text: str, mark: str) -> list[str]:
    """A title with its underline."""
    return [text, mark * len(text), ""]


def catalogue(kind: str) -> dict[str, str]:
    """The pages of a kind: an entry of the registry each, with its summary, docstring, parameters and abilities.

    All on one page, but for solvers: of them each has its own, and the first one lists them.
    """
    first = f"catalogue-{kind}"
    entries = list(registry().of(kind))
    if kind not in SINGLE:
        return {first: "\n".join([*heading(TITLES[kind], "="), *(line for entry in entries for line in described(entry, "-"))])}
    rows = [line for entry in entries for line in (f":ref:`{entry.name} <{kind}-{entry.name}>`", f"    {escaped(entry.summary)}")]
    tree = [".. toctree::", "   :hidden:", "", *(f"   {kind}-{entry.name}" for entry in entries)]
    pages = {f"{kind}-{entry.name}": "\n".join(described(entry, "=")) for entry in entries}
    return {first: "\n".join([*heading(TITLES[kind], "="), *rows, "", *tree, ""]), **pages}


def described(entry: Entry, mark: str) -> list[str]:
    """One entry, its heading underlined with the mark."""
    facts = describe_entry(entry)
    target = entry.load()
    out = [f".. _{entry.kind}-{entry.name}:", "", *heading(entry.name, mark)]
    out += [escaped(entry.summary[:1].upper() + entry.summary[1:]) + f" (from {escaped(entry.plugin)}).", ""]
    if isinstance(target, type):
        out += ["::", "", f"    {target.__name__}{signature(target)}", ""]
    text = inspect.getdoc(target) if callable(target) else ""
    out += [restructured(text or ""), ""]
    for title in ("needs", "can", "known"):
        rows = [f"- {escaped(key)}: {escaped(value)}" for key, value in facts[title].items()]
        out += [f"**{title.capitalize()}**", "", *rows, ""] if rows else []
    return out


def api() -> str:
    """The page of the public names."""
    out = heading("Public names", "=")
    for module in PUBLIC:
        out += heading(module, "-")
        for name in sorted(importlib.import_module(module).__all__):
            out += documented(f"{module}.{name}")
    out += heading("What Operator.from_function, from_matrix, from_scipy and to_scipy make", "-")
    for name in (*FOREIGN, *BRIDGE):
        out += documented(name)
    return "\n".join(out)


def keys() -> str:
    """The page of every key of problem files, suites and training configs, from the models that check them."""
    out = [*heading("Keys of files", "="), escaped(KEYS_OF_FILES), ""]
    for title, model in FILES:
        out += [*heading(title, "-"), escaped(first_line(model)), ""]
        for place, table in tables(model):
            shown = f"[{place}]" if place else "At the top"
            out += [*heading(shown, "~"), *([escaped(first_line(table)), ""] if place else [])]
            out += [line for name, field in table.model_fields.items() for line in key_line(field.alias or name, field)]
            out += ["- \\ any other key: an argument of the constructor", ""] if table.model_config.get("extra") == "allow" else [""]
    return "\n".join(out)


def first_line(model: type[BaseModel]) -> str:
    """Of its docstring."""
    return inspect.cleandoc(model.__doc__ or "").splitlines()[0]


def key_line(name: str, field: Any) -> list[str]:
    """What a key takes, what it is unless said, and what it means."""
    default = field.get_default(call_default_factory=True)
    shown = [entry.name if isinstance(entry, BaseModel) else entry for entry in default] if isinstance(default, list) else default
    left_out = "required" if field.is_required() else "optional" if default is None or isinstance(default, BaseModel) else f"{shown!r}"
    return [
        f"- ``{name}`` ({escaped(words(field.annotation))}; {escaped(left_out)}): {escaped(' '.join((field.description or '').split()))}"
    ]


def tables(model: type[BaseModel], place: str = "", seen: tuple[type, ...] = ()) -> list[tuple[str, type[BaseModel]]]:
    """(dotted place, model) of a model and of every table inside it."""
    found = [(place, model)]
    for name, field in model.model_fields.items():
        inner = [one for one in models(field.annotation) if one is not Part and one not in seen]
        for one in inner:
            found += tables(one, f"{place}.{field.alias or name}".lstrip("."), (*seen, model))
    return found


def documented(path: str) -> list[str]:
    """The autodoc directive of one public name."""
    module, _, name = path.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    if isinstance(target, type):
        return [f".. autoclass:: {path}", "   :members:", ""]
    return [f".. autofunction:: {path}", ""] if inspect.isfunction(target) else [f".. autodata:: {path}", ""]


def write_all(folder: Path) -> None:
    """All generated pages; a file is touched only where its text changes."""
    folder.mkdir(exist_ok=True)
    texts = {name: text for kind in TITLES for name, text in catalogue(kind).items()} | {"public-names": api(), "keys": keys()}
    for name, text in texts.items():
        file = folder / f"{name}.rst"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
