"""Checkpoints of score_sde_pytorch (NCSN++, DDPM++): sizes from keys and shapes, averaged weights, tensors under deepinv's names.

Their keys are all_modules.N.PART, N counting the modules in the order of the forward pass:

    [features of sigma]  dense dense  conv
    per level, down:     [halving block  [1 x 1 convolution, or convolution with a filter]]  (block [attention]) x num_res_blocks
    middle:              block attention block
    per level, up:       [doubling block]  block x (num_res_blocks + 1)  [attention]  [norm conv]

References:
    Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError

if TYPE_CHECKING:
    from invsolve_weights.formats import Recognised
    from invsolve_weights.ncsnpp import Sizes

Shapes = Mapping[str, tuple[int, ...]]
MODULE = re.compile(r"all_modules\.(\d+)\.(.+)")
TABLE = "sigmas"
AFFINE = ("weight", "bias")
# Module of theirs -> part of deepinv's; of the attention's four matrices q, k and v become one.
BLOCK = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1"}
SHORTCUT = {"Conv_2": "skip"}
QKV = ("NIN_0", "NIN_1", "NIN_2")
# More than any network has: a file with thousands of levels is to be refused before they are made.
LEVELS, BLOCKS = 16, 64
ALLOWED = (
    "read are networks of its class NCSNpp with conditional=True, resblock_type 'biggan', progressive_input 'none', 'residual' (with fir) "
    "or 'input_skip', progressive_combine 'sum', progressive 'none' or 'output_skip'"
)


def is_score_sde(keys: Mapping[str, Any]) -> bool:
    """Whether these are keys of score_sde_pytorch."""
    return any(MODULE.fullmatch(key) for key in keys)


def averaged(content: Mapping[Any, Any], table: dict[str, Tensor]) -> tuple[dict[str, Tensor] | None, str]:
    """A checkpoint's network with the averages of its trained tensors (None where there are none), and what is to be said of them.

    The averages are a list in the order of the trained parameters. That is the table's order, without the buffer and without the
    random frequencies of the features, which are a parameter that is not trained.

    Args:
        content: what the file holds.
        table: the tensors of its network.
    """
    if not is_score_sde(table):
        return None, ""
    ema = content.get("ema")
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list):
        return None, "its weights are the last ones of the training; there are no averaged ones (ema.shadow_params)"
    names = [key for key, value in table.items() if MODULE.fullmatch(key) and not (key.endswith(".W") and value.ndim == 1)]
    pairs = list(zip(names, shadow, strict=False))
    if len(names) != len(shadow) or not all(isinstance(one, Tensor) and one.shape == table[name].shape for name, one in pairs):
        return None, (
            f"its weights are the last ones of the training; the averaged ones (ema.shadow_params, {len(shadow)} tensors) are not those "
            f"of the {len(names)} trained tensors, in their order and shapes"
        )
    return {**table, **dict(pairs)}, "its weights are the averaged ones (ema.shadow_params)"


def modules(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries by module, in order.

    Raises:
        InputError: a module is missing.
    """
    found: dict[int, dict[str, Any]] = {}
    for key, value in table.items():
        if match := MODULE.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    missing = next((index for index in range(len(found)) if index not in found), None)
    if missing is not None:
        raise InputError(f"all_modules.{missing} is missing, all_modules.{max(found)} is there; the file is not whole")
    return [found[index] for index in range(len(found))]


