"""Galaxies: a score network of the package galaxygrad as a diffusion prior.

    u = log(1 + flux) / 0.1,     u_t = e^(-t/2) u + sqrt(1 - e^-t) n,  t up to 10     (VP with beta = 1)

The network is an MLP-mixer: patches of 4 x 4 pixels and t to vectors, then in turn a small MLP over the patches and one over the vector's
entries, each after a norm of both. Images of this prior are v = u / 10 = log(1 + flux): most pixels are about 0, the brightest .85.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.priors.base import DiffusionPrior, Prior
from invsolve.priors.convert import as_denoiser
from invsolve.rng import Rng
from invsolve.schedule import VariancePreserving
from invsolve_third_party.installed import GALAXYGRAD
from invsolve_third_party.states import filled

SCALE = 10.0  # a little above u of the brightest pixels, 8.5
T = 10.0


@dataclass(frozen=True)
class UnitVP(VariancePreserving):
    """Variance preserving with beta = 1: scale = exp(-t / 2), t from .001 to `last`."""

    last: float = T

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(exp(-t / 2), sqrt(1 - exp(-t)))."""
        return (-t / 2).exp(), (-torch.expm1(-t)).sqrt()

    @property
    def times(self) -> tuple[float, float]:
        """.001 to `last`."""
        return 0.001, self.last

    def time(self, sigma: Tensor) -> Tensor:
        """log(1 + sigma^2)."""
        return torch.log1p(sigma**2).clamp(*self.times)


class Mixing(nn.Module):
    """y + MLP over patches, then over entries, of (B, entries, patches)."""

    def __init__(self, hidden: int, patches: int, wide_patch: int, wide_hidden: int) -> None:
        super().__init__()
        self.patch1, self.patch2 = nn.Linear(patches, wide_patch), nn.Linear(wide_patch, patches)
        self.hidden1, self.hidden2 = nn.Linear(hidden, wide_hidden), nn.Linear(wide_hidden, hidden)
        self.norm1, self.norm2 = nn.LayerNorm([hidden, patches]), nn.LayerNorm([patches, hidden])

    def forward(self, y: Tensor) -> Tensor:
        """Of y's shape."""
        y = y + self.patch2(self.patch1(self.norm1(y)).relu())
        turned = y.transpose(1, 2)
        return (turned + self.hidden2(self.hidden1(self.norm2(turned)).relu())).transpose(1, 2)


