"""Cells: one operator x picture x solver each, kept under the hash of everything that determines it.

    key = sha256(canonical JSON of the inputs)           cells/<key[:2]>/<key>/cell.json, x.safetensors

A cell folder is built under a temporary name, synced, then renamed: a reader sees all of it or nothing. Device, batch size,
paths and time are no inputs; they stand beside the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.io.files import make_folder

SCHEMA = 1
ORPHAN_SECONDS = 3600


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces, exact floats; NaN and Inf are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def cell_key(inputs: dict[str, Any]) -> str:
    """The cell's name: SHA-256 of its inputs and the schema version."""
    return hashlib.sha256(canonical({"schema": SCHEMA, **inputs}).encode()).hexdigest()


def encode(value: Any) -> Any:
    """Plain values for JSON: a float that is not finite becomes text ("inf")."""
    if isinstance(value, dict):
        return {key: encode(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [encode(part) for part in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def number(value: Any) -> float | None:
    """A number that `encode` wrote, or None."""
    return None if value is None else float(value)


class Store:
    """Atomic folders by key under root/kind: "cells" for results, "inputs" for measurements.

    Args:
        root: the run's folder.
        kind: name of the sub-folder.
        record: name of the JSON file that makes a folder complete.
    """

    def __init__(self, root: Path, kind: str, record: str) -> None:
        self.folder, self.record = root / kind, record
        make_folder(self.folder)

    def path(self, key: str) -> Path:
        """Where the folder of a key is."""
        return self.folder / key[:2] / key

    def read(self, key: str) -> dict[str, Any] | None:
        """The record of a key; None if there is none, or none that can be read whole."""
        try:
            record = json.loads((self.path(key) / self.record).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("key") == key and record.get("schema") == SCHEMA else None

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The tensors of a key, {} without any that can be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.path(key) / "tensors.safetensors")
        except (OSError, SafetensorError):
            return {}

    def write(self, key: str, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Put a folder in place, all or nothing; one that is there is replaced."""
        temporary = self.folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            if tensors:
                _save_tensors(temporary / "tensors.safetensors", tensors)
            _save_text(temporary / self.record, json.dumps(encode({"schema": SCHEMA, "key": key, **record}), indent=1, allow_nan=False))
            _sync(temporary)
            self._place(temporary, self.path(key))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _place(self, temporary: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            # A folder cannot be renamed over a full one: the old is set aside first. Killed in between, the cell is merely missing.
            aside = self.folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
            target.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        temporary.rename(target)
        _sync(target.parent)

    def sweep(self) -> int:
        """Remove temporary folders left by a killed run, if they are older than an hour; returns how many."""
        old = [path for path in self.folder.glob(".tmp-*") if time.time() - path.stat().st_mtime > ORPHAN_SECONDS]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
        return len(old)


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    _sync(path)


def _save_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """A file, all or nothing."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _save_text(temporary, text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """fsync a file or a folder; folders cannot be opened on Windows, where renames need none."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
