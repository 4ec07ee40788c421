"""Plug-ins: the hooks, the registry that they fill, the core's own entries, and the arguments that registered things are made with.

Names are imported at first use; `__init__.pyi` lists them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
