"""Settings, intervals and verdicts from draws of the prior, measured as the user's own data: see `draws.py`."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
