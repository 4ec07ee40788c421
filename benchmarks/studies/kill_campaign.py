"""Kill a running suite at random moments and start it again: is any finished cell lost? `python kill_campaign.py --kills 100`.

A process is forked per start, so that kills meet cells and not imports; after every kill each finished cell must be there, whole and
with the hash it had, and no cell that was finished may be computed again. When a folder is complete its rows are compared with those of
a run that nobody disturbed, and the next folder begins.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from invsolve.bench import Suite, run
from invsolve.bench.cells import Store
from invsolve.bench.export import read_run

SUITE = {
    "name": "killed",
    "data": {"shape": [3, 16, 16], "images": 6},
    "noise": {"sigma": 0.05},
    "operator": [{"name": "gaussian-blur", "sigma": 1.0}, {"name": "block-mean", "factor": 2}],
    "solver": [
        {"name": "adam-tv", "steps": 4, "prior": {"name": "tv", "weight": 8.0}},
        {"name": "diffpir", "steps": 4, "prior": {"name": "gaussian", "mean": 0.5, "std": 0.25}},
    ],
    "metrics": ["psnr", "residual"],
}


def answers(rows: list[dict[str, Any]]) -> list[Any]:
    """What must be the same, however often a run was killed."""
    return [(row["operator"], row["solver"], row["image"], row["status"], row["x_sha256"], row["metrics"]) for row in rows]


def finished(out: Path) -> dict[str, tuple[str, int]]:
    """key -> (hash, time of writing) of the cells that are there, whole."""
    if not (out / "run.json").is_file():
        return {}
    store = Store(out, "cells", "cell.json")
    found = {}
    for place in read_run(out)["cells"]:
        record = store.read(place["key"])
        if record is not None and store.tensors_of(record):
            written = (store.path(place["key"]) / "cell.json").stat().st_mtime_ns
            found[place["key"]] = (record["answer"]["x_sha256"], written)
    return found


def killed_run(out: Path, seconds: float) -> bool:
    """Start the suite in a process of its own and kill it after so long; whether it was killed before its end."""
    child = os.fork()
    if not child:
        try:
            run(Suite.make(SUITE), out=out, progress=False)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def campaign(root: Path, kills: int, seed: int) -> dict[str, int]:
    """Counts of what was seen."""
    # A generator of the standard library's own: nothing here is an answer.
    draw = random.Random(seed)
    began = time.monotonic()
    whole = run(Suite.make(SUITE), out=root / "whole", progress=False)
    length = time.monotonic() - began
    seen: dict[str, int] = dict.fromkeys(("kills", "starts", "folders", "lost", "again", "differ", "temporary"), 0)
    while seen["kills"] < kills:
        out = root / f"run{seen['folders']}"
        seen["folders"] += 1
        for _ in range(4):
            before = finished(out)
            seen["starts"] += 1
            seen["kills"] += killed_run(out, draw.uniform(0.02, 0.6) * length)
            after = finished(out)
            seen["lost"] += sum(key not in after or after[key][0] != digest for key, (digest, _) in before.items())
            seen["again"] += sum(key in after and after[key][1] != written for key, (_, written) in before.items())
            seen["temporary"] += len(list(out.rglob("*.tmp")))
        rows = run(Suite.make(SUITE), out=out, progress=False)
        seen["differ"] += answers(rows) != answers(whole)
        seen["differ"] += len(list(out.rglob("*.tmp")))  # nothing half written is left
        shutil.rmtree(out)
    return seen


def main() -> None:
    """The campaign, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seen = campaign(Path(folder), arguments.kills, arguments.seed)
    print(
        "{kills} kills in {starts} starts of {folders} folders, {temporary} half-written ones seen; finished cells lost: {lost}, "
        "computed again: {again}; folders that ended with other rows or remains: {differ}".format(**seen)
    )


if __name__ == "__main__":
    main()
