"""Cells: one operator x picture x solver each, kept under the hash of everything that determines it.

    key = sha256(canonical JSON of the inputs)           cells/<key[:2]>/<key>/cell.json, tensors.safetensors

A cell folder is built under a temporary name, synced, then renamed: a reader sees all of it or nothing. The record holds its own hash
and those of its tensors: what is damaged counts as missing, and is computed again. Device, batch size, paths and time are no inputs;
they stand beside the result.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from invsolve.data import Picture, tensor_sha256
from invsolve.errors import InputError
from invsolve.io.files import make_folder, replacing_folder, write_text

if TYPE_CHECKING:
    from invsolve.bench.suite import OperatorEntry, SolverEntry

__all__ = ["SCHEMA", "Cell", "Outcome", "Store", "canonical", "cell_key", "encode", "number", "write_text"]
SCHEMA = 2
MAX_BYTES = 16_000_000
TENSORS = "tensors.safetensors"


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces, exact floats; NaN and Inf are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def cell_key(inputs: dict[str, Any]) -> str:
    """The cell's name: SHA-256 of its inputs and the schema version."""
    return digest({"schema": SCHEMA, **inputs})


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


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: it cannot be read, is no JSON, or too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None


@dataclass
class Cell:
    """One cell to be: where it belongs, its measurement, its key, and the base seed that it repeats the suite with."""

    operator: OperatorEntry
    solver: SolverEntry
    picture: Picture
    measurement: str
    inputs: dict[str, Any]
    key: str
    base: int = 0


# What was computed of a cell: the answer, and its images.
Outcome = tuple[Cell, dict[str, Any], dict[str, Tensor]]


class Store:
    """Atomic folders by key under root/kind: "cells" for results, "inputs" for measurements.

    Args:
        root: the run's folder.
        kind: name of the sub-folder.
        record: name of the JSON file that makes a folder complete.
    """

    def __init__(self, root: Path, kind: str, record: str) -> None:
        self.folder, self.record = root / kind, record

    def path(self, key: str) -> Path:
        """Where the folder of a key is."""
        return self.folder / key[:2] / key

    def read(self, key: str) -> dict[str, Any] | None:
        """The record of a key; None if there is none, or none that is as it was written."""
        try:
            record = read_json(self.path(key) / self.record)
        except InputError:
            return None
        if not isinstance(record, dict) or record.get("key") != key or record.get("schema") != SCHEMA:
            return None
        claimed = record.pop("sha256", None)
        try:
            return record if claimed == digest(record) else None
        except (ValueError, RecursionError):
            return None

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The tensors of a key, {} where there are none that are as they were written."""
        record = self.read(key)
        return {} if record is None else self.tensors_of(record)

    def tensors_of(self, record: dict[str, Any]) -> dict[str, Tensor]:
        """The same, for a record that was read before."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        hashes = record.get("tensors")
        if not hashes or not isinstance(hashes, dict):
            return {}
        try:
            found = load_file(self.path(record["key"]) / TENSORS)
        except (OSError, SafetensorError, ValueError, RuntimeError):
            return {}
        return found if {name: tensor_sha256(value) for name, value in found.items()} == hashes else {}

    def write(self, key: str, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Put a folder in place, all or nothing; whatever is there is replaced.

        Raises:
            InputError: the disk does not take it.
        """
        from safetensors.torch import save

        target = self.path(key)
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        hashes = {name: tensor_sha256(value) for name, value in held.items()}
        whole = encode({**record, "schema": SCHEMA, "key": key, "tensors": hashes})
        if target.parent.exists() and not target.parent.is_dir():
            with suppress(OSError):  # a file where a folder belongs: nothing of ours
                target.parent.unlink()
        make_folder(target.parent)
        with replacing_folder(target, None, sync=True) as folder:
            if held:
                (folder / TENSORS).write_bytes(save(held))
            text = json.dumps({"sha256": digest(whole), **whole}, indent=1, allow_nan=False)
            (folder / self.record).write_text(text, encoding="utf-8")
