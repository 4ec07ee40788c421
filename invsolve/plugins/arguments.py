"""Constructor arguments: unknown ones are refused with the near name, known ones are remembered.

Operators, priors and solvers share the metaclass, so that a misspelt keyword never passes silently and every object can
say how it was made (`repr`, files, reports).
"""

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, ParamSpec, TypeVar

from invsolve.errors import ArgumentError, InputError, InvsolveError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


# What other packages call an argument, by what it is called here.
CALLED = {
    "generator": ("seed", "random_state", "rng", "random_seed"),
    "callback": ("progress", "progress_bar", "show_progress", "tqdm", "bar", "verbose"),
    "samples": ("n_samples", "num_samples", "nsamples", "n_sample"),
    "steps": ("n_steps", "num_steps", "n_iter", "niter", "max_iter", "iterations", "num_inference_steps", "nsteps"),
    "x_init": ("x0", "init", "x_start", "initial"),
    "sigma": ("std", "noise_level", "noise_std", "sd", "stddev"),
    "weight": ("lam", "lamb", "lambda_", "lambd", "reg", "regularization"),
}
HOW = {
    "generator": ": generator={}",
    "callback": ": callback=Progress() shows a bar (from invsolve import Progress)",
    "steps": ": steps={}",
    "samples": ": samples={}",
}


def hinted(key: str, value: Any, known: Sequence[str]) -> str:
    """What an unknown keyword is called here, else the near names, else nothing."""
    for name, others in CALLED.items():
        if key.lower() in others and name in known:
            return f"; it is called {name} here{HOW.get(name, '').format(repr(value)[:40])}"
    if key.lower() in ("steps", *CALLED["steps"]) and "callback" in known:  # a call of solve
        return "; the number of steps is the solver's own: DiffPIR(steps=20).solve(problem, prior)"
    return did_you_mean(key, known)


def bind(function: Callable[..., Any], what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, or ArgumentError naming the parameters there are."""
    signature = signature_of(function)
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        unknown = [key for key in kwargs if key not in signature.parameters]
        known = [name for name in signature.parameters if name not in ("self", "cls")]
        near = "".join(hinted(key, kwargs[key], known) for key in unknown)
        # A misspelt required argument is reported as missing; what was given instead says more.
        said = f"got an unexpected keyword argument '{unknown[0]}'" if unknown and "missing" in str(error) else error
        takes = ", ".join(
            str(parameter.replace(annotation=inspect.Parameter.empty))
            for name, parameter in signature.parameters.items()
            if name not in ("self", "cls")
        )
        raise ArgumentError(f"{what}: {said}{near}; it takes ({takes})") from None


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """What a call takes; for a class its constructor's, which a metaclass would hide."""
    if isinstance(function, type):
        return of_constructor(function.__init__)
    return of_function(function) if inspect.isfunction(function) else inspect.signature(function)


of_function = functools.lru_cache(maxsize=1024)(inspect.signature)  # every call of solve asks


@functools.lru_cache(maxsize=1024)  # every construction asks
def of_constructor(init: Callable[..., None]) -> inspect.Signature:
    """What a constructor takes besides the object."""
    signature = inspect.signature(init)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=inspect.Signature.empty)


def spread(target: Callable[..., Any], arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by name as (args, kwargs); a `*operators` parameter takes its list apart."""
    star = next((name for name, one in signature_of(target).parameters.items() if one.kind is one.VAR_POSITIONAL), None)
    if star is None or not isinstance(arguments.get(star), list | tuple):
        return (), arguments
    return tuple(arguments[star]), {name: value for name, value in arguments.items() if name != star}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: an unknown keyword raises ArgumentError with the near name."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bind(function, function.__name__, args, kwargs)
        return function(*args, **kwargs)

    return call


FOREIGN = (TypeError, ValueError, RuntimeError, OverflowError, AttributeError, IndexError, KeyError, ZeroDivisionError)


def shown(arguments: dict[str, Any]) -> str:
    """name=value, each value in at most 60 characters; tensors by their shape."""
    texts = {key: f"a tensor {tuple(value.shape)}" if hasattr(value, "shape") else repr(value) for key, value in arguments.items()}
    return ", ".join(f"{key}={text if len(text) <= 60 else text[:57] + '...'}" for key, text in texts.items())


def refuse_types(target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Raise ArgumentError for the first argument that its annotation has no place for; asked only after a constructor has failed.

    Raises:
        ArgumentError: names the argument, what it must be and what was given.
    """
    from invsolve.plugins.typed import fitted, hint_of, members, words

    what = getattr(target, "__name__", str(target))
    for name, value in arguments.items():
        try:
            made = fitted(value, name, what, target)
        except ArgumentError as error:
            raise error from None
        kinds = members(hint_of(target, name))
        # A file's lists become tensors, a program's do not.
        as_given = any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds)
        if type(made) is not type(value) and type(made) in kinds and not as_given:
            raise ArgumentError(f"{what}: {name} must be {words(hint_of(target, name))}; given {value!r:.80}")


LARGEST = 2**63 - 1  # what torch's whole numbers hold


def refuse_plain_types(target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Raise ArgumentError for an argument that must be a number, a truth value or a text, and is none; real numbers of any library pass.

    Raises:
        ArgumentError: as `refuse_types`.
    """
    from invsolve.plugins.typed import hint_of, members

    plain = {bool, int, float, str, type(None), Literal}
    kinds = {name: members(hint_of(target, name)) for name in arguments}

    def number(value: Any, kinds: set[Any]) -> bool:
        """Whether it is a number of any library where a number may be, a whole one where only that may be."""
        fits = Real if float in kinds else Integral if int in kinds else ()
        return isinstance(value, fits) and not isinstance(value, bool)

    asked = {name: value for name, value in arguments.items() if kinds[name] and kinds[name] <= plain}
    for name, value in asked.items():
        if isinstance(value, int) and abs(value) > LARGEST:  # torch would raise an OverflowError of its own, steps later
            given = f"{float(value):.4g}" if abs(value) < 10**300 else "one of more than 300 digits"
            raise ArgumentError(f"{target.__name__}: {name} must be below 2^63 where it is a whole number; given {given}")
    refuse_types(target, {name: value for name, value in asked.items() if not number(value, kinds[name])})


class Remembering(ABCMeta):
    """Metaclass: binds the constructor's arguments first and keeps them as `obj.arguments`; then calls `_complete`, if there is one."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's: without it notebooks and help would show this metaclass's *args, **kwargs."""
        return signature_of(cls)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Construct, after the call has been checked against the signature."""
        arguments = bind(cls, cls.__name__, args, kwargs)
        try:
            instance = super().__call__(*args, **kwargs)
        except FOREIGN as error:
            # An operator's constructor computes with what it is given: whatever Python or torch makes of nonsense, the caller hears
            # what was given. (Priors and solvers check theirs field by field, but not every type.)
            if isinstance(error, InvsolveError):
                raise
            refuse_types(cls, arguments)
            if not hasattr(cls, "capabilities"):
                raise
            raise InputError(f"{cls.__name__} cannot be made with {shown(arguments)}: {error}") from error
        object.__setattr__(instance, "arguments", arguments)
        complete = getattr(cls, "_complete", None)
        if complete is not None:
            complete(instance)
        return instance
