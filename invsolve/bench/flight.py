"""Cells in flight: a mark in the run's folder while one is computed, so that a killed worker's cell is known, and how often it died."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invsolve.io.files import write_text

FOLDER = "flight"
TRIES = 3
POISON = f"it killed its worker {TRIES} times (out of memory, or a crash in native code), and is left out; the next run tries it again"


@dataclass(frozen=True)
class Flight:
    """The marks of a run, a small file per cell: {"tries": 2, "host": ..., "pid": ..., "since": seconds since 1970}.

    A mark that is there before its cell begins is the rest of a worker that was killed. Marks say nothing about results: they need not
    survive a power cut, and whoever has the folder alone removes them at the start of a run.

    Args:
        out: the run's folder.
    """

    out: Path

    def path(self, key: str) -> Path:
        """The mark of a cell."""
        return self.out / FOLDER / f"{key}.json"

    def tries(self, key: str) -> int:
        """How many workers have died with this cell; 0 where there is no mark, 1 for one that cannot be read."""
        try:
            found = json.loads(self.path(key).read_bytes())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            return 1
        tries = found.get("tries") if isinstance(found, dict) else None
        return tries if isinstance(tries, int) and tries > 0 else 1

    @contextmanager
    def over(self, keys: list[str]) -> Iterator[None]:
        """Marks on these cells until the block ends, however it ends; a killed process leaves them."""
        place = {"host": platform.node(), "pid": os.getpid(), "since": time.time()}
        for key in keys:
            write_text(self.path(key), json.dumps({"tries": self.tries(key) + 1, **place}))
        try:
            yield
        finally:
            self.forget(keys)

    def forget(self, keys: list[str]) -> None:
        """Remove the marks of these cells."""
        for key in keys:
            with suppress(OSError):
                self.path(key).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the folder of marks if none is left in it."""
        with suppress(OSError):
            (self.out / FOLDER).rmdir()

    def clear(self) -> None:
        """Remove all marks."""
        shutil.rmtree(self.out / FOLDER, ignore_errors=True)

    def marks(self) -> dict[str, dict[str, Any]]:
        """key -> mark of every cell in flight; what cannot be read is {}."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted((self.out / FOLDER).glob("*.json")):
            try:
                mark = json.loads(path.read_bytes())
            except (OSError, ValueError):
                mark = {}
            found[path.stem] = mark if isinstance(mark, dict) else {}
        return found
