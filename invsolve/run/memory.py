"""What does not fit into memory is made in smaller parts."""

from __future__ import annotations

import torch

from invsolve.run.parts import Rows

ALLOCATOR = ("can't allocate memory", "not enough memory")  # on Linux and macOS, on Windows


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: CUDA's own error, Python's, or that of torch's allocator on the CPU, which has no class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATOR)


def halves(rows: Rows, batch: int) -> list[Rows]:
    """The pairs in two parts: of whole batches where there are several, so that no part reaches into a sample that it does not hold."""
    middle = (len(rows) + 1) // 2
    if len(rows) > batch:
        middle = -(-middle // batch) * batch
    return [rows[:middle], rows[middle:]]
