"""PSNR of a prior on photographs it never saw: `python -m invsolve_deepinv.evaluate natural --data FOLDER [--peers]`.

PRIOR is a name or a weight file. Each image of FOLDER/dev/bsds500_val32 (Set12 for grey networks) is taken whole, noise is seeded by
the image's index, results are clamped to [0, 1]:

    PSNR = -10 log10 mean (clamp(D(x0 + sigma n, sigma)) - x0)^2,   sigma = 15, 25, 50 / 255, averaged over images

With --peers the published networks of FOLDER/weights denoise the same pictures: the blind colour DnCNN and the colour FFDNet, or the
three grey DnCNN, one for each level.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.plugins import load_prior
from invsolve.training.data import read_images

LEVELS = (15, 25, 50)
COLOUR, GREY = Path("dev") / "bsds500_val32", Path("dev") / "set12"
GREY_FILES = {15: "dncnn_gray_s15.npz", 25: "dncnn_gray_s25.pth", 50: "dncnn_gray_s50.npz"}
Denoise = Callable[[Tensor, float], Tensor]


def convolutions(path: Path) -> nn.Sequential:
    """A chain of 3x3 convolutions with ReLU between, its widths read from the file: keys model.0.weight, model.2.weight, ..."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            state = {key: torch.from_numpy(content[key]) for key in content.files}
    else:
        state = torch.load(path, weights_only=True)
    weights = [key for key in state if key.endswith(".weight")]
    order = sorted(weights, key=lambda key: int(key.split(".")[1]))
    layers: list[nn.Module] = []
    for key in order:
        out, inside, height, width = state[key].shape
        convolution = nn.Conv2d(inside, out, (height, width), padding=(height // 2, width // 2))
        convolution.weight.data = state[key]
        bias = state.get(key.replace("weight", "bias"))
        convolution.bias = None if bias is None else nn.Parameter(bias)
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


def published_dncnn(path: Path) -> Denoise:
    """The blind colour DnCNN: x - net(x)."""
    net = convolutions(path)
    return lambda x, sigma: x - net(x)


def published_ffdnet(path: Path) -> Denoise:
    """The colour FFDNet: the net sees four half-size pictures and a map of sigma; odd sides are replicated by one pixel."""
    net = convolutions(path)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        height, width = x.shape[-2:]
        small = functional.pixel_unshuffle(functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = torch.full_like(small[:, :1], sigma)
        return functional.pixel_shuffle(net(torch.cat([small, level], dim=1)), 2)[..., :height, :width]

    return denoise


def published_grey(folder: Path) -> Denoise:
    """The three grey DnCNN: x - net(x), the net of the level."""
    nets = {level: convolutions(folder / name) for level, name in GREY_FILES.items()}
    return lambda x, sigma: x - nets[round(255 * sigma)](x)


def pictures(data: Path, count: int | None, grey: bool) -> list[Tensor]:
    """(1, C, H, W) float32 in [0, 1]."""
    images = list(read_images(data / (GREY if grey else COLOUR), "L" if grey else "RGB"))[:count]
    arrays = [np.atleast_3d(np.asarray(image)) for image in images]
    return [torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255 for array in arrays]


@torch.no_grad()
def mean_psnr(denoise: Denoise, images: list[Tensor], level: int) -> float:
    """Mean over images of the PSNR in dB, peak 1."""
    sigma, values = level / 255, []
    for index, image in enumerate(images):
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        error = denoise(image + sigma * noise, sigma).clamp(0, 1) - image
        values.append(float(-10 * error.square().mean().log10()))
    return sum(values) / len(values)


def table(methods: dict[str, Denoise], images: list[Tensor]) -> dict[str, dict[str, float]]:
    """method -> level -> PSNR."""
    return {name: {str(level): round(mean_psnr(denoise, images, level), 3) for level in LEVELS} for name, denoise in methods.items()}


def evaluate(name: str, data: Path, *, images: int | None = None, peers: bool = False, **options: Any) -> dict[str, Any]:
    """The table and what it was measured on and with."""
    prior = load_prior(options.pop("weights", name), **options)
    grey = prior.channels == 1
    methods: dict[str, Denoise] = {name: prior}
    if peers and grey:
        methods["published DnCNN, one per level (17 layers)"] = published_grey(data / "weights")
        methods["natural, grey through colour"] = load_prior("natural", channels=1)
    elif peers:
        methods["published blind DnCNN (20 layers)"] = published_dncnn(data / "weights" / "dncnn_color_blind.pth")
        methods["published FFDNet"] = published_ffdnet(data / "weights" / "ffdnet_color.pth")
    chosen = pictures(data, images, grey)
    place = (GREY if grey else COLOUR).as_posix()
    return {
        "set": f"{place}, {len(chosen)} whole images, noise seed = index, clamped to [0, 1], mean of per-image PSNR in dB",
        "weights_sha256": getattr(prior, "weights_sha256", None),
        "options": options,
        "psnr_db": table(methods, chosen),
    }


def text(result: dict[str, Any]) -> str:
    """The result as a markdown table."""
    lines = [result["set"], "", "| denoiser | " + " | ".join(f"{level}/255" for level in LEVELS) + " |", "|---|" + "---|" * len(LEVELS)]
    for name, row in result["psnr_db"].items():
        lines.append(f"| {name} | " + " | ".join(f"{row[str(level)]:.2f}" for level in LEVELS) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="only the first of them")
    parser.add_argument("--peers", action="store_true", help="the published networks beside it")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--channels", type=int, choices=[1, 3], help="1: grey images through a colour network")
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    options = {"precision": arguments.precision, **({} if arguments.channels is None else {"channels": arguments.channels})}
    result = evaluate(arguments.prior, arguments.data, images=arguments.images, peers=arguments.peers, **options)
    print(text(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
