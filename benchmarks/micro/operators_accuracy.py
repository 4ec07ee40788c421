"""Relative error of prox in float32 against float64, on a noisy measurement, over sixteen decades of tau."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import deepinv
import torch
from invsolve_operators import GaussianBlur
from torch import Tensor

from invsolve import Capability, Operator, registry
from invsolve.operator.measurement import Measurement, mapped, parts

SIDE = 64
TAUS = [10.0**power for power in range(-8, 9)]
Prox = Callable[[Tensor, Measurement, float], Tensor]


def note() -> str:
    """What the columns mean."""
    return (
        f"|prox32 - prox64| / |prox64| for y = H x + 0.05 n and z = x + 0.1 n, x a picture of smooth random waves, {SIDE} pixels a side "
        "(the operator's own examples where it takes no such image). deepinv's prox_l2 in float32 is held against our float64 result, "
        "which is that of the same operator. Adapters of other libraries are left out."
    )


def waves(shape: tuple[int, ...]) -> Tensor:
    """A picture in [0, 1] in float64: independent normal numbers, smoothed on the torus."""
    draws = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = GaussianBlur((shape[0], *shape[-2:]), sigma=min(2.0, min(shape[-2:]) / 8))(draws.reshape(-1, shape[0], *shape[-2:]))
    smooth = smooth.reshape(draws.shape)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def noisy(value: Measurement, level: float, seed: int) -> Measurement:
    """value + level n, n real or complex as the value is."""
    generator = torch.Generator().manual_seed(seed)
    return mapped(lambda part: part + level * torch.randn(part.shape, generator=generator, dtype=part.dtype), value)


def single(value: Measurement) -> Measurement:
    """In single precision."""
    return mapped(lambda part: part.to(torch.complex64 if part.is_complex() else torch.float32), value)


@torch.no_grad()
def errors(exact: Prox, tried: Prox, z: Tensor, y: Measurement) -> list[float]:
    """One relative error per tau, the largest item's."""
    found = []
    for tau in TAUS:
        wanted = exact(z, y, tau)
        got = tried(parts(single(z))[0], single(y), tau).double()
        ratio = (got - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        found.append(float(ratio.max()))
    return found


def instances(name: str) -> list[Operator]:
    """A colour operator of SIDE pixels with default arguments, else the class's examples."""
    target = registry().load("operator", name)
    for shape in ((3, SIDE, SIDE), (2, SIDE, SIDE), (1, SIDE, SIDE)):
        try:
            return [target(in_shape=shape)]
        except Exception:  # it needs more than a shape: that is what examples are for
            continue
    return target.examples()


def inputs(operator: Operator) -> tuple[Tensor, Measurement]:
    """z and a noisy y, in float64."""
    x = waves(operator.in_shape).expand(operator.batch or 1, *operator.in_shape)
    return parts(noisy(x, 0.1, 2))[0], noisy(operator(x), 0.05, 1)


def row(name: str, found: list[float]) -> str:
    """One line of the table."""
    at = TAUS[found.index(max(found))]
    shown = [found[TAUS.index(tau)] for tau in (1e-8, 1.0, 1e4, 1e8)]
    return f"| {name} | {max(found):.1e} | {at:.0e} | " + " | ".join(f"{value:.1e}" for value in shown) + " |"


def table(arguments: argparse.Namespace) -> Iterator[str]:
    """Rows as Markdown."""
    yield "| operator | largest | at tau | tau 1e-8 | tau 1 | tau 1e4 | tau 1e8 |"
    yield "|---|---|---|---|---|---|---|"
    for name in arguments.only or registry().names("operator"):
        if not registry().entry("operator", name).target.startswith("invsolve_operators"):
            continue
        able = [operator for operator in instances(name) if operator.has(Capability.PROX)]
        found = [errors(operator.prox, operator.prox, *inputs(operator)) for operator in able]
        if found:
            yield row(name, max(found, key=max))
    yield from deepinv_rows()


def deepinv_rows() -> Iterator[str]:
    """deepinv's closed forms on the inputs of ours: circular blur, and subsampling after it."""
    from invsolve_operators import BlurDecimate, KernelBlur

    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.5, 1.5)).double()
    shape: Any = (3, SIDE, SIDE)
    pairs = {
        "deepinv BlurFFT (ours: kernel-blur)": (KernelBlur(shape, kernel[0, 0]), deepinv.physics.BlurFFT(shape, filter=kernel.float())),
        "deepinv Downsampling x4 (ours: blur-decimate)": (
            BlurDecimate(shape, 4, kernel=kernel[0, 0]),
            deepinv.physics.Downsampling(shape, filter=kernel.float(), factor=4, padding="circular"),
        ),
    }
    for name, (mine, theirs) in pairs.items():
        z, y = inputs(mine)
        gap = float((theirs.A(z.float()) - mine(z).float()).abs().max())
        if gap > 1e-4:
            yield f"| {name} | not the same operator: H z differs by {gap:.1e} | | | | | |"
            continue
        yield row(name.partition("(ours: ")[2].rstrip(")") + ", the same kernel", errors(mine.prox, mine.prox, z, y))
        yield row(name.partition(" (")[0], errors(mine.prox, lambda z, y, tau, physics=theirs: physics.prox_l2(z, y, tau), z, y))
