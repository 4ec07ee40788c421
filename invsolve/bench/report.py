"""The report: one HTML file that needs nothing beside it, made from a run's folder alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invsolve.bench.charts import chart
from invsolve.bench.clock import said
from invsolve.bench.export import read_rows, read_run
from invsolve.bench.gallery import BRIGHTEST, grids, value
from invsolve.bench.kinds import KINDS, kind_of, side
from invsolve.bench.standings import COSTS, Board, boards, ranking
from invsolve.bench.statistics import FEW, LEVEL
from invsolve.bench.table import cells, columns, faults, versions
from invsolve.bench.verdicts import all_pairs, bought, card, differences, matrix, paid, price, troubles
from invsolve.io.files import write_text
from invsolve.plugins.former import without

TEMPLATES = Path(__file__).parent / "templates"
# More rows than this in the table of single pictures make a page slow; all of them are in rows.csv.
ROWS = 2000
CONFIG = ("operator", "solver", "prior", "settings", "selected_by", "config")
SHOWN_COSTS = ("seconds", "nfe", "peak_bytes")


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run's folder, also for a run that is not complete; returns its path.

    Raises:
        InputError: the folder holds no run.
    """
    root = Path(folder)
    run, rows = read_run(root), read_rows(root)
    target = root / "report.html"
    write_text(target, render("report.html.j2", context(root, run, rows)))
    return target


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template of this folder, with its style and its script, and the policy that allows these two alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{fingerprint(style)}'; script-src '{fingerprint(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # The template marks these three as safe: they are files of ours, with no value of a run.
    return environment.get_template(template).render({**values, "style": style, "script": script, "policy": policy})


def fingerprint(text: str) -> str:
    """What a content security policy calls the text of an element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def context(root: Path, run: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything the template shows."""
    everything, metrics = boards(run, rows), ranking(run)
    shown, left_out = grids(root, run, rows)
    kinds = [kind for kind in KINDS if any(kind in board.kinds.values() for board in everything)]
    spent = [one for one in COSTS if any(one[0] in board.costs for board in everything)]
    spent.sort(key=lambda one: SHOWN_COSTS.index(one[0]))
    pictures = {(row["operator"], row["image"]) for row in rows}
    return {
        "run": run,
        "suite": run["suite"],
        "summary": summary(run, everything),
        "columns": columns(run),
        "faults": faults(run, rows),
        "clock": said(rows, run["hardware"]),
        "timed": any(board.times for board in everything),
        "libraries": {name: versions(one) for name, one in run["metrics"].items()},
        "boards": everything,
        "metrics": [(name, one, page_of(everything, name, one, spent)) for name, one in metrics.items()],
        "costs": spent,
        "kinds": kinds,
        "sides": {kind: side(kind) for kind in KINDS},
        "tables": [table(run, board, [row for row in rows if row["operator"] == board.operator]) for board in everything],
        "operators": {entry["label"]: about(entry) for entry in run["suite"]["operator"]},
        "grids": shown,
        "winners": winners(everything),
        "left_out": left_out,
        "brightest": BRIGHTEST,
        "spread": any(one.spread for grid in shown for one in grid.shots),
        "cells": [single(run, row) for row in rows[:ROWS]],
        "rows": len(rows),
        "few": max((sum(pair[0] == board.operator for pair in pictures) for board in everything), default=0) < FEW,
        "level": round(100 * LEVEL),
        "troubles": (troubled := troubles(rows)),
        "unusual": sum(one["count"] for one in troubled),
        "missing": len(run["cells"]) - len(rows),
        "measurements": {(row["operator"], row["image"]): row["y_sha256"] for row in rows},
        "configs": list(dict.fromkeys(tuple(row.get(name) or "-" for name in CONFIG) for row in rows if row["config"])),
    }


def summary(run: Mapping[str, Any], everything: Sequence[Board]) -> list[tuple[str, str]]:
    """(number, what) of the head."""
    solvers = {solver for board in everything for solver in board.kinds}
    counts = ((len(run["pictures"]), "picture"), (len(everything), "operator"), (len(solvers), "solver"), (len(run["cells"]), "cell"))
    return [(str(number), what + ("" if number == 1 else "s")) for number, what in counts]


def winners(everything: Sequence[Board]) -> dict[str, str]:
    """The best solver of each operator by the first metric."""
    return {board.operator: next(iter(board.contests.values())).best for board in everything if board.contests}


def page_of(everything: Sequence[Board], name: str, metric: Mapping[str, Any], spent: Sequence[Any]) -> dict[str, Any]:
    """All that changes with the metric: words, matrix, drawings and tables."""
    unit = metric["unit"] or metric["label"]
    draw = {"higher": metric["higher"], "digits": metric["digits"], "unit": unit}
    boards_of = []
    for board in everything:
        drawn = [(cost, chart(board, name, cost[0], **draw)) for cost in spent]
        buys = [(cost, bought(board, name, cost[0], metric), paid(board, name, cost[0], metric)) for cost in spent]
        tables = {"differences": differences(board, name, metric), "pairs": all_pairs(board, name, metric), "kinds": board.kinds}
        boards_of.append({"card": card(board, name, metric), "charts": drawn, "buys": buys, **tables})
    return {"unit": unit, "rows": matrix(everything, name, metric), "boards": boards_of}


def table(run: dict[str, Any], board: Board, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One operator's means and spreads; a cell is (text, number to sort by)."""
    shown = columns(run)
    how = {row["solver"]: row.get("settings") or "-" for row in found}
    rows = []
    for line in board.lines:
        texts = cells(line, shown)
        numbers = [None if (known := line.numbers.get(name)) is None else known.mean for name, *_ in shown]
        rows.append(
            {"line": line, "kind": board.kinds[line.solver], "how": how[line.solver], "cells": list(zip(texts, numbers, strict=True))}
        )
    return rows


def single(run: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table of pictures."""
    metrics = [
        (row["metrics"].get(name), value({**one, "unit": "", "label": ""}, row["metrics"].get(name)).strip())
        for name, one in run["metrics"].items()
        if not one["of_sets"]
    ]
    known = {"nfe": row.get("nfe"), "seconds": row["seconds_median"] if row.get("timings") else row.get("seconds")}
    spent = [(number, price(name, number)) for name, number in known.items()]
    kind = kind_of(row["solver_name"], row["prior"])
    return {
        **{name: row[name] for name in ("operator", "image", "solver", "status", "reason")},
        "kind": kind,
        "numbers": [*metrics, *spent],
    }


def about(entry: Mapping[str, Any]) -> str:
    """An operator's name and parameters."""
    parameters = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in ("name", "label") and value is not None)
    return f"{entry.get('name') or 'saved problem'}{': ' if parameters else ''}{parameters}"


TABLES = "invsolve.bench.open_run(folder), a run with its tables, or invsolve.bench.report.winners(boards)"
without(__name__, dict.fromkeys(("grid", "section", "winner"), TABLES))