def kind_of(name: str, parts: dict[str, tuple[int, ...]]) -> str:
    """What a module is: features, dense, conv, norm, block, resampling (a block), attention, combine or filtered.

    Raises:
        InputError: none of these, or some of its tensors are missing.
    """
    top, kind, wanted = {key.split(".")[0] for key in parts}, "unknown", {""}
    if top == {"W"}:
        kind, wanted = "features", {"W"}
    elif top <= set(AFFINE):
        kind, wanted = {1: "norm", 2: "dense", 4: "conv"}.get(len(parts.get("weight", ())), kind), set(AFFINE)
    elif top & {"NIN_1", "NIN_2", "NIN_3"}:
        kind = "attention"
        wanted = {f"GroupNorm_0.{one}" for one in AFFINE} | {f"NIN_{index}.{one}" for index in range(4) for one in "Wb"}
    elif top & {"GroupNorm_0", "GroupNorm_1", "Conv_1"}:
        if "NIN_0" in top:
            raise InputError(f"{name} is a block of resblock_type 'ddpm'; {ALLOWED}")
        own = BLOCK | SHORTCUT if "Conv_2" in top else BLOCK
        kind, wanted = "block", {f"{part}.{one}" for part in own for one in AFFINE}
    elif top == {"Conv2d_0"}:
        kind, wanted = "filtered", {f"Conv2d_0.{one}" for one in AFFINE}
    elif top == {"Conv_0"} and parts.get("Conv_0.weight", ())[2:] == (1, 1):
        kind, wanted = "combine", {f"Conv_0.{one}" for one in AFFINE}
    elif top == {"Conv_0"}:
        raise InputError(f"{name} is a convolution without filter that changes the size (fir=False or resblock_type 'ddpm'); {ALLOWED}")
    if kind == "unknown" or wanted != parts.keys():
        lacks, more = sorted(wanted - parts.keys())[:3], sorted(parts.keys() - wanted)[:3]
        raise InputError(
            f"{name} is {kind}: missing {lacks or 'none'}, unknown {more or 'none'}; the file is not whole, or another's; {ALLOWED}"
        )
    if kind == "attention":
        width = parts["NIN_0.b"]
        if any(parts[f"NIN_{index}.W"] != 2 * width or parts[f"NIN_{index}.b"] != width for index in range(4)) or len(width) != 1:
            raise InputError(f"{name} is attention of other shapes than (C, C) and (C,): {parts}")
    if kind == "block" and "Conv_2.weight" in parts and parts["Conv_0.weight"][0] == parts["Conv_0.weight"][1]:
        return "resampling"  # there are weights on the shortcut between equal widths only where the size changes
    return kind


