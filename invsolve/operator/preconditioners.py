"""What makes conjugate gradients on H^T H + 1/tau short for blurs: H^T H taken for a convolution, which a transform inverts.

    M = C + 1/tau,    C a convolution by H^T H's mean response to an impulse

No operator is named: the responses are those of any linear one. The kinds are the ways the image goes on: "circular",
"symmetric" (by its mirror image, the edge pixel repeated) and "reflect" (not repeated). There the convolution is one on the torus
of about twice the sides, on images that are their own mirror images. With "reflect" it is symmetric in the weights D (1/2 at the
edges, 1 inside) only, so M = D^(1/2) Q (c + 1/tau) Q^T D^(1/2) with Q the cosine transform (DCT-I), and H^T H + 1/tau lies between M
and 4 M where the kernel is symmetric: the number of iterations is bounded whatever tau is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from invsolve.operator.contract import Operator
from invsolve.operator.windows import Window
from invsolve.rng import Rng

DENSE = 64  # sides up to which products with a matrix take a half to a sixth of the time of the mirrored image's FFT, on a CPU


def impulse_response(operator: Operator, like: Tensor, probes: int = 8, seed: int = 0) -> Tensor:
    """The mean response of H^T H to a unit impulse over a few places, moved to the origin, (B or 1, C, H, W).

    Of a large image where H is the same everywhere, on as much of it as the response needs: 2 reach from the middle half of each side.

    Args:
        operator: linear, on images (C, H, W).
        like: gives dtype and device.
        probes: number of places.
        seed: of the places.
    """
    channels, height, width = operator.in_shape
    batch = operator.batch or 1
    enough = max(64, 8 * operator.reach + 8)
    if operator.uniform and operator.stride == operator.period == 1 and min(height, width) >= 2 * enough:
        small = impulse_response(operator.window(Window(0, 0, enough, enough)), like, 1, seed)
        middle = torch.nn.functional.pad(small.roll((enough // 2, enough // 2), (-2, -1)), (0, width - enough, 0, height - enough))
        return middle.roll((-(enough // 2), -(enough // 2)), (-2, -1))
    draws = Rng(seed, (0,), purpose="probes").uniform((probes, 2), torch.empty(0, dtype=torch.float64))[0]
    # From the middle half of each side: near an edge the response is not that of a convolution.
    places = ((0.25 + 0.5 * draws) * torch.tensor([height, width])).long().tolist()
    mean = torch.zeros(batch, channels, height, width, dtype=like.dtype, device=like.device)
    for row, place in places:
        for channel in range(channels):
            impulse = torch.zeros(batch, channels, height, width, dtype=like.dtype, device=like.device)
            impulse[:, channel, row, place] = 1
            response = operator.adjoint(operator(impulse))[:, channel]
            mean[:, channel] += response.roll((-row, -place), (-2, -1)) / len(places)
    return mean


def circular_spectrum(operator: Operator, like: Tensor, probes: int = 8, seed: int = 0) -> Tensor:
    """About the eigenvalues of H^T H if it were a convolution on the torus, (B or 1, C, H, W // 2 + 1), not negative.

    Exact for circular blurs, near for other boundaries and for masks on top. It preconditions, and is never an answer.

    Args:
        operator: linear, on images (C, H, W).
        like: gives dtype and device.
        probes: number of places.
        seed: of the places.
    """
    return torch.fft.rfft2(impulse_response(operator, like, probes, seed)).real.clamp_min(0)


def mirror_spectrum(operator: Operator, like: Tensor, probes: int = 8, seed: int = 0, *, shared: int = 0) -> Tensor:
    """The same on the torus of the mirrored image, even in each frequency, so that mirror images stay so.

    Args:
        operator, like, probes, seed: as above.
        shared: 0 for sides 2 H and 2 W ("symmetric"), 1 for 2 H - 2 and 2 W - 2 ("reflect").
    """
    response = impulse_response(operator, like, probes, seed)
    height, width = response.shape[-2:]
    rows, columns = torus_side(height, shared), torus_side(width, shared)
    middle = response.roll((height // 2, width // 2), (-2, -1))
    wide = torch.nn.functional.pad(middle, (0, columns - width, 0, rows - height)).roll((-(height // 2), -(width // 2)), (-2, -1))
    spectrum = torch.fft.rfft2(wide).real
    return ((spectrum + spectrum.flip(-2).roll(1, -2)) / 2).clamp_min(0)


def torus_side(side: int, shared: int) -> int:
    """2 n, or 2 n - 2 where the mirror images share the edge pixels."""
    return max(2 * side - 2 * shared, 1)


SPECTRA: dict[str, Callable[..., Tensor]] = {
    "circular": circular_spectrum,
    "symmetric": mirror_spectrum,
    "reflect": partial(mirror_spectrum, shared=1),
}


def divide(kind: str, spectrum: Tensor, weight: Tensor, r: Tensor) -> Tensor:
    """M^-1 r; symmetric and positive for weight > 0.

    Args:
        kind: a name in `SPECTRA`.
        spectrum: of that kind.
        weight: 1 / tau, a scalar or (B, 1, 1, 1), positive.
        r: (B, C, H, W), or (B, C, D, H, W) where the spectrum is a volume's.
    """
    return transformed(kind, r, spectrum, lambda waves, values: waves / (values + weight))


def convolved(x: Tensor, spectrum: Tensor) -> Tensor:
    """The product with a spectrum of kind "symmetric", as `divide` divides by one."""
    return transformed("symmetric", x, spectrum, torch.mul)


def transformed(kind: str, r: Tensor, spectrum: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What becomes of an image on the torus of a kind when its transform is changed, by the values of a spectrum there."""
    if not len(r):  # torch 2.14's transforms raise an error for an empty batch
        return r
    sides, axes = r.shape[2:], tuple(range(2 - r.ndim, 0))
    if kind == "symmetric" and len(sides) == 2 and max(sides) <= DENSE:
        rows, columns = (cosines(side, r.dtype, r.device) for side in sides)
        waves = change(rows @ (r @ columns.T), spectrum[..., : sides[0], : sides[1]])
        return rows.T @ (waves @ columns)
    if kind != "circular":
        for dim in axes:
            r = mirrored(r, dim, shared=kind == "reflect")
    out = torch.fft.irfftn(change(torch.fft.rfftn(r, dim=axes), spectrum), s=[r.shape[axis] for axis in axes], dim=axes)
    return out[(..., *(slice(side) for side in sides))]


@lru_cache(maxsize=64)
def cosines(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II as a matrix, (n, n): the transform on the torus of an image that is its own mirror image."""
    with torch.inference_mode(False):
        place = torch.arange(side, dtype=torch.float64)
        waves = torch.cos(torch.pi / side * place[:, None] * (place + 0.5)) * (2 / side) ** 0.5
        waves[0] *= 0.5**0.5
        return waves.to(device, dtype)


def mirrored(r: Tensor, dim: int, *, shared: bool) -> Tensor:
    """r and its mirror image along a side; with shared edges D^-1 r is taken, which doubles them."""
    side = r.shape[dim]
    if not shared:
        return torch.cat([r, r.flip(dim)], dim)
    if side == 1:
        return r
    first, inside, last = r.split([1, side - 2, 1], dim)
    return torch.cat([2 * first, inside, 2 * last, inside.flip(dim)], dim)
