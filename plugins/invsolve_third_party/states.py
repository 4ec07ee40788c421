"""State dicts of other packages, read as data and checked against a network of ours."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from invsolve.errors import InputError


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file, in float32; no code in it runs.

    Raises:
        InputError: not a table of tensors.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(f"{path}: cannot be read as weights ({type(error).__name__}); install its package again") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: not a table of tensors")
    return {str(key): value.float() for key, value in content.items()}


@torch.inference_mode(False)
def filled(network: nn.Module, state: dict[str, Tensor], path: Path) -> nn.Module:
    """A network with these weights, frozen, in evaluation mode.

    Raises:
        InputError: other keys, other shapes or values that are not finite; the first is named.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise InputError(
            f"{path}: not the weights of this network: {key} is {found.get(key, 'missing')}, needed {wanted.get(key, 'nothing')}"
        )
    bad = next((key for key, value in state.items() if not bool(torch.isfinite(value).all())), None)
    if bad is not None:
        raise InputError(f"{path}: {bad} is not finite")
    network.float().load_state_dict(state)  # whatever the default type is
    return network.eval().requires_grad_(False)
