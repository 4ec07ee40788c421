"""Folders that diffusers wrote: a UNet2DModel with its scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve_weights.containers import open_weights
from invsolve_weights.conventions import STEPS_LIMIT, overruled
from invsolve_weights.formats import Convention, Recognised
from invsolve_weights.networks import Padded
from invsolve_weights.own import Inspected
from invsolve_weights.tables import is_count, is_number, read_table

KINDS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
LAWS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
USUAL = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
WIDTHS = (224, 448, 672, 896)  # diffusers' own where the config has none
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class Sample(nn.Module):
    """A UNet2DModel called with (x, t), its output taken out of its wrapper."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network predicts."""
        return self.net(x, t).sample


def inspect_folder(folder: Path, said: dict[str, Any], arguments: dict[str, Any] | None = None) -> Inspected:
    """A folder, recognised by its two settings files and its weights' shapes.

    Args:
        folder: with config.json and the weights, or with these in unet/.
        said: what overrules the scheduler's convention, None for what does not; see Convention.
        arguments: none are taken: the sizes are in config.json.

    Raises:
        InputError: no such folder, another class or noise schedule, settings of the wrong kind, arguments.
    """
    if arguments is not None:
        raise InputError(f"{folder}: a diffusers network is made as its config.json says; it takes no arguments, given {arguments!r:.100}")
    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    try:
        config, schedule = read_table(inner / "config.json"), read_table(scheduler_file(folder))
    except InputError as error:
        raise InputError(f"{error}; a diffusers folder has one for the network and one for its scheduler") from error
    if config.get("_class_name") != "UNet2DModel":
        raise InputError(f"{inner}: class {config.get('_class_name')!r:.80}; unconditional networks (UNet2DModel) are read")
    check_sizes(inner, config)
    law = LAWS.get(str(schedule.get("beta_schedule", "linear")))
    steps, low, high = (schedule.get(key, usual) for key, usual in USUAL.items())
    numbers = is_count(steps, 2, STEPS_LIMIT) and is_number(low) and is_number(high) and 0 < low <= high < 1
    if law is None or not numbers or schedule.get("trained_betas") is not None or schedule.get("rescale_betas_zero_snr"):
        told = {key: schedule[key] for key in ("beta_schedule", "trained_betas", "rescale_betas_zero_snr", *USUAL) if schedule.get(key)}
        raise InputError(
            f"{folder}: schedule {told!s:.200}; read are {', '.join(LAWS)}. Pass the network to as_denoiser with a schedule of its own"
        )
    predicts = KINDS.get(str(schedule.get("prediction_type", "epsilon")))
    if predicts is None:
        raise InputError(f"{folder}: prediction_type {schedule['prediction_type']!r:.80}; known are {', '.join(KINDS)}")
    file = next((inner / name for name in FILES if (inner / name).is_file()), None)
    if file is None:
        raise InputError(f"{inner}: none of {', '.join(FILES)} is there")
    stated = Convention(predicts, (-1.0, 1.0), law, None, steps=steps, betas=(low, high))
    convention = overruled(stated, {key: value for key, value in said.items() if value is not None})
    stride = 2 ** (len(config.get("block_out_channels", WIDTHS)) - 1)
    channels = int(config.get("in_channels", 3))
    found = Recognised("diffusers UNet2DModel", convention, channels, lambda: build(config), lambda net: Padded(Sample(net), stride))
    return Inspected(open_weights(file), found, convention)


def build(config: dict[str, Any]) -> nn.Module:
    """The network of a config.

    Raises:
        InputError: diffusers is not installed.
    """
    try:
        import diffusers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("a diffusers folder needs diffusers: pip install 'invsolve[diffusers]'") from error
    model: Any = getattr(diffusers, "UNet2DModel")  # noqa: B009 (a lazy module, whose names type checkers do not see)
    return model.from_config(config)


def check_sizes(inner: Path, config: dict[str, Any]) -> None:
    """Raise InputError unless the sizes in a config are numbers that a network can have."""
    for key, high in (("in_channels", 64), ("out_channels", 64), ("layers_per_block", 64)):
        if not is_count(config.get(key, 1), 1, high):
            raise InputError(f"{inner}: {key} must be a whole number from 1 to {high}; given {config[key]!r:.80}")
    widths = config.get("block_out_channels", WIDTHS)
    if not isinstance(widths, list | tuple) or not 1 <= len(widths) <= 16 or not all(is_count(one, 1, 1 << 16) for one in widths):
        raise InputError(f"{inner}: block_out_channels must be a list of 1 to 16 whole numbers from 1 to {1 << 16}; given {widths!r:.80}")


def scheduler_file(folder: Path) -> Path:
    """Where the scheduler's settings lie."""
    places = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
    return next((place for place in places if place.exists()), places[0])
