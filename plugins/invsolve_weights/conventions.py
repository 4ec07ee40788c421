"""The convention a network is loaded by: the format's usual one, overruled by its card, overruled by the caller; all of it checked."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from invsolve.errors import InputError
from invsolve.priors.base import interval
from invsolve.schedule import LAWS
from invsolve_weights.formats import Convention
from invsolve_weights.tables import is_count, is_number

KINDS = ("x0", "eps", "v")
SCHEDULES = ("none", *LAWS)
STEPS_LIMIT = 100_000


def overruled(usual: Convention, said: dict[str, Any]) -> Convention:
    """A convention with what is said otherwise.

    Another schedule has other levels: where a schedule is said and no sigma_range, the usual one goes.

    Args:
        usual: the convention.
        said: fields of Convention.

    Raises:
        InputError: see `checked`; unknown fields.
    """
    known = [one.name for one in fields(Convention)]
    if set(said) - set(known):
        raise InputError(f"a convention has the fields {', '.join(known)}; given {', '.join(map(str, said)):.200}")
    if said.get("schedule", usual.schedule) != usual.schedule:
        said = {"sigma_range": None, **said}
    return checked(replace(usual, **said))


def checked(one: Convention) -> Convention:
    """A convention with its pairs as floats.

    Raises:
        InputError: a value that is not allowed; it and the allowed ones are named.
    """
    if one.kind not in KINDS or one.schedule not in SCHEDULES:
        raise InputError(f"kind is {', '.join(KINDS)}, schedule {', '.join(SCHEDULES)}; given {one.kind!r:.80} and {one.schedule!r:.80}")
    if not is_count(one.steps, 2, STEPS_LIMIT) or not isinstance(one.blind, bool):
        raise InputError(f"steps is a number from 2 to {STEPS_LIMIT}, blind true or false; given {one.steps!r:.80} and {one.blind!r:.80}")
    betas = one.betas
    numbers = isinstance(betas, list | tuple) and len(betas) == 2 and all(map(is_number, betas))
    if not numbers or not 0 < betas[0] <= betas[1] < 1:
        raise InputError(f"betas must be two numbers with 0 < first <= last < 1; given {betas!r:.100}")
    levels = None if one.sigma_range is None else interval("sigma_range", one.sigma_range, above=0.0)
    return replace(one, range=interval("range", one.range), sigma_range=levels, betas=(float(betas[0]), float(betas[1])))
