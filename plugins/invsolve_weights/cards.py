"""Weight files: `NAME.safetensors` beside its model card `NAME.json`, read offline and checked before they are used.

Order of the checks: the card's values, the file's size and sha256 against the card, the header's size (capped), then the keys, shapes
and dtypes in the header against a freshly built network; only then are tensors made. safetensors holds no code; no pickle is read here.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from invsolve.errors import InputError
from invsolve.plugins import is_path
from invsolve.priors.base import interval
from invsolve_weights.networks import NETWORKS
from invsolve_weights.places import FOLDER, file_of
from invsolve_weights.skeletons import skeleton as bounded
from invsolve_weights.tables import is_count, is_number, read_table
from invsolve_weights.tone import tone_of

HEADER_LIMIT = 1 << 20
FILE_LIMIT = 1 << 30
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Fields of a card by the kind of their value.
KINDS: dict[type, tuple[str, ...]] = {
    str: ("name", "network", "dtype", "sha256", "data", "licence", "reproduce"),
    dict: ("arguments", "training", "storage", "psnr", "tiles", "samples", "tone"),
    list: ("tried", "promise", "weaknesses"),
}
WORDS = {str: "text", dict: "a table", list: "a list"}


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
        promise: (sigma, part of the noise that is left) on the smooth picture of `selftest.py`, measured when the file was made, of a
            network whose data are unlike it; empty where it denoises that picture as any denoiser would, or does not denoise.
        weaknesses: what it is known to do badly.
        tone: the closed form that answers at large noise, see `tone.Tone`; empty where the network answers everywhere.
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
    tone: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The card as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_card(path: Path) -> Card:
    """The card of a weight file (the path of either).

    Raises:
        InputError: no such card, not JSON, or fields missing, unknown or out of range.
    """
    path = path.with_suffix(".json")
    if path.parent == FOLDER and not path.exists():  # a name, and no folder has it
        pair = f"{path.stem}.safetensors and {path.stem}.json"
        raise InputError(
            f"weights '{path.stem}' are not here (no readable model card): put {pair} into a folder of "
            "INVSOLVE_WEIGHTS, or make them: benchmarks/training has the configs of what the project trains, for invsolve train"
        )
    try:
        content = read_table(path)
    except InputError as error:
        raise InputError(f"{error}; no readable model card: weights come as NAME.safetensors with NAME.json beside it") from error
    known = {one.name for one in fields(Card)}
    try:
        return checked(Card(**content))
    except TypeError as error:
        unknown = f"{sorted(content.keys() - known) or 'none'!s:.200}"
        raise InputError(f"{path}: not a model card ({error!s:.200}); unknown fields: {unknown}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def checked(card: Card) -> Card:
    """A card with its pairs as floats.

    Raises:
        InputError: a value of another kind than the field's, or out of range.
    """
    for kind, names in KINDS.items():
        wrong = next((name for name in names if not isinstance(getattr(card, name), kind)), None)
        if wrong is not None:
            raise InputError(f"{wrong} must be {WORDS[kind]}; given {getattr(card, wrong)!r:.100}")
    if card.network not in NETWORKS or card.dtype not in DTYPES or not is_number(card.s0) or not card.s0 > 0:
        raise InputError(
            f"need network in {sorted(NETWORKS)}, dtype in {sorted(DTYPES)}, a number s0 > 0; "
            f"given {card.network!r:.80}, {card.dtype!r:.80}, {card.s0!r:.80}"
        )
    if not all(is_count(value, 0, 1 << 62) for value in (card.size, card.parameters)):
        raise InputError(f"size and parameters must be whole numbers; given {card.size!r:.80} and {card.parameters!r:.80}")
    for key, value in card.arguments.items():
        if not is_number(value) and not (isinstance(value, list) and all(map(is_number, value))):
            raise InputError(f"arguments of networks are numbers or lists of them; given {key:.80}={value!r:.100}")
    pairs = [pair for pair in card.promise if isinstance(pair, list | tuple) and len(pair) == 2]
    if len(pairs) < len(card.promise) or not all(is_number(one) and one > 0 for pair in pairs for one in pair):
        raise InputError(f"promise must be a list of (sigma, part that is left); given {card.promise!r:.100}")
    channels = card.arguments.get("channels", 3)
    tone_of(card.tone, channels if isinstance(channels, int) else 0)
    sigma_range, clip = interval("sigma_range", card.sigma_range, above=0.0), interval("clip", card.clip)
    return replace(card, sigma_range=sigma_range, clip=clip)


def is_shipped(name: str | Path) -> bool:
    """Whether a name is that of a weight file of ours, in the package or outside it, or a path that of a file with a card of ours."""
    return has_card(Path(name)) if is_path(str(name)) else file_of(str(name)).with_suffix(".json").is_file()


def has_card(path: Path) -> bool:
    """Whether there is a card of ours beside a weight file.

    Raises:
        InputError: JSON of its name that cannot be read.
    """
    card = path.with_suffix(".json") if path.suffix.lower() == ".safetensors" else None
    return card is not None and card.exists() and "network" in read_table(card)


def skeleton(card: Card, tensors: int) -> nn.Module:
    """The card's network on the meta device; see `skeletons.skeleton`."""
    try:
        return bounded(lambda: NETWORKS[card.network](**card.arguments), tensors)
    except Exception as error:  # whatever arguments bring about in a constructor
        given = f"{card.arguments!s:.200}"
        raise InputError(f"model card '{card.name}': network '{card.network}' cannot be built with {given}: {error!s:.200}") from error


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


def read_file(path: Path, card: Card) -> bytes:
    """What is in a weight file.

    Raises:
        InputError: the file is missing, is no regular one, or is not the one the card describes.
    """
    advice = "the file was changed or damaged: install it again, or export it anew with its card"
    try:
        size = path.stat().st_size
        if not path.is_file() or size > FILE_LIMIT:
            raise InputError(f"{path}: not a file of at most {FILE_LIMIT >> 20} MiB")
        if size != card.size:
            raise InputError(f"{path}: {size} bytes, its card says {card.size}; {advice}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise InputError(f"{path}: its sha256 is {found}, its card says {card.sha256:.80}; {advice}")
    return data


@torch.inference_mode(False)  # weights that were read in inference mode could never take part in autograd
def load_network(name: str | Path) -> tuple[nn.Module, Card]:
    """A network in eval mode with frozen weights, and its card; the tensors as float32.

    Args:
        name: a shipped prior's name, or the path of a .safetensors file that has its card beside it.

    Raises:
        InputError: see `read_card` and `read_file`; a file that does not fit the network.
    """
    path = Path(name) if is_path(str(name)) else file_of(str(name))
    card = read_card(path)
    data = read_file(path, card)
    header = read_header(data, path)
    network = skeleton(card, len(header))
    check_header(header, network, card.dtype, path)
    try:
        state = {key: value.float() for key, value in safetensors.torch.load(data).items()}
    except Exception as error:
        raise InputError(f"{path}: safetensors refuses it: {error}") from error
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False), card
