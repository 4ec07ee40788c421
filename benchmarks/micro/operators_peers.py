"""The same operators in DDRM's code and in deepinv: same inputs, one run, in turns (A B A B), medians."""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepinv
import torch
from invsolve_operators import Bicubic, BlockMean, BlurDecimate, GaussianBlur, Grey, Mask, SeparableBlur, WalshHadamard
from torch import Tensor

from invsolve import Operator

SIDES = (128, 256, 512)
ROUNDS = 15
Call = Callable[[], object]


def note() -> str:
    """What the columns mean."""
    return (
        "Milliseconds, three channels, batch 1, float32. Set-up: once. H x, then the data step: ours is prox at tau = 1, beside "
        "deepinv's prox_l2; beside DDRM's code, whose data step goes through the spectrum, V V^T x. H x is checked to be the same image "
        "to 1e-4 first; where it is not, the row says so and compares speed only. DDRM sets 1-D singular values below 0.03 to 0 (asked "
        "here not to, where it can be asked); ours keeps what the rank rule keeps."
    )


@dataclass
class Peer:
    """One operator of another library: set-up, H x, the data step."""

    make: Callable[[], Any]
    apply: Callable[[Any, Tensor], Tensor]
    step: Callable[[Any, Tensor], object]


def ddrm_peer(make: Callable[[], Any]) -> Peer:
    """H and V V^T of an H_functions object, which takes and gives flat vectors."""

    def both(h: Any, x: Tensor) -> object:
        spectrum = h.Vt(x.clone())
        return h.V(spectrum)

    return Peer(make, lambda h, x: h.H(x.clone()), both)


def deepinv_peer(make: Callable[[], Any]) -> Peer:
    """A and prox_l2."""
    return Peer(make, lambda h, x: h.A(x), lambda h, x: h.prox_l2(x, h.A(x), 1.0))


def load_ddrm(folder: Path) -> Any:
    """DDRM's module of operators, read from a checkout; nothing of it is kept here."""
    path = folder / "functions" / "svd_replacement.py"
    spec = importlib.util.spec_from_file_location("ddrm_svd_replacement", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is not there; --ddrm is a checkout of DDRM's repository")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bicubic_taps(factor: int) -> Tensor:
    """DDRM's taps: the cubic with slope -1/2 at 4 r points about the block's centre, normalised."""
    distance = (torch.arange(4 * factor) - (4 * factor - 1) / 2).abs() / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    taps = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    return taps / taps.sum()


def cases(side: int, ddrm: Any) -> dict[str, tuple[Callable[[], Operator], dict[str, Peer]]]:
    """name -> ours, and the peers that have it."""
    shape: Any = (3, side, side)
    mask = Mask(shape, keep=0.5).mask
    gaussian = deepinv.physics.functional.gaussian_blur(sigma=(1.5, 1.5))
    taps = [0.25, 0.5, 0.25]
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))
    found: dict[str, tuple[Callable[[], Operator], dict[str, Peer]]] = {
        "random mask": (
            lambda: Mask(shape, mask=mask),
            {"deepinv": deepinv_peer(lambda: deepinv.physics.Inpainting(shape, mask=mask.float().expand(shape).clone()))},
        ),
        "circular blur": (
            lambda: GaussianBlur(shape, 1.5),
            {"deepinv": deepinv_peer(lambda: deepinv.physics.BlurFFT(shape, filter=gaussian))},
        ),
        "blur + decimate x4": (
            lambda: BlurDecimate(shape, 4, kernel=gaussian[0, 0]),
            {"deepinv": deepinv_peer(lambda: deepinv.physics.Downsampling(shape, filter=gaussian, factor=4, padding="circular"))},
        ),
        "block mean x4": (lambda: BlockMean(shape, 4), {}),
        "bicubic x4": (lambda: Bicubic(shape, 4), {}),
        "separable blur": (lambda: SeparableBlur(shape, [0, 0, *taps], boundary="zero"), {}),
        "grey": (lambda: Grey(shape), {}),
        "grey, luma": (
            lambda: Grey(shape, deepinv.physics.Decolorize().get_buffer("srf").flatten().tolist()),
            {"deepinv": deepinv_peer(lambda: deepinv.physics.Decolorize())},
        ),
        "Walsh-Hadamard 1/4": (lambda: WalshHadamard(shape, 0.25), {}),
    }
    if ddrm is not None:
        found["block mean x4"][1]["DDRM"] = ddrm_peer(lambda: ddrm.SuperResolution(3, side, 4, "cpu"))
        found["bicubic x4"][1]["DDRM"] = ddrm_peer(lambda: ddrm.SRConv(bicubic_taps(4), 3, side, "cpu", stride=4))
        found["separable blur"][1]["DDRM"] = ddrm_peer(lambda: ddrm.Deblurring(torch.tensor([*taps, 0.0]), 3, side, "cpu", ZERO=0))
        found["grey"][1]["DDRM"] = ddrm_peer(lambda: ddrm.Colorization(side, "cpu"))
        found["Walsh-Hadamard 1/4"][1]["DDRM"] = ddrm_peer(lambda: ddrm.WalshHadamardCS(3, side, 4, order, "cpu"))
        if side <= 128:  # its list comprehension is quadratic in the number of pixels: minutes at 256
            missing = (1 - mask.expand(shape)).permute(1, 2, 0).flatten().nonzero().flatten()
            found["random mask"][1]["DDRM"] = ddrm_peer(lambda: ddrm.Inpainting(3, side, missing, "cpu"))
    return found


