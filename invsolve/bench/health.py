"""How a run's folder is: how far, what is wrong with it and what to do, and what in it no run needs."""

from __future__ import annotations

import calendar
import re
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invsolve.bench.cells import TENSORS, Store, canonical, encode
from invsolve.bench.clock import KIND, RECORD
from invsolve.bench.environment import versions
from invsolve.bench.export import read_run
from invsolve.bench.fingerprint import described
from invsolve.bench.flight import FOLDER, Flight
from invsolve.bench.lock import busy, locked
from invsolve.bench.records import CellRecord, cell_record
from invsolve.bench.suite import Suite
from invsolve.errors import InputError
from invsolve.io.files import SIBLING
from invsolve.plugins.interrupts import attempted

KEY = re.compile(r"[0-9a-f]{64}")
RECORDS = {"cells": "cell.json", "inputs": "input.json", KIND: RECORD}
AGAIN = "run the suite again with this --out: it is computed anew"


@dataclass
class State:
    """How far a run is.

    Args:
        running: whether a run works in the folder now.
        total: cells of the suite.
        counts: finished, failed (divergences among them), skipped, missing.
        flying: place, host and seconds of each cell in flight.
        reasons: of the failures, with their number, the most frequent first.
        left: estimated seconds until all that is missing is there, by the pace of this run; None where nothing says.
    """

    running: bool
    total: int
    counts: dict[str, int]
    flying: list[dict[str, Any]]
    reasons: list[tuple[str, int]]
    left: float | None


def status(folder: str | Path) -> State:
    """How far the run in a folder is.

    Raises:
        InputError: it holds none.
    """
    out = Path(folder)
    run, store = read_run(out), Store(out, "cells", RECORDS["cells"])
    found = [(place, cell_record(store.read(place["key"]))) for place in run["cells"]]
    counts: dict[str, int] = dict.fromkeys(("finished", "failed", "skipped", "missing"), 0)
    reasons = Counter[str]()
    for _, record in found:
        name = "missing" if record is None else {"diverged": "failed"}.get(record.answer.status, record.answer.status)
        counts[name if name in counts else "finished"] += 1
        if record is not None and name == "failed":
            reasons[record.answer.reason] += 1
    running, now = busy(out), time.time()
    marks = Flight(out).marks() if running else {}
    flying = [
        {**{name: place[name] for name in ("operator", "solver", "image")}, "host": mark.get("host", ""), "seconds": now - mark["since"]}
        for place in run["cells"]
        if (mark := marks.get(place["key"])) is not None and isinstance(mark.get("since"), int | float)
    ]
    left = _left(run, found, store, now) if counts["missing"] else 0.0
    return State(running, len(found), counts, flying, reasons.most_common(), left)


def _left(run: dict[str, Any], found: list[tuple[dict[str, Any], CellRecord | None]], store: Store, now: float) -> float | None:
    """Seconds of solving that are missing, each cell by its own kind, over those that this run has solved in a second."""
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    solved, last = 0.0, 0.0
    began = calendar.timegm(time.strptime(run["started"], "%Y-%m-%d %H:%M:%S UTC"))
    for place, record in found:
        if record is not None and record.answer.seconds is not None:
            for kind in ((place["operator"], place["solver"]), (place["solver"],), ()):
                seconds[kind].append(record.answer.seconds)
            written = (store.path(place["key"]) / store.record).stat().st_mtime
            if written >= began:
                solved, last = solved + record.answer.seconds, max(last, written)
    if not seconds:
        return None
    missing = [place for place, record in found if record is None]
    each = [
        statistics.fmean(next(seconds[kind] for kind in ((one["operator"], one["solver"]), (one["solver"],), ()) if kind in seconds))
        for one in missing
    ]
    elapsed = (now if busy(store.folder.parent) else last) - began
    return sum(each) * (elapsed / solved if solved and elapsed > 0 else 1.0)


@dataclass
class Contents:
    """What lies in a run's folder, by what can be done with it."""

    torn: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    rests: list[Path] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    sound: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in RECORDS})


def contents(out: Path, run: dict[str, Any]) -> Contents:
    """Every cell and measurement of a folder, read and compared with its hashes."""
    found = Contents()
    cells, drawn = ({place[name] for place in run["cells"]} for name in ("key", "input"))
    used = {"cells": cells, "inputs": drawn, KIND: cells}
    for kind, record_name in RECORDS.items():
        store = Store(out, kind, record_name)
        for path in _entries(store.folder):
            if SIBLING.fullmatch(path.name):
                found.rests.append(path)
                continue
            if not (path.is_dir() and KEY.fullmatch(path.name) and store.path(path.name) == path):
                found.foreign.append(path)
                continue
            record = store.read(path.name)
            if record is None or (record.get("tensors") and not store.tensors_of(record)):
                found.torn.append(path)
            elif path.name not in used[kind]:
                found.unused.append(path)
            else:
                found.sound[kind][path.name] = record
            found.foreign += [inside for inside in path.iterdir() if inside.name not in (record_name, TENSORS)]
    return found


