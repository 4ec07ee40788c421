"""What `solve(..., tune=)` and `Solution.load` find here, by the hooks that everybody's plug-in may serve."""

from __future__ import annotations

from typing import Any

from invsolve.plugins.hookspecs import hookimpl


@hookimpl
def invsolve_tune(solver: Any, problem: Any, prior: Any, how: Any, options: dict[str, Any]) -> Any:
    """A Tuning: the one that was given, or one made within the budget that was."""
    from invsolve.errors import InputError
    from invsolve.io.digest import state_hash
    from invsolve.predictive.budget import Budget
    from invsolve.predictive.tuning import Tuning, tune
    from invsolve.solvers.auto import Auto

    if isinstance(how, Tuning):
        first = how.trials[0].candidate
        if not isinstance(solver, Auto) and type(solver) is not type(first.solver):
            raise InputError(f"the tuning is one of {type(first.solver).__name__}, not of {type(solver).__name__}: tune it, or take Auto()")
        if prior is not first.prior and state_hash(prior) != state_hash(first.prior):
            raise InputError(f"the tuning was made with another prior, {first.prior!r:.80}: tune again with this one")
        return how
    if isinstance(how, str | int | float | Budget) and not isinstance(how, bool):
        return tune(problem, prior, solver, budget=how, **options)
    return None


@hookimpl
def invsolve_calibration(data: dict[str, Any]) -> Any:
    """The Calibration that `record` made into data."""
    from invsolve.predictive.kept import recalled

    return recalled(data) if "truths" in data else None
