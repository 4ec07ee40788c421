"""A run's rows as a file for other programs: CSV, JSON, LaTeX, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invsolve.bench.cells import encode
from invsolve.bench.export import csv_text, flat, read_rows, read_run
from invsolve.bench.latex import latex
from invsolve.errors import InputError

FORMATS = ("csv", "json", "latex", "parquet")


def exported(folder: str | Path, kind: str) -> str | bytes:
    """A run's rows in a format: text, or bytes for Parquet.

    csv: flat, as rows.csv. json: {"run": what run.json says, "rows": ...}. latex: see `invsolve.bench.latex`. parquet: flat, a column a
    number; text stays as it is, for nothing runs it.

    Raises:
        InputError: another format; no run in the folder; pyarrow is not installed.
    """
    if kind not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}; given {kind!r:.40}")
    run, rows = read_run(folder), read_rows(folder)
    if kind == "csv":
        return csv_text(rows)
    if kind == "json":
        return json.dumps(encode({"run": run, "rows": rows}), allow_nan=False, ensure_ascii=False, indent=1) + "\n"
    return latex(run, rows) if kind == "latex" else parquet(rows)


def parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Parquet, by pyarrow.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet as writer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"Parquet needs pyarrow: pip install 'invsolve[parquet]' ({error}); csv and json need nothing") from None
    table = [*flat(rows)]
    names = list(dict.fromkeys(name for row in table for name in row))
    buffer = io.BytesIO()
    writer.write_table(pyarrow.table({name: [row.get(name) for row in table] for name in names}), buffer)
    return buffer.getvalue()
