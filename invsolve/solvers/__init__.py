"""All solvers by class name: `from invsolve.solvers import DPS`; each module is imported at first use.

A new solver is a file, and a line in `__init__.pyi`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
