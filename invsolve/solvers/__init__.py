"""All solvers by class name: `from invsolve.solvers import DPS`; each module is imported at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invsolve.solvers.diffusion.ddim import DDIM
    from invsolve.solvers.diffusion.ddpm import DDPM
    from invsolve.solvers.diffusion.ddrm import DDRM
    from invsolve.solvers.diffusion.diffpir import DiffPIR
    from invsolve.solvers.diffusion.dps import DPS
    from invsolve.solvers.diffusion.heun import Heun
    from invsolve.solvers.diffusion.score_ald import ScoreALD
    from invsolve.solvers.splitting.admm import ADMM
    from invsolve.solvers.splitting.hqs import HQS
    from invsolve.solvers.variational.adam_tv import AdamTV
    from invsolve.solvers.variational.rl_tv import RLTV

_HOME = {
    "ADMM": "splitting.admm",
    "AdamTV": "variational.adam_tv",
    "DDIM": "diffusion.ddim",
    "DDPM": "diffusion.ddpm",
    "DDRM": "diffusion.ddrm",
    "DPS": "diffusion.dps",
    "DiffPIR": "diffusion.diffpir",
    "HQS": "splitting.hqs",
    "Heun": "diffusion.heun",
    "RLTV": "variational.rl_tv",
    "ScoreALD": "diffusion.score_ald",
}

__all__ = ["ADMM", "DDIM", "DDPM", "DDRM", "DPS", "HQS", "RLTV", "AdamTV", "DiffPIR", "Heun", "ScoreALD"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve.solvers.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve.solvers' has no attribute {name!r}")