def _entries(folder: Path) -> Iterator[Path]:
    """What stands where cells belong: folder/ab/..., and files beside the folders of two digits."""
    for first in sorted(folder.iterdir()) if folder.is_dir() else ():
        if first.is_dir() and re.fullmatch(r"[0-9a-f]{2}", first.name):
            yield from sorted(first.iterdir())
        else:
            yield first


@dataclass
class Finding:
    """Something that is not as it should be: what, how often, an example, and what to do."""

    what: str
    count: int
    example: str
    advice: str


def doctor(folder: str | Path) -> list[Finding]:
    """What is wrong with a run's folder; [] where nothing is.

    Raises:
        InputError: it holds no run.
    """
    out = Path(folder)
    if not (out / "run.json").is_file():
        read_run(out)
    run = attempted(lambda: read_run(out))
    if isinstance(run, BaseException):
        return [Finding("run.json cannot be read", 1, str(run), AGAIN)]
    found, running = contents(out, run), busy(out)
    torn, clocks = ([path for path in found.torn if (path.relative_to(out).parts[0] == KIND) is timings] for timings in (False, True))
    there = found.sound["cells"].keys() | {path.name for path in torn}
    missing = [f"{place['operator']}, {place['solver']}, {place['image']}" for place in run["cells"] if place["key"] not in there]
    listed = [
        ("torn or changed since it was written", [str(path.relative_to(out)) for path in torn], AGAIN),
        ("torn timings", [str(path.relative_to(out)) for path in clocks], "bench time takes them again"),
        ("foreign: no run has written it", [str(path.relative_to(out)) for path in found.foreign], "take it away by hand"),
        ("not there yet", [] if running else missing, "run the suite again with this --out"),
        ("half written by a run that was killed", [] if running else [str(path.relative_to(out)) for path in found.rests], "gc removes it"),
        ("no longer used by the suite", [str(path.relative_to(out)) for path in found.unused], "gc removes it, if you do not go back"),
        *_stale(run, found),
        *_versions(found),
    ]
    return [Finding(what, len(names), names[0], advice) for what, names, advice in listed if names]


def _stale(run: dict[str, Any], found: Contents) -> list[tuple[str, list[str], str]]:
    """Cells whose solver, prior, operator or noise is described otherwise now: another source, version, file or default."""
    suite = Suite.make(run["suite"])
    known: dict[str, Any] = {}

    def now(kind: str, part: Any) -> Any:
        key = canonical([kind, part.name, part.arguments])
        if key not in known:
            known[key] = attempted(lambda: encode(described(kind, part, suite)))
        return known[key]

    operators, solvers = {one.label: one for one in suite.operator}, {one.label: one for one in suite.solver}
    stale: dict[str, list[str]] = defaultdict(list)
    for place in run["cells"]:
        record, drawn = found.sound["cells"].get(place["key"]), found.sound["inputs"].get(place["input"])
        operator, solver = operators.get(place["operator"]), solvers.get(place["solver"])
        if record is None or operator is None or solver is None:
            continue
        parts = [("solver", record, solver.part(operator.label)), ("prior", record, solver.at(operator.label)[1])]
        if drawn is not None and operator.problem is None:
            parts.append(("operator", drawn, operator))
        for kind, held, part in parts:
            then, today = held["inputs"].get(kind), now(kind, part)
            if isinstance(today, BaseException) or not isinstance(then, dict) or any(then.get(key) != today[key] for key in today):
                stale[kind].append(f"{place['operator']}, {place['solver']}, {place['image']}")
    return [(f"stale: its {kind} is another one now", names, AGAIN) for kind, names in stale.items()]


def _versions(found: Contents) -> list[tuple[str, list[str], str]]:
    """Versions that differ from those installed here."""
    here, other = versions(), defaultdict(list)
    for record in found.sound["cells"].values():
        for name, version in record["answer"].get("versions", {}).items():
            if here.get(name) != version:
                other[f"{name} {version}, here {here.get(name, 'not installed')}"].append(record["key"])
    advice = "run with --fresh, if all rows are to have the versions installed here"
    return [(f"computed with {which}", [f"cells/{key[:2]}/{key}" for key in keys], advice) for which, keys in other.items()]


def gc(folder: str | Path, *, remove: bool = False) -> tuple[list[Path], int]:
    """What the run in a folder does not need, and its bytes: cells and measurements that the suite as last run here does not use, torn
    ones, and what killed runs have left. Foreign things stay.

    Args:
        folder: of a run.
        remove: take it away, too.

    Raises:
        InputError: the folder holds no run, or one works in it now.
    """
    out = Path(folder)
    run = read_run(out)
    with locked(out):
        found = contents(out, run)
        flight = [out / FOLDER] if (out / FOLDER).is_dir() else []
        needless = [*found.unused, *found.torn, *found.rests, *flight]
        size = sum(path.stat().st_size for top in needless for path in (top.rglob("*") if top.is_dir() else (top,)) if path.is_file())
        if remove:
            for path in needless:
                _removed(path)
    return needless, size


def _removed(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise InputError(f"cannot remove {path}: {error.strerror or error}") from error
