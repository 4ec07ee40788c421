"""Blurs: circular ones by FFT, separable ones, any kernel with any boundary; kernels and where they come from."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
