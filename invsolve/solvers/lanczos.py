"""(1 + tau H^T H) d = b for a linear H with only an adjoint, in a few products and without blowing rounding up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PRODUCTS = 50  # with H^T H at most, one new direction each


@torch.no_grad()
def shifted_solve(square: Callable[[Tensor], Tensor], right: Tensor, tau: Tensor, products: int = PRODUCTS) -> Tensor:
    """The best d in the span of b, A b, ..., A^(products - 1) b for (1 + tau A) d = b, item by item, shaped as b.

        A V = V T + rest,   V^T V = 1,   d = |b| V (1 + tau T)^-1 e_1

    In exact arithmetic that is the iterate of conjugate gradients. These lose the orthogonality of their directions, and with it every
    digit that two machines, two batches or two units of y have in common; here each direction is made orthogonal to all before it, twice.

    Args:
        square: v -> A v, A = H^T H symmetric, on (B, ...).
        right: b, (B, ...), real.
        tau: (B,), not negative.
        products: with A; as many images are held.

    References:
        Iterative Methods for Sparse Linear Systems (Saad, 2003), algorithm 6.15 and section 6.7.1; twice is enough: Parlett (1980).
    """
    flat = right.flatten(1)
    batch, size = flat.shape
    count = min(products, size)
    length = flat.norm(dim=1)
    basis, tri = flat.new_zeros(batch, count, size), flat.new_zeros(batch, count, count)
    direction = flat / length.clamp_min(torch.finfo(flat.dtype).tiny)[:, None]
    scale = flat.new_zeros(batch)
    for index in range(count):
        basis[:, index] = direction
        image = square(direction.reshape(right.shape)).flatten(1)
        scale = torch.maximum(scale, image.norm(dim=1))
        tri[:, index, index] = (image * direction).sum(1)
        held = basis[:, : index + 1]
        for _ in range(2):
            image = image - torch.einsum("bkn,bk->bn", held, torch.einsum("bkn,bn->bk", held, image))
        rest = image.norm(dim=1)
        going = rest > size * torch.finfo(flat.dtype).eps * scale  # else all that A makes of b is in the span
        direction = torch.where(going[:, None], image / rest.clamp_min(torch.finfo(flat.dtype).tiny)[:, None], 0.0)
        if index + 1 < count:
            tri[:, index, index + 1] = tri[:, index + 1, index] = torch.where(going, rest, 0.0)
        if right.device.type == "cpu" and not bool(going.any()):
            break  # all that follows is 0; elsewhere to look would make the host wait
    system = torch.eye(count, dtype=flat.dtype, device=flat.device) + tau.to(flat.dtype)[:, None, None] * tri
    first = torch.zeros_like(system[:, 0])
    first[:, 0] = length
    found = torch.linalg.solve_ex(system, first[..., None]).result[
        ..., 0
    ]  # `solve` would make the host wait, to look whether it is singular
    return torch.einsum("bkn,bk->bn", basis, found).reshape(right.shape)
