"""What happened to a photograph, from the photograph alone, and the photograph without it.

from invsolve.blind import identify

found = identify(y)                       # y: (C, H, W) in [0, 1]
print(found)                              # in words, with what is unsure
solution = found.restore(HQS(), prior)    # any solver that takes found.problem()
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
