"""GMRES for a batch of small or large systems that are known by their products: A v = b for an A that need not be symmetric."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def gmres(apply: Callable[[Tensor], Tensor], right: Tensor, products: int) -> Tensor:
    """The v of the span of b, A b, ..., A^(products - 1) b with the least |b - A v|, item by item, (B, m).

        A V_k = V_{k+1} H_k,   V^T V = 1,   v = V_k argmin_c | |b| e_1 - H_k c |

    Every direction is made orthogonal to all before it, twice, so that what two batches or two units of y have in common is not lost.
    An item whose span is complete stays as it is.

    Args:
        apply: v -> A v on (B, m).
        right: b, (B, m), real.
        products: with A; as many rows and one more are held.

    References:
        GMRES (Saad, Schultz, 1986), SIAM J. Sci. Stat. Comput. 7(3), algorithm 3.
    """
    batch, size = right.shape
    count, tiny = min(products, size), torch.finfo(right.dtype).tiny
    length = right.norm(dim=1)
    basis, hessenberg = right.new_zeros(batch, count + 1, size), right.new_zeros(batch, count + 1, count)
    basis[:, 0] = right / length.clamp_min(tiny)[:, None]
    alive = length > 0
    for index in range(count):
        image = apply(basis[:, index])
        scale, held = image.norm(dim=1), basis[:, : index + 1]
        for _ in range(2):
            part = torch.einsum("bkn,bn->bk", held, image)
            image = image - torch.einsum("bkn,bk->bn", held, part)
            hessenberg[:, : index + 1, index] += part
        hessenberg[:, index, index] = torch.where(alive, hessenberg[:, index, index], 1.0)  # any number: its direction is 0
        rest = image.norm(dim=1)
        alive = rest > size * torch.finfo(right.dtype).eps * scale
        hessenberg[:, index + 1, index] = torch.where(alive, rest, 0.0)
        basis[:, index + 1] = torch.where(alive[:, None], image / rest.clamp_min(tiny)[:, None], 0.0)
    first = right.new_zeros(batch, count + 1, 1)
    first[:, 0, 0] = length
    orthogonal, triangular = torch.linalg.qr(hessenberg)
    share = torch.linalg.solve_triangular(triangular, orthogonal.mT @ first, upper=True)
    return torch.einsum("bkn,bk->bn", basis[:, :count], share[..., 0])
