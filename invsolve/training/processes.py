"""One process, or several that average their gradients (through Hugging Face's accelerate): the loop does not see which."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError


class Alone:
    """This process only: on the first GPU where there is one, else on the CPU."""

    rank, count = 0, 1

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are averaged over the processes."""
        return network

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        loss.backward()

    def shared(self, value: float) -> float:
        """The first process's value."""
        return value

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        return [value]

    def wait(self) -> None:
        """Until all processes are here."""


class Together(Alone):
    """One of several processes that `accelerate launch` started; each draws its own patches and noise."""

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError("several processes need accelerate, which is not installed: pip install 'invsolve[train]'") from error
        self.accelerator = Accelerator()
        self.device = self.accelerator.device
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes

    def wrap(self, network: nn.Module) -> nn.Module:
        """DistributedDataParallel."""
        return self.accelerator.prepare_model(network)

    def backward(self, loss: Tensor) -> None:
        """Gradients, averaged over the processes."""
        self.accelerator.backward(loss)

    def shared(self, value: float) -> float:
        """Broadcast from the first process."""
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))  # pyright: ignore[reportArgumentType]

    def gathered(self, value: Any) -> list[Any]:
        """All gather."""
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def wait(self) -> None:
        """Barrier."""
        self.accelerator.wait_for_everyone()


def these_processes() -> Alone:
    """Together where a launcher started more than one, else Alone."""
    return Together() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
