"""That a comparison is fair: one y and one H for all, what was tuned where, what did not finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from invsolve.bench.suite import SolverEntry
from invsolve.errors import InputError

UNFINISHED = ("failed", "diverged", "skipped")


def check_fair(rows: Iterable[dict[str, Any]]) -> None:
    """Every solver must have seen the same y and the same H, by their hashes.

    Raises:
        InputError: a row that had others than the rows before it.
    """
    seen: dict[tuple[Any, ...], str] = {}
    for row in rows:
        for name, what in (("y_sha256", "measurement"), ("h_sha256", "operator")):
            place = (name, row["operator"], row["image"], row["seed"])
            if row[name] is not None and seen.setdefault(place, row[name]) != row[name]:
                raise InputError(
                    f"{row['solver']} had another {what} of {row['image']} under {row['operator']} than the others; "
                    "run again with fresh=True"
                )


def counts(rows: Iterable[dict[str, Any]]) -> dict[str, Counter[str]]:
    """How many rows of each solver finished, failed, diverged and were skipped; those without any trouble are left out."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        status = row["status"] if row["status"] in UNFINISHED else "finished"
        found.setdefault(row["solver"], Counter())[status] += 1
    return {solver: count for solver, count in found.items() if any(count[status] for status in UNFINISHED)}


def counted(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The counts as lines for a table's foot."""
    out = []
    for solver, count in counts(rows).items():
        troubles = ", ".join(f"{count[status]} {status}" for status in UNFINISHED if count[status])
        out.append(f"{solver}: {troubles} of {sum(count.values())} rows, which its means leave out")
    return out


def settings(solver: SolverEntry, operator: str, picture: str) -> str:
    """Whether a solver ran as it comes, as set or as tuned; and loudly, if on this very picture (its SHA-256)."""
    known = solver.settings(operator)
    return f"{known}, THIS PICTURE AMONG THEM" if solver.tuned is not None and picture[:16] in solver.tuned.pictures else known
