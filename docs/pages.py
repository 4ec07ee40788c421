"""Pages from the registry: every operator, prior, solver, noise model, metric, data set and suite, the gallery, and the public names.

Docstrings are plain text with indented formulas and the sections Args, Raises, References; `restructured` turns them into RST.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
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
GALLERY = {
    "operator": "A photograph, what is measured of it, and where that is no picture, what the adjoint makes of it.",
    "prior": "A picture with noise of standard deviation .15, and what the prior makes of it.",
    "solver": "Half of an eight is measured; two answers with the prior `mnist`, or `tv` where no network is taken, in at most 20 steps; "
    "digits alone of samplers without a measurement. Few steps and one digit are no ranking: that is what the tables are for.",
}
PUBLIC = {
    "invsolve": "problems, operators, noise, solutions",
    "invsolve.priors": "what images look like",
    "invsolve.solvers": "methods",
    "invsolve.schedule": "noise levels that networks were trained on",
    "invsolve.plot": "figures",
    "invsolve.bench": "benchmarks",
    "invsolve.blind": "what happened to a photograph",
    "invsolve.predictive": "settings and intervals from draws of the prior",
    "invsolve.tiles.run": "large pictures in pieces",
    "invsolve.tiles.layout": "how they are cut",
    "invsolve.testing": "conformance checks of parts of yours",
    "invsolve_deepinv": "deepinv's physics and denoisers",
}
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
TABLE = re.compile(r"benchmarks/results/([\w/\\-]+)\.md")
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
Pictures = Mapping[tuple[str, str], str]


def table(match: re.Match[str]) -> str:
    """The name of a table's file as a link to its page."""
    name = match[1].replace("\\", "")
    return f":doc:`benchmarks/results/{name}.md </generated/results/{name}>`" if (RESULTS / f"{name}.md").is_file() else match[0]


def import_path(target: Any) -> str:
    """The shortest dotted name that a class or function can be imported by."""
    parts = target.__module__.split(".")
    for count in range(1, len(parts) + 1):
        module = ".".join(parts[:count])
        if getattr(importlib.import_module(module), target.__name__, None) is target:
            return f"{module}.{target.__name__}"
    return f"{target.__module__}.{target.__qualname__}"


def names_of(module: str) -> list[str]:
    """What a module offers: what it lists, or the classes and functions it defines."""
    found = importlib.import_module(module)
    own = [name for name, value in vars(found).items() if name[0] != "_" and getattr(value, "__module__", "") == module]
    return sorted(getattr(found, "__all__", own))


@cache
def known() -> dict[str, str]:
    """{name: dotted name} of classes and functions with a place in the documentation; names that two of them share are left out."""
    found = defaultdict(set)
    for module in PUBLIC:
        for name in names_of(module):
            target = getattr(importlib.import_module(module), name)
            if inspect.isclass(target) or inspect.isfunction(target):
                found[name].add(f"{module}.{name}")
    for kind in ("operator", "solver", "prior", "noise", "metric"):
        for entry in registry().of(kind):
            target = entry.load()
            if isinstance(target, type) and import_path(target).rpartition(".")[0] not in PUBLIC:
                found[target.__name__].add(import_path(target))
    return {name: paths.pop() for name, paths in found.items() if len(paths) == 1}


def escaped(text: str) -> str:
    """One line of prose: `code` in double backquotes, everything else without a meaning for RST."""
    pieces = CODE.split(text)
    for index in range(0, len(pieces), 2):
        pieces[index] = TABLE.sub(table, re.sub(r"([\\*_|`])", r"\\\1", pieces[index]))
    for index in range(1, len(pieces), 2):
        code = pieces[index].strip()
        pieces[index] = f":py:obj:`{code} <{known()[code]}>`" if code[:1].isupper() and code in known() else f"``{code}``"
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


def catalogue(kind: str, pictures: Pictures | None = None) -> dict[str, str]:
    """The pages of a kind: an entry of the registry each, with its summary, docstring, parameters and abilities.

    All on one page, but for solvers: of them each has its own, and the first one lists them.
    """
    first = f"catalogue-{kind}"
    entries = list(registry().of(kind))
    if kind not in SINGLE:
        return {first: "\n".join([*heading(TITLES[kind], "="), *(line for entry in entries for line in described(entry, "-", pictures))])}
    rows = [line for entry in entries for line in (f":ref:`{entry.name} <{kind}-{entry.name}>`", f"    {escaped(entry.summary)}")]
    tree = [".. toctree::", "   :hidden:", "", *(f"   {kind}-{entry.name}" for entry in entries)]
    pages = {f"{kind}-{entry.name}": "\n".join(described(entry, "=", pictures)) for entry in entries}
    return {first: "\n".join([*heading(TITLES[kind], "="), *rows, "", *tree, ""]), **pages}


