"""Networks and files that the tests of priors and of weight files share."""

import deepinv
import torch
from safetensors.torch import save_file

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Conv2d(3, 3, 3, padding=1)


def weight_file(path, build):
    torch.manual_seed(0)
    save_file({key: value.detach().clone().contiguous() for key, value in build().state_dict().items()}, path)
    return path


def drunet():
    return deepinv.models.DRUNet(3, 3, nc=(8, 8, 16, 16), nb=2, pretrained=None)
