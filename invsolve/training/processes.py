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

    def shared(self, values: list[float]) -> list[float]:
        """The first process's values."""
        return values

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        return [value]

    def wait(self) -> None:
        """Until all processes are here."""


class Together(Alone):
    """One of several processes that torchrun or `accelerate launch` started; each draws its own patches and noise.

    Raises:
        InputError: accelerate is missing, or sees another number of processes than the launcher started.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError("several processes need accelerate, which is not installed: pip install 'invsolve[train]'") from error
        # Without a GPU accelerate must be told: it would take each process for one that is alone.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.device = self.accelerator.device
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        if self.count != launched():
            raise InputError(
                f"the launcher started {launched()} processes, accelerate sees {self.count}: they would train independently into one "
                "folder; start them with torchrun --nproc_per_node N -m invsolve train ..."
            )

    def wrap(self, network: nn.Module) -> nn.Module:
        """DistributedDataParallel."""
        return self.accelerator.prepare_model(network)

    def backward(self, loss: Tensor) -> None:
        """Gradients, averaged over the processes."""
        self.accelerator.backward(loss)

    def shared(self, values: list[float]) -> list[float]:
        """Broadcast from the first process."""
        from accelerate.utils import broadcast

        return broadcast(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()  # pyright: ignore

    def gathered(self, value: Any) -> list[Any]:
        """All gather."""
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def wait(self) -> None:
        """Barrier."""
        self.accelerator.wait_for_everyone()


def launched() -> int:
    """How many processes the launcher says it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def these_processes() -> Alone:
    """Together where a launcher started more than one, else Alone.

    Raises:
        InputError: see `Together`; `accelerate launch` was asked for several processes on CPUs, of which it starts one.
    """
    # accelerate sets an address to meet at where several processes are wanted, but on CPUs it leaves their start to MPI.
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        raise InputError(
            "accelerate launch does not start several processes on CPUs; take torchrun --nproc_per_node N -m invsolve train ..."
        )
    return Together() if launched() > 1 else Alone()
