"""Files written whole or not at all: into a temporary sibling first, then renamed over the target."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from invsolve.errors import InputError

TEMPORARY = ".tmp"
SIBLING = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
# Twins that write the same folder at once come between the two renames; each try is one such meeting.
TRIES = 50  # of a rename that twins keep taking the place of; each waits longer, by a time of its own


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")


@contextmanager
def replacing(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block ends without an error.

    Args:
        path: the file.
        sync: wait until the disk has it, so that it survives a power cut too.

    Raises:
        InputError: `path` is a folder, its parent cannot be made, or it cannot be written (no space, no permission, read-only).
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the name of a file")
    make_parent(target)
    temporary = _sibling(target)
    try:
        yield temporary
        if sync:
            _flush(temporary)
        os.replace(temporary, target)
        if sync:
            _flush(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes, *, sync: bool = False) -> None:
    """A file with this content, whole or not at all; see `replacing`."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str, *, sync: bool = False) -> None:
    """The same for text, in UTF-8; what no UTF-8 can hold (half a surrogate pair) becomes a question mark."""
    write_bytes(path, text.encode(errors="replace"), sync=sync)


@contextmanager
def replacing_folder(path: str | Path, marker: str | None, *, sync: bool = False) -> Iterator[Path]:
    """A temporary folder to fill; it takes the place of the folder `path` when the block ends without an error.

    Two that write the same folder at once both succeed, and one of them stays, whole.

    Args:
        path: the folder; one that exists is replaced only if it is empty or holds a file named `marker`.
        marker: the file by which an earlier save is recognised; None replaces whatever is there, a file too.
        sync: wait until the disk has it.

    Raises:
        InputError: `path` is a file or somebody else's folder, or cannot be written.
    """
    target = Path(path)
    if marker is not None:
        if target.exists() and not target.is_dir():
            raise InputError(f"{target} is a file; give the name of a folder")
        if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
            raise InputError(f"{target} holds other files and no {marker}; give a new folder")
    make_parent(target)
    temporary = _sibling(target)
    try:
        temporary.mkdir()
        yield temporary
        if sync:
            for inside in temporary.iterdir():
                _flush(inside)
            _flush(temporary)
        _put(temporary, target)
        if sync:
            _flush(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, target: Path) -> None:
    """Two renames: the old one survives under a temporary name if the process dies in between, and is put back if the second fails."""
    for attempt in range(TRIES):
        old = _sibling(target)
        with suppress(FileNotFoundError):  # nothing is there, or a twin has just moved it
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if old.exists() and not target.exists():
                os.rename(old, target)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or attempt == TRIES - 1:
                raise
            time.sleep(0.001 * attempt * (1 + os.getpid() % 5))  # or twins that are in step would be so for ever
            continue
        finally:
            if target.exists():
                _remove(old)
        return


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """fsync a file or a folder; folders cannot be opened on Windows, where renames need none."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove what killed writers left under `folder`, at any depth; returns how many. Only for a folder that nobody writes to just now."""
    left = [path for path in folder.rglob(f".*{TEMPORARY}") if SIBLING.fullmatch(path.name)]
    for path in left:
        _remove(path)
    return len(left)


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
    try:
        if not file.exists():
            raise InputError(f"no {what} {file!s:.200}")
        if not file.is_file():
            raise InputError(f"{file} is not a regular file; expected {what}")
        if file.stat().st_size == 0:
            raise InputError(f"{file} is empty; expected {what}")
        with file.open("rb"):
            return file
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a name that is none, or a file that may not be read
        raise InputError(f"cannot read the {what} {file!s:.200}: {getattr(error, 'strerror', None) or error}") from error
