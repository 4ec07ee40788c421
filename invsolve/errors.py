"""The errors of invsolve, and its one warning: each says what was given, what is allowed and what to do, and is also a builtin's kind."""

import difflib
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

OURS = ("invsolve", "invsolve_operators", "torch")  # whose lines are no caller's


class InvsolveError(Exception):
    """Everything that invsolve raises on purpose."""


class InputError(InvsolveError, ValueError):
    """A tensor or a parameter that cannot be used: shape, dtype, range, device, NaN."""


class NoLevelError(InputError):
    """The noise level of a measurement cannot be found from it."""


class ConstructorError(InputError):
    """A constructor did not refuse what it was given, but failed: an error of Python's, torch's or a plug-in's own."""


class ArgumentError(InvsolveError, TypeError):
    """A call that does not fit the signature; near names are suggested."""


class CapabilityError(InvsolveError, TypeError):
    """An operator or a prior was asked for what it cannot do exactly."""


class CompatibilityError(InvsolveError, TypeError):
    """A solver cannot solve this problem with this prior; every gap is listed."""


class RegistrationError(InvsolveError, ValueError):
    """A plug-in registers something that is taken, misnamed or of no known kind."""


class UnknownNameError(InvsolveError, LookupError):
    """No entry of this name; near names are suggested."""


class PluginError(InvsolveError, ImportError):
    """A registered entry cannot be imported."""


class NotInstalledError(PluginError):
    """An entry needs a package that is not installed, or another version of it; the message says what to install."""


class DivergedError(InvsolveError, ArithmeticError):
    """An iterate became NaN or infinite, or grew without end; the message names the step.

    Attributes:
        step, sigma: where, None where nothing is known.
        norms: rms of the last iterates, the worst item's.
        hint: what to change.
        x: the last good image, None where there is none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        step: int | None = None,
        sigma: float | None = None,
        norms: Sequence[float] = (),
        hint: str = "",
        x: Any = None,
    ) -> None:
        super().__init__(message)
        self.step, self.sigma, self.norms, self.hint, self.x = step, sigma, tuple(norms), hint, x


class ConvergenceError(InvsolveError, ArithmeticError):
    """An iteration ended before its tolerance; the message names the residual."""


class Note(UserWarning):
    """What was done to a file, or looks wrong about an answer; the shell shows it as a line `note: ...`."""


# Methods that make operators of operators, and examples of a class: nobody has just given those numbers.
DERIVING = frozenset({"select", "compose", "composed_into", "window", "examples"})


def ask(text: str) -> None:
    """Question what was given, as a Note at the line of the caller's own code; not where a part is made of one that was given before."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        if frame.f_code.co_name in DERIVING:
            return
        frame, level = frame.f_back, level + 1
    warnings.warn(text, Note, stacklevel=level)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` or nothing; capitals make no difference."""
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"; did you mean {', '.join(near)}?" if near else ""
