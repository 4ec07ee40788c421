"""Kill runs of a suite, drivers and workers, and go on: is a finished cell lost? `python kill_campaign.py --kills 300 --cells 500`.

Some kills end a run in one process; the others meet runs over two workers: some workers are killed, then the driver. Drivers
are forked, so that kills meet cells and not imports. After every driver's death each finished cell must be there, whole and with the hash
it had, none may be written again, nothing may stand where a cell belongs that is none, and five seconds later no process of the run may
be left. When a folder is complete its rows are compared with those of a run that nobody disturbed, and the next folder begins.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from invsolve.bench import Suite, run
from invsolve.bench.cells import Store
from invsolve.bench.export import read_run
from invsolve.bench.flight import TRIES, Flight

GAUSSIAN = {"name": "gaussian", "mean": 0.5, "std": 0.25}
BLUR = {"name": "gaussian-blur", "sigma": 1.0}
HOLE = {"name": "box-mask", "box": 3}
OPERATORS = [
    BLUR,
    {"name": "block-mean", "factor": 2},
    HOLE,
    {**BLUR, "sigma": 0.6, "label": "less blur"},
    {**HOLE, "label": "hole", "box": 2},
]
SOLVERS = [
    {"name": "adam-tv", "steps": 4, "prior": {"name": "tv", "weight": 8.0}},
    {"name": "diffpir", "steps": 4, "prior": GAUSSIAN},
    {"name": "ddrm", "steps": 4, "prior": GAUSSIAN},
    {"name": "dps", "steps": 4, "prior": GAUSSIAN},
]
AT_END = os.WEXITED | os.WNOHANG | os.WNOWAIT
GONE = 5.0  # seconds that processes may outlive their driver
COUNTS = ("driver", "worker", "driver_of_workers", "starts", "folders", "lost", "torn", "again", "differ", "temporary", "orphans")


def suite(cells: int) -> Suite:
    """So many cells: pictures x 5 operators x 4 solvers."""
    data = {"shape": [3, 8, 8], "images": max(1, cells // (len(OPERATORS) * len(SOLVERS)))}
    plain = {"name": "killed", "data": data, "noise": {"sigma": 0.05}, "operator": OPERATORS, "solver": SOLVERS}
    return Suite.make({**plain, "metrics": ["psnr", "residual"]})


def answers(rows: list[dict[str, Any]]) -> list[Any]:
    """What must be the same, however often a run was killed."""
    return [(row["operator"], row["solver"], row["image"], row["status"], row["x_sha256"], row["metrics"]) for row in rows]


def finished(out: Path) -> tuple[dict[str, tuple[str, int]], int]:
    """key -> (hash, time of writing) of the cells that are there, whole; and how many are there otherwise."""
    if not (out / "run.json").is_file():
        return {}, 0
    store, found, torn = Store(out, "cells", "cell.json"), {}, 0
    for place in read_run(out)["cells"]:
        there = store.path(place["key"]).exists()  # first: another one may come while we look
        record = store.read(place["key"])
        if record is not None and store.tensors_of(record):
            written = (store.path(place["key"]) / "cell.json").stat().st_mtime_ns
            found[place["key"]] = (record["answer"]["x_sha256"], written)
        else:
            torn += there and (record is None or bool(record["tensors"]))
    return found, torn


def started(made: Suite, out: Path, workers: int | None) -> int:
    """A run in a process of its own, in a session of its own, so that all that it starts can be found."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            run(made, out=out, progress=False, workers=workers)
        finally:
            os._exit(0)
    return child


