"""The old place of `invsolve.bench.runner`: the function `run`, under the name by which it was imported from here."""

import sys
from typing import Any

from invsolve.bench.runner import run

# A package cannot hold a function and a module of one name: here the module is the function, which has itself as an attribute.
itself: Any = run
itself.run = run
sys.modules[__name__] = itself
