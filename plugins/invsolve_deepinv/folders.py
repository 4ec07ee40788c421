"""Folders that diffusers wrote: a UNet2DModel with its scheduler."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve_deepinv.containers import Stored, open_weights
from invsolve_deepinv.denoisers import Padded
from invsolve_deepinv.formats import Convention, Recognised
from invsolve_deepinv.own import Inspected, network_of

KINDS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
LAWS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
USUAL = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class Sample(nn.Module):
    """A UNet2DModel called with (x, t), its output taken out of its wrapper."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network predicts."""
        return self.net(x, t).sample


def settings(path: Path) -> dict[str, Any]:
    """A JSON file of the folder."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); a diffusers folder has one for the network and one for its scheduler"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a table of settings")
    return value


def open_folder(folder: Path, **options: Any) -> tuple[Inspected, nn.Module, str]:
    """The folder's network, what it is, and the sha256 of its weights.

    Raises:
        InputError: no such folder, another class or noise schedule, diffusers not installed, weights that do not fit.
    """
    try:
        import diffusers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("a diffusers folder needs diffusers: pip install 'invsolve[diffusers]'") from error
    model: Any = getattr(diffusers, "UNet2DModel")  # noqa: B009 (a lazy module, whose names type checkers do not see)
    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    config, schedule = settings(inner / "config.json"), settings(scheduler_file(folder))
    if config.get("_class_name") != "UNet2DModel":
        raise InputError(f"{inner}: class {config.get('_class_name')!r}; unconditional networks (UNet2DModel) are read")
    law = LAWS.get(str(schedule.get("beta_schedule", "linear")))
    steps, low, high = (schedule.get(key, usual) for key, usual in USUAL.items())
    numbers = isinstance(steps, int) and 2 <= steps <= 100_000 and all(isinstance(one, float) and 0 < one < 1 for one in (low, high))
    if law is None or not numbers or schedule.get("trained_betas") is not None or schedule.get("rescale_betas_zero_snr"):
        said = {key: schedule[key] for key in ("beta_schedule", "trained_betas", "rescale_betas_zero_snr", *USUAL) if schedule.get(key)}
        raise InputError(
            f"{folder}: schedule {said}; read are {', '.join(LAWS)}. Pass the network to as_denoiser with a schedule of its own"
        )
    predicts = schedule.get("prediction_type", "epsilon")
    if predicts not in KINDS:
        raise InputError(f"{folder}: prediction_type {predicts!r}; known are {', '.join(KINDS)}")
    file = next((inner / name for name in FILES if (inner / name).is_file()), None)
    if file is None:
        raise InputError(f"{inner}: none of {', '.join(FILES)} is there")
    stored: Stored = open_weights(file)
    values = {key: value for key, value in options.items() if value is not None and key != "arguments"}
    convention = replace(Convention(KINDS[predicts], (-1.0, 1.0), law, None, steps=steps, betas=(low, high)), **values)
    stride = 2 ** (len(config.get("block_out_channels", (0,))) - 1)
    found = Recognised(
        "diffusers UNet2DModel",
        convention,
        int(config.get("in_channels", 3)),
        lambda: model.from_config(config),
        lambda net: Padded(Sample(net), stride),
    )
    one = Inspected(stored, found, convention)
    return one, network_of(one), stored.sha256()


def scheduler_file(folder: Path) -> Path:
    """Where the scheduler's settings lie."""
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    return next((place for place in places if place.is_file()), places[0])
