"""What an entry's result depends on: its parameters, its plug-in's version, the source that it runs and the data files beside it.

A version does not change while a solver is being written; without its source in the key, a run would show yesterday's results.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from invsolve.bench.suite import Entry
from invsolve.errors import InvsolveError, PluginError
from invsolve.io.digest import code_texts
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.part import prior_part
from invsolve.recipe import Paths, inner_kind

LARGE = 256_000_000  # bytes


def described(kind: str, entry: Entry, paths: Paths) -> dict[str, Any]:
    """Name, parameters with defaults filled in, plug-in with version, and the hash of the source; what is inside, and files, too."""
    held = registry().entry(kind, entry.name)
    values, target = dict(entry.parameters), None
    try:
        target = held.load()
        parameters = signature_of(target).parameters.values()
        values = {**{one.name: one.default for one in parameters if one.default is not one.empty}, **values}
        values = {name: inner(target, name, value, paths) for name, value in values.items()}
    except PluginError:
        pass
    plain = {name: jsonable(value) for name, value in values.items()}
    module = held.target.partition(":")[0]
    source = source_hash(module) if locate(module) is not None else code_hash(target)
    found = {"name": entry.name, "parameters": plain, "plugin": held.plugin, "source": source, "data": data_hash(module)}
    return {**found, "readers": readers()} if (kind, entry.name) == ("prior", "file") else found


def readers() -> dict[str, str]:
    """The sources of the plug-ins that read weight files."""
    names = [plugin.__name__ for plugin in registry().manager.get_plugins() if hasattr(plugin, "invsolve_load_prior")]
    return {name: source_hash(name) for name in sorted(names)}


def code_hash(target: Any) -> str:
    """SHA-256 over the compiled code and the plain attributes of what no file holds: a class or a function typed into a notebook."""
    digest = hashlib.sha256()
    home = getattr(target, "__module__", None)
    for owner in [one for one in getattr(target, "__mro__", (target,)) if getattr(one, "__module__", None) == home]:
        held = vars(owner) if isinstance(owner, type) else {"": owner}
        for name in sorted(held.keys() - {"__firstlineno__"}):
            value = held[name]
            code = getattr(getattr(value, "__func__", getattr(value, "fget", value)), "__code__", None)
            text = "".join(code_texts(code)) if code else repr(value) if isinstance(value, bool | int | float | str | tuple) else ""
            digest.update(f"{name}={text}\n".encode())
    return digest.hexdigest()


def inner(target: Any, name: str, value: Any, paths: Paths) -> Any:
    """An argument with what its value does not say: the sources of objects inside, the hash of a file."""
    if isinstance(value, dict) and set(value) == {"file"}:
        return {**value, "sha256": hashlib.sha256(paths.path(str(value["file"])).read_bytes()).hexdigest()}
    if isinstance(value, str) and (found := named_file(value, paths)) is not None:
        return {"file": value, "sha256": file_hash(found)}
    kind = inner_kind(target, name, value) if isinstance(value, dict | list) else None
    if kind is None:
        return value
    if isinstance(value, list):
        return [inner(target, name, one, paths) for one in value]
    return described(kind, Entry.model_validate(prior_part(value) if kind == "prior" else value), paths)


def named_file(text: str, paths: Paths) -> Path | None:
    """The file that a text names, from the suite's folder or from here; None if it names none."""
    try:
        return next((path for path in (paths.path(text), Path(text)) if text and path.is_file()), None)
    except (OSError, ValueError, RuntimeError, InvsolveError):  # no path: too long, a zero byte, an unknown home
        return None


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_at(path: Path) -> str:
    """Size and time of change, for files that take too long to read in every run; what a prior has read of them is in its state."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


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
def data_hash(module: str) -> str | None:
    """SHA-256 over the files that a plug-in's code may read: all of its package that are no source; None for the core, which reads none.

    Of a module that is no package, the files beside it that its source names. Each run looks anew (`Job` clears the cache).
    """
    top = module.partition(".")[0]
    if top == "invsolve":
        return None
    files = package_data(top) if top != module or locate(module, folder=True) else []
    source = locate(module)
    if source is not None and not files:
        texts = {
            node.value for node in ast.walk(parsed(source.read_bytes())) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        files = [(text, path) for text in sorted(texts) if (path := beside(source, text)) is not None]
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{file_hash(path) if path.stat().st_size <= LARGE else changed_at(path)}\n".encode())
    return digest.hexdigest()


def package_data(package: str) -> list[tuple[str, Path]]:
    """(name, path) of the files of a package that are neither source nor hidden nor compiled from its source."""
    root = locate(package, folder=True)
    if root is None:
        return []
    found = [(path.relative_to(root), path) for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")]
    return sorted((name.as_posix(), path) for name, path in found if not any(part.startswith((".", "__pycache__")) for part in name.parts))


def beside(source: Path, text: str) -> Path | None:
    """The file of this name in the folder of a module."""
    try:
        path = source.parent / text
        return path if text and path.is_file() and path != source else None
    except (OSError, ValueError):
        return None


@cache
def read(module: str) -> tuple[bytes, tuple[str, ...]] | None:
    """A module's source and what it imports; None without a source file."""
    path = locate(module)
    if path is None:
        return None
    source = path.read_bytes()
    return source, imports(source, module)


def locate(module: str, *, folder: bool = False) -> Path | None:
    """The source file of a module, or the folder of a package; None if it has none."""
    if module == "__main__":  # a script's file; a notebook has none
        path = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
        return path if path.suffix == ".py" and path.is_file() and not folder else None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if folder:
        return None if spec is None or not spec.submodule_search_locations else Path(next(iter(spec.submodule_search_locations)))
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    return origin if origin is not None and origin.suffix == ".py" and origin.is_file() else None


@cache  # of the text itself, which is read anew: a notebook's many runs parse each file once
def imports(source: bytes, module: str) -> tuple[str, ...]:
    """Names that a module imports, those for type checkers left out; `from a import b` gives a and a.b."""
    found: list[str] = []
    for node in _running(parsed(source)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (parent, node.module or "") if part)
            found += (base, *(f"{base}.{alias.name}" for alias in node.names))
    return tuple(found)


def parsed(source: bytes) -> ast.Module:
    """The tree of a source, an empty one where that is none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes outside `if TYPE_CHECKING:`, but for those within expressions, where no statement can be."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)][::-1]
