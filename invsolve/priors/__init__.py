"""Priors: regularisers, denoisers, diffusion priors and the ways to make them from networks."""

from invsolve.priors.base import Denoiser, DiffusionPrior, Prior, Regulariser
from invsolve.priors.convert import NetworkDenoiser, as_denoiser, rescale
from invsolve.priors.gaussian import GaussianMixturePrior, GaussianPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.tv import TotalVariation
from invsolve.unit import Unit

__all__ = [
    "Denoiser",
    "DiffusionPrior",
    "GaussianMixturePrior",
    "GaussianPrior",
    "LatentPrior",
    "NetworkDenoiser",
    "Prior",
    "Regulariser",
    "TotalVariation",
    "Unit",
    "as_denoiser",
    "rescale",
]
