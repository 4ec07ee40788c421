"""The benchmark harness: `rows = run(Suite.load("smoke"), out="runs/smoke", seed=0)`; nothing here imports torch at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invsolve.bench.report import write_report
    from invsolve.bench.run import run
    from invsolve.bench.suite import Suite, list_suites

_HOME = {"Suite": "suite", "list_suites": "suite", "run": "run", "write_report": "report"}
__all__ = ["Suite", "list_suites", "run", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'invsolve.bench' has no attribute {name!r}")
    module = import_module(f"invsolve.bench.{_HOME[name]}")
    # `run` is a function and a module of this package: the module can be called (see there), so both spellings work.
    return module if name == "run" else getattr(module, name)
