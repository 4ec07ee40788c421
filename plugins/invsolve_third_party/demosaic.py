"""Demosaicing by regression: one call of the network in the package demosaicnet, the baseline that asks no prior.

    y, one colour at every pixel -> x

A mosaic of four colours in every 2 x 2 pixels becomes four channels of half the sides, fifteen convolutions see them, half of the last
ones' features multiply the other half, and what comes out is brought back to full size and seen once more beside the mosaic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from invsolve.errors import InputError, NotInstalledError
from invsolve.noise import NoNoise
from invsolve.operator import Capability, Operator
from invsolve.priors.base import Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.direct.unasked import Unasked
from invsolve_third_party.installed import DEMOSAICNET
from invsolve_third_party.states import filled, read_state

# Colours of the upper-left 2 x 2 pixels that the network was trained on: green, red; blue, green.
TRAINED = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]])


class Regression(nn.Module):
    """The network, without padding: (B, 3, H, W) -> (B, 3, H - 2 m, W - 2 m), m = 2 depth + 1, sides even.

    Args:
        depth: convolutions at half size.
        width: their channels.
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        chain = nn.Sequential()
        chain.add_module("pack_mosaic", nn.Conv2d(3, 4, 2, stride=2))
        for index in range(depth):
            outs = 2 * width if index == depth - 1 else width
            chain.add_module(f"conv{index + 1}", nn.Conv2d(width if index else 4, outs, 3))
            chain.add_module(f"relu{index + 1}", nn.ReLU())
        self.main_processor = chain
        self.residual_predictor = nn.Conv2d(width, 12, 1)
        self.upsampler = nn.ConvTranspose2d(12, 3, 2, stride=2, groups=3)
        last = nn.Sequential()
        for name, module in (("post_conv", nn.Conv2d(6, width, 3)), ("post_relu", nn.ReLU()), ("output", nn.Conv2d(width, 3, 1))):
            last.add_module(name, module)
        self.fullres_processor = last
        self.depth = depth

    @property
    def margin(self) -> int:
        """What each side loses."""
        return 2 * self.depth + 1

    def forward(self, mosaic: Tensor) -> Tensor:
        """The picture of a mosaic whose missing colours are 0."""
        filters, masks = self.main_processor(mosaic).chunk(2, 1)
        colours = self.upsampler(self.residual_predictor(filters * masks))
        cut = 2 * self.depth
        inner = mosaic[..., cut : mosaic.shape[-2] - cut, cut : mosaic.shape[-1] - cut]
        return self.fullres_processor(torch.cat([inner, colours], 1))


def load_regression(path: Path) -> Regression:
    """The network of a weight file; its sizes are read from the shapes.

    Raises:
        InputError: another network's file.
    """
    state = read_state(path)
    depth = sum(key.startswith("main_processor.conv") and key.endswith("weight") for key in state)
    first = state.get("residual_predictor.weight")
    if depth < 1 or first is None or first.ndim != 4:
        raise InputError(f"{path}: not the weights of demosaicnet's Bayer network")
    network = Regression(depth, int(first.shape[1]))
    filled(network, state, path)
    return network


@lru_cache(maxsize=2)
def installed(dtype: torch.dtype = torch.float32) -> Regression:
    """The network of the installed package in a type, read once.

    Raises:
        NotInstalledError: see `Package.path`.
    """
    return load_regression(DEMOSAICNET.path()).to(dtype)


def colours(operator: Operator) -> tuple[Tensor, float] | None:
    """Which colour is measured at every pixel, (3, H, W) of zeros and ones, and g, where the operator is a Bayer mosaic; else None.

    y = g sum_c m_c x_c, so that H^T 1 = g m.
    """
    if len(operator.in_shape) != 3 or operator.batch is not None or tuple(operator.out_shape) != (1, *operator.in_shape[1:]):
        return None
    if operator.in_shape[0] != 3 or min(operator.in_shape[1:]) < 2 or not operator.capabilities >= {Capability.LINEAR, Capability.ADJOINT}:
        return None
    like = next(operator.buffers(), torch.zeros(1))
    like = like if like.is_floating_point() else torch.zeros(1, device=like.device)
    found = operator.adjoint(torch.ones((1, 1, *operator.in_shape[1:]), dtype=like.dtype, device=like.device))[0].cpu().float()
    gain = float(found.max())
    mask = (found / gain).round() if gain > 0 else found
    exact = gain > 0 and bool((found / gain - mask).abs().max() < 1e-5)
    return (mask, gain) if exact and offsets(mask) is not None else None


