"""The report: one HTML file that needs nothing beside it, made from a run's folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invsolve.bench.cells import Store
from invsolve.bench.export import Line, lines, read_rows, read_run
from invsolve.bench.figures import COLOURS, Point, data_uri, scatter
from invsolve.bench.table import cells, columns, faults, versions
from invsolve.io.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run's folder, also for a run that is not complete; returns its path.

    Raises:
        InputError: the folder holds no run.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    root = Path(folder)
    run, rows = read_run(root), read_rows(root)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(context(root, run, rows))
    target = root / "report.html"
    write_text(target, page)
    return target


def context(root: Path, run: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything the template shows."""
    operators = [entry["label"] for entry in run["suite"]["operator"]]
    present = [label for label in operators if any(row["operator"] == label for row in rows)]
    stores = Store(root, "cells", "cell.json"), Store(root, "inputs", "input.json")
    return {
        "run": run,
        "suite": run["suite"],
        "columns": columns(run),
        "faults": faults(run, rows),
        "libraries": {name: versions(one) for name, one in run["metrics"].items()},
        "sections": [section(run, rows, label, stores) for label in present],
        "missing": len(run["cells"]) - len(rows),
        "measurements": {(row["operator"], row["image"]): row["y_sha256"] for row in rows},
        "configs": list(dict.fromkeys((row["operator"], row["solver"], row["config"], row["prior"]) for row in rows if row["config"])),
    }


def section(run: dict[str, Any], rows: list[dict[str, Any]], label: str, stores: tuple[Store, Store]) -> dict[str, Any]:
    """One operator: table, drawing, pictures."""
    group, shown = lines(rows, label, run), columns(run)
    best = {name: winner(group, name, one["higher"]) for name, one in run["metrics"].items()}
    table = [
        {
            "number": number,
            "line": line,
            "colour": COLOURS[(number - 1) % len(COLOURS)],
            "cells": [{"text": text, "best": best.get(name) is line} for (name, _, _), text in zip(shown, cells(line, shown), strict=True)],
        }
        for number, line in enumerate(group, 1)
    ]
    entry = next(one for one in run["suite"]["operator"] if one["label"] == label)
    own = {cell["image"] for cell in run["cells"] if cell["operator"] == label}
    parameters = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in ("name", "label"))
    return {
        "label": label,
        "name": entry["name"],
        "parameters": parameters,
        "table": table,
        "troubled": [line for line in group if line.reason],
        "scatter": scatter([point for number, line in enumerate(group, 1) if (point := _point(number, line))]),
        "grids": [grid(run, rows, label, picture, stores) for picture in run["pictures"] if picture["id"] in own],
    }


def winner(group: list[Line], name: str, higher: bool | None) -> Line | None:
    """The line with the best mean, if several have one and the metric ranks."""
    if higher is None:
        return None
    having = [(value.mean, line) for line in group if (value := line.numbers.get(name)) is not None]
    if len(having) < 2:
        return None
    return (max if higher else min)(having, key=lambda pair: pair[0])[1]


def _point(number: int, line: Line) -> Point | None:
    value, seconds = line.numbers.get("psnr"), line.numbers["seconds"]
    return None if value is None or seconds is None else Point(number, seconds.mean, value.mean, value.std or 0.0)


def grid(
    run: dict[str, Any], rows: list[dict[str, Any]], label: str, picture: dict[str, Any], stores: tuple[Store, Store]
) -> dict[str, Any]:
    """One picture: truth, measurement, and every solver's answer with its first metric below."""
    results, inputs = stores
    mine = [cell for cell in run["cells"] if cell["operator"] == label and cell["image"] == picture["id"]]
    held = inputs.tensors(mine[0]["input"]) if mine else {}
    figures = [{"caption": "truth", "uri": _uri(held.get("truth"), 0), "value": ""}]
    figures.append({"caption": "measurement", "uri": _uri(held.get("y0"), 0), "value": ""})
    by_key = {row["key"]: row for row in rows}
    for cell in mine:
        row = by_key.get(cell["key"])
        figures.append({"caption": cell["solver"], "uri": _uri(results.tensors(cell["key"]).get("x")), "value": _value(run, row)})
    return {"picture": picture, "figures": figures}


def _uri(tensor: Any, *index: int) -> str | None:
    if tensor is None:
        return None
    return data_uri(tensor[index[0]] if index else tensor)


def _value(run: dict[str, Any], row: dict[str, Any] | None) -> str:
    """The first metric's value with its unit, or why there is none."""
    if row is None:
        return "not computed yet"
    name, one = next(((name, one) for name, one in run["metrics"].items() if not one["of_sets"]), (None, {}))
    value = None if name is None else row["metrics"].get(name)
    return row["status"] if value is None else f"{value:.{one['digits']}f} {one['unit'] or one['label']}"
