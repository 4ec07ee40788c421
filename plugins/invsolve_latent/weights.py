"""Weight files of autoencoders: NAME.safetensors beside NAME.json, as those of priors are, with a card of their own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from invsolve_weights.cards import DTYPES, check_header, read_file, read_header
from invsolve_weights.places import file_of
from invsolve_weights.skeletons import skeleton
from invsolve_weights.tables import is_count, is_number, read_table
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.io.files import write_bytes
from invsolve.plugins import is_path
from invsolve.training.autoencoder import ceiling_psnr
from invsolve.training.autoencoder_config import AutoencoderConfig
from invsolve.training.loop import first_line
from invsolve_latent.networks import Autoencoder


@dataclass(frozen=True)
class AutoencoderCard:
    """What is known about an autoencoder's weight file.

    Args:
        name: the file's name.
        autoencoder: its constructor's arguments.
        dtype: storage type of the tensors.
        sha256, size: of the safetensors file; size in bytes.
        parameters: number of weights.
        data, licence: what it was trained on, and the terms the weights come under.
        training: steps, images, hours and the rest of the recipe.
        ceiling: mean PSNR in dB of D(E(x)) on the validation images.
        reproduce: the command that trains it.
        weaknesses: what it is known to do badly.
    """

    name: str
    autoencoder: dict[str, int]
    dtype: str
    sha256: str
    size: int
    parameters: int
    data: str = ""
    licence: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    ceiling: float | None = None
    reproduce: str = ""
    weaknesses: list[str] = field(default_factory=list)


def read_autoencoder_card(path: Path) -> AutoencoderCard:
    """The card beside a weight file.

    Raises:
        InputError: no such card, or fields that are missing, unknown or of another kind.
    """
    path = path.with_suffix(".json")
    content = read_table(path)
    if "autoencoder" not in content:
        raise InputError(f"{path}: not the card of an autoencoder; those of priors are read by load_prior")
    try:
        card = AutoencoderCard(**content)
    except TypeError as error:
        raise InputError(f"{path}: not the card of an autoencoder ({error!s:.200})") from error
    sizes = isinstance(card.autoencoder, dict) and all(is_count(value, 0, 65_536) for value in card.autoencoder.values())
    kinds = isinstance(card.name, str) and isinstance(card.sha256, str) and (card.ceiling is None or is_number(card.ceiling))
    if not (sizes and kinds and card.dtype in DTYPES and is_count(card.size, 0, 1 << 62)):
        given = f"{card.autoencoder!r:.80}, {card.dtype!r:.20}, {card.size!r:.20}"
        raise InputError(f"{path}: whole numbers as arguments and size, and dtype in {sorted(DTYPES)}, are needed; given {given}")
    return card


@torch.inference_mode(False)  # weights that were read in inference mode could never take part in autograd
def load_autoencoder(name: str | Path) -> tuple[Autoencoder, AutoencoderCard]:
    """An autoencoder in eval mode with frozen weights, and its card; the tensors as float32.

    Args:
        name: of a file in the folders of weights (see `invsolve_weights.places`), or the path of a .safetensors file.

    Raises:
        InputError: no such file, no card of an autoencoder beside it, or a file that does not fit its card.
    """
    path = Path(name) if is_path(str(name)) else file_of(str(name))
    card = read_autoencoder_card(path)
    described: Any = card  # it has the size and the sha256
    data = read_file(path, described)
    header = read_header(data, path)
    try:
        network = skeleton(lambda: Autoencoder(**card.autoencoder), len(header))
    except Exception as error:  # whatever arguments bring about in a constructor
        raise InputError(f"{path}: no autoencoder is made with {card.autoencoder!s:.200} ({first_line(error)})") from error
    check_header(header, network, card.dtype, path)
    try:
        state = {key: value.float() for key, value in safetensors.torch.load(data).items()}
    except Exception as error:
        raise InputError(f"{path}: safetensors refuses it: {error}") from error
    network.load_state_dict(state, assign=True)
    frozen: Any = network.eval().requires_grad_(False)
    return frozen, card


def export_autoencoder(run: Path, config: AutoencoderConfig, folder: Path | None = None, images: Tensor | None = None) -> list[Path]:
    """Write NAME.safetensors in float16 and its card; returns their paths.

    Args:
        run: folder of the run.
        config: its config.
        folder: where the files go; the run's own by default.
        images: the ceiling is measured on these.

    Raises:
        InputError: no readable checkpoint, or weights that are not finite in float16.
    """
    file = (folder or run) / f"{config.name}.safetensors"
    try:
        state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(f"{run}: no readable checkpoint ({error})") from error
    stored = {key: value.half().contiguous() for key, value in state["ema"].items()}
    if not all(bool(torch.isfinite(value).all()) for value in stored.values()):
        raise InputError(f"{run}: its averaged weights are not finite in float16; train again from an earlier checkpoint")
    content = safetensors.torch.save(stored)
    run_of, arguments = config.run, json.loads(json.dumps(config.network.arguments))
    card = AutoencoderCard(
        name=config.name,
        autoencoder=arguments,
        dtype="F16",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        parameters=sum(value.numel() for value in stored.values()),
        data=config.card.data or ", ".join(source.label for source in config.data.source),
        licence=config.card.licence,
        training={
            "steps": state["step"],
            "images": state["step"] * run_of.batch * len(state["streams"]),
            "hours": round(state["seconds"] / 3600, 3),
            "batch": run_of.batch,
            "patch": config.data.side,
            "rate": run_of.lr,
            "loss": round(state["loss"], 5),
            **config.objective.model_dump(),
        },
        ceiling=None if images is None else round(ceiling_psnr(of_state(arguments, stored), images), 3),
        reproduce=config.card.reproduce or f"invsolve train {config.name}.toml --data DATA",
        weaknesses=list(config.card.weaknesses),
    )
    write_bytes(file, content)
    write_bytes(file.with_suffix(".json"), (json.dumps(asdict(card), indent=2) + "\n").encode())
    return [file, file.with_suffix(".json")]


def of_state(arguments: dict[str, int], state: dict[str, Tensor]) -> nn.Module:
    """The autoencoder with these weights, as float32, in eval mode."""
    network = Autoencoder(**arguments)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.eval()
