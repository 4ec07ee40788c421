"""A suite and a problem file that differ in what a test says, and a folder with what they name."""

import numpy as np
import pytest
import torch

from invsolve.bench import Suite
from invsolve.io.images import write_image
from invsolve.recipe.config import make_config

BLUR, MEAN, HOLES = {"name": "gaussian-blur", "sigma": 1.0}, {"name": "block-mean", "factor": 2}, {"name": "mask", "keep": 0.5}
CPU = torch.device("cpu")


def suite(operator, **changes):
    values = {
        "data": {"shape": [3, 12, 16], "images": 1},
        "noise": {"sigma": 0.05},
        "operator": operator,
        "solver": [{"name": "hqs", "steps": 2, "prior": {"name": "tv"}}],
        "metrics": ["psnr"],
    }
    return Suite.make({**values, **changes})


def config(operator, folder, **changes):
    values = {
        "data": {"image": "photo.npy", "simulate": True},
        "operator": operator,
        "noise": {"sigma": 0.05},
        "prior": {"name": "tv"},
        "solver": {"name": "hqs", "steps": 2},
    }
    return make_config({**values, **changes}, folder=folder)


@pytest.fixture(name="folder")
def named_folder(tmp_path):
    write_image(tmp_path / "photo.npy", torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0)))
    kept = np.zeros((12, 16), dtype=np.float32)
    kept[::2] = 1
    np.save(tmp_path / "mask.npy", kept)
    return tmp_path
