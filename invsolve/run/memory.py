"""What does not fit into memory is made in smaller parts."""

from __future__ import annotations

import torch

from invsolve.run.parts import Rows


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: CUDA's own error, Python's, or that of torch's allocator on the CPU, which has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def halves(rows: Rows, batch: int) -> list[Rows]:
    """The pairs in two parts: of whole batches where there are several, so that no part reaches into a sample that it does not hold."""
    middle = (len(rows) + 1) // 2
    if len(rows) > batch:
        middle = -(-middle // batch) * batch
    return [rows[:middle], rows[middle:]]
