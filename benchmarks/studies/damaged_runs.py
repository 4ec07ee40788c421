"""Replace one value of a run's files by something else: does reading it end in anything but a clear error? `python damaged_runs.py`.

Each value of run.json, cell.json and input.json by null, true, a text, a list, a table, a huge number; records also with their hash made
right again, as somebody who means it would; files cut, emptied, made folders. Then the table, the report and a resumed run: each an
InvsolveError or an answer, and the resumed run gives the rows of an undamaged one.
"""

import argparse
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from invsolve.bench import Suite, run, write_report
from invsolve.bench.cells import digest
from invsolve.bench.export import read_rows, read_run
from invsolve.bench.table import format_plain
from invsolve.errors import InvsolveError

SUITE = {
    "name": "damaged",
    "data": {"shape": [3, 8, 8], "images": 2},
    "noise": {"sigma": 0.05},
    "operator": [{"name": "gaussian-blur", "sigma": 1.0}, {"name": "box-mask", "box": 3}],
    "solver": [
        {"name": "adam-tv", "steps": 1, "prior": {"name": "tv", "weight": 8.0}},
        {"name": "dps", "label": "skipped", "prior": "tv"},
    ],
    "metrics": ["psnr", "residual"],
}
VALUES: list[Any] = [None, True, "", "../../x", "\ud800", [], [1, [2]], {}, {"a": None}, -1, 1e308, 10**30, 0.5, "inf"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON file is."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def damage(folder: Path, draw: random.Random) -> str:
    """Do one damage to a run's folder; says what."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    chosen = draw.choice([folder / "run.json", draw.choice(files)])
    name = chosen.name
    if chosen.suffix == ".json" and draw.random() < 0.8:
        whole = json.loads(chosen.read_text())
        path = draw.choice(list(places(whole)))
        new = draw.choice(VALUES)
        whole = replaced(whole, path, new)
        signed = isinstance(whole, dict) and "sha256" in whole and draw.random() < 0.7
        if signed:
            whole.pop("sha256")
            whole = {"sha256": digest(whole), **whole}
        chosen.write_text(json.dumps(whole), encoding="utf-8")
        return f"{name} {'.'.join(map(str, path))} = {new!r}{' signed' if signed else ''}"
    content = chosen.read_bytes()
    kind = draw.choice(["cut", "empty", "flip", "folder", "gone", "nested", "digits"])
    if kind in ("folder", "gone"):
        chosen.unlink()
        if kind == "folder":
            chosen.mkdir()
    elif kind == "flip":
        place = draw.randrange(len(content))
        chosen.write_bytes(content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :])
    else:
        made = {"cut": content[: draw.randrange(len(content))], "empty": b"", "nested": b"[" * 100_000, "digits": b"9" * 5000}
        chosen.write_bytes(made[kind])
    return f"{name} {kind}"


def same(row: dict[str, Any]) -> dict[str, Any]:
    """What must not move."""
    return {name: row[name] for name in ("operator", "solver", "image", "status", "reason", "metrics", "x_sha256", "y_sha256", "key")}


def page(folder: Path) -> str:
    """Everything that reads a run."""
    write_report(folder)
    return format_plain(read_run(folder), read_rows(folder))


def campaign(root: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How it ended, by kind; and the damages that ended badly."""
    draw = random.Random(seed)
    suite = Suite.make(SUITE)
    whole = list(map(same, run(suite, out=root / "whole", progress=False)))
    counts: Counter[str] = Counter()
    bad: list[str] = []
    steps: dict[str, Callable[[Path], object]] = {
        "report": page,
        "resumed": lambda out: list(map(same, run(suite, out=out, progress=False))),
    }
    for _ in range(count):
        out = root / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(root / "whole", out)
        what = damage(out, draw)
        for name, step in steps.items():
            try:
                found = step(out)
            except InvsolveError:
                counts[f"{name}: refused"] += 1
                continue
            except BaseException as error:
                counts[f"{name}: foreign"] += 1
                bad.append(f"{what}: {name}: {type(error).__name__}: {error}"[:300])
                continue
            counts[f"{name}: answered"] += 1
            if name == "resumed" and found != whole and "signed" not in what:  # who signs a number anew has changed it for good
                counts["resumed: other rows"] += 1
                bad.append(f"{what}: other rows")
    return counts, bad


def main() -> None:
    """The campaign, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts, bad = campaign(Path(folder), arguments.count, arguments.seed)
    print("\n".join([*bad, *(f"{name}: {number}" for name, number in sorted(counts.items()))]))


if __name__ == "__main__":
    main()
