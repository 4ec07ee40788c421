"""Make a shipped prior from a training folder: `python -m invsolve_deepinv.export natural --run RUN --data DATA --table`.

Writes `weights/NAME.safetensors` (16 bit above 2.5 M parameters) and the model card `weights/NAME.json` from the averaged
weights of the last checkpoint; `--table` measures PSNR and puts it into the card, `--psnr FILE` takes a table written by
`invsolve_deepinv.evaluate --json` instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.training.loop import Recipe, psnr_at
from invsolve_deepinv.evaluate import evaluate
from invsolve_deepinv.networks import NETWORKS
from invsolve_deepinv.train import RECIPES, validation_images
from invsolve_deepinv.weights import FOLDER, Card, read_card

SIZE_LIMIT = 10_000_000
LEVELS = (15, 25, 50)
DATA = (
    "BSDS500 train and test (398 photographs; never val) at scales 1, 3/4, 1/2, three quarters of the patches; "
    "7,864 Tiny-ImageNet photographs of 64 x 64 pixels, one quarter"
)
LICENCE = "trained on images for non-commercial research (BSDS500, ImageNet); use the weights under the same terms"
WEAKNESSES = {
    "natural": [
        "a first version: 3.2 M weights, hours on two CPU cores; published networks of ten times the size are ahead",
        "no attention and a small receptive field: samples drawn from noise show colour and texture, no objects",
        "grey images go through the colour network with chroma noise added (channels=1): about 1.4 dB behind a grey network of the field",
    ],
    "dncnn": [
        "12 layers see 25 x 25 pixels only: behind deeper networks above sigma 0.1",
        "good for sigma up to 0.24: a schedule that starts higher is refused",
    ],
}


def storage(state: dict[str, Tensor]) -> tuple[torch.dtype, str]:
    """Type of storage: float32 for small networks; above 2.5 M weights float16, or bfloat16 where float16 would overflow."""
    count = sum(value.numel() for value in state.values())
    if count <= 2_500_000:
        return torch.float32, "F32"
    largest = max(float(value.abs().max()) for value in state.values())
    return (torch.float16, "F16") if largest < 6e4 else (torch.bfloat16, "BF16")


def write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    partial = path.with_suffix(path.suffix + ".tmp")
    partial.write_bytes(data)
    os.replace(partial, path)


def training_of(state: dict[str, Any], recipe: Recipe, side: int) -> dict[str, Any]:
    """What the card says about the run."""
    return {
        "steps": state["step"],
        "images": state["step"] * recipe.batch,
        "hours": round(state["seconds"] / 3600, 3),
        "batch": recipe.batch,
        "patch": side,
        "loss": round(state["loss"], 5),
        "sigmas": str(recipe.sigmas),
        "rate": recipe.lr,
        "average_images": recipe.ema_images,
        "bfloat16": recipe.bf16,
        "seed": recipe.seed,
    }


def rounding(name: str, full: dict[str, Tensor], stored: dict[str, Tensor], data: Path | None) -> dict[str, Any]:
    """Largest change of a weight and, with data, the change of PSNR in dB at the three levels."""
    report: dict[str, Any] = {
        "largest_change": max(float((full[key] - stored[key].float()).abs().max()) for key in full),
        "largest_weight": max(float(value.abs().max()) for value in full.values()),
    }
    if data is not None:
        network, options, _, _ = RECIPES[name]
        net = NETWORKS[network](**options).eval()
        images = validation_images(data / "dev" / "bsds500_val32")
        values = []
        for state in (full, {key: value.float() for key, value in stored.items()}):
            net.load_state_dict(state)
            values.append([psnr_at(net, images, level / 255, bf16=False) for level in LEVELS])
        report["psnr_change_db"] = {str(level): round(new - old, 5) for level, old, new in zip(LEVELS, *values, strict=True)}
    return report


def export(name: str, run: Path, folder: Path = FOLDER, data: Path | None = None) -> Card:
    """Write the weight file and the card of a training run; returns the card.

    Raises:
        InputError: weights that are not finite, or a file of more than 10 MB.
    """
    network, options, side, recipe = RECIPES[name]
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    full = {key: value.float().contiguous() for key, value in state["ema"].items()}
    if not all(bool(torch.isfinite(value).all()) for value in full.values()):
        raise InputError(f"{run}: its averaged weights are not finite; train again from an earlier checkpoint")
    dtype, short = storage(full)
    stored = {key: value.to(dtype) for key, value in full.items()}
    content = safetensors.torch.save(stored)
    if len(content) > SIZE_LIMIT:
        raise InputError(f"{name}: {len(content)} bytes, allowed are {SIZE_LIMIT}")
    card = Card(
        name=name,
        network=network,
        arguments=json.loads(json.dumps(options)),
        sigma_range=(recipe.sigmas.low, recipe.sigmas.high),
        s0=recipe.s0,
        clip=(0.0, 1.0),
        dtype=short,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        parameters=sum(value.numel() for value in full.values()),
        data=DATA,
        licence=LICENCE,
        training=training_of(state, recipe, side),
        reproduce=f"python -m invsolve_deepinv.train {name} --data DATA --out RUN; "
        f"python -m invsolve_deepinv.export {name} --run RUN --data DATA --table",
        storage=rounding(name, full, stored, data),
        weaknesses=WEAKNESSES.get(name, []),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.safetensors", content)
    write(folder / f"{name}.json", card.text().encode())
    return card


def add_table(name: str, measured: dict[str, Any], folder: Path = FOLDER) -> Card:
    """Put a measured PSNR table into the card.

    Raises:
        InputError: the table was measured with other weights.
    """
    path = folder / f"{name}.json"
    card = read_card(path)
    if measured.get("weights_sha256") != card.sha256:
        raise InputError(
            f"the table was measured with weights {measured.get('weights_sha256')}, the card has {card.sha256}; run evaluate again"
        )
    card = replace(card, psnr=measured)
    write(path, card.text().encode())
    return card


def main() -> None:
    """Read the arguments and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", choices=sorted(RECIPES))
    parser.add_argument("--run", type=Path, help="training folder with checkpoint.pt")
    parser.add_argument("--data", type=Path, help="folder with dev/bsds500_val32: measures what the rounding costs")
    parser.add_argument("--table", action="store_true", help="measure PSNR on the whole set beside the published networks (minutes)")
    parser.add_argument("--psnr", type=Path, help="table of invsolve_deepinv.evaluate --json, for the card")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the two files go")
    arguments = parser.parse_args()
    name, folder = arguments.prior, arguments.folder
    if arguments.run is None and arguments.psnr is None and not arguments.table:
        parser.error("give --run, --psnr or --table")
    if arguments.table and arguments.data is None:
        parser.error("--table needs --data")
    if arguments.run is not None:
        export(name, arguments.run, folder, arguments.data)
    if arguments.table:
        add_table(name, evaluate(name, arguments.data, peers=True, weights=str(folder / f"{name}.safetensors")), folder)
    if arguments.psnr is not None:
        add_table(name, json.loads(arguments.psnr.read_text()), folder)
    print(read_card(folder / f"{name}.json").text())


if __name__ == "__main__":
    main()
