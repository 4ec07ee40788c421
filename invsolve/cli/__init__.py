"""The command line: `app.py` is the program, every other module a command or what commands share."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