class Walk:
    """The modules in the order of the forward pass: where each belongs in a `ScoreNet`, and how many there are of what.

    Args:
        shapes: of the file.

    Raises:
        InputError: see `kind_of`; modules in another order than NCSNpp's.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.parts = modules(shapes)
        self.kinds = [kind_of(f"all_modules.{index}", parts) for index, parts in enumerate(self.parts)]
        self.places: list[str] = []
        self.attended: set[int] = set()
        self.inputs: list[str] = []
        self.outputs: list[int] = []
        blocks, resampling = self.kinds.count("block"), self.kinds.count("resampling")
        self.levels = 1 + resampling // 2
        # As many per level on the way down, two in the middle, one more per level on the way up.
        self.blocks, rest = divmod(blocks - 2 - self.levels, 2 * self.levels)
        if rest or resampling % 2 or not 1 <= self.blocks <= BLOCKS or self.levels > LEVELS:
            raise InputError(f"{blocks} residual blocks and {resampling} that change the size are no U-Net's; {ALLOWED}")
        self.down()
        self.up()
        if self.next:
            raise InputError(f"{len(self.kinds) - len(self.places)} modules too many, from all_modules.{len(self.places)} on; {ALLOWED}")

    @property
    def next(self) -> str:
        """What comes next, "" at the end."""
        return self.kinds[len(self.places)] if len(self.places) < len(self.kinds) else ""

    def take(self, kind: str, place: str) -> None:
        """The next module belongs to `place`."""
        if self.next != kind:
            raise InputError(f"all_modules.{len(self.places)} is {self.next or 'missing'} where {kind} ({place}) should be; {ALLOWED}")
        self.places.append(place)

    def block(self, place: str, level: int | None = None) -> None:
        """A residual block, with the attention that may follow it."""
        self.take("block", place)
        if self.next == "attention":
            self.take("attention", place)
            if level is not None:
                self.attended.add(level)

    def down(self) -> None:
        """Embedding, encoder and middle."""
        if self.next == "features":
            self.take("features", "map_noise")
        for kind, place in (("dense", "map_layer0"), ("dense", "map_layer1"), ("conv", "enc.level0_conv")):
            self.take(kind, place)
        for level in range(self.levels):
            if level:
                self.take("resampling", f"enc.level{level}_down")
                aux = {"combine": "aux_skip", "filtered": "aux_residual"}.get(self.next)
                if aux is not None:
                    self.inputs.append(self.next)
                    self.take(self.next, f"enc.level{level}_{aux}")
                at = len(self.places)
                if aux == "aux_skip" and self.parts[at].get("GroupNorm_0.weight") != self.parts[at - 1]["Conv_0.weight"][:1]:
                    raise InputError(f"all_modules.{at - 1} is followed by more features: progressive_combine 'cat'; {ALLOWED}")
            for index in range(self.blocks):
                self.block(f"enc.level{level}_block{index}", level)
        for name in ("in0", "in1"):
            self.block(f"dec.level{self.levels - 1}_{name}")

    def up(self) -> None:
        """The decoder."""
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                self.take("resampling", f"dec.level{level}_up")
            for index in range(self.blocks + 1):
                self.block(f"dec.level{level}_block{index}", level)
            if self.next == "norm":
                self.outputs.append(level)
                self.take("norm", f"dec.level{level}_aux_norm")
                self.take("conv", f"dec.level{level}_aux_conv")
            if self.next == "filtered":
                raise InputError(f"all_modules.{len(self.places)} belongs to progressive 'residual'; {ALLOWED}")

    def shape(self, place: str, part: str) -> tuple[int, ...]:
        """Of a tensor of the module at `place`."""
        return self.parts[self.places.index(place)][part]

    def sizes(self, table: tuple[int, ...], fir: bool | None) -> Sizes:
        """Of the network.

        Args:
            table: shape of the table of noise levels, (0,) without one.
            fir: see `score_sde`.

        Raises:
            InputError: pictures come in or go out at some levels only, tables of wrong shapes, or fir is denied where it is seen.
        """
        from invsolve_weights.ncsnpp import Sizes

        first, channels = self.shape("enc.level0_conv", "weight")[:2]
        fourier, every = "map_noise" in self.places, list(reversed(range(self.levels)))
        if len(set(self.inputs)) > 1 or len(self.inputs) not in (0, self.levels - 1) or self.outputs not in ([0], every):
            raise InputError(f"pictures come in ({len(self.inputs)}) or go out ({len(self.outputs)}) at some of its levels only; {ALLOWED}")
        inputs = {"combine": "input_skip", "filtered": "residual"}[self.inputs[0]] if self.inputs else "none"
        if inputs == "residual" and fir is False:
            raise InputError("fir is said to be off, but its convolutions are filtered (Conv2d_0)")
        if len(table) != 1 or (fourier and self.shape("map_noise", "W") != (first,)):
            raise InputError(f"{TABLE} must be a list, and the frequencies all_modules.0.W as many as there are features ({first})")
        return Sizes(
            channels=channels,
            first=first,
            widths=tuple(self.shape(f"enc.level{level}_block0", "Conv_0.weight")[0] for level in range(self.levels)),
            blocks=self.blocks,
            attended=tuple(sorted(self.attended)),
            fourier=fourier,
            inputs=inputs,
            outputs="none" if self.outputs == [0] else "output_skip",
            fir=fourier or inputs != "none" if fir is None else fir,
            noise_levels=table[0],
        )


def renamed(state: Mapping[str, Tensor], places: list[str], sizes: Sizes) -> dict[str, Tensor]:
    """The tensors under ScoreNet's names; q, k and v become one convolution, the resampling filters are added."""
    made = {key: value for key, value in state.items() if not MODULE.fullmatch(key)}
    for place, parts in zip(places, modules(state), strict=True):
        if "NIN_1.W" in parts:
            made |= {f"{place}.norm2.{one}": parts[f"GroupNorm_0.{one}"] for one in AFFINE}
            made |= {f"{place}.proj.weight": parts["NIN_3.W"].mT[..., None, None], f"{place}.proj.bias": parts["NIN_3.b"]}
            # Theirs are matrices (in, out); the rows of deepinv's are q, k, v of the first feature, of the second, ...
            made[f"{place}.qkv.weight"] = torch.stack([parts[f"{one}.W"].mT for one in QKV], 1).flatten(0, 1)[..., None, None]
            made[f"{place}.qkv.bias"] = torch.stack([parts[f"{one}.b"] for one in QKV], 1).flatten()
        elif "GroupNorm_1.weight" in parts:
            for key, value in parts.items():
                module, _, last = key.partition(".")
                made[f"{place}.{(BLOCK | SHORTCUT)[module]}.{last}"] = value
        else:
            made |= {f"{place}.{'freqs' if key == 'W' else key.rpartition('.')[2]}": value for key, value in parts.items()}
    taps = torch.tensor(sizes.taps, dtype=torch.float32)
    resampling = [f"{place}.{part}" for place in places if place.endswith(("_down", "_up")) for part in ("conv0", "skip")]
    resampling += [place for place in places if place.endswith("_residual")]
    resampling += [place.replace("skip", "down") for place in places if place.endswith("_skip")]
    if sizes.outputs == "output_skip":
        resampling += [f"dec.level{level}_aux_up" for level in range(len(sizes.widths) - 1)]
    return made | {f"{place}.resample_filter": (taps.outer(taps) / taps.sum() ** 2)[None, None] for place in resampling}


