"""Latent diffusion: small autoencoders, how they are trained and stored, and priors of their codes.

Importing this module imports no torch: entries are strings, and classes are imported, at first use.

    from invsolve_latent import Latent
"""

from typing import Any

from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """Nothing yet."""
    del registry


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
