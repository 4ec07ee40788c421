"""First-party operators: masks, blurs, downsampling, colour, compressed sensing, magnetic resonance, nonlinear cameras.

Classes are imported at first use, so that finding the plug-in does not wait for torch:

    from invsolve_operators import GaussianBlur, Mask
"""

from importlib import import_module
from typing import Any

from invsolve.plugins.hookspecs import hookimpl
from invsolve_operators.catalogue import ENTRIES

_HOME = {cls: module for _, cls, module, _ in ENTRIES}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


@hookimpl
def invsolve_register(registry: Any) -> None:
    """All operators of this package."""
    for name, cls, module, summary in ENTRIES:
        registry.add("operator", name, f"invsolve_operators.{module}:{cls}", summary=summary)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve_operators.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve_operators' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
