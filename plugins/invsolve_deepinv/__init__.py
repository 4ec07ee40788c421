"""deepinv inside invsolve: its physics as Operators and back, its denoisers as Denoisers, tomography.

Importing this module imports neither torch nor deepinv: entries are strings, and classes are imported, at first use.

    from invsolve_deepinv import DeepinvDenoiser, DeepinvOperator, Radon, to_deepinv
"""

from importlib import import_module
from typing import Any

from lazy_loader import attach_stub

from invsolve.plugins import hookimpl
from invsolve.plugins.former import moved, without

_attached, _names, __all__ = attach_stub(__name__, __file__)
__all__ += ["DnCNNPrior", "Natural"]

NEEDS = 'pip install "deepinv>=0.5.0"'
# deepinv's own methods, to be compared with in suites.
PEERS = {
    "deepinv-dps": ("PeerDPS", "deepinv's DPS"),
    "deepinv-diffpir": ("PeerDiffPIR", "deepinv's DiffPIR"),
    "deepinv-ddrm": ("PeerDDRM", "deepinv's DDRM"),
    "deepinv-dpir": ("PeerDPIR", "deepinv's DPIR"),
    "deepinv-admm": ("PeerADMM", "deepinv's plug-and-play ADMM"),
}
MOVED = {
    "invsolve_deepinv.adm": "invsolve_weights.adm",
    "invsolve_deepinv.commands": "invsolve_weights.commands",
    "invsolve_deepinv.containers": "invsolve_weights.containers",
    "invsolve_deepinv.conventions": "invsolve_weights.conventions",
    "invsolve_deepinv.ddpm": "invsolve_weights.ddpm",
    "invsolve_deepinv.evaluate": "invsolve_priors.evaluate",
    "invsolve_deepinv.export": "invsolve_priors.export",
    "invsolve_deepinv.folders": "invsolve_weights.folders",
    "invsolve_deepinv.formats": "invsolve_weights.formats",
    "invsolve_deepinv.hub": "invsolve_weights.hub",
    "invsolve_deepinv.ncsnpp": "invsolve_weights.ncsnpp",
    "invsolve_deepinv.networks": "invsolve_weights.networks",
    "invsolve_deepinv.own": "invsolve_weights.own",
    "invsolve_deepinv.places": "invsolve_weights.places",
    "invsolve_deepinv.priors": "invsolve_priors.shipped",
    "invsolve_deepinv.runs": "invsolve_priors.runs",
    "invsolve_deepinv.score_sde": "invsolve_weights.score_sde",
    "invsolve_deepinv.selftest": "invsolve_weights.selftest",
    "invsolve_deepinv.skeletons": "invsolve_weights.skeletons",
    "invsolve_deepinv.tables": "invsolve_weights.tables",
    "invsolve_deepinv.train": "invsolve_priors.train",
    "invsolve_deepinv.train_command": "invsolve_priors.train_command",
    "invsolve_deepinv.weights": "invsolve_weights.cards",
}
moved(MOVED)
HELD = {"DnCNNPrior": "invsolve_priors", "Natural": "invsolve_priors", "invsolve_load_prior": "invsolve_weights"}


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The two adapters, and tomography."""
    add = registry.add
    add("prior", "deepinv-denoiser", "invsolve_deepinv.denoisers:DeepinvModel", summary="any deepinv.models class by its name", needs=NEEDS)
    add("operator", "deepinv", "invsolve_deepinv.physics:DeepinvPhysics", summary="any deepinv.physics class by its name", needs=NEEDS)
    for name, (cls, summary) in PEERS.items():
        add("solver", name, f"invsolve_deepinv.peers:{cls}", summary=summary, needs=NEEDS, listed=False)
    add("operator", "radon", "invsolve_deepinv.radon:Radon", summary="computed tomography: parallel-beam line integrals", needs=NEEDS)


def __getattr__(name: str) -> Any:
    """What the package offers, and what stood here from where it is now."""
    return getattr(import_module(HELD[name]), name) if name in HELD else _attached(name)


without(__name__, {"invsolve_add_commands": "the hooks of invsolve_weights (invsolve weights) and of invsolve_priors (invsolve train)"})


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
