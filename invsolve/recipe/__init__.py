"""Recipes: objects from TOML, one language for problem files, suites and the shell; every name goes through the registry.

Names are imported at first use; `__init__.pyi` lists them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
