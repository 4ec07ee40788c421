"""What an entry's result depends on: its parameters, its plug-in's version, and the source that it runs.

A version does not change while a solver is being written; without its source in the key, a run would show yesterday's results.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from invsolve.bench.suite import Entry
from invsolve.errors import PluginError
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.recipe import Paths, inner_kind


def described(kind: str, entry: Entry, paths: Paths) -> dict[str, Any]:
    """Name, parameters with defaults filled in, plug-in with version, and the hash of the source; what is inside, and files, too."""
    held = registry().entry(kind, entry.name)
    values = dict(entry.parameters)
    try:
        target = held.load()
        parameters = signature_of(target).parameters.values()
        values = {**{one.name: one.default for one in parameters if one.default is not one.empty}, **values}
        values = {name: inner(target, name, value, paths) for name, value in values.items()}
    except PluginError:
        pass
    plain = {name: jsonable(value) for name, value in values.items()}
    return {"name": entry.name, "parameters": plain, "plugin": held.plugin, "source": source_hash(held.target.partition(":")[0])}


def inner(target: Any, name: str, value: Any, paths: Paths) -> Any:
    """An argument with what its value does not say: the sources of objects inside, the hash of a file."""
    if isinstance(value, dict) and set(value) == {"file"}:
        return {**value, "sha256": hashlib.sha256(paths.path(str(value["file"])).read_bytes()).hexdigest()}
    kind = inner_kind(target, name, value) if isinstance(value, dict | list) else None
    if kind is None:
        return value
    if isinstance(value, list):
        return [inner(target, name, one, paths) for one in value]
    return described(kind, Entry.model_validate(value), paths)


def jsonable(value: Any) -> Any:
    """Plain data as it is, tuples as lists, the rest by its repr."""
    if isinstance(value, list | tuple):
        return [jsonable(part) for part in value]
    if isinstance(value, dict):
        return {str(key): jsonable(part) for key, part in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def packages() -> frozenset[str]:
    """The top-level packages of all registered entries: where imports are followed to."""
    return frozenset({"invsolve"} | {entry.target.split(".")[0].split(":")[0] for entry in registry().entries.values()})


@cache
def source_hash(module: str) -> str:
    """SHA-256 over a module's file and those of the plug-in modules it imports, directly or not."""
    tops, files, waiting = packages(), {}, [module]
    while waiting:
        name = waiting.pop()
        found = None if name in files or name.split(".")[0] not in tops else read(name)
        if found is not None:
            files[name], further = found
            waiting += further
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()


@cache
def read(module: str) -> tuple[bytes, tuple[str, ...]] | None:
    """A module's source and what it imports; None without a source file."""
    path = locate(module)
    if path is None:
        return None
    source = path.read_bytes()
    return source, tuple(imports(source, module))


def locate(module: str) -> Path | None:
    """The source file of a module; None if it has none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    return origin if origin is not None and origin.suffix == ".py" and origin.is_file() else None


def imports(source: bytes, module: str) -> Iterator[str]:
    """Names that a module imports, those for type checkers left out; `from a import b` gives a and a.b."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (parent, node.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes outside `if TYPE_CHECKING:`."""
    yield node
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    for child in ast.iter_child_nodes(node):
        yield from _running(child)
