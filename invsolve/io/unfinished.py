"""A run that goes on, as a folder: see `invsolve.run.Checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.encoding import Pool, decode, encode
from invsolve.io.stored import Stored, read_stored, step_fields, step_table, write_stored

if TYPE_CHECKING:
    from invsolve.run.checkpoint import Kept

NUMBERS = ("steps", "nfe", "seconds", "network_seconds", "seed", "samples", "backward")


class StoredRun(Stored):
    """`config.json` of a run under way."""

    kind: Literal["run"]
    key: dict[str, str]
    seed: int
    queue: list[list[list[int]]]
    ended: list[dict[str, Any]]
    underway: dict[str, Any] | None


def save_run(kept: Kept, path: Path) -> None:
    """Write the folder; what was there before is replaced.

    Raises:
        InputError: the place cannot be written, or holds something else.
    """
    pool = Pool()
    ended = []
    for index, (rows, solution) in enumerate(kept.ended):
        plain: dict[str, Any] = {name: getattr(solution, name) for name in NUMBERS}
        plain |= {"x": solution.x, "latent": solution.latent, "stats": dict(solution.stats)}
        table = {name: encode(value, pool, f"ended.{index}.{name}") for name, value in plain.items()}
        trace = [step_table(step, pool, f"ended.{index}.trace.{place}") for place, step in enumerate(solution.trace)]
        ended.append({"rows": [list(pair) for pair in rows], "status": solution.status.value, "trace": trace, **table})
    underway: dict[str, Any] | None = None
    if kept.underway is not None:
        now = kept.underway
        streams = [encode(state, pool, f"underway.stream.{index}") for index, state in enumerate(now.streams)]
        step = step_table(now.step, pool, "underway.step")
        underway = {"rows": [list(pair) for pair in now.rows], "step": step, "streams": streams, "counts": now.counts}
        underway["trace"] = [step_table(step, pool, f"underway.trace.{place}") for place, step in enumerate(now.trace)]
    queue = [[list(pair) for pair in rows] for rows in kept.queue]
    write_stored(path, {"kind": "run", "key": kept.key, "seed": kept.seed, "queue": queue, "ended": ended, "underway": underway}, pool)


def read_run(path: Path) -> dict[str, Any]:
    """What `save_run` wrote, on the CPU: the key, the seed, the queue, and of what has ended or is under way the arguments of its classes.

    Raises:
        InputError: no such folder, damaged or torn files.
    """
    stored, pool = read_stored(path, StoredRun)
    try:
        ended = []
        for table in stored.ended:
            values = {name: decode(table[name], pool) for name in (*NUMBERS, "x", "latent", "stats")}
            trace = [step_fields(step, pool) for step in table["trace"]]
            ended.append((pairs(table["rows"]), values | {"status": table["status"], "trace": trace}))
        underway = None
        if stored.underway is not None:
            now = stored.underway
            streams = [decode(state, pool) for state in now["streams"]]
            if not all(isinstance(state, Tensor) for state in streams):
                raise InputError("the streams' positions are no tensors")
            counts = {str(name): float(value) for name, value in now["counts"].items()}
            trace = [step_fields(step, pool) for step in now["trace"]]
            underway = {
                "rows": pairs(now["rows"]),
                "step": step_fields(now["step"], pool),
                "streams": streams,
                "counts": counts,
                "trace": trace,
            }
        queue = [pairs(rows) for rows in stored.queue]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no run that can be taken up: {error}") from error
    return {"key": stored.key, "seed": stored.seed, "queue": queue, "ended": ended, "underway": underway}


def pairs(rows: Any) -> list[tuple[int, int]]:
    """The (sample, item) pairs."""
    return [(int(sample), int(item)) for sample, item in rows]
