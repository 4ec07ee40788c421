"""Forward operators H: the contract (`contract.py`), what is made of other operators, of matrices, functions and scipy's, and SVDs.

Names are imported at first use; `__init__.pyi` lists them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