def ended(child: int) -> bool:
    """Kill a driver; whether it was killed before its end."""
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def session(number: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def orphans(number: int) -> int:
    """How many processes of a session are left when they have had their time."""
    until = time.monotonic() + GONE
    while (left := session(number)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in left:
        print("left:", Path(f"/proc/{pid}/stat").read_text()[:200], Path(f"/proc/{pid}/cmdline").read_text()[:200], file=sys.stderr)
        os.kill(pid, signal.SIGKILL)
    return len(left)


class Campaign:
    """Kills, counted.

    Args:
        root: an empty folder.
        made: the suite.
        seed: of the moments; a generator of the standard library's own, because nothing here is an answer.
        longest: seconds that a run in one process has before it is killed, at most.
        each: workers that are killed before their driver.
    """

    def __init__(self, root: Path, made: Suite, seed: int, longest: float = 4.0, each: int = 5) -> None:
        self.root, self.made, self.draw, self.longest, self.each = root, made, random.Random(seed), longest, each
        self.seen: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.whole = answers(run(made, out=root / "whole", progress=False))
        self.held: dict[str, tuple[str, int]] = {}

    def look(self, out: Path) -> None:
        """Compare the folder with what was there before."""
        found, torn = finished(out)
        self.seen["torn"] += torn
        self.seen["lost"] += sum(found.get(key, ("",))[0] != digest for key, (digest, _) in self.held.items())
        self.seen["again"] += sum(key in found and found[key][1] != written for key, (_, written) in self.held.items())
        self.held = found

    def alone(self, out: Path) -> None:
        """Kill a run in one process, at any moment of its first seconds."""
        self.seen["starts"] += 1
        child = started(self.made, out, None)
        time.sleep(self.draw.uniform(0.02, self.longest))
        self.seen["driver"] += ended(child)
        self.look(out)

    def spread(self, out: Path) -> None:
        """Kill workers of a run while they are at a cell, then their driver."""
        self.seen["starts"] += 1
        child = started(self.made, out, 2)
        for _ in range(self.each):
            self.seen["worker"] += self.hunted(out, child)
            self.look(out)
        time.sleep(self.draw.uniform(0.0, 0.3))
        self.seen["driver_of_workers"] += ended(child)
        self.seen["orphans"] += orphans(child)
        self.seen["temporary"] += len(list(out.rglob("*.tmp")))
        self.look(out)

    def hunted(self, out: Path, child: int) -> bool:
        """Kill a worker in flight, some time after the last kill; False where the run came to its end first."""
        time.sleep(self.draw.uniform(0.0, 0.3))
        until = time.monotonic() + 120
        while time.monotonic() < until and os.waitid(os.P_PID, child, AT_END) is None:
            # A cell that killed its worker three times would be left out, as it should be.
            pids = {mark.get("pid", 0) for mark in Flight(out).marks().values() if mark.get("tries", TRIES) < TRIES}
            pids &= set(session(child)) - {child}
            if pids:
                try:
                    os.kill(self.draw.choice(sorted(pids)), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return True
            time.sleep(0.002)
        return False

    def folder(self, alone: int, spread: int) -> None:
        """A folder that is killed so often, then completed."""
        out = self.root / f"run{self.seen['folders']}"
        self.seen["folders"] += 1
        self.held = {}
        kinds = [self.alone] * alone + [self.spread] * spread
        self.draw.shuffle(kinds)
        for kind in kinds:
            kind(out)
        rows = run(self.made, out=out, progress=False)
        self.look(out)
        self.seen["differ"] += answers(rows) != self.whole
        self.seen["differ"] += len(list(out.rglob("*.tmp")))  # nothing half written is left
        shutil.rmtree(out)

    @property
    def kills(self) -> int:
        """All kills."""
        return sum(self.seen[name] for name in ("driver", "worker", "driver_of_workers"))


def main() -> None:
    """The campaign, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--alone", type=int, default=4, help="runs in one process that are killed per folder")
    parser.add_argument("--spread", type=int, default=1, help="runs over workers that are killed per folder")
    parser.add_argument("--each", type=int, default=5, help="workers that are killed before their driver")
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that a run in one process has, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = Campaign(Path(folder), suite(arguments.cells), arguments.seed, arguments.longest, arguments.each)
        while found.kills < arguments.kills:
            found.folder(arguments.alone, arguments.spread)
            print(found.seen, file=sys.stderr, flush=True)
    print(
        "{driver} drivers, {worker} workers and {driver_of_workers} drivers of workers killed in {starts} starts of {folders} folders, "
        "{temporary} half-written cells seen; finished cells lost: {lost}, torn: {torn}, computed again: {again}; processes left "
        "5 s after their driver: {orphans}; folders that ended with other rows or remains: {differ}".format(**found.seen)
    )


if __name__ == "__main__":
    main()
