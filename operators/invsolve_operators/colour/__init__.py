"""Colour lost: grey from colour, a sensor behind a Bayer filter."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
