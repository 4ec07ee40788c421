"""Pictures drawn from the shipped diffusion priors alone: `python benchmarks/studies/samples.py natural natural-gray mnist`.

Of each, results/priors/NAME_samples.png: DDIM with 50 steps above, Heun with 18 below, the same starts. Spectrum slope and gradient
kurtosis beside those of real patches stand in the card (`python -m invsolve_priors.evaluate NAME --data DATA --card`).
"""

import argparse
from pathlib import Path

import torch

from invsolve import load_prior
from invsolve.bench.prior_samples import draw_samples
from invsolve.io.images import picture_grid, write_image
from invsolve.priors import Denoiser

RESULTS = Path(__file__).parents[1] / "results" / "priors"


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--count", type=int, default=16)
    arguments = parser.parse_args()
    for name in arguments.names:
        prior = load_prior(name)
        if not isinstance(prior, Denoiser) or not (drawn := draw_samples(prior, 32 if name == "mnist" else 64, arguments.count)):
            parser.error(f"{name} is no diffusion prior")
        images = torch.cat([one.images for one in drawn])
        write_image(RESULTS / f"{name}_samples.png", picture_grid(images, arguments.count // 2))


if __name__ == "__main__":
    main()
