"""Imported by the server that forks workers, and by nobody else: it ends with the thread that started it, the one that runs the suite."""

from invsolve.bench.worker import end_with_parent

end_with_parent()