def described(entry: Entry, mark: str, pictures: Pictures | None = None) -> list[str]:
    """One entry, its heading underlined with the mark."""
    facts = describe_entry(entry)
    target = entry.load()
    alt = (pictures or {}).get((entry.kind, entry.name))
    out = [f".. _{entry.kind}-{entry.name}:", "", *heading(entry.name, mark)]
    out += [escaped(entry.summary[:1].upper() + entry.summary[1:]) + f" (from {escaped(entry.plugin)}).", ""]
    if alt:
        out += [f".. image:: pictures/{entry.kind}-{entry.name}.png", f"   :alt: {alt}", "   :class: picture-of-part", ""]
    text = restructured((inspect.getdoc(target) if callable(target) else "") or "")
    out += as_object(entry, target, text) if isinstance(target, type) else [text, ""]
    for title in ("needs", "can", "known"):
        rows = [f"- {escaped(key)}: {escaped(value)}" for key, value in facts[title].items()]
        out += [f"**{title.capitalize()}**", "", *rows, ""] if rows else []
    return out


def as_object(entry: Entry, target: type, text: str) -> list[str]:
    """A class as an object of Python, with the line that imports it; those on a page of the public names stand in the index from there."""
    path = import_path(target)
    module, _, name = path.rpartition(".")
    line = f'load_prior("{entry.name}")' if entry.kind == "prior" else f"from {module} import {name}"
    out = [".. code-block:: python", "", f"    {line}", "", f".. py:class:: {path}{signature(target)}"]
    out += ["   :no-index:"] if module in PUBLIC and entry.kind != "solver" else []
    return [*out, "", *(f"   {line}" for line in text.splitlines()), ""]


def gallery(pictures: Pictures) -> str:
    """The page of all pictures, each a link to its entry."""
    out = [*heading("Gallery", "="), "Drawn while this site was built, from the registry: what is added has its picture here.", ""]
    for kind, caption in GALLERY.items():
        out += [*heading(TITLES[kind], "-"), escaped(caption), "", ".. container:: gallery", ""]
        for _, name in sorted(one for one in pictures if one[0] == kind):
            page = f"{kind}-{name}.html" if kind in SINGLE else f"catalogue-{kind}.html#{kind}-{name.replace('.', '-')}"
            out += [f"   .. figure:: pictures/{kind}-{name}.png", f"      :alt: {pictures[kind, name]}", f"      :target: {page}", ""]
            out += [f"      :ref:`{name} <{kind}-{name}>`", ""]
    return "\n".join(out)


def api() -> dict[str, str]:
    """The pages of the public names: one for each module, and the list of them."""
    rows = [line for module, about in PUBLIC.items() for line in (f":doc:`{module} <api-{module}>`", f"    {about}")]
    tree = [".. toctree::", "   :hidden:", "", *(f"   api-{module}" for module in PUBLIC)]
    first = [
        *heading("Public names", "="),
        *rows,
        "",
        "Operators, noise models and the rest have their pages in the catalogue; :ref:`genindex` has all.",
    ]
    return {"public-names": "\n".join([*first, "", *tree, ""]), **{f"api-{module}": of_module(module) for module in PUBLIC}}


def of_module(module: str) -> str:
    """The names of a module in a list with their first lines, then each of them."""
    out, details = heading(module, "="), []
    solvers = {entry.load() for entry in registry().of("solver")}
    for name in names_of(module):
        target = getattr(importlib.import_module(module), name)
        if isinstance(target, ModuleType):
            out += [f"- :doc:`{name} <api-{module}.{name}>`"]
            continue
        about = (inspect.getdoc(target) or "").splitlines() if callable(target) else []
        out += [f"- :py:obj:`{name} <{module}.{name}>`" + (f": {escaped(about[0])}" if about else "")]
        details += [] if inspect.isclass(target) and target in solvers else documented(f"{module}.{name}")
    if module == "invsolve":
        details += heading("What Operator.from_function, from_matrix, from_scipy and to_scipy make", "-")
        for name in (*FOREIGN, *BRIDGE):
            details += documented(name)
    return "\n".join([*out, "", *details])


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


def write_all(folder: Path, pictures: Pictures, more: Mapping[str, str]) -> None:
    """All generated pages, and more by their paths; a file is touched only where its text changes, and what is no page any more goes."""
    texts = {name: text for kind in TITLES for name, text in catalogue(kind, pictures).items()}
    texts |= {**api(), "keys": keys(), "gallery": gallery(pictures)}
    wanted = {folder / f"{name}.rst": text for name, text in texts.items()} | {folder / name: text for name, text in more.items()}
    for file in {*folder.rglob("*.rst"), *folder.rglob("*.md")} - set(wanted):
        file.unlink()
    for file, text in wanted.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
