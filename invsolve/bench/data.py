"""Pictures: what a data set gives, and their fingerprints."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.plugins import registry
from invsolve.problem import check_tensor

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Picture:
    """One image of a data set.

    Args:
        id: unique within the data set: letters, digits, dot, dash, underscore.
        image: (C, H, W) in [0, 1], float32 or float64.
        title, licence, source: for the report.
    """

    id: str
    image: Tensor
    title: str = ""
    licence: str = "not stated"
    source: str = "not stated"

    @property
    def sha256(self) -> str:
        """Of the values, with shape and dtype."""
        return tensor_sha256(self.image)


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and values (as they lie in memory, contiguous)."""
    value = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    value = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_pictures(name: str, parameters: dict[str, Any]) -> list[Picture]:
    """The pictures of a registered data set, checked.

    A data set is a callable that gives Pictures, or (id, tensor) pairs.

    Raises:
        InputError: no picture, an id twice or malformed, an image that is no (C, H, W) tensor in [0, 1].
    """
    found: Iterable[Any] = registry().build("dataset", name, **parameters)
    pictures = [item if isinstance(item, Picture) else Picture(*item) for item in found]
    if not pictures:
        raise InputError(f"data set '{name}' is empty")
    ids = [picture.id for picture in pictures]
    if len(set(ids)) < len(ids):
        raise InputError(f"data set '{name}' has an id twice: {', '.join(sorted({key for key in ids if ids.count(key) > 1}))}")
    for picture in pictures:
        _check(name, picture)
    return pictures


def _check(name: str, picture: Picture) -> None:
    what = f"picture {picture.id!r} of '{name}'"
    if not ID.fullmatch(picture.id):
        raise InputError(f"{what}: an id must match {ID.pattern}")
    check_tensor(what, picture.image)
    if picture.image.ndim != 3:
        raise InputError(f"{what} must be (C, H, W); given {tuple(picture.image.shape)}")
    low, high = float(picture.image.min()), float(picture.image.max())
    if low < 0 or high > 1:
        raise InputError(f"{what} must lie in [0, 1]; it spans [{low:.3g}, {high:.3g}]")
