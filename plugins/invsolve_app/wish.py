"""What is said on the page, as the options of `restore` that mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from invsolve.errors import InputError

HAPPENED = {
    "noise": "Noise",
    "blur": "Blurred",
    "defocus": "Out of focus",
    "motion": "Moved",
    "kernel": "Blurred by a kernel",
    "mask": "Holes",
    "scale": "Too small",
    "jpeg": "JPEG",
}
SUITS = "what suits"


@dataclass(frozen=True)
class Wish:
    """The values of the page.

    Args:
        image: path of the photograph; None where there is none yet.
        happened: a key of HAPPENED.
        sigma, radius, length, angle, factor: pixels, degrees, times.
        kernel: path of the kernel's picture.
        quality: of the JPEG; None for the file's own tables.
        noise: standard deviation for images in [0, 1]; 0 finds it.
        solvers: names, or SUITS.
        prior: a name, or SUITS.
        samples: how many are drawn; 1 draws none.
        middle: side of the square in the middle that is worked on; 0 for all of it.
        seed: of what is drawn.
    """

    image: str | None
    happened: str = "noise"
    sigma: float = 1.5
    radius: float = 3.0
    length: float = 9.0
    angle: float = 0.0
    kernel: str | None = None
    factor: float = 2.0
    quality: float | None = None
    noise: float | None = 0
    solvers: tuple[str, ...] = (SUITS,)
    prior: str = SUITS
    samples: int = 1
    middle: float | None = 0
    seed: float = 0

    def said(self, mask: str | None = None) -> dict[str, Any]:
        """What happened, as restore takes it.

        Args:
            mask: path of the mask that was painted.

        Raises:
            InputError: what is missing for it.
        """
        if self.happened == "kernel" and self.kernel is None:
            raise InputError("put in a picture of the kernel, too: what a single point became")
        if self.happened == "mask" and mask is None:
            raise InputError("paint over what is to be filled in")
        ways: dict[str, Any] = {
            "noise": {"denoise": True},
            "blur": {"blur": self.sigma},
            "defocus": {"defocus": self.radius},
            "motion": {"motion": f"{self.length:g},{self.angle:g}"},
            "kernel": {"kernel": self.kernel},
            "mask": {"mask": mask},
            "scale": {"scale": self.factor},
            "jpeg": {"jpeg": "file" if not self.quality else str(round(self.quality))},
        }
        return {
            **ways[self.happened],
            "noise": self.noise or None,
            "seed": int(self.seed or 0),
            "samples": self.samples if self.samples > 1 else None,
        }

    def runs(self, mask: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """(name, restore's options) of each solver that is wished for, the usual one where none is.

        Raises:
            InputError: as `said`.
        """
        said = self.said(mask)
        prior = None if self.prior == SUITS else self.prior
        return [(name, {**said, "solver": None if name == SUITS else name, "prior": prior}) for name in self.solvers or (SUITS,)]

    @property
    def settings(self) -> tuple[str, ...]:
        """What --set says beside them."""
        return () if not self.middle else (f"data.crop={round(self.middle)}",)
