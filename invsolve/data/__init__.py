"""Pictures as data: data sets by name, for benchmarks, training and reports alike; see `sets.py`."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
