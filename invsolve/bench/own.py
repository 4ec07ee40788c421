"""Suites that are no list of pictures, operators and solvers: they run themselves, behind the same commands.

A registered suite is the path of a TOML file, or an object of this class: `invsolve bench run NAME` and `bench list` take both, and
`invsolve check solver NAME --truth` asks the one that is called `truth`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from invsolve.plugins.interrupts import attempted


class OwnSuite(ABC):
    """A suite with a shape of its own.

    Attributes:
        title: one line for lists.
        operators, solvers: what lists count.
    """

    title: ClassVar[str]
    operators: tuple[str, ...] = ()
    solvers: tuple[str, ...] = ()

    @abstractmethod
    def run(self, out: Path, *, seed: int = 0, fresh: bool = False, limit: float | None = None) -> tuple[Path, bool]:
        """Run everything, go on where a run in `out` stopped; (the page that was written, whether no cell failed).

        Args:
            out: folder of the run.
            seed: base seed, 0 too.
            fresh: compute finished cells again.
            limit: seconds that an answer may take; None for the suite's own.
        """

    @abstractmethod
    def check(self, entry: Any, out: Path, *, limit: float | None = None) -> tuple[Path, bool]:
        """The same of one solver alone, a registry entry that need not be registered."""

    def known(self, solver: str) -> dict[str, str]:
        """What the suite's published page says of a solver, a line each, for its card; {} where it says nothing."""
        del solver
        return {}


def published(solver: str) -> dict[str, str]:
    """What the published pages of all registered suites say of a solver."""
    from invsolve.plugins import registry

    suites = (attempted(lambda entry=entry: entry.load()) for entry in registry().of("suite"))  # a broken plug-in hides no card
    return {key: text for suite in suites if isinstance(suite, OwnSuite) for key, text in suite.known(solver).items()}


def own_suite(name: str) -> OwnSuite | None:
    """The registered suite of this name, if it is one that runs itself."""
    from invsolve.plugins import registry

    found = registry().load("suite", name) if name in registry().names("suite") else None
    return found if isinstance(found, OwnSuite) else None
