"""invsolve plugins new: a complete plug-in project from a plain template."""

from __future__ import annotations

import re
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from invsolve.errors import InputError
from invsolve.io.files import replacing_folder

LEGAL = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40  # its entries add to it, and no registered name is longer than 64
SUFFIX = ".tmpl"


def new_plugin(name: str, into: str | Path = ".") -> Path:
    """Write the project `into`/`name`: the distribution invsolve-NAME with one of each kind, and their tests.

    Args:
        name: of the plug-in, in kebab case, such as my-lab.
        into: the folder that the project's folder is made in.

    Raises:
        InputError: a name that is not legal or taken, or a folder that exists; nothing is overwritten.
    """
    check_name(name)
    target = Path(into) / name
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already, and nothing is overwritten; give another name, or another folder with --into")
    words = {"name": name, "distribution": f"invsolve-{name}", "module": module_of(name)}
    with replacing_folder(target, "pyproject.toml") as folder:
        for path, text in template_files():
            file = folder / path.replace("__module__", words["module"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8", newline="\n")
    return target


def module_of(name: str) -> str:
    """The import name."""
    return f"invsolve_{name.replace('-', '_')}"


def check_name(name: str) -> None:
    """Raise InputError unless the name is legal and free."""
    if name.startswith("invsolve-"):
        raise InputError(f"leave out 'invsolve-': the distribution is called invsolve-NAME; given {name!r}")
    if not LEGAL.fullmatch(name) or len(name) > LONGEST:
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:LONGEST].strip("-")
        hint = f"; try {near}" if LEGAL.fullmatch(near) else ""
        raise InputError(
            f"NAME must be lower-case letters and digits in words joined by '-', begin with a letter and have at most {LONGEST} "
            f"characters; given {name!r}{hint}"
        )
    owner = taken_by(name)
    if owner:
        raise InputError(f"the name '{name}' is taken by {owner}; give another one")


def taken_by(name: str) -> str:
    """Who has this name already: a plug-in, an installed distribution or a suite; "" if nobody."""
    from importlib.util import find_spec

    from invsolve.plugins import registry

    record = next((record for record in registry().plugins if record.name == name), None)
    if record is not None:
        return f"the plug-in of {record.distribution} {record.version}"
    try:
        return f"the installed distribution invsolve-{name} {metadata.version(f'invsolve-{name}')}"
    except metadata.PackageNotFoundError:
        pass
    if find_spec(module_of(name)) is not None:
        return f"the importable module {module_of(name)}"
    entry = registry().entries.get(("suite", name))
    return f"the suite of {entry.plugin}" if entry is not None else ""


def template_files() -> list[tuple[str, str]]:
    """(path, text) of every file of the template, with ${name}, ${distribution} and ${module} still in it."""
    found: list[tuple[str, str]] = []

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(SUFFIX):
                found.append((prefix + entry.name.removesuffix(SUFFIX), entry.read_text(encoding="utf-8")))

    collect(resources.files("invsolve") / "templates" / "plugin", "")
    return found
