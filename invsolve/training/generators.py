"""torch's own random generators as the network in training sees them: what its dropout draws from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def states_of(device: torch.device) -> list[Tensor]:
    """Of the CPU's generator and, on a GPU, of the GPU's."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_states(states: list[Tensor], device: torch.device) -> None:
    """What `states_of` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)


class NetworkDraws:
    """A stream of its own for layers that draw from the global generators; outside of `drawing` these are as if nothing had been drawn.

    Args:
        device: of the network.
        seed: of the stream.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device = device
        # A generator's state depends on nothing but its seed: no need to touch the global ones.
        cpu = torch.Generator().manual_seed(seed).get_state()
        self.states = [cpu, *([torch.Generator(device).manual_seed(seed).get_state()] if device.type == "cuda" else [])]

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The global generators draw from this stream."""
        before = states_of(self.device)
        set_states(self.states, self.device)
        try:
            yield
        finally:
            self.states = states_of(self.device)
            set_states(before, self.device)
