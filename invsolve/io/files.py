"""Files written whole or not at all: into a temporary sibling first, then renamed over the target."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.errors import InputError


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block ends without an error.

    Raises:
        InputError: `path` is a folder, or its parent cannot be made.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the name of a file")
    make_parent(target)
    temporary = _sibling(target)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """A file with this content, whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing_folder(path: str | Path, marker: str) -> Iterator[Path]:
    """A temporary folder to fill; it takes the place of the folder `path` when the block ends without an error.

    Args:
        path: the folder; one that exists is replaced only if it is empty or holds a file named `marker`.
        marker: the file by which an earlier save is recognised.

    Raises:
        InputError: `path` is a file or somebody else's folder, or cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give the name of a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise InputError(f"{target} holds other files and no {marker}; give a new folder")
    make_parent(target)
    temporary, old = _sibling(target), _sibling(target)
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():  # two renames: the old one survives under its temporary name if the process dies in between
            os.rename(target, old)
        os.rename(temporary, target)
    except OSError as error:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def make_parent(target: Path) -> None:
    """Make the folder that `target` lies in; raises as `make_folder`."""
    make_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there is left as it is.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def regular_file(path: str | Path, what: str) -> Path:
    """The path of a file that is there and not empty.

    Raises:
        InputError: there is none, it is a folder or a device, or it is empty.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"no {what} {file}")
    if not file.is_file():
        raise InputError(f"{file} is not a regular file; expected {what}")
    if file.stat().st_size == 0:
        raise InputError(f"{file} is empty; expected {what}")
    return file