def timed(calls: dict[str, Call]) -> dict[str, float]:
    """Medians in ms of calls made in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def once(make: Callable[[], Any]) -> tuple[Any, float]:
    """What it makes, and the ms that took (the better of two)."""
    spent = []
    for _ in range(2):
        began = time.perf_counter()
        made = make()
        spent.append(time.perf_counter() - began)
    return made, 1e3 * min(spent)  # pyright: ignore[reportPossiblyUnboundVariable]


@torch.no_grad()
def rows(name: str, side: int, ours: Callable[[], Operator], peers: dict[str, Peer]) -> Iterator[str]:
    """One line a peer."""
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))

    def with_svd() -> tuple[Operator, Any]:
        made = ours()
        return made, made.svd()

    (operator, svd), setup = once(with_svd)
    y = operator(x)
    for peer_name, peer in peers.items():
        other, other_setup = once(peer.make)
        image = peer.apply(other, x)
        if image.numel() == y.numel():
            gap = float((image.reshape(y.shape) - y).abs().max())
            same = "" if gap <= 1e-4 else f"not the same image (off by {gap:.2g}): speed only"
        else:
            same = "theirs packs what is measured into a vector"
        through = peer_name == "DDRM"
        found = timed(
            {
                "apply": lambda: operator(x),
                "their apply": lambda peer=peer, other=other: peer.apply(other, x),
                "step": (lambda: svd.V(svd.Vt(x))) if through else (lambda: operator.prox(x, y, 1.0)),
                "their step": lambda peer=peer, other=other: peer.step(other, x),
            }
        )
        yield (
            f"| {name} | {side} | {peer_name} | {setup:.1f} / {other_setup:.1f} | {found['apply']:.2f} / {found['their apply']:.2f} | "
            f"{found['step']:.2f} / {found['their step']:.2f} | {found['apply'] / found['their apply']:.2f} | "
            f"{found['step'] / found['their step']:.2f} | {same} |"
        )


def table(arguments: argparse.Namespace) -> Iterator[str]:
    """Rows as Markdown."""
    ddrm = load_ddrm(arguments.ddrm) if arguments.ddrm else None
    yield "| operator | side | beside | set-up, ours / theirs | H x, ours / theirs | data step, ours / theirs | H x ratio | step ratio | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for side in SIDES:
        for name, (ours, peers) in cases(side, ddrm).items():
            if not arguments.only or name in arguments.only:
                yield from rows(name, side, ours, peers)