def offsets(mask: Tensor) -> tuple[int, int] | None:
    """Rows and columns, 0 or 1, by which the trained pattern begins later than the picture; None for other masks."""
    for down in (0, 1):
        for right in (0, 1):
            rows = (torch.arange(mask.shape[-2]) - down) % 2
            columns = (torch.arange(mask.shape[-1]) - right) % 2
            if torch.equal(mask, TRAINED[:, rows[:, None], columns[None]]):
                return down, right
    return None


def mirrored(length: int, before: int, after: int) -> Tensor:
    """Places of a row continued on both sides by its mirror image, the end not repeated: a place keeps its colour; for any length > 1."""
    place = torch.arange(-before, length + after) % (2 * length - 2)
    return torch.minimum(place, 2 * length - 2 - place)


def demosaiced(network: Regression, mosaic: Tensor, mask: Tensor) -> Tensor:
    """The picture (B, 3, H, W) of a mosaic (B, 3, H, W) whose missing colours are 0, taken with a mask that `offsets` knows."""
    found = offsets(mask)
    assert found is not None
    margin, places = network.margin, []
    for shift, length in zip(found, mosaic.shape[-2:], strict=True):
        before = margin + (margin + shift) % 2  # of the parity that puts the trained pattern's corner first
        after = margin + (before + length + margin) % 2
        places.append((mirrored(length, before, after).to(mosaic.device), before - margin, length))
    (rows, top, height), (columns, left, width) = places
    out = network.to(mosaic.device)(mosaic[..., rows[:, None], columns[None]])
    return out[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class DemosaicNet(Unasked):
    """A Bayer mosaic by one call of a network that was trained on noiseless ones; the prior is not asked.

        x = net(H^T y / g^2)

    g is the gain of the mosaic, 1 unless it is scaled. Any of the four patterns, edges mirrored. It is not told the noise, and does not
    look at it.

    Raises:
        CompatibilityError: another operator than a Bayer mosaic, or demosaicnet 0.0.14 is not installed.

    References:
        Deep Joint Demosaicking and Denoising (Gharbi, Chaurasia, Paris, Durand, 2016); the network is its authors' released one, which
        multiplies filters with masks at its end, and has not the noise level as an input.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR}), prior=(Prior,), noise=())

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """Another operator, or no weights."""
        if colours(problem.operator) is None:
            return [f"{problem.operator.label} is no Bayer mosaic (mosaic is one); this network knows nothing else"]
        try:
            installed()
        except (InputError, NotInstalledError) as error:
            return [str(error)]
        return []

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Prior, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer."""
        if start is not None and start.index >= 0:
            return
        found = colours(problem.operator)
        assert found is not None
        assert isinstance(problem.y, Tensor)
        mask, gain = found
        mosaic = problem.operator.adjoint(problem.y) / gain**2
        dtype = torch.float64 if mosaic.dtype == torch.float64 else torch.float32
        x = demosaiced(installed(dtype), mosaic.to(dtype), mask).to(mosaic)
        yield Step(0, 1, x, x)

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """A small mosaic, where the catalogue of operators is installed."""
        from invsolve.plugins import registry

        x = Rng(11, range(2), purpose="simulate").uniform((3, 6, 8), torch.zeros(1))
        return [(Problem.simulate(registry().build("operator", "mosaic", in_shape=(3, 6, 8)), x, NoNoise()), GaussianPrior(0.5, 0.25))]

    @classmethod
    def examples(cls) -> list[Solver]:
        """As it comes, where its weights are installed."""
        return [cls()] if DEMOSAICNET.present() else []
