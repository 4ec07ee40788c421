"""Weights from anywhere as a Denoiser: a file or a diffusers folder is recognised, checked, loaded and put to the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.io.files import write_bytes
from invsolve.priors.base import Denoiser
from invsolve.priors.convert import as_denoiser
from invsolve.schedule import DiscreteVP
from invsolve_weights.cards import has_card
from invsolve_weights.containers import Stored, open_weights
from invsolve_weights.conventions import overruled
from invsolve_weights.formats import Convention, Recognised, recognise, reorder_qkv
from invsolve_weights.selftest import SelfTest, self_test
from invsolve_weights.skeletons import skeleton
from invsolve_weights.tables import read_table


@dataclass(frozen=True)
class Inspected:
    """A weight file, recognised: the file, its format, the convention it is taken for, and what was said beside."""

    stored: Stored
    found: Recognised
    convention: Convention
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of values."""
        return sum(torch.Size(shape).numel() for shape in self.stored.shapes.values())


def inspect_weights(
    path: str | Path,
    *,
    kind: str | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002 (the field's word)
    schedule: str | None = None,
    sigma_range: tuple[float, float] | None = None,
    arguments: dict[str, Any] | None = None,
) -> Inspected:
    """Recognise a file without making a network: its format by keys and shapes, its convention from its card or the format's usual one.

    Args:
        path: the file, or the folder of a diffusers network.
        kind, range, schedule, sigma_range: what overrules the format's usual convention; see Convention.
        arguments: of the network's class, where the file cannot tell its sizes; of `score_sde`.

    Raises:
        InputError: see `open_weights` and `recognise`; a convention that does not exist.
    """
    given = {"kind": kind, "range": range, "schedule": schedule, "sigma_range": sigma_range}
    if Path(path).is_dir():
        from invsolve_weights.folders import inspect_folder

        return inspect_folder(Path(path), given, arguments)
    if arguments is not None and not isinstance(arguments, dict):
        raise InputError(f'arguments must be a table such as {{"img_resolution": 64}}; given {arguments!r:.100}')
    stored = open_weights(path)
    said, known = card_of(stored)
    stored, found = recognised(stored)
    known |= arguments or {}
    if known or arguments is not None:
        found = with_arguments(found, known)
    if stored.note:
        found = replace(found, notes=(stored.note, *found.notes))
    try:
        told = overruled(found.convention, said)
    except InputError as error:
        raise InputError(f"{stored.path.with_suffix('.json')}: {error}") from None
    return Inspected(stored, found, overruled(told, {key: value for key, value in given.items() if value is not None}), known)


def recognised(stored: Stored) -> tuple[Stored, Recognised]:
    """The format of a file; prefixes that all its keys share (of wrappers around the network) are taken off until one is known.

    Raises:
        InputError: of no known format, or with some keys of one only.
    """
    first: InputError | None = None
    while True:
        try:
            return stored, recognise(stored.shapes)
        except InputError as error:
            first = first or InputError(f"{stored.path}: {error}")
        except (KeyError, IndexError, ValueError, TypeError) as error:
            text = f"{stored.path}: some keys of a known format ({type(error).__name__}: {error}); the file is not whole"
            raise InputError(text) from error
        shorter = stored.without_prefix()
        if shorter is None:
            raise first
        stored = shorter


def with_arguments(found: Recognised, arguments: dict[str, Any]) -> Recognised:
    """The format with what its file cannot tell."""
    if "again" in found.extra:
        try:
            return found.extra["again"](**arguments)
        except TypeError as error:
            raise InputError(f"{found.format}: {error!s:.200}; its arguments are {', '.join(found.extra['arguments'])}") from None
    model = found.extra.get("model")
    if model is None:
        raise InputError(f"{found.format}: its sizes are in the file; arguments are for ADMUNet, NCSN++ and score_sde's networks")
    import deepinv

    return replace(found, build=lambda: getattr(deepinv.models, model)(pretrained=None, **arguments))


def card_of(stored: Stored) -> tuple[dict[str, Any], dict[str, Any]]:
    """The convention and the arguments in the card that `convert` wrote beside a file; empty without one.

    Raises:
        InputError: a damaged card, or one of another file.
    """
    path = stored.path.with_suffix(".json")
    if not path.exists():
        return {}, {}
    try:
        card = read_table(path)
    except InputError as error:
        raise InputError(f"{error}; as {stored.path.name}'s card it must be readable: remove it, or convert the weights again") from error
    if "convention" not in card:
        return {}, {}
    if card.get("sha256") != stored.sha256():
        raise InputError(
            f"{stored.path}: not the file its card {path.name} describes (sha256 differs); convert it again, or remove the card"
        )
    if not isinstance(card["convention"], dict):
        raise InputError(f"{path}: its convention must be a table; given {card['convention']!r:.100}")
    arguments = card.get("arguments", {})
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: its arguments must be a table")
    return dict(card["convention"]), arguments


@torch.inference_mode(False)  # weights that were read in inference mode could never take part in autograd
def network_of(one: Inspected, qkv: str = "old") -> nn.Module:
    """The network with the file's weights: shapes are compared on the meta device before data are read.

    Raises:
        InputError: a format that cannot be loaded from this file alone, or shapes that are not the network's.
    """
    found, stored = one.found, one.stored
    if found.missing:
        raise InputError(f"{stored.path}: recognised as {found.format}, but {found.missing}")
    try:
        network = skeleton(found.build, len(stored.shapes))
    except Exception as error:
        raise InputError(f"{stored.path}: {found.format} cannot be built ({error!s:.300}); {'; '.join(found.notes)}") from error
    wanted = {key: tuple(value.shape) for key, value in network.named_parameters()}
    shapes = {key: tuple(value.shape) for key, value in found.rename(outline(stored)).items()}
    missing = sorted(wanted.keys() - shapes.keys())
    extra = sorted(shapes.keys() - network.state_dict().keys())
    wrong = [key for key in wanted.keys() & shapes.keys() if wanted[key] != shapes[key]]
    if missing or extra or wrong:
        shown = f"missing {missing[:2] or 'none'}, unknown {extra[:2] or 'none'}"
        shown += "".join(f", {key} is {shapes[key]} in place of {wanted[key]}" for key in sorted(wrong)[:2])
        raise InputError(f"{stored.path}: recognised as {found.format}, but not its shapes: {shown}. {' '.join(found.notes)}")
    try:
        state = {key: value.float() for key, value in found.rename(stored.load()).items()}
    except Exception as error:
        raise InputError(f"{stored.path}: cannot be read ({type(error).__name__}: {error}); copy the file again") from error
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError(f"{stored.path}: {bad[0]} has NaN or infinite values; take an earlier checkpoint")
    network.load_state_dict(reorder_qkv(state) if qkv == "new" else state, strict=False, assign=True)
    for module in network.modules():  # tables that no file holds must not stay on the meta device
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.zeros_like(buffer, device="cpu")
    return found.wrap(network.eval().requires_grad_(False)).eval()


def outline(stored: Stored) -> dict[str, Tensor]:
    """The file's tensors without their data."""
    return {key: torch.empty(shape, device="meta") for key, shape in stored.shapes.items()}


def maker(net: nn.Module, channels: int, **options: Any) -> Callable[[Convention], Denoiser]:
    """The denoiser of a convention."""

    def make(convention: Convention) -> Denoiser:
        law = convention.schedule
        schedule = None if law == "none" else DiscreteVP(convention.steps, *convention.betas, law=law)
        ends = {} if convention.sigma_range is None else {"sigma_range": convention.sigma_range}
        width = convention.range[1] - convention.range[0]
        return as_denoiser(
            net,
            convention.kind,
            range=convention.range,
            schedule=schedule,
            clip=convention.range,
            s0=0.25 * width,
            channels=channels,
            blind=convention.blind,
            **ends,
            **options,
        )

    return make


def load_weights(
    path: str | Path,
    *,
    kind: str | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002 (the field's word)
    schedule: str | None = None,
    sigma_range: tuple[float, float] | None = None,
    arguments: dict[str, Any] | None = None,
    qkv: str = "old",
    check: bool = True,
    precision: str = "float32",
    channels_last: bool = False,
) -> Denoiser:
    """A weight file or a diffusers folder as a Denoiser on [0, 1] images; networks of a schedule become a DiffusionPrior.

    Args:
        path: a file of `containers.SUFFIXES`, or a folder of a diffusers UNet2DModel with its scheduler.
        kind: "x0", "eps" or "v"; None: what the format (or the file's card, or the folder's scheduler) says.
        range: of the network's images, such as (-1, 1).
        schedule: "linear", "scaled-linear" or "cosine" for networks called with one of 1000 times, "none" for those called with sigma.
        sigma_range: noise levels it is good for, in the network's own units.
        arguments: of the network's class, where the file cannot tell its sizes; for score_sde's networks what `score_sde` takes.
        qkv: "new" for guided-diffusion networks made with use_new_attention_order.
        check: whether the network is put to the test on a smooth picture (five calls).
        precision, channels_last: see NetworkDenoiser.

    Raises:
        InputError: a file that cannot be read or recognised, or a network that does not do what is said of it; the convention
            that fits is named.
    """
    if qkv not in ("old", "new"):
        raise InputError(f'qkv must be "old" or "new"; given {qkv!r}')
    one = inspect_weights(path, kind=kind, range=range, schedule=schedule, sigma_range=sigma_range, arguments=arguments)
    net, digest = network_of(one, qkv), one.stored.sha256()
    make = maker(net, one.found.channels, precision=precision, channels_last=channels_last)
    if check:
        result = self_test(make, one.convention, one.found.channels)
        if not result.passed:
            raise InputError(
                f"{path} ({one.found.format}) {result.text(one.convention)}. Say what it is, or check=False to take it as it is"
            )
    denoiser = make(one.convention)
    vars(denoiser)["weights_sha256"] = digest
    return denoiser


def try_weights(one: Inspected) -> SelfTest:
    """The self-test of an inspected file."""
    return self_test(maker(network_of(one), one.found.channels), one.convention, one.found.channels)


def convert(path: str | Path, out: str | Path, *, dtype: str = "float32", **options: Any) -> Path:
    """Write a file's weights as safetensors, with a card beside it that says the convention; returns its path.

    Args:
        path: the file.
        out: ends in .safetensors.
        dtype: "float32", "float16" or "bfloat16".
        options: those of `inspect_weights`.

    Raises:
        InputError: see `inspect_weights`; another suffix, a name that is taken, or weights that do not fit the type.
    """
    import safetensors.torch

    out = Path(out)
    taken = next((str(place) for place in (out, out.with_suffix(".json")) if os.path.lexists(place)), None)
    if out.suffix != ".safetensors" or taken or not out.parent.is_dir():
        why = f"{taken} is there already" if taken else f"folder {out.parent}, suffix {out.suffix!r}"
        raise InputError(f"{out}: give a new name that ends in .safetensors, in a folder that exists ({why})")
    if dtype not in ("float32", "float16", "bfloat16"):
        raise InputError(f"dtype must be float32, float16 or bfloat16; given {dtype!r}")
    if Path(path).is_dir() or has_card(Path(path)):
        raise InputError(f"{path}: says itself what it is, in the JSON with it, and is loaded as it is; nothing is to be converted")
    one = inspect_weights(path, **options)
    kept: dict[str, Tensor] = {key: value.to(getattr(torch, dtype)).clone().contiguous() for key, value in one.stored.load().items()}
    if not all(bool(torch.isfinite(value).all()) for value in kept.values()):
        raise InputError(f"{path}: weights that are not finite in {dtype}; take bfloat16 or float32")
    write_bytes(out, safetensors.torch.save(kept))
    card = {
        "format": one.found.format,
        "convention": asdict(one.convention),
        "arguments": one.arguments,
        "sha256": open_weights(out).sha256(),
        "source": {"file": Path(path).name, "sha256": one.stored.sha256()},
    }
    write_bytes(out.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    return out
