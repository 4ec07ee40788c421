"""A photograph's diagnosis: one call that looks for blur, another size, JPEG, damage and noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.blind.compression import Compression, find_compression
from invsolve.blind.diagnosis import GREY, NAMES, Diagnosis
from invsolve.blind.enlarged import find_enlargement, reduced
from invsolve.blind.features import SIDE, Traits, direction, traits
from invsolve.blind.likelihood import Found, Scene, likeliest
from invsolve.blind.reading import Reading, read
from invsolve.errors import InputError, InvsolveError
from invsolve.estimate import estimate_noise, patch_level
from invsolve.plugins import registry

TILE, TILES = 256, 8  # of a large picture the liveliest parts are read
EVEN = 4.0  # times the noise: the slopes of a picture that shows something
LOUD = 0.1  # noise that damage does not stand out from
FINEST = 0.005  # the relative error of widths that the spectrum's zeros tell, on tuning photographs
LEAST = 1e-6  # of a chance that was read: networks are never so sure
ODDS = 100.0  # to one, of one family against another by the spectrum alone
SURE = 0.9  # of the chance that a picture is blurred: below it, it is left alone; at .6 one more of 36 sharp photographs is called blurred


def identify(y: Tensor, *, damage: bool = True) -> Diagnosis:
    """What happened to a photograph: blur, downsampling, JPEG, damage of film, and noise, from itself alone.

    Args:
        y: (C, H, W) or (1, C, H, W) in [0, 1], C = 1 or 3, 64 pixels a side at least for a blur to be told.
        damage: whether to look for dust and scratches, where a plug-in that finds them is installed.

    Raises:
        InputError: no photograph.

    Where a blur is seen, its family and width are those that make the picture's spectrum likeliest (`invsolve.blind.likelihood`), near
    what the networks read.

    References:
        Blind motion deblurring from a single image's derivatives (Yitzhaky, Mor, Lantzman, Kopeika, 1998), JOSA A 15(6): a motion's
        length from the correlation of slopes. Estimating the blur of a step from its slopes at several widths: Local Scale Control
        for Edge Detection and Blur Estimation (Elder, Zucker, 1998), IEEE PAMI 20(7). Deviation: both, and the spectrum's fit to
        three laws, are read by a network that was trained on photographs blurred on purpose.
    """
    image = checked(y)
    inner = lit(image)
    sigma = noise_of(inner)
    keep = damaged(image) if damage and min(image.shape[1:]) >= SIDE and sigma < LOUD else None
    if keep is not None:
        return Diagnosis(image, sigma, keep=keep)
    enlargement = find_enlargement(image)
    if enlargement is not None:
        small = reduced(image, enlargement).clamp(0, 1)
        return Diagnosis(small, noise_of(small), enlargement=enlargement)
    compression = find_compression(image)
    lost = took(image, compression)
    found = shown(inner, sigma)
    if found is None:
        return Diagnosis(image, sigma, compression=compression, lost=lost)
    reading, blurs = weighed(inner, sigma, found)
    family = named(reading)
    if family == "none":
        return Diagnosis(image, min(sigma, smooth_noise(inner)), chances=reading.chances, compression=compression, lost=lost)
    parameters = {NAMES[family][1]: blurs[family].width, **({"angle": blurs[family].angle} if family == "motion" else {})}
    spread = max(blurs[family].spread, FINEST)
    return Diagnosis(image, sigma, family, parameters, spread, reading.chances, compression, None, None, lost)


def weighed(image: Tensor, sigma: float, found: Traits) -> tuple[Reading, dict[str, Found]]:
    """What was read, and the likeliest blur of each family, whose chances are weighed anew where a blur was seen.

    Whether there is a blur is left to the networks, and the likelihood is worth no more than ODDS: of lettering, drawings and what was
    clipped the spectrum follows no law of the scenes, and would be sure of anything.
    """
    reading = read(found.values)
    if named(reading) == "none":
        return reading, {}
    tile, level = window(image.double().mean(0)), level_of(image, sigma)
    scene, turn = Scene(tile, level), direction(found.half, reading.widths["motion"])
    blurs = {
        name: likeliest(scene, name, width, reading.spreads[name], turn if name == "motion" else 0.0)
        for name, width in reading.widths.items()
    }
    costs = torch.tensor([blurs[name].cost for name in NAMES], dtype=torch.float64).nan_to_num(nan=math.inf)
    worth = -(costs - costs.min()).nan_to_num(nan=0.0).clamp_max(math.log(ODDS))
    logs = torch.tensor([reading.chances[name] for name in NAMES], dtype=torch.float64).clamp_min(LEAST).log()
    shares = torch.softmax(logs + worth, 0) * (1 - reading.chances["none"])
    return reading._replace(chances={"none": reading.chances["none"], **dict(zip(NAMES, shares.tolist(), strict=True))}), blurs


def lit(image: Tensor) -> Tensor:
    """The picture without bars along its sides, rows and columns that are each of one value, if enough is left."""
    for axis in (1, 2):
        other = image.movedim(axis, 1).flatten(2)
        live = (other.amax(2) > other.amin(2)).any(0).nonzero()[:, 0]
        length = int(live[-1] - live[0]) + 1 if len(live) else 0
        if SIDE <= length < image.shape[axis]:
            image = image.narrow(axis, int(live[0]), length)
    return image


def window(grey: Tensor) -> Tensor:
    """The liveliest TILE x TILE pixels, or as much of that as there is."""
    height, width = (min(TILE, side) for side in grey.shape)
    parts = grey.unfold(0, height, max(1, height // 2)).unfold(1, width, max(1, width // 2)).flatten(0, 1)
    differ = parts.diff(dim=1).square().mean((1, 2)) + parts.diff(dim=2).square().mean((1, 2))
    return parts[int(differ.argmax())]


def checked(y: Tensor) -> Tensor:
    """(C, H, W).

    Raises:
        InputError: no photograph, several, or numbers that are none.
    """
    image = y[0] if isinstance(y, Tensor) and y.ndim == 4 and len(y) == 1 else y
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3) or not image.is_floating_point():
        given = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"a photograph is (C, H, W) or (1, C, H, W), floats in [0, 1] with 1 or 3 channels; given {given}")
    if not image.numel() or not bool(torch.isfinite(image).all()):
        raise InputError("the photograph holds no numbers, or some that are not finite")
    return image.detach()


def colours(image: Tensor) -> Tensor:
    """One channel of a picture whose channels are the same, else all."""
    return image[:1] if bool(((image[1:] - image[:1]).abs() < GREY / 2).all()) else image


def noise_of(image: Tensor) -> float:
    """The level that `estimate_noise` finds; nan where the picture is too small."""
    image = colours(image)
    try:
        identity = registry().build("operator", "identity", in_shape=tuple(image.shape))
        return float(estimate_noise(identity, image[None]).sigma[0])
    except InvsolveError:
        return math.nan


def smooth_noise(image: Tensor) -> float:
    """The level of the patches that could be noise alone: a sharp picture's texture is taken for noise where all patches are."""
    image = colours(image)
    return float(patch_level(image, torch.ones_like(image, dtype=torch.bool), True)[0])


