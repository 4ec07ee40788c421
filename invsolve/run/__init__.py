"""One call of `Solver.solve`: the loop over the steps, its parts, what watches it, what bounds it, and what is kept of it on disk."""

from invsolve.run.checkpoint import Checkpoint as Checkpoint
from invsolve.run.counted import Counted as Counted
from invsolve.run.loop import CODE as CODE
from invsolve.run.loop import Options as Options
from invsolve.run.loop import Run as Run
from invsolve.run.parts import pieces as pieces
