"""What a denoiser answers at large noise in closed form: the linear filter of the pictures' power spectrum and colours.

    D(x, sigma) = m + C (C + sigma^2)^-1 (x - m),     C = A^T T^T diag(S) T A

A turns colours into their principal axes, T is the orthonormal DCT-II of the picture and S_a(k, l) the power of axis a at the
frequencies (k / 2H, l / 2W), in cycles a pixel. A power spectrum does not depend on the size of the picture but at frequency 0, where a
mean over the picture has seen low frequencies alone: index 0 counts as a small `width` of one. Then, f^2 = (k' / 2H)^2 + (l' / 2W)^2
with k' = max(k, width),

    log S_a(k, l) = linear in log f between `knots`, falling as f^-2 below them, + corner_a cos(4 angle)

f^-2 is the law under which the variance of a picture's mean depends on its size no longer. A network trained on few draws at such levels
is behind this filter above sigma 2 or 3; below, pictures have edges, which no linear filter knows.

References:
    Statistics of natural images: Scaling in the woods (Ruderman, Bialek, 1994): the power law.
    Relations between the statistics of natural images and the response properties of cortical cells (Field, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve_weights.tables import is_number

BLEND = (1.5, 3.0)
KEPT = 1 << 20  # values of a spectrum up to which it is kept for the next call; of a larger picture it is the smaller part of the work
FALL = -2.0


@dataclass(frozen=True)
class Tone:
    """The figures of the filter, as a model card holds them; see the module.

    Args:
        mean: m, by channel, in [0, 1] units.
        axes: A, rows of length 1.
        knots: increasing frequencies in cycles a pixel.
        power: log S_a at the knots, by axis; S in squared [0, 1] units.
        corner: what diagonal directions have less, by axis.
        width: what index 0 counts as, between 0 and 1.
        blend: sigma below which the network answers alone and from which on the filter does.
        grey: the same law of the channels' mean, as pictures of one channel.
    """

    mean: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    knots: tuple[float, ...]
    power: tuple[tuple[float, ...], ...]
    corner: tuple[float, ...]
    width: float = 0.2
    blend: tuple[float, float] = BLEND
    grey: bool = False

    def table(self) -> dict[str, Any]:
        """What a card holds."""
        return {name: value for name, value in asdict(self).items() if name != "grey"}

    def of_grey(self) -> Tone:
        """The law of what a colour prior is shown of grey pictures: the mean of the channels, whose noise is sqrt(channels) smaller."""
        root = math.sqrt(len(self.mean))
        return replace(self, grey=True, blend=(self.blend[0] / root, self.blend[1] / root))

    def weight(self, sigma: Tensor) -> Tensor:
        """The filter's part of the answer: 0 up to blend[0], 1 from blend[1] on, smooth in log sigma between; of sigma's shape."""
        low, high = self.blend
        part = ((sigma.double().clamp_min(1e-30).log() - math.log(low)) / math.log(high / low)).clamp(0, 1)
        return part * part * (3 - 2 * part)

    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        """m + C (C + sigma^2)^-1 (x - m) of x's shape and type, for sigma (B,); differentiable in both.

        A diagonal gain in the DCT is a circular convolution of the picture with its mirror images, which the FFT of twice the sides does.
        """
        height, width = x.shape[-2:]
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            level = sigma.to(wide).reshape(-1, 1, 1, 1)
            mean = wide.new_tensor([sum(self.mean) / len(self.mean)] if self.grey else self.mean).reshape(-1, 1, 1)
            axes = wide.new_ones(1, 1) if self.grey else wide.new_tensor(self.axes)
            turned = torch.einsum("ac,bchw->bahw", axes, wide - mean)
            mirrored = torch.cat([turned, turned.flip(-1)], -1)
            mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
            power = spectrum(self, height, width, wide.device, wide.dtype)
            out = torch.fft.irfft2(torch.fft.rfft2(mirrored) * (power / (power + level**2)), s=mirrored.shape[-2:])
            return (mean + torch.einsum("ac,bahw->bchw", axes, out[..., :height, :width])).to(x.dtype)

    def joined(self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
        """The network's answer at low noise, the filter's at high noise, a mean of both between; each is asked only where it counts.

        Args:
            network: called with x and sigma.
            x: (B, C, H, W).
            sigma: (B,).
        """
        weight = self.weight(sigma)
        try:
            asked, told = bool((weight > 0).any()), bool((weight < 1).any())
        except RuntimeError:  # under torch.vmap a tensor has no single value to look at
            asked = told = True
        if not asked:
            return network(x, sigma)
        filtered = self.filtered(x, sigma.to(x.device))
        if not told:
            return filtered
        plain, part = network(x, sigma), weight.to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        return torch.where(part <= 0, plain, torch.where(part >= 1, filtered, plain + part * (filtered - plain)))


def spectrum(tone: Tone, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """S on the frequencies of the FFT of twice the sides, (axes, 2 H, W + 1); grey: of the mean of the channels, (1, 2 H, W + 1)."""
    make = _kept if 2 * height * (width + 1) * len(tone.axes) <= KEPT else _spectrum
    return make(tone, height, width, device, dtype)


@torch.inference_mode(False)  # what is kept must serve a later call that autograd goes through
@torch.no_grad()
def _spectrum(tone: Tone, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    index = torch.arange(2 * height, dtype=torch.float64)
    rows, columns = torch.minimum(index, 2 * height - index)[:, None], torch.arange(width + 1, dtype=torch.float64)[None]
    power = powers(tone, rows / (2 * height), columns / (2 * width), (height, width))
    if tone.grey:
        shares = torch.tensor(tone.axes, dtype=torch.float64).mean(1) ** 2
        power = (shares[:, None, None] * power).sum(0, keepdim=True)
    return power.to(device, dtype)


_kept = lru_cache(maxsize=4)(_spectrum)


def powers(tone: Tone, rows: Tensor, columns: Tensor, sides: tuple[int, int]) -> Tensor:
    """S_a at frequencies in cycles a pixel, (axes, *broadcast shape), float64, for a picture of these sides."""
    place, angle = coordinates(rows, columns, sides, tone.width)
    knots = torch.tensor(tone.knots, dtype=torch.float64).log()
    values = torch.tensor(tone.power, dtype=torch.float64)
    cell = (torch.bucketize(place, knots) - 1).clamp(0, len(knots) - 2)
    part = (place - knots[cell]) / (knots[cell + 1] - knots[cell])
    between = values[:, cell] * (1 - part) + values[:, cell + 1] * part
    below = values[:, :1, None] + FALL * (place - knots[0])
    corner = torch.tensor(tone.corner, dtype=torch.float64)[:, None, None]
    return (torch.where(place < knots[0], below, between) + corner * angle).exp()


def coordinates(rows: Tensor, columns: Tensor, sides: tuple[int, int], width: float) -> tuple[Tensor, Tensor]:
    """log f and cos(4 angle) of frequencies in cycles a pixel."""
    down, right = rows.clamp_min(width / (2 * sides[0])), columns.clamp_min(width / (2 * sides[1]))
    square = down**2 + right**2
    share = right**2 / square
    return square.log() / 2, 8 * share**2 - 8 * share + 1


def tone_of(table: dict[str, Any], channels: int) -> Tone | None:
    """The figures in a card; None where it has none.

    Raises:
        InputError: figures that are missing, unknown, of other numbers of channels or out of range.
    """
    if not table:
        return None
    needed = {"mean", "axes", "knots", "power", "corner", "width", "blend"}
    if table.keys() != needed:
        raise InputError(f"tone needs exactly {', '.join(sorted(needed))}; given {', '.join(sorted(map(str, table)))!s:.200}")
    lists = {name: a_row(name, table[name]) for name in ("mean", "knots", "corner", "blend")}
    rows = {name: tuple(a_row(name, row) for row in a_list(name, table[name])) for name in ("axes", "power")}
    if not 2 <= len(lists["knots"]) <= 64 or list(lists["knots"]) != sorted(set(lists["knots"])) or lists["knots"][0] <= 0:
        raise InputError(f"tone: knots must be 2 to 64 increasing positive frequencies; given {table['knots']!r:.100}")
    shapes = [len(lists["mean"]), len(lists["corner"]), len(rows["axes"]), len(rows["power"]), *map(len, rows["axes"])]
    if set(shapes) != {channels} or {len(row) for row in rows["power"]} != {len(lists["knots"])}:
        raise InputError(f"tone: mean, axes, power and corner must be of {channels} channels, power of as many values as there are knots")
    turn = torch.tensor(rows["axes"], dtype=torch.float64)
    if float((turn @ turn.T - torch.eye(channels, dtype=torch.float64)).abs().max()) > 1e-3:
        raise InputError("tone: axes must be orthonormal rows")
    left, _, right = torch.linalg.svd(turn)
    exact = tuple(map(tuple, (left @ right).tolist()))  # of the digits that a card holds, the nearest rotation
    width, blend = table["width"], lists["blend"]
    if not is_number(width) or not 0 < width <= 1 or len(blend) != 2 or not 0 < blend[0] < blend[1]:
        raise InputError(f"tone: need 0 < width <= 1 and blend 0 < low < high; given {width!r:.60} and {table['blend']!r:.60}")
    if max(abs(value) for row in (*rows["power"], lists["corner"]) for value in row) > 100:
        raise InputError("tone: power and corner are logarithms, of size 100 at most")
    return Tone(lists["mean"], exact, lists["knots"], rows["power"], lists["corner"], float(width), (blend[0], blend[1]))


def a_list(name: str, value: Any) -> list[Any]:
    """A list of at most 64 entries.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, list | tuple) or not 0 < len(value) <= 64:
        raise InputError(f"tone: {name} must be a list; given {value!r:.100}")
    return list(value)


def a_row(name: str, value: Any) -> tuple[float, ...]:
    """A list of numbers as floats.

    Raises:
        InputError: it is none.
    """
    found = a_list(name, value)
    if not all(is_number(one) for one in found):
        raise InputError(f"tone: {name} must hold numbers; given {value!r:.100}")
    return tuple(float(one) for one in found)
