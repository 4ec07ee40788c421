"""Weight files: `NAME.safetensors` beside its model card `NAME.json`, read offline and checked before they are used.

Order of the checks: the header's size (capped), the file's size and sha256 against the card, then the keys, shapes and dtypes
in the header against a freshly built network; only then are tensors made. safetensors holds no code; no pickle is read here.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve_deepinv.networks import NETWORKS
from invsolve_deepinv.places import file_of

HEADER_LIMIT = 1 << 20
FILE_LIMIT = 64 << 20
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Card:
    """What is known about a weight file.

    Args:
        name: the prior's name.
        network: a key of `networks.NETWORKS`; `arguments` are its constructor's.
        sigma_range: noise levels it was trained on, in [0, 1] units.
        s0: standard deviation of the data about their mean level.
        clip: interval of its images.
        dtype: storage type of the tensors: F32, F16 or BF16.
        sha256, size: of the safetensors file; size in bytes.
        parameters: number of weights.
        data, licence: what it was trained on, and the terms the weights come under.
        training: steps, images, hours, patch side, batch and the rest of the recipe.
        reproduce: the command that trains it.
        storage: what rounding to `dtype` costs.
        psnr, tiles, samples: measured accuracy, what cutting images into tiles costs, and statistics of samples; see `evaluate.py`.
        tried: what else was trained, and how it compared.
        promise: (sigma, part of the noise that is left) on the smooth picture of `selftest.py`, measured when the file was made;
            empty where the network denoises that picture as any denoiser would.
        weaknesses: what it is known to do badly.
    """

    name: str
    network: str
    arguments: dict[str, Any]
    sigma_range: tuple[float, float]
    s0: float
    clip: tuple[float, float]
    dtype: str
    sha256: str
    size: int
    parameters: int
    data: str = ""
    licence: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    reproduce: str = ""
    storage: dict[str, Any] = field(default_factory=dict)
    psnr: dict[str, Any] = field(default_factory=dict)
    tiles: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    promise: list[tuple[float, float]] = field(default_factory=list)
    weaknesses: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The card as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_card(path: Path) -> Card:
    """The card of a weight file (the path of either).

    Raises:
        InputError: no such card, not JSON, or fields missing, unknown or out of range.
    """
    path = path.with_suffix(".json")
    try:
        if path.stat().st_size > HEADER_LIMIT:
            raise InputError(f"{path}: a model card of more than {HEADER_LIMIT} bytes is refused")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no readable model card ({error}); weights come as NAME.safetensors with NAME.json beside it") from error
    known = {one.name for one in fields(Card)}
    given = set(content) if isinstance(content, dict) else set()
    try:
        card = Card(**content)
        low, high = (float(end) for end in card.sigma_range)
        below, above = (float(end) for end in card.clip)
        card = Card(**{**content, "sigma_range": (low, high), "clip": (below, above)})
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not a model card ({error}); unknown fields: {sorted(given - known) or 'none'}") from error
    if card.network not in NETWORKS or card.dtype not in DTYPES or not 0 < low < high or not below < above or not card.s0 > 0:
        raise InputError(
            f"{path}: need network in {sorted(NETWORKS)}, dtype in {sorted(DTYPES)}, 0 < sigma_range[0] < sigma_range[1], "
            f"clip[0] < clip[1], s0 > 0; given {card.network!r}, {card.dtype!r}, {card.sigma_range}, {card.clip}, {card.s0}"
        )
    return card


def is_shipped(name: str | Path) -> bool:
    """Whether a name is a shipped prior's, or a path that of a file with a card of ours beside it."""
    if not str(name).endswith(".safetensors"):
        return file_of(str(name)).with_suffix(".json").is_file()
    card = Path(name).with_suffix(".json")
    try:
        return card.stat().st_size <= HEADER_LIMIT and "network" in json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def skeleton(card: Card) -> nn.Module:
    """The card's network on the meta device: shapes without memory, and without a draw from any random generator."""
    try:
        with torch.device("meta"):
            return NETWORKS[card.network](**card.arguments)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"model card '{card.name}': network '{card.network}' cannot be built with {card.arguments}: {error}") from error


def read_header(data: bytes, path: Path) -> dict[str, Any]:
    """The header of a safetensors file: key -> dtype, shape, data_offsets.

    Raises:
        InputError: truncated, larger than the cap, or not JSON.
    """
    size = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= size <= HEADER_LIMIT:
        raise InputError(f"{path}: its header claims {size} bytes, allowed are 2 to {HEADER_LIMIT}; not a safetensors file of ours")
    if len(data) < 8 + size:
        raise InputError(f"{path}: truncated, {len(data)} bytes with a header of {size}; copy the file again")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is not JSON ({error})") from error
    if not isinstance(header, dict) or not all(isinstance(value, dict) for value in header.values()):
        raise InputError(f"{path}: its header is not a table of tensors")
    return {key: value for key, value in header.items() if key != "__metadata__"}


def check_header(header: dict[str, Any], network: nn.Module, dtype: str, path: Path) -> None:
    """Raise InputError unless the header lists exactly the network's tensors, in shape and dtype."""
    wanted = {key: list(value.shape) for key, value in network.state_dict().items()}
    missing, extra = sorted(wanted.keys() - header.keys()), sorted(header.keys() - wanted.keys())
    if missing or extra:
        raise InputError(f"{path}: not this network's weights: missing {missing[:3] or 'none'}, unknown {extra[:3] or 'none'}")
    for key, shape in wanted.items():
        found = header[key]
        if found.get("shape") != shape or found.get("dtype") != dtype:
            raise InputError(f"{path}: {key} is {found.get('dtype')} {found.get('shape')}, the network needs {dtype} {shape}")


def read_tensors(path: Path, card: Card, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a weight file as float32, after all checks.

    Raises:
        InputError: the file is missing, is not the one the card describes, or does not fit the network.
    """
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise InputError(f"{path}: {path.stat().st_size} bytes, more than the {FILE_LIMIT} that are read")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    header = read_header(data, path)
    if len(data) != card.size or found != card.sha256:
        raise InputError(
            f"{path}: {len(data)} bytes with sha256 {found}, its card says {card.size} bytes with {card.sha256}; "
            "the file was changed or damaged: install it again, or export it anew with its card"
        )
    check_header(header, network, card.dtype, path)
    try:
        return {key: value.float() for key, value in safetensors.torch.load(data).items()}
    except Exception as error:
        raise InputError(f"{path}: safetensors refuses it: {error}") from error


def load_network(name: str | Path) -> tuple[nn.Module, Card]:
    """A network in eval mode with frozen weights, and its card.

    Args:
        name: a shipped prior's name, or the path of a .safetensors file that has its card beside it.

    Raises:
        InputError: see `read_card` and `read_tensors`.
    """
    path = Path(name) if str(name).endswith(".safetensors") else file_of(str(name))
    card = read_card(path)
    network = skeleton(card)
    network.load_state_dict(read_tensors(path, card, network), assign=True)
    return network.eval().requires_grad_(False), card