class MixerScore(nn.Module):
    """The score of u_t: net(u_t, t).

    Args:
        side: of the square images.
        patch: of the square patches.
        hidden: entries of a patch's vector.
        wide: widths of the two MLPs, over patches and over entries.
        blocks: how many of both.
        last: t of pure noise, by which t is divided.
    """

    def __init__(self, side: int, patch: int, hidden: int, wide: tuple[int, int], blocks: int, last: float = T) -> None:
        super().__init__()
        self.into = nn.Conv2d(2, hidden, patch, stride=patch)
        self.out = nn.ConvTranspose2d(hidden, 1, patch, stride=patch)
        patches = (side // patch) ** 2
        self.blocks = nn.ModuleList(Mixing(hidden, patches, *wide) for _ in range(blocks))
        self.norm = nn.LayerNorm([hidden, patches])
        self.last = last

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, 1, side, side), t (B,)."""
        level = (t / self.last).reshape(-1, 1, 1, 1).expand_as(x)
        y = self.into(torch.cat([x, level], 1))
        shape = y.shape
        y = y.flatten(2)
        for block in self.blocks:
            y = block(y)
        return self.out(self.norm(y).reshape(shape))


def read_leaves(path: Path) -> list[Tensor]:
    """The arrays of an equinox file, a run of .npy arrays one after the other; no code in it runs.

    Raises:
        InputError: anything else in it.
    """
    found: list[Tensor] = []
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            while file.tell() < size:
                found.append(torch.from_numpy(np.asarray(np.load(file, allow_pickle=False))))
    except Exception as error:
        raise InputError(f"{path}: not a run of .npy arrays ({type(error).__name__}: {error!s:.100})") from error
    return found


def load_score(path: Path) -> MixerScore:
    """The network of an equinox file; its sizes are read from the shapes.

    Leaves, in the file's order: convolution in, transposed convolution out (out channels first, its kernel mirrored against torch's), per
    block the two MLPs and the two norms, the last norm, T.

    Raises:
        InputError: another network's file.
    """
    leaves = read_leaves(path)
    blocks, rest = divmod(len(leaves) - 7, 12)
    if rest or blocks < 1 or leaves[0].ndim != 4 or leaves[4].ndim != 2 or leaves[8].ndim != 2 or leaves[-1].numel() != 1:
        raise InputError(f"{path}: {len(leaves)} arrays that are not those of a score network of galaxygrad")
    hidden, _, patch, _ = leaves[0].shape
    patches = leaves[4].shape[1]
    names = ["into.weight", "into.bias", "out.weight", "out.bias"]
    for index in range(blocks):
        parts = ("patch1", "patch2", "hidden1", "hidden2", "norm1", "norm2")
        names += [f"blocks.{index}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    state = {name: leaf.float() for name, leaf in zip([*names, "norm.weight", "norm.bias"], leaves, strict=False)}
    state["out.weight"] = state["out.weight"].transpose(0, 1).flip(-1, -2).contiguous()
    state |= {name: state[name].flatten() for name in ("into.bias", "out.bias")}
    side, last = patch * math.isqrt(patches), float(leaves[-1])
    wide = (leaves[4].shape[0], leaves[8].shape[0])
    if not 0 < last < math.inf or max(hidden, patches, *wide) > 1 << 14:
        raise InputError(f"{path}: sizes {hidden}, {patches}, {wide} and T = {last:g} are not those of galaxygrad")
    network = MixerScore(side, patch, hidden, wide, blocks, last)
    filled(network, state, path)
    return network


class Galaxy(DiffusionPrior):
    """A diffusion prior on galaxies of the Hyper Suprime-Cam survey, (1, 64, 64), v = log(1 + flux), between 0 and 1.

    Operators act on the stretched brightness v. Score network of the package galaxygrad 0.1.5, whose licence is
    not stated: it is for you to install, and not shipped here.

    Args:
        precision: see NetworkDenoiser.
        path: another file of its form; None for the installed one.

    Raises:
        NotInstalledError: the package is not installed.
        InputError: a file of another network.

    References:
        Score-matching neural networks for improved multi-band source separation (Sampson et al., 2024), arXiv:2401.07313.
        MLP-Mixer: An all-MLP Architecture for Vision (Tolstikhin et al., 2021), arXiv:2105.01601.
    """

    def __init__(self, precision: str = "float32", path: str | None = None) -> None:
        network = load_score(GALAXYGRAD.path() if path is None else Path(path))
        schedule = UnitVP(network.last)
        levels = schedule.levels()
        said = {"channels": 1, "centre": 0.0, "s0": 0.5, "sigma_range": (0.05, levels[-1]), "precision": precision}
        inner = as_denoiser(network, "score", range=(0.0, SCALE), schedule=schedule, **said)
        assert isinstance(inner, DiffusionPrior)
        super().__init__(inner.denoiser, schedule, inner.unit)
        side = network.into.kernel_size[0] * math.isqrt(network.norm.normalized_shape[1])
        self.in_shape = (1, side, side)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws from the prior: its deterministic sampler (DDIM) with 30 steps from noise."""
        grid = self.sigmas(30)
        x = grid[0] * rng.normal(shape, like)
        for level, following in pairwise(grid):
            x0_hat = self(x, level)
            x = x0_hat + following / level * (x - x0_hat)
        return x

    @classmethod
    def examples(cls) -> list[Prior]:
        """As it is, where its weights are installed."""
        return [cls()] if GALAXYGRAD.present() else []
