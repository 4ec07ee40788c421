"""invsolve: imaging inverse problems y = H(x) + n, composed of an operator, a noise model, a prior and a solver.

Names are imported at first use, so that `import invsolve` and the command line's help do not wait for torch; `__init__.pyi`
lists them.
"""

from importlib.metadata import PackageNotFoundError, version

from lazy_loader import attach_stub

from invsolve.plugins.former import MOVED, moved

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

moved(MOVED)

try:
    __version__ = version("invsolve")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "unknown"
