"""A small training and the command that runs it, for the tests of invsolve train."""

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from invsolve.cli import main

TOY = """
name = "toy"
[network]
class = "invsolve_weights.networks:EDMDRUNet"
arguments = { channels = 3, nc = [4, 4, 8, 8], nb = 1 }
[data]
side = 16
[[data.source]]
path = "photographs"
[validation]
path = "photographs"
count = 2
side = 16
[objective]
sigmas = { kind = "uniform", low = 0.05, high = 0.3 }
[run]
steps = 30
batch = 2
save_minutes = 0.001
"""


def toy_folder(folder):
    """The folder with toy.toml and three photographs."""
    (folder / "photographs").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(folder / "photographs" / f"{index}.png")
    (folder / "toy.toml").write_text(TOY)
    return folder


def run(*arguments):
    """The command in this process."""
    return CliRunner().invoke(main, ["train", *map(str, arguments), "--threads", "1"])


def weights(folder):
    """The checkpoint of a run."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)
