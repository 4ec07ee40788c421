"""Physics that do not take real images in batches, as ones that do: complex data as real pairs, and one item at a time."""

from __future__ import annotations

from typing import Any

import deepinv
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.complex_data import joined_pairs, paired
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve_deepinv.recast import ours, theirs

KINDS = ("image", "measurement")
split, joined = paired, joined_pairs  # as they were called here


class Pairs(deepinv.physics.LinearPhysics):
    """A physics with complex data as one with real data, in which <a, b> is the real part of the complex product.

    Complex images (C, ...) are taken as (2 C, ...), real parts first. Complex measurements (...) are given as (2, ...); real ones as
    they are.

    Args:
        physics: any deepinv physics.
        kind: "image" where images are complex; "measurement" where only y is.
        in_shape: what the operator takes.

    Raises:
        InputError: another kind, or an odd number of channels for complex images.
    """

    def __init__(self, physics: Any, kind: str, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        if kind not in KINDS:
            raise InputError(f'pairs must be "image" (complex images), "measurement" (complex y only) or None; given {kind!r}')
        if kind == "image" and (not in_shape or in_shape[0] % 2):
            raise InputError(f"complex images (C, ...) are taken as real pairs (2 C, ...), real parts first; given in_shape {in_shape}")
        self.physics, self.kind = physics, kind
        self.complex_parts: tuple[bool, ...] = ()

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802 (deepinv's name)
        """A x, complex parts as pairs."""
        y = ours(self.physics.A(joined_pairs(x) if self.kind == "image" else x))
        self.complex_parts = tuple(part.is_complex() for part in parts(y))
        return theirs(mapped(lambda part: torch.stack([part.real, part.imag], dim=1) if part.is_complex() else part, y))

    def A_adjoint(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """A^* y as pairs, or its real part for real images."""
        held = ours(y)
        made = tuple(
            torch.complex(part[:, 0].contiguous(), part[:, 1].contiguous()) if is_complex else part
            for part, is_complex in zip(parts(held), self.complex_parts, strict=True)
        )
        x = self.physics.A_adjoint(theirs(made if isinstance(held, tuple) else made[0]))
        return paired(x) if self.kind == "image" else x.real


class OneByOne(deepinv.physics.LinearPhysics):
    """A physics that takes only one image at a time, called item by item."""

    def __init__(self, physics: Any) -> None:
        super().__init__()
        self.physics = physics

    def A(self, x: Tensor, **_options: Any) -> Any:  # noqa: N802
        """A of every item."""
        found = [parts(ours(self.physics.A(one))) for one in x.split(1)]
        made: Measurement = tuple(torch.cat(part) for part in zip(*found, strict=True))
        return theirs(made) if len(found[0]) > 1 else torch.cat([one[0] for one in found])

    def A_adjoint(self, y: Any, **_options: Any) -> Tensor:  # noqa: N802
        """A^T of every item."""
        held = ours(y)
        items = zip(*[part.split(1) for part in parts(held)], strict=True)
        return torch.cat([self.physics.A_adjoint(theirs(item) if isinstance(held, tuple) else item[0]) for item in items])


__all__ = ["OneByOne", "Pairs"]
