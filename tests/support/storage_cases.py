"""What the storage tests share: operators of their own, known to the registry by name or strangers to it."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

from invsolve import Capability, GaussianNoise, Operator, Problem
from invsolve.noise import NoiseModel
from invsolve.operator.measurement import parts
from invsolve.plugins import Registry
from invsolve.solvers.diffusion.ddim import DDIM

SHAPE = (3, 8, 6)
GAINS = torch.tensor([1.0, 0.5, 0.25]).reshape(3, 1, 1, 1).expand(3, *SHAPE)


class Gain(Operator):
    """y = gain x; gains per item make it batched."""

    traits = frozenset({Capability.LINEAR})
    gain: torch.Tensor

    def __init__(self, in_shape, gain=2.0):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        value = torch.as_tensor(gain, dtype=torch.float32)
        self.register_buffer("gain", value)
        self.batch = len(value) if value.ndim == 4 else None

    def forward(self, x):
        return self.like("gain", x) * x

    def select(self, items):
        return Gain(self.in_shape, self.gain[list(items)])


class Blind(Operator):
    """An operator with a trainable parameter."""

    def __init__(self, in_shape, start=1.0):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        self.level = nn.Parameter(torch.tensor(float(start)))

    def forward(self, x):
        return x + self.level


class Stranger(Operator):
    """Never registered."""

    def __init__(self, in_shape):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return 2 * x


class OddNoise(NoiseModel):
    """Never registered."""

    def sample(self, clean, rng):
        return clean

    def nll(self, y, clean):
        return (y - clean).flatten(1).sum(1)


@dataclass(frozen=True)
class OwnSolver(DDIM):
    """Never registered."""


def images(batch=3, shape=SHAPE):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(7))


def equal(a, b):
    return len(parts(a)) == len(parts(b)) and all(
        p.dtype == q.dtype and p.shape == q.shape and torch.equal(p, q) for p, q in zip(parts(a), parts(b), strict=True)
    )


@cache
def known():
    """A registry in which Gain and Blind are known by name; Stranger, OddNoise and OwnSolver are not."""
    found = Registry()
    found.add("operator", "test-gain", "storage_cases:Gain")
    found.add("operator", "test-blind", "storage_cases:Blind")
    return found


@pytest.fixture(autouse=True)
def with_our_operators(monkeypatch):
    monkeypatch.setattr("invsolve.io.encoding.registry", known)


def saved(folder):
    Problem.simulate(Gain(SHAPE) @ Gain(SHAPE, GAINS), images(), GaussianNoise(0.1), generator=0).save(folder)
    return folder
