"""What a dask worker runs: the same cells by the same code as a run in one process, written into the run's folder by the worker itself.

A cell is in the folder before the worker says that it is done, so that no death of worker, scheduler or driver loses one. A worker that
would compute other cells than the driver asked for (another version, another source, another disk) says so, and computes nothing.

As a dask preload, this module keeps a local worker from being stopped by the Ctrl-C that is meant for the driver, and from outliving it.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from invsolve.errors import InputError
from invsolve.plugins.interrupts import attempted, in_main_thread

if TYPE_CHECKING:
    from invsolve.bench.cells import Cell
    from invsolve.bench.job import Job
    from invsolve.bench.suite import Suite

# Solvers share the global state of torch, which threads of one process would change under each other.
ALONE = threading.Lock()
# The run that this process works for, with the objects that it has made.
HELD: dict[str, Job] = {}
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PATIENCE = 10.0  # seconds that a network disk may take to show what the driver has written


class Place(NamedTuple):
    """A cell by its place in the suite, and the key that the driver has for it."""

    operator: str
    solver: str
    picture: str
    base: int
    key: str


@dataclass(frozen=True)
class Order:
    """What all cells of a run have in common; `token` is another one in every run, `sharing` the number of workers on a machine."""

    token: str
    suite: Suite
    out: str
    seed: int
    device: str
    batch: int | Literal["auto"]
    fresh: bool
    limit: float | None
    versions: dict[str, str]
    sharing: int


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C to the driver, and end with it."""
    if in_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """On Linux: the kernel ends this process when its parent ends, whatever it is at.

    The server that forks workers ends with the driver (`invsolve.bench.leash`), and they with it. The pipes that multiprocessing watches
    for that are not looked at by a process that is stopped or deep in a computation, and the server waits for its workers.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def work(order: Order, places: list[Place]) -> str:
    """Compute cells of one operator and solver; "" where they are written, else what keeps this worker from it."""
    with ALONE:
        found = attempted(lambda: _work(order, places))
    if found is None:
        return ""
    return str(found) if isinstance(found, InputError) else f"{type(found).__name__}: {found}"


def _work(order: Order, places: list[Place]) -> None:
    import torch
    from tqdm import tqdm

    from invsolve.bench.batches import alike, solve
    from invsolve.bench.progress import Bar
    from invsolve.bench.stop import Stop

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed worker would leave behind
    job = _job(order)
    cells = [_cell(order, place) for place in places]
    waiting = [cell for cell in cells if cell.key not in job.tried and (job.fresh or not job.finished(cell))]
    job.flight.forget([cell.key for cell in cells if cell not in waiting])  # written just before its worker died
    with Bar(len(waiting), False) as bar:
        for same in alike(waiting):
            solve(job, same, bar, Stop())


def _job(order: Order) -> Job:
    """The run's own objects, made once in a process.

    Raises:
        InputError: other versions than the driver's, or the folder is not to be seen here.
    """
    from invsolve.bench.environment import versions
    from invsolve.bench.job import Job
    from invsolve.recipe.device import usable_device

    if order.token not in HELD:
        here = versions()
        other = [f"{name} {here.get(name)}, not {version}" for name, version in order.versions.items() if here.get(name) != version]
        if other:
            raise InputError(f"it has {'; '.join(other)}: install the same there")
        _wait_for(Path(order.out))
        job = Job(
            order.suite, Path(order.out), order.seed, usable_device(order.device), order.batch, order.fresh, order.limit, order.sharing
        )
        HELD.clear()
        HELD[order.token] = job
    return HELD[order.token]


def _wait_for(out: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not (out / "run.json").is_file():
        if time.monotonic() > until:
            raise InputError(f"it does not see the run's folder {out}: give --out on a disk that all machines have under one path")
        time.sleep(0.2)


def _cell(order: Order, place: Place) -> Cell:
    """The cell at a place.

    Raises:
        InputError: its key is another one than the driver's.
    """
    cell = HELD[order.token].at(place.operator, place.solver, place.picture, place.base)
    if cell is None:
        raise InputError(
            f"it finds no picture '{place.picture}': the suite's files must lie on a disk that all machines have under one path"
        )
    if cell.key != place.key:
        raise InputError(
            f"its cell of {place.operator}, {place.solver}, {place.picture} is another than the one asked for: its source code, weights or "
            "data differ from the driver's, or a part is not the same each time it is made"
        )
    return cell
