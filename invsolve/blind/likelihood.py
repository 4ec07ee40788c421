"""How wide a blur is, by the likelihood of the picture's spectrum: its zeros tell the width far better than anything else does.

The power P of a picture under a window is exponential about its mean (Whittle's approximation), whose law is

    S(w) = (|k(w)|^2 exp(b(w) . c)) * |window|^2 + sigma^2

with k the blur, b eleven smooth functions of the frequency and of its direction, and c what is not known of the scene: Gaussian, with the
mean and covariance that sharp photographs have. Its negative logarithm, least over c, is compared between blurs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.blind.diagnosis import NAMES
from invsolve.blind.features import FAINT
from invsolve.blind.reading import weights
from invsolve.plugins import registry

# Neighbouring numbers of the windowed spectrum are not independent: N sum w^4 / (sum w^2)^2 of each are worth one, 35/18 a side for Hann.
SHARED = (35 / 18) ** 2
# Scenes are no Gaussian fields: the logarithm is divided by this, chosen on the tuning half of benchmarks/studies/blind.py.
SCENES = 4.0
STEP, REACH = 0.025, 12  # widths are tried at +- REACH steps of their logarithm, then at thirds and ninths of a step
TURNS = (2.0, 0.7)  # degrees between the angles that are tried
ROUNDS, FEW, FIRST = {"motion": 2}, 3, 15  # of width and angle by turns; Newton's steps from a neighbour's c, and from the mean
LARGEST = 1.5  # of a step of c


class Found(NamedTuple):
    """The likeliest blur of a family.

    Args:
        width: in pixels.
        spread: its relative standard deviation.
        angle: in degrees; 0 but for motion.
        cost: the negative logarithm of its likelihood; comparable between the families of a picture.
    """

    width: float
    spread: float
    angle: float
    cost: float


class Scene:
    """A picture's spectrum.

    Args:
        tile: (h, w), float64.
        sigma: standard deviation of the noise in it.
        mean, precision: of c; those of sharp photographs if None.
    """

    def __init__(self, tile: Tensor, sigma: float, mean: Tensor | None = None, precision: Tensor | None = None) -> None:
        self.shape = tuple(side // 2 * 2 for side in tile.shape)
        basis, self.kept = functions(*self.shape)
        self.all, self.basis = basis, basis[self.kept]
        self.power = windowed(tile[: self.shape[0], : self.shape[1]])[self.kept]
        self.noise = sigma * sigma + FAINT
        self.mean: Tensor = weights()["scene_mean"] if mean is None else mean
        self.precision: Tensor = weights()["scene_precision"] if precision is None else precision

    def cost(self, blur: Tensor, c: Tensor | None = None, steps: int = FEW) -> tuple[float, Tensor]:
        """(negative logarithm, c where it is least), by Fisher's scoring.

        Args:
            blur: |k|^2 on the half-plane of frequencies.
            c: where it starts.
            steps: how many.
        """
        scale = SHARED * SCENES
        at = self.mean if c is None else c
        for step in range(steps + 1):
            scene = torch.exp((self.all @ at).clamp(-40, 40))
            signal = smeared(scene * blur)[self.kept]
            law = signal + self.noise
            ratio, away = self.power / law, at - self.mean
            if step == steps:
                break
            jacobian = self.basis * (signal / law)[:, None]
            gradient = jacobian.mT @ (ratio - 1) / scale - self.precision @ away
            change = torch.linalg.solve(jacobian.mT @ jacobian / scale + self.precision, gradient)
            at = at + change * (LARGEST / change.abs().max().clamp_min(LARGEST))
        return float((law.log() + ratio).sum()) / scale + 0.5 * float(away @ self.precision @ away), at  # pyright: ignore[reportPossiblyUnboundVariable]

    def blur(self, family: str, width: float, angle: float) -> Tensor:
        """|k|^2 of a family's operator."""
        return self.transfer(family, width, angle).abs().square()

    def transfer(self, family: str, width: float, angle: float) -> Tensor:
        """k of a family's operator on the half-plane of frequencies."""
        given = {NAMES[family][1]: width, **({"angle": angle} if family == "motion" else {})}
        operator = registry().build("operator", NAMES[family][0], in_shape=(1, *self.shape), **given).double()
        point = torch.zeros(1, 1, *self.shape, dtype=torch.float64)
        point[..., self.shape[0] // 2, self.shape[1] // 2] = 1  # in the middle, where edges of any kind are far
        return torch.fft.rfft2(operator(point)[0, 0])

    def along(self, family: str, places: Iterable[tuple[float, float]], c: Tensor) -> list[float]:
        """The cost at (width, angle), one after the other, each from the c of the one before."""
        costs = []
        for width, angle in places:
            cost, c = self.cost(self.blur(family, width, angle), c)
            costs.append(cost)
        return costs


def likeliest(scene: Scene, family: str, width: float, spread: float, angle: float = 0.0) -> Found:
    """The width and the angle, near those that were read.

    Args:
        family: of `NAMES`.
        width, spread: what was read; a Gaussian of its logarithm, which the likelihood is taken together with.
        angle: degrees.
    """

    def believed(at: float) -> float:
        return 0.5 * (math.log(at / width) / spread) ** 2

    def tried(at: float, step: float, reach: int, c: Tensor) -> tuple[list[float], list[float]]:
        widths = [at * math.exp(step * number) for number in range(-reach, reach + 1)]
        costs = scene.along(family, [(one, angle) for one in widths[reach:]], c)
        costs = scene.along(family, [(one, angle) for one in widths[:reach][::-1]], c)[::-1] + costs
        return widths, [cost + believed(one) for one, cost in zip(widths, costs, strict=True)]

    _, c = scene.cost(scene.blur(family, width, angle), None, FIRST)
    widths, costs = tried(width, STEP, REACH, c)
    least, scatter = lowest(widths, costs), scattered(widths, costs)
    _, c = scene.cost(scene.blur(family, least, angle), c)
    for _ in range(ROUNDS.get(family, 1)):
        if family == "motion":
            for turn in TURNS:
                angles = [angle + turn * number for number in range(-3, 4)]
                angle = vertex(angles, scene.along(family, [(least, one) for one in angles], c))
        for step in (STEP / 3, STEP / 9):
            widths, costs = tried(least, step, 3, c)
            least = lowest(widths, costs)
    scatter = scatter if scatter > STEP / 2 else scattered(widths, costs)
    return Found(least, scatter, angle % 180, scene.cost(scene.blur(family, least, angle), c, 2 * FEW)[0])


def lowest(widths: list[float], costs: list[float]) -> float:
    """The least of the parabola through the least cost and its neighbours, over the logarithm."""
    return math.exp(vertex([math.log(one) for one in widths], costs))


def vertex(places: list[float], costs: list[float]) -> float:
    """Where evenly spaced costs are least, between the places next to the least one."""
    at = min(range(len(costs)), key=costs.__getitem__)
    if at in (0, len(costs) - 1):
        return places[at]
    before, here, after = costs[at - 1 : at + 2]
    bend = before - 2 * here + after
    return places[at] + (places[1] - places[0]) * (0.5 * (before - after) / bend if bend > 0 else 0.0)


def scattered(widths: list[float], costs: list[float]) -> float:
    """The relative standard deviation of the width under exp(-cost)."""
    logs, costs = torch.tensor(widths, dtype=torch.float64).log(), torch.tensor(costs, dtype=torch.float64)  # pyright: ignore[reportAssignmentType]
    chance = torch.softmax(-costs, 0)  # pyright: ignore[reportOperatorIssue]
    return float((chance * (logs - (chance * logs).sum()).square()).sum().sqrt())


@lru_cache(maxsize=4)  # some 10 MB each
def functions(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(b, which frequencies count) on the half-plane: powers of log |w|, and twice and four times the direction's turns."""
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    across = torch.fft.rfftfreq(width, dtype=torch.float64)
    radius, turn = torch.hypot(down, across), torch.atan2(-down, across.expand(height, -1))
    log = radius.clamp_min(1e-6).log() + 2
    turns: list[Callable[[Tensor], Tensor]] = [torch.cos, torch.sin]
    waves = [wave(times * turn) for times in (2, 4) for wave in turns]
    kept = (radius > 3 / min(height, width)) & (radius <= 0.5)
    kept[height // 2 + 1 :, 0] = False  # their conjugates are there already
    return torch.stack([torch.ones_like(log), log, log * log, *waves, *(wave * log for wave in waves)], -1), kept


def windowed(tile: Tensor) -> Tensor:
    """The power of a tile under a Hann window, sigma^2 for noise of that variance."""
    down, across = (torch.hann_window(side, periodic=True, dtype=tile.dtype) for side in tile.shape)
    window = down[:, None] * across
    mean = (tile * window).sum() / window.sum()
    return torch.fft.rfft2((tile - mean) * window).abs().square() / window.square().sum()


def smeared(law: Tensor) -> Tensor:
    """What the window makes of a law on the half-plane: it mixes neighbours, 1/6, 2/3 and 1/6 of the power each way."""
    law = law * (2 / 3) + (law.roll(1, 0) + law.roll(-1, 0)) / 6
    mirrored = law[:, [1, -2]].roll(-1, 0).flip(0)  # the conjugates of the columns beyond the first and the last
    wide = torch.cat([mirrored[:, :1], law, mirrored[:, 1:]], 1)
    return law * (2 / 3) + (wide[:, :-2] + wide[:, 2:]) / 6