def notes_on(law: str, fir: object, centre: bool, timed: bool) -> list[str]:
    """What was taken for granted, since the file does not hold it."""
    notes = [
        f"not in the file: fir={fir}, centered={centre}, continuous={timed}: say arguments={{...}} where it is otherwise; "
        "skip_rescale, swish and (VE) scale_by_sigma are taken to be on",
        "its image size is not in the file and not needed: attention stands where its weights are",
    ]
    if law == "ve":
        notes.append(
            "taken for the VE SDE, sigma 0.01 to 50 as for CIFAR-10 (FFHQ in 256 x 256: 348; in 1024 x 1024: 1348): say sigma_range"
        )
    elif law:
        notes.append('taken for the VP SDE, beta 0.1 to 20; sub-VP looks the same and passes the same test: say arguments={"sde": "subvp"}')
    return notes


def score_sde(
    shapes: Shapes, *, sde: str | None = None, continuous: bool | None = None, centered: bool | None = None, fir: bool | None = None
) -> Recognised | None:
    """NCSN++ and DDPM++ of score_sde_pytorch; None for another format.

    Args:
        shapes: of the file.
        sde: "ve", "vp" or "subvp". None: VE where sigma enters by random Fourier features, VP for DDPM++; not seen for the rest.
        continuous: whether it was trained in continuous time. None: yes, but for VE networks with sines of a time.
        centered: whether its images lie in [-1, 1], not in [0, 1]. None: yes, but with the VE SDE.
        fir: whether pictures are resampled with the filter 1 3 3 1. None: as published, all but DDPM++.

    Raises:
        InputError: a network that deepinv's parts cannot express, or an argument that does not exist or not with this file.
    """
    if not is_score_sde(shapes):
        return None
    from invsolve_weights.formats import Convention, Recognised
    from invsolve_weights.ncsnpp import ScoreNet, VECall, VPCall
    from invsolve_weights.networks import Padded

    if sde not in (None, "ve", "vp", "subvp") or any(one not in (None, True, False) for one in (continuous, centered, fir)):
        given = f"sde={sde!r}, continuous={continuous!r}, centered={centered!r}, fir={fir!r}"
        raise InputError(f'sde is "ve", "vp" or "subvp", and continuous, centered and fir are true or false; given {given}')
    walk = Walk(shapes)
    sizes = walk.sizes(shapes.get(TABLE, (0,)), fir)
    plain = sizes.inputs == sizes.outputs == "none"
    law = sde or ("ve" if sizes.fourier else "vp" if plain else "")
    indexed = law == "ve" and not sizes.fourier
    timed = not indexed if continuous is None else continuous
    centre = law != "ve" if centered is None else centered
    if timed if indexed else not timed and (sizes.fourier or law == "subvp"):
        how = "random Fourier features" if sizes.fourier else "sines of a time"
        raise InputError(f"no network with {how} was trained by sde={law!r} with continuous={timed}")
    if indexed and sizes.noise_levels < 2:
        raise InputError(f'sde="ve" with sines of a time needs the table of noise levels ({TABLE}), which the file lacks')
    bounds = (-1.0, 1.0) if centre else (0.0, 1.0)
    convention = Convention("eps", bounds, "none", (0.01, 50.0)) if law == "ve" else Convention("eps", bounds, "linear", None)

    def wrap(net: Any) -> nn.Module:
        call = VECall(net, centre) if law == "ve" else VPCall(net, centre, law if timed else "discrete")
        return Padded(call, 2 ** (walk.levels - 1))

    return Recognised(
        f"score_sde {'DDPM++' if plain and not sizes.fourier else 'NCSN++'}",
        convention,
        sizes.channels,
        lambda: ScoreNet(sizes),
        wrap,
        tuple(notes_on(law, sizes.fir, centre, timed)),
        "" if law else 'its SDE is not in the file: say arguments={"sde": "vp"}, or "ve" or "subvp"',
        lambda state: renamed(state, walk.places, sizes),
        {"again": lambda **arguments: score_sde(shapes, **arguments), "arguments": ("sde", "continuous", "centered", "fir")},
    )
