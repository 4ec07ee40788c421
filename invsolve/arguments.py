"""Constructor arguments: unknown ones are refused with the near name, known ones are remembered.

Operators, priors and solvers share the metaclass, so that a misspelt keyword never passes silently and every object can
say how it was made (`repr`, files, reports).
"""

import inspect
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

from invsolve.errors import ArgumentError, did_you_mean


def bind(function: Callable[..., Any], what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, or ArgumentError naming the parameters there are."""
    signature = inspect.signature(function)
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        near = "".join(did_you_mean(key, signature.parameters) for key in kwargs if key not in signature.parameters)
        takes = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise ArgumentError(f"{what}: {error}{near}; it takes ({takes})") from None


class Remembering(ABCMeta):
    """Metaclass: binds the constructor's arguments first and keeps them as `obj.arguments`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Construct, after the call has been checked against the signature."""
        arguments = bind(cls, cls.__name__, args, kwargs)
        instance = super().__call__(*args, **kwargs)
        object.__setattr__(instance, "arguments", arguments)
        return instance
