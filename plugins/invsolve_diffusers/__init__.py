"""Published models through diffusers: Stable Diffusion 1, 2, XL and 3, its inpainting networks, latent diffusion, as priors of codes.

Importing this module imports neither torch nor diffusers nor transformers: `pip install 'invsolve[diffusers]'` brings the last two.

    prior = load_prior("diffusers:FOLDER", prompt="a portrait", scale=3.0)
    from invsolve_diffusers import Published, Told, Decoder, Encoder
"""

from typing import Any

from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

NEEDS = "pip install 'invsolve[diffusers]'"


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The prior of a folder."""
    summary = "Stable Diffusion 1, 2, XL or 3, its inpainting networks, latent diffusion: a diffusers folder"
    registry.add("prior", "diffusers", "invsolve_diffusers.prior:Published", summary=summary, needs=NEEDS)


@hookimpl
def invsolve_load_prior(path: str, options: dict[str, Any]) -> Any:
    """Addresses that begin with diffusers:, and folders of a pipeline with a decoder; what else there is, is for others to read."""
    from invsolve_diffusers.address import claimed

    if not claimed(path):
        return None
    from invsolve_diffusers.prior import from_address

    return from_address(path, options)


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
