"""Random inputs, norms and tolerances for the operator checks.

Tolerances. A product of k terms rounds to at most k eps relative to the sum of the terms' sizes, so a linear map of n inputs
and m outputs is computed to about eps max(m, n) |H| |x|; each check runs through a handful of maps, hence
unit = 8 eps max(m, n). |H| stands for the Frobenius norm, which bounds the spectral one and equals the root mean square of
|H p| over white p; it is taken from the probes. Everything runs in float64, where unit is about 4e-13 for 200 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import Measurement, flat, mapped, parts
from invsolve.rng import Rng
from invsolve.testing.cases import need

Call = Callable[[Operator, Tensor, Measurement], Measurement]
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
ITEMS = 3


def image(operator: Operator, seed: int = 0, dtype: torch.dtype = torch.float64, batch: int | None = None) -> Tensor:
    """White (B, *in_shape) on the operator's device: real but for what takes complex images."""
    count = operator.batch or ITEMS if batch is None else batch
    kind = COMPLEX[dtype] if operator.complex_input else dtype
    like = torch.empty(0, dtype=kind, device=operator.device)
    return Rng(seed, range(count), purpose="check").normal(operator.in_shape, like)


def measurement(operator: Operator, seed: int = 1, dtype: torch.dtype = torch.float64, batch: int | None = None) -> Measurement:
    """White (B, *out_shape), a tuple for a stack, of the kind that the operator gives."""
    example = operator(image(operator, seed, dtype, batch).abs().clamp(0, 1))
    drawn = tuple(
        Rng(seed, range(len(part)), purpose=f"check-{index}").normal(part.shape[1:], part) for index, part in enumerate(parts(example))
    )
    return drawn if isinstance(example, tuple) else drawn[0]


def calls(operator: Operator) -> dict[str, Call]:
    """Every map that the operator offers, by name, each called as f(operator, x, y)."""
    found: dict[str, Call] = {"forward": lambda h, x, y: h(x)}
    if operator.has(Capability.ADJOINT):
        found["adjoint"] = lambda h, x, y: h.adjoint(y)
    if operator.has(Capability.PINV):
        found["pinv"] = lambda h, x, y: h.pinv(y)
    if operator.has(Capability.PROX):
        found["prox"] = lambda h, x, y: h.prox(x, y, 0.7)
    if operator.has(Capability.SVD):
        found["svd.Vt"] = lambda h, x, y: h.svd().Vt(x)
        found["svd.Ut"] = lambda h, x, y: h.svd().Ut(parts(y)[0])
    return found


def pick(y: Measurement, items: list[int]) -> Measurement:
    """Some items of a measurement."""
    return mapped(lambda part: part[items], y)


def copied(y: Measurement) -> Measurement:
    """A copy."""
    return mapped(torch.clone, y)


def widened(y: Measurement) -> Measurement:
    """In double precision."""
    return mapped(lambda part: part.to(torch.promote_types(part.dtype, torch.float64)), y)


def equal(a: Measurement, b: Measurement) -> bool:
    """Whether both hold the same bits."""
    return len(parts(a)) == len(parts(b)) and all(torch.equal(p, q) for p, q in zip(parts(a), parts(b), strict=True))


def rows(operator: Operator) -> int:
    """m, the number of measurements of an item."""
    return sum(math.prod(part.shape[1:]) for part in parts(operator(image(operator, batch=operator.batch or 1))))


def unit(operator: Operator) -> float:
    """8 eps max(m, n) in float64."""
    return 8 * torch.finfo(torch.float64).eps * max(rows(operator), math.prod(operator.in_shape), 1)


def norms(y: Measurement) -> Tensor:
    """|y| per item, (B,)."""
    return flat(y).abs().square().sum(1).sqrt()


def frobenius(image_of: Measurement, probe: Measurement) -> float:
    """About the Frobenius norm of the map that took the white probe to its image: sqrt(size) |f(p)| / |p|, the largest item's."""
    ratio = norms(image_of) / norms(probe).clamp_min(torch.finfo(torch.float64).tiny)
    return math.sqrt(flat(probe).shape[1]) * float(ratio.max()) if ratio.numel() else 0.0


def dot(a: Measurement, b: Measurement) -> Tensor:
    """Re <a, b> per item, (B,): the product that real images see of complex measurements, and of which an adjoint is the adjoint."""
    return (flat(a).conj() * flat(b)).real.sum(1)


def close(found: Measurement, wanted: Measurement, allowed: float, what: str) -> None:
    """AssertionError where an item's |found - wanted| exceeds `allowed`."""
    need(len(parts(found)) == len(parts(wanted)), f"{what}: {len(parts(found))} parts, expected {len(parts(wanted))}")
    for one, other in zip(parts(found), parts(wanted), strict=True):
        need(one.shape == other.shape, f"{what}: shape {tuple(one.shape)}, expected {tuple(other.shape)}")
    gap = (flat(found) - flat(wanted)).abs().square().sum(1).sqrt()
    below(gap, allowed, what)


def below(gap: Tensor, allowed: float | Tensor, what: str) -> None:
    """AssertionError naming the items whose gap (B,) exceeds what is allowed; NaN exceeds everything."""
    bad = ~(gap <= torch.as_tensor(allowed))
    if bool(bad.any()):
        worst = float(gap.nan_to_num(torch.inf).max())
        limit = float(torch.as_tensor(allowed).max())
        raise AssertionError(f"{what}: off by {worst:.3g} in item(s) {bad.nonzero().flatten().tolist()}, allowed is {limit:.3g}")
