"""Exact inference for a process with independent increments, by messages on a lattice.

    a_1 = p_1 L_1,  a_{k+1} = (K * a_k) L_{k+1};    b_n = 1,  b_k = K * (L_{k+1} b_{k+1});    p(x_k | data) ~ a_k b_k

K * is a product with the increments' characteristic function between two Fourier transforms. Whatever is transformed is a product of
Gaussians (of the start and of the likelihoods) with such convolutions, so that its spectrum has died out at the lattice's highest
frequency: sums are as good as integrals, and an atom of the increments' law is one more constant in the product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from invsolve_benchmarks.truth.increments import Increments

MOST = 4_000_000  # numbers of a message of all items and places, which bounds the memory
FLOOR = 1e-18  # of a message's largest value: what the transforms round, and jumps that no process of this law makes


@dataclass(frozen=True)
class Lattice:
    """Nodes over (1/2 - reach, 1/2 + reach), closed to a ring.

    Args:
        law: of the increments.
        start: standard deviation of x_1 about 1/2.
        reach: half the width; outer tenths are tapered to 0, so that nothing goes round the ring.
        per_sigma: nodes to a sigma; sixteen likelihoods of one value multiply to a width of sigma / 4, which 3 resolve to 3e-5.
    """

    law: Increments
    start: float
    reach: float
    per_sigma: float = 3.0

    def estimate(self, x: Tensor, sigma: float) -> Tensor:
        """E[x0 | x0 + sigma n = x], (B, n)."""
        return self.moments(x, torch.full(x.shape[1:], sigma, dtype=x.dtype))[0]

    def moments(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance (B, n) of every x_k given y_k = x_k + sigma_k n; sigma (n,), infinite where nothing is known."""
        nodes, transform, taper = self._nodes(float(sigma.min()))
        parts = [self._moments(one, sigma, nodes, transform, taper) for one in y.split(max(1, MOST // (y.shape[1] * len(nodes))))]
        mean, square = (torch.cat([part[index] for part in parts]) for index in (0, 1))
        return mean, square - mean.square()

    def _nodes(self, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """(nodes, characteristic function at the frequencies of a real transform, taper)."""
        spacing = min(sigma, 0.5 * self.start) / self.per_sigma
        fast: Any = next_fast_len  # typed as if it could give None
        count = int(fast(math.ceil(2 * self.reach / spacing), real=True))
        spacing = 2 * self.reach / count
        nodes = 0.5 - self.reach + spacing * (torch.arange(count, dtype=torch.float64) + 0.5)
        omega = 2 * math.pi * torch.fft.rfftfreq(count, spacing, dtype=torch.float64)
        inward = ((1 - (nodes - 0.5).abs() / self.reach) / 0.1).clamp(0, 1)
        return nodes, self.law.transform(omega), (0.5 * math.pi * inward).sin().square()

    def _moments(self, y: Tensor, sigma: Tensor, nodes: Tensor, transform: Tensor, taper: Tensor) -> tuple[Tensor, Tensor]:
        count, size = len(nodes), y.shape[1]

        def moved(message: Tensor) -> Tensor:
            out = torch.fft.irfft(torch.fft.rfft(message) * transform, n=count)
            return out.clamp_min(0) + FLOOR * out.amax(1, keepdim=True)

        def likelihood(place: int) -> Tensor:
            exponent = -0.5 * ((nodes - y[:, place, None]) / sigma[place]).square()
            return (exponent - exponent.amax(1, keepdim=True)).exp() * taper

        known = [likelihood(place) for place in range(size)]
        forward = [(-0.5 * ((nodes - 0.5) / self.start).square()).exp() * known[0]]
        for place in range(1, size):
            message = moved(forward[-1] / forward[-1].sum(1, keepdim=True).clamp_min(1e-300)) * known[place]
            forward.append(message / message.sum(1, keepdim=True).clamp_min(1e-300))
        backward = torch.ones_like(forward[0])
        mean, square = torch.zeros_like(y), torch.zeros_like(y)
        for place in reversed(range(size)):
            both = forward[place] * backward
            total = both.sum(1)
            mean[:, place], square[:, place] = (both @ nodes) / total, (both @ nodes.square()) / total
            backward = moved(backward * known[place])
            backward = backward / backward.amax(1, keepdim=True)
        return mean, square
