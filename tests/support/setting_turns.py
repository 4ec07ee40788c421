"""The checks of a solver in a part of its settings each in a plain run, in all with --whole.

Of the settings in their order, two operators with a prior of every kind or two noise levels on two operators, a check takes a quarter:
every other pair of the first, fourth, fifth, eighth ... or of the others, both operators and half the kinds of prior; of four settings a
half. The dearest checks (DEAR) take an eighth: every eighth, one where there are fewer. Which, goes by turns from check to check and from
class to class, so that eight checks that follow each other have every setting. The law of the answers (`check_posterior`) is found in one
of those of its four cases that the class has. What looks for lines that no setting reaches goes through the settings
until it has seen all but the lines that are declared to be unreached.
"""

import linecache
from contextlib import ExitStack, contextmanager
from unittest import SkipTest
from unittest.mock import patch

from invsolve.testing import covers, posterior, settings, units
from invsolve.testing.solvers import CHECKS

PLACES = {check.__name__: place for place, check in enumerate(CHECKS)}
# Two thirds of the time of all checks were theirs, at a half of the settings each; two fifths at a quarter.
DEAR = {
    "check_finite_answer",
    "check_same_seed",
    "check_parts",
    "check_item_alone",
    "check_samples",
    "check_resume",
    "check_nfe",
    "check_posterior",
    "check_unit_invariance",
    "check_perturbed_operator",
    "check_converged",
}
TURNS = 8
LAWS = (("S",), ("G",), ("I",), ("I", "N"))  # the last is asked of few


def half(turn):
    """What takes one half of a list by its turn, of a list of one that."""
    return lambda found: [one for place, one in enumerate(found) if (place ^ place >> 1) % 2 == turn % 2] or found


def quarter(turn):
    """What takes every other pair of a half of a list by a turn of four, of a half of two or one that."""

    def taken(found):
        kept = half(turn)(found)
        return [one for place, one in enumerate(kept) if place // 2 % 2 == turn // 2 % 2] or kept

    return taken


def eighth(turn):
    """What takes an eighth of a list by a turn of eight, one of a list of fewer."""
    return lambda found: found[turn % min(TURNS, len(found)) :: TURNS] if found else found


def undeclared(cls, every):
    """The lines of a class but those that it declares to be unreached."""
    return frozenset(where for where in every if not any(piece in linecache.getline(*where) for piece in cls.unreached))


@contextmanager
def counted_rows():
    """A list of what is found of laws inside."""
    found, rows = [], posterior.rows

    def counted(*arguments, **options):
        for row in rows(*arguments, **options):
            found.append(row)
            yield row

    with patch.object(posterior, "rows", counted):
        yield found


def in_turn(check, solver, place, config):
    """Call a check of the solver whose class stands at a place; at another turn where it has nothing to compare at its own."""
    if check.__name__ not in PLACES or config.getoption("--whole"):  # such as one that is expected to fail
        check(solver)
        return
    if check.__name__ == "check_covers":
        with patch.object(covers, "enough", undeclared):
            check(solver)
        return
    part = eighth if check.__name__ in DEAR else quarter
    for turn in range(TURNS):
        now = PLACES[check.__name__] + place + turn
        with ExitStack() as stack:
            for module in (settings, units):
                stack.enter_context(patch.object(module, "part", part(now % TURNS)))
            kept = {name: posterior.CASES[name] for name in LAWS[now % len(LAWS)]}
            stack.enter_context(patch.object(posterior, "CASES", kept))
            seen = stack.enter_context(counted_rows())
            try:
                check(solver)
            except SkipTest:
                if turn == TURNS - 1:
                    raise
                continue
        if check.__name__ != "check_posterior" or seen or turn >= len(LAWS) - 1:  # some laws are asked of few, some of none
            return
