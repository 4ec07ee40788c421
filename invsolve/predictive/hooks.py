"""What `solve(..., tune=)` finds here, by the hook that everybody's plug-in may serve."""

from __future__ import annotations

from typing import Any

from invsolve.plugins.hookspecs import hookimpl


@hookimpl
def invsolve_tune(solver: Any, problem: Any, prior: Any, how: Any, options: dict[str, Any]) -> Any:
    """A Tuning: the one that was given, or one made within the budget that was."""
    from invsolve.predictive.budget import Budget
    from invsolve.predictive.tuning import Tuning, tune

    if isinstance(how, Tuning):
        return how
    if isinstance(how, str | int | float | Budget) and not isinstance(how, bool):
        return tune(problem, prior, solver, budget=how, **options)
    return None
