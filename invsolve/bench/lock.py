"""One run at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invsolve.errors import InputError
from invsolve.io.files import make_folder

GLANCES = 10  # of somebody who only looks, before a folder counts as held: each is over in less than the wait between them


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the folder; False where the system or the disk has no locks (Windows, some network disks), and nothing is held.

    The lock belongs to the process and ends with it, however that ends. Without one, two runs of the same suite write the same cells twice,
    each whole: time is lost, nothing else.

    Raises:
        InputError: another run holds it, or the folder cannot be made or opened.
    """
    make_folder(folder)
    try:
        import fcntl
    except ImportError:
        yield False
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot open the folder {folder}: {error.strerror or error}") from error
    try:
        held = True
        try:
            _taken(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run works in {folder}; wait until it ends, or give another folder with --out") from None
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def busy(folder: Path) -> bool:
    """Whether a run holds the folder just now; False too where the system or the disk has no locks."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _taken(descriptor: int, how: int) -> None:
    import fcntl

    for glance in range(GLANCES):
        try:
            fcntl.flock(descriptor, how)
            return
        except BlockingIOError:
            if glance == GLANCES - 1:
                raise
            time.sleep(0.02)
