"""What a prior does on pictures it never saw: `python -m invsolve_priors.evaluate natural --data FOLDER [--peers] [--card]`.

PRIOR is a name or a weight file. Whole images of FOLDER/dev/bsds500_val32 (Set12 for grey networks; digits for mnist, faces for
faces64), noise seeded by the image's index, results clamped to [0, 1]:

    PSNR = -10 log10 mean (clamp(D(x0 + sigma n, sigma)) - x0)^2,   sigma = 15, 25, 50 / 255, averaged over images

With --peers the published networks of FOLDER/weights denoise the same pictures: the blind colour DnCNN and the colour FFDNet, or the
three grey DnCNN, one for each level. With --card what cutting the images into tiles costs and the statistics of samples are measured
too (see invsolve.bench.prior_measures and prior_samples), and all three tables go into the card beside the weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from invsolve_weights.cards import Card, read_card
from invsolve_weights.places import file_of
from torch import Tensor, nn
from torch.nn import functional

from invsolve.bench.prior_measures import MARGIN, measure_tiles
from invsolve.bench.prior_samples import draw_samples, gradient_kurtosis, patches, spectrum_slope
from invsolve.errors import InputError, InvsolveError
from invsolve.io.files import write_bytes
from invsolve.plugins import is_path, load_prior
from invsolve.priors.base import Denoiser
from invsolve.training.data import pixels, read_images

LEVELS = (15, 25, 50)
COLOUR, GREY = "dev/bsds500_val32", "dev/set12"
OWN = {"mnist": "dev/mnist/mnist_test.npz", "faces64": "dev/faces64/dev.zip"}
GREY_FILES = {15: "dncnn_gray_s15.npz", 25: "dncnn_gray_s25.pth", 50: "dncnn_gray_s50.npz"}
Denoise = Callable[[Tensor, float], Tensor]


def convolutions(path: Path) -> nn.Sequential:
    """A chain of 3x3 convolutions with ReLU between, its widths read from the file: keys model.0.weight, model.2.weight, ...

    Raises:
        InputError: no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; the published networks of --peers lie in weights/ of the data folder")
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


def place_of(name: str, grey: bool) -> str:
    """Where a prior's test pictures lie, below the data folder."""
    return OWN.get(name, GREY if grey else COLOUR)


def pictures(source: Path, count: int | None, grey: bool, side: int = 0) -> list[Tensor]:
    """(1, C, H, W) float32 in [0, 1]; smaller ones get black around them up to `side`.

    Raises:
        InputError: a count below 1, or no images there.
    """
    if count is not None and count < 1:
        raise InputError(f"the number of images must be at least 1; given {count}")
    found = (pixels(image, side) for image in itertools.islice(read_images(source, "L" if grey else "RGB"), count))
    chosen = [torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255 for array in found]
    if not chosen:
        raise InputError(f"{source}: no images there")
    return chosen


def denoiser_of(name: str, **options: Any) -> Denoiser:
    """A prior by its name or file.

    Raises:
        InputError: see load_prior; one that does not denoise.
    """
    prior = load_prior(name, **options)
    if not isinstance(prior, Denoiser):
        raise InputError(f"prior '{name}' is no denoiser (a {type(prior).__name__}); what is measured here is how well noise is taken out")
    return prior


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


def evaluate(name: str, data: Path, *, images: int | None = None, peers: bool = False, place: str = "", **options: Any) -> dict[str, Any]:
    """The PSNR table and what it was measured on and with; `place` is another folder of pictures below the data folder.

    Raises:
        InputError: see `denoiser_of`, `pictures` and `convolutions`.
    """
    asked = {key: value for key, value in options.items() if (key, value) != ("precision", "float32")}  # closed forms take none
    prior, name = denoiser_of(name, **asked), Path(name).stem if is_path(name) else name
    grey = prior.channels == 1
    methods: dict[str, Denoise] = {name: prior}
    if peers and grey:
        methods["published DnCNN, one per level (17 layers)"] = published_grey(data / "weights")
        methods["natural, grey through colour"] = load_prior("natural", channels=1)
    elif peers:
        methods["published blind DnCNN (20 layers)"] = published_dncnn(data / "weights" / "dncnn_color_blind.pth")
        methods["published FFDNet"] = published_ffdnet(data / "weights" / "ffdnet_color.pth")
    place = place or place_of(name, grey)
    chosen = pictures(data / place, images, grey, 32 if name == "mnist" else 0)
    return {
        "set": f"{place}, {len(chosen)} whole images, noise seed = index, clamped to [0, 1], mean of per-image PSNR in dB",
        "weights_sha256": getattr(prior, "weights_sha256", None),
        "options": options,
        "psnr_db": table(methods, chosen),
    }


