"""A run that is there, for scripts and notebooks: its rows, who won, and a summary that a notebook shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from invsolve.bench.export import read_rows, read_run
from invsolve.bench.standings import Board, boards, ranking
from invsolve.bench.table import format_plain
from invsolve.bench.verdicts import card, matrix


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, opened: in a notebook it shows who won where, with intervals.

    Args:
        folder: of the run.
        run: what run.json says.
        rows: one per operator x picture x solver.
    """

    folder: Path
    run: dict[str, Any]
    rows: list[dict[str, Any]]

    @cached_property
    def boards(self) -> list[Board]:
        """Solvers against each other, by operator: means, intervals, paired comparisons, ranks."""
        return boards(self.run, self.rows)

    def __repr__(self) -> str:
        missing = len(self.run["cells"]) - len(self.rows)
        state = f", {missing} missing" if missing else ""
        return f"FinishedRun({str(self.folder)!r}: suite {self.run['suite']['name']}, {len(self.rows)} rows{state})"

    def __str__(self) -> str:
        return format_plain(self.run, self.rows)

    def _repr_html_(self) -> str:
        from invsolve.bench.report import render

        metrics = ranking(self.run)
        parts = [(one, matrix(self.boards, name, one), [card(board, name, one) for board in self.boards]) for name, one in metrics.items()]
        return render("notebook.html.j2", {"suite": self.run["suite"], "boards": self.boards, "parts": parts[:1]})


def open_run(folder: str | Path) -> FinishedRun:
    """Open the folder of a run, complete or not.

    Raises:
        InputError: the folder holds no run.
    """
    return FinishedRun(Path(folder), read_run(folder), read_rows(folder))
