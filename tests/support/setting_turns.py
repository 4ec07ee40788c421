"""The checks of a solver in half of its settings each in a plain run, in all with --whole.

Of the settings in their order, two operators with a prior of every kind or two noise levels on two operators, a check takes the first,
fourth, fifth, eighth ... or the others, by turns from check to check and from solver to solver: both operators and every kind of prior
where there are four, and each setting in half of the checks. What looks for lines that no setting reaches, and the answer of an item
alone, which compares values with every prior that fits, have them all.
"""

from unittest import SkipTest
from unittest.mock import patch

from invsolve.testing import settings, units
from invsolve.testing.solvers import CHECKS

PLACES = {check.__name__: place for place, check in enumerate(CHECKS)}
ALL = {"check_covers", "check_item_alone"}


def half(turn):
    """What takes one half of a list, of a list of one that."""
    return lambda found: [one for place, one in enumerate(found) if (place ^ place >> 1) % 2 == turn] or found


def in_turn(check, solver, place, config):
    """Call a check of the solver that stands at a place; in the other half where the first has nothing to compare."""
    if check.__name__ in ALL or check.__name__ not in PLACES or config.getoption("--whole"):  # such as one that is expected to fail
        return check(solver)
    first = (PLACES[check.__name__] + place) % 2
    for turn in (first, 1 - first):
        with patch.object(settings, "part", half(turn)), patch.object(units, "part", half(turn)):
            try:
                return check(solver)
            except SkipTest:
                if turn != first:
                    raise
    return None
