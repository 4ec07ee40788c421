"""Priors: regularisers, denoisers, diffusion priors and the ways to make them from networks.

Names are imported at first use; `__init__.pyi` lists them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
