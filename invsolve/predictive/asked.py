"""Settings that depend on what the last ones scored: optuna's tree-structured Parzen estimator in the declared ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.errors import InputError
from invsolve.predictive.candidates import Candidate, declared, level, tried
from invsolve.predictive.draws import Draws

OPTUNA = "optuna"


@dataclass
class Asked:
    """A study that is asked for the next candidate and told its score."""

    study: Any
    first: Candidate
    ranges: dict[str, Any]
    sigma_x: float
    trial: Any = None

    def next(self) -> Candidate:
        """The next candidate."""
        self.trial = self.study.ask()
        values = {name: one.at(self.trial.suggest_float(name, 0.0, 1.0), self.sigma_x) for name, one in self.ranges.items()}
        label = ", ".join(f"{name} {value}" for name, value in values.items())
        return tried(label, self.first.solver, self.first.prior, values)

    def tell(self, score: float | None) -> None:
        """What it scored; None where it failed."""
        from optuna.trial import TrialState  # pyright: ignore[reportMissingImports]

        self.study.tell(self.trial, score, TrialState.FAIL if score is None else None)


def asked(first: Candidate, draws: Draws, names: Sequence[str], seed: int) -> Asked:
    """The study of a solver's ranges.

    Raises:
        InputError: no optuna, and what `declared` and `level` raise.
    """
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("method optuna needs optuna: pip install 'invsolve[optuna]'; random and grid are built in") from None
    ranges = declared(first.solver, first.prior, names)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    return Asked(study, first, ranges, level(draws.problem, ranges))
