"""The suites `truth` and `truth-full`: `invsolve bench run truth`, `invsolve check solver NAME --truth`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from invsolve.bench.own import OwnSuite


@dataclass(frozen=True)
class TruthSuite(OwnSuite):
    """Every registered solver on problems whose posterior is known.

    Args:
        name: its registered name.
        full: all combinations and five budgets, in place of seventeen problems and two.
    """

    name: str = "truth"
    full: bool = False
    title: ClassVar[str] = "Truth: every solver's draws against posteriors that are known"
    budgets: ClassVar[dict[bool, tuple[int, ...]]] = {False: (20, 100), True: (10, 20, 50, 100, 250)}
    rows: ClassVar[dict[bool, int]] = {
        False: 2000,
        True: 8000,
    }  # of noise up to which a law is exact: vectors at 100 evaluations, fields at 50
    seconds: ClassVar[dict[bool, float]] = {False: 60.0, True: 300.0}  # that an answer may take

    @property
    def operators(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The problems."""
        from invsolve_benchmarks.truth.catalogue import FULL, SHORT

        return tuple(FULL if self.full else SHORT)

    @property
    def solvers(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those that are registered."""
        from invsolve.plugins import registry

        return tuple(registry().names("solver"))

    def run(self, out: Path, *, seed: int = 0, fresh: bool = False, limit: float | None = None) -> tuple[Path, bool]:
        """All solvers; see `OwnSuite.run`."""
        given = "" if limit is None else f" --limit {limit:g}"
        return self._run(out, None, f"invsolve bench run {self.name}{given}", seed=seed, fresh=fresh, limit=limit)

    def check(self, entry: Any, out: Path, *, limit: float | None = None) -> tuple[Path, bool]:
        """One solver; see `OwnSuite.check`."""
        return self._run(out, [entry], f"invsolve check solver {entry.name} --truth", limit=limit)

    def known(self, solver: str) -> dict[str, str]:
        """Cells of the published page of `truth`."""
        from invsolve_benchmarks.truth.cards import known

        return {} if self.full else known(solver)

    def _run(
        self, out: Path, entries: Sequence[Any] | None, command: str, *, seed: int = 0, fresh: bool = False, limit: float | None = None
    ) -> tuple[Path, bool]:
        from invsolve_benchmarks.truth.cells import Settings
        from invsolve_benchmarks.truth.page import write_pages
        from invsolve_benchmarks.truth.runner import contestants, controls, run, tasks

        settings = Settings(seed, limit or self.seconds[self.full], self.rows[self.full], self.full)
        plan = tasks(self.operators, self.budgets[self.full], contestants(entries), settings)
        plan += controls(self.operators, settings) if entries is None else []
        rows = run(plan, out, fresh=fresh)
        title = self.title if entries is None else f"Truth: {entries[0].name}"
        return write_pages(rows, out, title, command), not any(row["status"] == "failed" for row in rows)


TRUTH = TruthSuite()
FULL = TruthSuite("truth-full", full=True)
