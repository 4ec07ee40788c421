"""Settings that depend on what the last ones scored: optuna's tree-structured Parzen estimator in declared ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from invsolve.errors import InputError
from invsolve.ranges import Ranges


@dataclass
class Study:
    """It is asked for the next values, and told their score: more is better."""

    ranges: Ranges
    sigma_x: float
    study: Any
    trial: Any = None

    @classmethod
    def make(cls, ranges: Ranges, sigma_x: float, seed: int) -> Study:
        """A study without trials.

        Raises:
            InputError: no optuna.
        """
        try:
            import optuna  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise InputError("method optuna needs optuna: pip install 'invsolve[optuna]'; random and grid are built in") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return cls(ranges, sigma_x, optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)))

    def ask(self) -> dict[str, Any]:
        """The next values."""
        self.trial = self.study.ask()
        return {name: one.at(self.trial.suggest_float(name, 0.0, 1.0), self.sigma_x) for name, one in self.ranges.items()}

    def tell(self, score: float | None) -> None:
        """What they scored; None where they failed."""
        from optuna.trial import TrialState  # pyright: ignore[reportMissingImports]

        self.study.tell(self.trial, score, TrialState.FAIL if score is None else None)
