"""Rows: read from the cells of a run's folder, written as rows.jsonl and rows.csv; and their means."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from invsolve.bench.cells import SCHEMA, Store, encode, read_json
from invsolve.bench.clock import Clock
from invsolve.bench.fairness import UNFINISHED, check_fair
from invsolve.bench.numbers import Spread as Spread
from invsolve.bench.numbers import timed
from invsolve.bench.records import CellRecord, RunRecord, cell_record, first_fault
from invsolve.bench.suite import Suite
from invsolve.errors import InputError
from invsolve.io.files import write_text

# Text that a spreadsheet would run as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
NESTED = ("metrics", "versions", "faults", "metric_versions")


def read_run(folder: str | Path) -> dict[str, Any]:
    """What run.json says, checked value by value.

    Raises:
        InputError: the folder holds no run, one of another version, or one that is damaged.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no run; `invsolve bench run SUITE --out {folder}` makes one")
    found = read_json(path)
    again = f"run the suite again: invsolve bench run SUITE --out {folder}"
    if not isinstance(found, dict):
        raise InputError(f"{path} is not what a run writes; {again}")
    if found.get("schema") != SCHEMA:
        raise InputError(f"{path} was written by another version of invsolve (form {found.get('schema', 1)!r:.20}, here {SCHEMA}); {again}")
    try:
        record = RunRecord.model_validate(found)
    except (ValidationError, RecursionError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else "too deep"
        raise InputError(f"{path} is not what a run writes: {fault}; {again}") from None
    return {**record.model_dump(by_alias=True), "suite": Suite.stored(record.suite, f"the suite in {path}").plain()}


def read_rows(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of the cells that the last run in this folder was made of, in order; cells that are not there yet are left out.

    Labels and the choice of metrics are those of run.json, the rest is the cell's.

    Raises:
        InputError: the folder holds no run, or two solvers were given different measurements.
    """
    run, store, clock = read_run(folder), Store(Path(folder), "cells", "cell.json"), Clock(Path(folder))
    found = [(place, cell_record(store.read(place["key"]))) for place in run["cells"]]
    rows = [row_of(run, place, record) | clock.columns(record) for place, record in found if record is not None]
    check_fair(rows)
    return rows


def row_of(run: dict[str, Any], place: dict[str, Any], record: CellRecord) -> dict[str, Any]:
    """A row: where it stands, the answer, and the metrics that the run asks for; None where there is no number."""
    metrics = {name: one for name, one in run["metrics"].items() if not one["of_sets"]}
    libraries = {f"{library} in {name}": version for name, one in metrics.items() for library, version in one["libraries"].items()}
    return {
        "suite": run["suite"]["name"],
        **{name: place[name] for name in ("operator", "image", "solver", "solver_name", "prior", "settings")},
        "status": record.answer.status,
        "reason": record.answer.reason,
        "metrics": {name: record.measures.get(one["key"]) for name, one in metrics.items()},
        **record.answer.model_dump(exclude={"status", "reason"}),
        "key": place["key"],
        "faults": {name: record.faults[one["key"]] for name, one in metrics.items() if one["key"] in record.faults},
        "metric_versions": libraries,
    }


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """rows.jsonl (all of it) and rows.csv (flat)."""
    write_text(folder / "rows.jsonl", "".join(json.dumps(encode(row), allow_nan=False, ensure_ascii=False) + "\n" for row in rows))
    write_text(folder / "rows.csv", csv_text(rows))


def flat(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without tables in them: metrics and versions are columns of their own."""
    return [{**{key: value for key, value in row.items() if key not in NESTED}, **row["metrics"], **_versions(row)} for row in rows]


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, with no text that a spreadsheet would run."""
    table = flat(rows)
    names = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)
    return text.getvalue()


def _versions(row: dict[str, Any]) -> dict[str, str]:
    return {f"version_{name}": value for name, value in {**row["versions"], **row["metric_versions"]}.items()}


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


@dataclass(frozen=True)
class Line:
    """A solver on an operator over all images: what a table shows in one row.

    Args:
        operator, solver, prior: labels.
        status: "finished", or the worst of its rows: "failed", "skipped".
        reason: why, for those.
        numbers: mean and spread by column: the metrics, nfe, seconds, network_seconds; a set metric has no spread, and seconds that were
            taken several times have that of the repeats.
        done, total: images with an answer, and images.
    """

    operator: str
    solver: str
    prior: str
    status: str
    reason: str
    numbers: dict[str, Spread | None]
    done: int
    total: int


def lines(rows: list[dict[str, Any]], operator: str, run: dict[str, Any] | None = None) -> list[Line]:
    """The solvers of an operator, in the order of the rows; with what `read_run` gives their set metrics too."""
    mine = [row for row in rows if row["operator"] == operator]
    sets = [] if run is None else [one for one in run["sets"] if one["operator"] == operator]
    solvers = dict.fromkeys(row["solver"] for row in mine)
    return [_line([row for row in mine if row["solver"] == solver], [one for one in sets if one["solver"] == solver]) for solver in solvers]


def _line(group: list[dict[str, Any]], sets: list[dict[str, Any]]) -> Line:
    """Of several seeds a picture has its mean: they are no further pictures. One of them without an answer leaves it out."""
    troubled = [row for row in group if row["status"] in UNFINISHED]
    lost = {row["image"] for row in troubled}
    pictures: dict[str, list[dict[str, Any]]] = {}
    for row in group:
        pictures.setdefault(row["image"], []).append(row)
    done = [rows for image, rows in pictures.items() if image not in lost]
    names = [*group[0]["metrics"], "nfe", "seconds", "network_seconds"]
    numbers = {name: Spread.of([value for rows in done if (value := _mean(rows, name)) is not None]) for name in names}
    numbers |= {one["metric"]: Spread(one["value"], None, one["count"]) for one in sets if one["value"] is not None}
    numbers |= {} if (clocked := timed(group)) is None else {"seconds": clocked}
    status, reason = (troubled[0]["status"], troubled[0]["reason"]) if troubled else ("finished", "")
    return Line(group[0]["operator"], group[0]["solver"], group[0]["prior"], status, reason, numbers, len(done), len(pictures))


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    """The mean of a number over the seeds of a picture; None where one of them has none."""
    values = [row["metrics"][name] if name in row["metrics"] else row[name] for row in rows]
    return None if None in values else sum(values) / len(values)
