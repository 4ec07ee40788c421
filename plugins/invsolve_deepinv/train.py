"""Train the shipped priors: `python -m invsolve_deepinv.train natural --data FOLDER --out FOLDER`.

FOLDER holds `train/bsds500/{train,test}`, `train/tiny_imagenet64/train.zip` and, for the log's PSNR, `dev/bsds500_val32`
(never trained on). Started again with the same --out, a run goes on where it stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve.training.data import Crops, read_images
from invsolve.training.loop import Recipe, Training
from invsolve.training.objectives import LogSigma, UniformSigma
from invsolve_deepinv.networks import NETWORKS

# name -> (network, its arguments, patch side, recipe)
RECIPES = {
    "natural": (
        "edm-drunet",
        {"channels": 3, "nc": (32, 64, 128, 192), "nb": 2, "mean": 0.5, "s0": 0.25},
        64,
        Recipe(LogSigma(mean=-2.2, std=1.1, low=0.002, high=80.0, flat=0.25), s0=0.25, hours=2.0, batch=12),
    ),
    "dncnn": (
        "dncnn",
        {"channels": 3, "depth": 12, "nf": 64},
        40,
        Recipe(UniformSigma(0.002, 0.24), s0=0.25, hours=1.2, batch=12),
    ),
}


def validation_images(folder: Path, count: int = 8, side: int = 128) -> Tensor:
    """(count, 3, side, side): centre crops of the first images of a folder, in [0, 1]."""
    crops = []
    for image in list(read_images(folder))[:count]:
        pixels = np.asarray(image)
        top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
        crops.append(torch.from_numpy(pixels[top : top + side, left : left + side].copy()))
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, help="wall-clock hours over which the rate falls (default: the recipe's)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    network, options, side, recipe = RECIPES[arguments.prior]
    if arguments.hours:
        recipe = replace(recipe, hours=arguments.hours)
    torch.manual_seed(recipe.seed)  # the initial weights; a script may own the process's generator
    train = arguments.data / "train"
    crops = Crops(
        [
            (train / "bsds500", 0.75, (1.0, 0.75, 0.5)),
            (train / "tiny_imagenet64" / "train.zip", 0.25, (1.0,)),
        ],
        side,
    )
    validation = validation_images(arguments.data / "dev" / "bsds500_val32")
    Training(NETWORKS[network](**options), crops, recipe, arguments.out, validation).run(lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
