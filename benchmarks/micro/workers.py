"""How much faster two workers are than one process: `python benchmarks/micro/workers.py [--workers 2] [--rounds 2]`.

The same cells, single-threaded everywhere: in one process, then over workers, in turns (A B A B), each into a fresh folder. `whole` is the
time of `run` from its call to its rows, starting the workers included; `cells` is from the first cell begun to the last one written,
what a long run comes to. A ratio is seconds in one process / seconds over workers, of the rounds' sums.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from invsolve.bench import Suite, run
from invsolve.bench.export import read_run


def suite(cells: int, steps: int) -> Suite:
    """Cells of one kind."""
    return Suite.make(
        {
            "name": "workers",
            "data": {"shape": [1, 64, 64], "images": cells},
            "noise": {"sigma": 0.05},
            "operator": [{"name": "gaussian-blur", "sigma": 1.6}],
            "solver": [{"name": "adam-tv", "steps": steps, "prior": {"name": "tv", "weight": 8.0}}],
            "metrics": ["psnr"],
        }
    )


def timed(made: Suite, out: Path, workers: int | None) -> tuple[float, float, list[str]]:
    """(seconds of the run, seconds of its cells, hashes of the answers)."""
    began = time.perf_counter()
    rows = run(made, out=out, progress=False, workers=workers)
    whole = time.perf_counter() - began
    written = [(out / "cells" / place["key"][:2] / place["key"] / "cell.json").stat().st_mtime for place in read_run(out)["cells"]]
    first = min(when - row["seconds"] for when, row in zip(written, rows, strict=True))
    return whole, max(written) - first, [row["x_sha256"] for row in rows]


def main() -> None:
    """The rounds, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made, sums = suite(arguments.cells, arguments.steps), {None: [0.0, 0.0], arguments.workers: [0.0, 0.0]}
    with tempfile.TemporaryDirectory() as folder:
        run(suite(1, 2), out=Path(folder) / "warm", progress=False)
        for number in range(arguments.rounds):
            hashes = []
            for workers in sums:
                whole, cells, found = timed(made, Path(folder) / f"{number}-{workers}", workers)
                sums[workers] = [sums[workers][0] + whole, sums[workers][1] + cells]
                hashes.append(found)
                print(f"{workers or 'no'} workers: {whole:.1f} s, its cells {cells:.1f} s; load {os.getloadavg()[0]:.1f}", flush=True)
            assert hashes[0] == hashes[1], "other answers"
    alone, spread = sums.values()
    print(f"ratio of whole runs {alone[0] / spread[0]:.2f}, of cells {alone[1] / spread[1]:.2f}; equal answers")


if __name__ == "__main__":
    main()
