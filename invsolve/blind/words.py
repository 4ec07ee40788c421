"""What was found in a photograph, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invsolve.blind.diagnosis import Diagnosis

SCATTER = 4  # per cent: two thirds of the levels found in dev photographs lie so near the true one
LIKELY = 0.9  # of a family: below, the next one is named


def sentences(found: Diagnosis) -> list[str]:
    """Blur, size, JPEG, damage and noise, one after the other."""
    said = [blurred(found), enlarged(found), compressed(found), damaged(found), noisy(found)]
    said = [one for one in said if one]
    return (["nothing to restore", *said] if found.nothing else said) or ["nothing was found"]


def blurred(found: Diagnosis) -> str:
    """The blur, how sure its width is, and what else it may be."""
    from invsolve.blind.diagnosis import NAMES

    if not found.chances:
        return "the picture is too small or too even to tell a blur" if found.enlargement is None else ""
    if found.family == "none":
        return "no blur"
    _, width, text = NAMES[found.family]
    said = text.format(found.parameters[width]) + f", give or take {max(1, round(100 * found.spread))} %"
    if "angle" in found.parameters:
        said += f", at {found.parameters['angle']:.0f} degrees from the horizontal"
    chance = found.chances[found.family]
    if chance < LIKELY:
        name = max((one for one in found.chances if one != found.family), key=found.chances.__getitem__)
        said += f" ({100 * chance:.0f} % sure; it may be {'none' if name == 'none' else OTHER[name]})"
    return said


OTHER = {"gaussian": "a Gaussian blur", "defocus": "out of focus", "motion": "motion"}


def enlarged(found: Diagnosis) -> str:
    """The factor."""
    if found.enlargement is None:
        return ""
    return f"enlarged {found.enlargement.factor} times ({found.enlargement.kernel})"


def compressed(found: Diagnosis) -> str:
    """The quality of the JPEG."""
    if found.compression is None:
        return ""
    fine = "" if found.coarse else ", which loses nothing that is seen"
    return f"once a JPEG of quality {found.compression.quality}{fine}"


def damaged(found: Diagnosis) -> str:
    """The share of the pixels."""
    return "" if found.keep is None else f"scratches and dust on {100 * (1 - float(found.keep.double().mean())):.1f} % of the pixels"


def noisy(found: Diagnosis) -> str:
    """The level, in [0, 1] and in grey levels."""
    if math.isnan(found.noise):
        return "the picture is too small to tell its noise"
    return f"noise {found.noise:.4f}, {255 * found.noise:.1f} of 255 grey levels, give or take {SCATTER} %"