def shown(image: Tensor, sigma: float) -> Traits | None:
    """The picture's traits; None where it is too small or shows nothing above its noise."""
    if min(image.shape[1:]) < SIDE or math.isnan(sigma):
        return None
    grey = image.double().mean(0)
    level = level_of(image, sigma)
    tiles = liveliest(grey)
    if max(float(tile.std()) for tile in tiles) < EVEN * level:
        return None
    return traits(tiles, level)


def level_of(image: Tensor, sigma: float) -> float:
    """The noise in the mean of the channels, never less than that of 8 bits."""
    return max(sigma, GREY / math.sqrt(12)) / math.sqrt(len(colours(image)))


def liveliest(grey: Tensor) -> list[Tensor]:
    """The picture, or the parts of a large one where neighbours differ most."""
    if grey.numel() <= TILES * TILE * TILE or min(grey.shape) < TILE:
        return [grey]
    parts = grey.unfold(0, TILE, TILE).unfold(1, TILE, TILE).reshape(-1, TILE, TILE)
    differ = torch.stack([part.diff(dim=0).square().mean() + part.diff(dim=1).square().mean() for part in parts])
    return list(parts[differ.argsort(descending=True)[:TILES]])


def named(reading: Reading) -> str:
    """The likeliest blur; none unless it is likely that there is one."""
    if 1 - reading.chances["none"] < SURE:
        return "none"
    return max(NAMES, key=lambda name: reading.chances[name])


def took(image: Tensor, compression: Compression | None) -> float:
    """The root mean square of what the JPEG took: what it takes from the picture once more, on blocks moved by half a block."""
    if compression is None:
        return 0.0
    down, right = ((first + 4) % 8 for first in compression.corner)
    part = image[:, down : down + 1024, right : right + 1024]
    jpeg = registry().build("operator", "jpeg", in_shape=tuple(part.shape), quality=compression.quality, subsample=len(part) == 3)
    with torch.no_grad():
        return float((jpeg(part[None]) - part).double().square().mean().sqrt())


def damaged(image: Tensor) -> Tensor | None:
    """The pixels that are sound, where a plug-in finds some that are not."""
    keep = registry().damage(image.clamp(0, 1))
    return None if keep is None or bool(keep.all()) else keep