def tile_table(prior: Denoiser, images: list[Tensor], level: int = 25) -> dict[str, Any]:
    """Change of PSNR in dB by cutting into tiles, in all pixels and away from the cuts."""
    found = measure_tiles(prior, images, level / 255)
    rows = {str(one.side): {"all pixels": round(one.whole, 4), f"{MARGIN} or more from a cut": round(one.inside, 4)} for one in found}
    return {"level": level, "change_db": rows}


def sample_table(prior: Denoiser, images: list[Tensor], side: int, count: int = 64) -> dict[str, Any]:
    """Spectrum slope and gradient kurtosis of samples and of as many patches of real images; empty for a plain denoiser."""
    drawn = {one.name: one.images for one in draw_samples(prior, side, count)}
    real = patches(images, side, count)
    if drawn and real is not None:
        drawn["real patches"] = real
    return {
        name: {"spectrum_slope": round(spectrum_slope(those), 3), "gradient_kurtosis": round(gradient_kurtosis(those), 2)}
        for name, those in drawn.items()
    }


def card_file(name: str) -> Path:
    """Where a prior's card is: that of a weight file beside it, that of a shipped prior in the package."""
    return (Path(name) if is_path(name) else file_of(name)).with_suffix(".json")


def add_tables(
    file: Path, weights_sha256: str | None, psnr: dict[str, Any], tiles: dict[str, Any] | None = None, samples: dict[str, Any] | None = None
) -> Card:
    """Put tables into a weight file's card.

    Raises:
        InputError: tables that were measured on other weights.
    """
    card = read_card(file)
    if weights_sha256 != card.sha256:
        raise InputError(f"{file}: the tables were measured on weights with sha256 {weights_sha256}; run evaluate again")
    card = replace(card, psnr=psnr, tiles=tiles or {}, samples=samples or {})
    write_bytes(file.with_suffix(".json"), card.text().encode())
    return card


def fill_card(name: str, data: Path, result: dict[str, Any], images: int | None) -> Card:
    """Measure tiles and samples beside the PSNR table and put all three into the card."""
    prior = denoiser_of(name)
    grey, stem = prior.channels == 1, Path(name).stem
    chosen = pictures(data / place_of(stem, grey), images, grey, 32 if stem == "mnist" else 0)
    large = min(min(image.shape[-2:]) for image in chosen) > 64
    tiles = tile_table(prior, chosen) if large else {}
    samples = sample_table(prior, chosen, 32 if stem == "mnist" else 64)
    return add_tables(card_file(name), result["weights_sha256"], psnr=result, tiles=tiles, samples=samples)


def text(result: dict[str, Any]) -> str:
    """The result as a markdown table."""
    lines = [result["set"], "", "| denoiser | " + " | ".join(f"{level}/255" for level in LEVELS) + " |", "|---|" + "---|" * len(LEVELS)]
    for name, row in result["psnr_db"].items():
        lines.append(f"| {name} | " + " | ".join(f"{row[str(level)]:.2f}" for level in LEVELS) + " |")
    return "\n".join(lines)


def positive(text: str) -> int:
    """A whole number of at least 1 of the command line."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main() -> None:
    """Read the arguments, measure and print; a user's error is one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="", help="another folder of images below --data, such as dev/set14")
    parser.add_argument("--images", type=positive, help="only the first of them")
    parser.add_argument("--peers", action="store_true", help="the published networks beside it")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "auto"])
    parser.add_argument("--channels", type=int, choices=[1, 3], help="1: grey images through a colour network")
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("--card", action="store_true", help="measure tiles and samples too, and write all tables into the card (minutes)")
    parser.add_argument("--threads", type=positive)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.card and (arguments.channels is not None or arguments.precision != "float32" or arguments.set):
        parser.error("--card writes what the weights do by themselves, in float32, on their set; leave --precision, --channels, --set out")
    options = {"precision": arguments.precision, **({} if arguments.channels is None else {"channels": arguments.channels})}
    try:
        report(arguments, options)
    except (InvsolveError, OSError) as error:
        parser.exit(2, f"Error: {error}\n")


def report(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    """Measure, print and write; what can be wrong with the card is looked at before minutes are spent."""
    if arguments.card:
        read_card(card_file(arguments.prior))
    if arguments.json and not arguments.json.parent.is_dir():
        raise InputError(f"{arguments.json}: there is no folder {arguments.json.parent}")
    result = evaluate(arguments.prior, arguments.data, images=arguments.images, peers=arguments.peers, place=arguments.set, **options)
    print(text(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.card:
        card = fill_card(arguments.prior, arguments.data, result, arguments.images)
        print(json.dumps({"tiles": card.tiles, "samples": card.samples}, indent=2))


if __name__ == "__main__":
    main()
