"""The benchmark harness: `rows = run(Suite.load("smoke"), out="runs/smoke", seed=0)`; nothing here imports torch at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invsolve.bench.finished import open_run
    from invsolve.bench.metrics import Case, Metric, SetMetric
    from invsolve.bench.report import write_report
    from invsolve.bench.runner import run
    from invsolve.bench.suite import Suite, list_suites

_HOME = {
    "Case": "metrics",
    "Metric": "metrics",
    "SetMetric": "metrics",
    "Suite": "suite",
    "list_suites": "suite",
    "open_run": "finished",
    "run": "runner",
    "write_report": "report",
}
__all__ = ["Case", "Metric", "SetMetric", "Suite", "list_suites", "open_run", "run", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'invsolve.bench' has no attribute {name!r}")
    return getattr(import_module(f"invsolve.bench.{_HOME[name]}"), name)
