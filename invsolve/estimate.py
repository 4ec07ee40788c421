"""The noise level of a measurement, from the measurement alone; and the unit of raw data.

Three ways, each where it holds:

    null-space    what H cannot produce is noise: with H = U diag(s) V^T, sigma^2 = |y - U 1[s > c s_max] U^T y|^2 / count
    patches       an image's patches lie near a subspace: the small eigenvalues of their covariance are sigma^2
    coefficients  y's entries are few large ones and noise: the standard deviation of those within three of it
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.errors import InputError, NoLevelError, did_you_mean
from invsolve.noise import Ability, GaussianNoise, NoiseModel, NoNoise
from invsolve.operator import Capability, Operator
from invsolve.operator.iterative import conjugate_gradients
from invsolve.operator.measurement import Measurement, mapped, minus, parts
from invsolve.plugins.arguments import checked
from invsolve.problem import Problem, check_measurement, check_operator
from invsolve.unit import Unit

METHODS = ("auto", "null-space", "patches", "coefficients")
# Below this part of s_max the measured signal counts as nothing: an image in [0, 1] has spectral coefficients of order 0.1
# where blurs are that weak, so at most 1e-4 of signal is taken for noise.
NEGLIGIBLE = 1e-3
# Numbers that an estimate is made of: 200 give a relative standard error of 1 / sqrt(400) = 5 %.
ENOUGH = 200
DOUBT = 2.0  # white noise shows in patches at its own size to a fifth
SMOOTH = 1e-3
LARGE = 1_000_000  # pixels
PATCH_SIDES = (7, 5, 4, 3, 2)
LARGEST = 4  # of several channels among which patches without texture are chosen: larger ones without any are rare
MOST_PATCHES = 65_536
MOST_SLICES = 16
COLOURS, LATTICES = 2, (2, 3, 4)  # the period of a sensor's colour filter; those of masks that are looked for
# The standard deviation of a standard normal variable cut off at 3: sqrt(1 - 6 phi(3) / (2 Phi(3) - 1)).
CORE = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))
SPREAD = 1.2


@dataclass(frozen=True)
class NoiseEstimate:
    """What was found.

    Args:
        sigma: (B,), standard deviation of Gaussian noise in the units of y.
        method: "null-space", "patches" or "coefficients"; joined by "+" where the parts of a stack differ.
        count: how many numbers (or patches) an item's estimate rests on.
    """

    sigma: Tensor
    method: str
    count: int


@checked
def estimate_noise(operator: Operator, y: Measurement, *, method: str = "auto") -> NoiseEstimate:
    """The standard deviation of white Gaussian noise in y = H(x) + sigma n, item by item.

    "auto" takes the first that applies: "null-space" (linear operators with an SVD, where at least 200 directions carry no
    signal; unbiased if it was H that made y: where y's patches show less than half as much, theirs is taken), "patches" (y is an
    image: output_range is known; of more than a million pixels it comes first), "coefficients" (the other linear operators; biased
    upwards where most entries carry signal).

    Args:
        operator: H.
        y: (B, *out_shape), or a tuple for a Stack.
        method: one of "auto", "null-space", "patches", "coefficients".

    Raises:
        InputError: y does not fit the operator, no such method, or the method does not apply: why, and what would.

    References:
        An Efficient Statistical Method for Image Noise Level Estimation (Chen, Zhu, Heng, 2015), ICCV, algorithm 1: "patches".
        Deviation: whole patches of known pixels only, of side 7 where there are enough, else smaller.
        Single-Image Noise Level Estimation for Blind Denoising (Liu, Tanaka, Okutomi, 2013), IEEE TIP 22(12): the choice of
        patches without texture, for one channel. Deviation: the limit is mean + 3 standard deviations, not a gamma quantile.
        Ideal Spatial Adaptation by Wavelet Shrinkage (Donoho, Johnstone, 1994), section 4.1: the median start of "coefficients".
    """
    if method not in METHODS:
        raise InputError(f"no method '{method}'{did_you_mean(method, METHODS)} There are: {', '.join(METHODS)}")
    check_measurement(operator, y, NoNoise(), check_range=False)
    if not len(parts(y)[0]):
        raise InputError("y has no items, so there is nothing to estimate")
    if operator.stacked:
        return joined([estimate_noise(part, one, method=method) for part, one in zip(operator.parts, parts(y), strict=True)])  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    found = WAYS[method](operator, parts(y)[0].detach())
    first = parts(y)[0]
    return NoiseEstimate(found.sigma.to(first.real.dtype), found.method, found.count)


def joined(estimates: list[NoiseEstimate]) -> NoiseEstimate:
    """One level for the parts of a stack: variances averaged by the numbers they rest on."""
    total = sum(one.count for one in estimates)
    variance = torch.stack([one.count * one.sigma.square() for one in estimates]).sum(0) / total
    return NoiseEstimate(variance.sqrt(), "+".join(dict.fromkeys(one.method for one in estimates)), total)


def automatic(operator: Operator, y: Tensor) -> NoiseEstimate:
    """The first way that applies; of a large picture patches, which need no SVD of its size."""
    reasons = []
    large = y.ndim == 4 and y.shape[-2] * y.shape[-1] > LARGE and operator.output_range is not None
    for name in ("patches", *METHODS[1:]) if large else METHODS[1:]:
        try:
            found = WAYS[name](operator, y)
        except InputError as error:
            reasons.append(f"  - {name}: {error}")
            continue
        return unless_wrong(found, operator, y) if name == "null-space" else found
    raise NoLevelError("\n".join([f"the noise level of {operator.label} data cannot be estimated:", *reasons, "Give sigma instead."]))


def unless_wrong(found: NoiseEstimate, operator: Operator, y: Tensor) -> NoiseEstimate:
    """The level; of y's patches where it is above `DOUBT` times theirs: another H made y, and what this one cannot produce is detail.

    Patches that show less than `SMOOTH` of y's range, as drawings and ramps do, have no say.
    """
    try:
        seen = patches(operator, y)
    except InputError:  # y is no image: nothing to compare with
        return found
    flat = y.double().flatten(1)
    wrong = (found.sigma > DOUBT * seen.sigma) & (seen.sigma > SMOOTH * (flat.amax(1) - flat.amin(1)))
    return NoiseEstimate(torch.where(wrong, seen.sigma, found.sigma), "patches", seen.count) if bool(wrong.any()) else found


def null_space(operator: Operator, y: Tensor) -> NoiseEstimate:
    """sigma^2 = |what H cannot produce, or hardly|^2 / number of such directions.

    Raises:
        InputError: no SVD, complex data, or fewer than 200 such directions.
    """
    if not operator.has(Capability.SVD) or y.is_complex():
        raise InputError(f"it needs a real operator with an SVD; {operator.label} has none")
    svd, support = operator.svd(), measured(operator, y)
    s = svd.s.to(y.device).expand(len(y), *svd.s.shape[-(svd.s.ndim - (operator.batch is not None)) :]).flatten(1)
    strong = s > NEGLIGIBLE * s.amax(1, keepdim=True)
    count = support.flatten(1).sum(1) - strong.sum(1)
    if int(count.min()) < ENOUGH:
        raise InputError(f"only {int(count.min())} directions of y carry no signal; {ENOUGH} are needed")
    y = y.double()
    spectrum = svd.Ut(y)
    seen = svd.U(spectrum * strong.reshape(spectrum.shape))
    square = ((y - seen) * support).square().flatten(1).sum(1)
    return NoiseEstimate((square / count).sqrt(), "null-space", int(count.min()))


def measured(operator: Operator, y: Tensor) -> Tensor:
    """1 where y holds data, (B, *out_shape)."""
    support = operator.supports[0]
    one = torch.ones((), dtype=torch.float64, device=y.device)
    return (one if support is None else support.to(one)).expand(y.shape)


def patches(operator: Operator, y: Tensor) -> NoiseEstimate:
    """The level at which the mean of the smallest eigenvalues of the patch covariance is their median.

    Raises:
        InputError: y is no image, or too few pixels lie close enough together.
    """
    if operator.output_range is None or y.ndim not in (4, 5) or y.is_complex():
        raise InputError(f"it needs measurements that are images; {operator.label} does not say that its are (output_range)")
    support = operator.supports[0]
    shown = (torch.ones((), device=y.device) if support is None else support.to(y.device)).expand(y.shape) > 0
    found = [(slice_level if y.ndim == 5 else place_level)(image, known, operator.period) for image, known in zip(y, shown, strict=True)]
    return NoiseEstimate(torch.stack([sigma for sigma, _ in found]), "patches", min(count for _, count in found))


def place_level(image: Tensor, known: Tensor, period: int) -> tuple[Tensor, int]:
    """(sigma, number of patches) of one image (C, H, W)."""
    return patch_level(*by_place(image, known, period))


def slice_level(volume: Tensor, known: Tensor, period: int) -> tuple[Tensor, int]:
    """(sigma, number of patches) of one volume (C, D, H, W): the median of its slices, of which at most 16 are looked at.

    Those that hold nothing but one number, as beyond the edge of what was scanned, say nothing of the noise.
    """
    step = math.ceil(volume.shape[1] / MOST_SLICES)
    pairs = [(image, seen) for image, seen in zip(volume.unbind(1)[step // 2 :: step], known.unbind(1)[step // 2 :: step], strict=True)]
    held = [(image, seen) for image, seen in pairs if float(image.amax()) > float(image.amin())] or pairs
    found = [place_level(image, seen, period) for image, seen in held]
    return torch.stack([sigma for sigma, _ in found]).median(), sum(count for _, count in found)


def by_place(image: Tensor, known: Tensor, period: int) -> tuple[Tensor, Tensor, bool]:
    """(image, known, whether a pixel has one value); the places of a lattice as channels, for a colour filter or a mask that repeats.

    A patch of a mosaic has colours that change from pixel to pixel, and one of a Bayer mask is nowhere whole; the places of the lattice are
    pictures of the same scene, (C period^2, H / period, W / period), of which the unknown ones are left out.
    """
    for step in (period,) if period == COLOURS else LATTICES:
        rows, columns = (side // step * step for side in image.shape[1:])
        if not rows or not columns or (period != COLOURS and bool(known.all())):
            continue
        places, seen = (torch.nn.functional.pixel_unshuffle(one[:, :rows, :columns], step) for one in (image, known))
        whole = seen.flatten(1).all(1)
        if bool((whole | ~seen.flatten(1).any(1)).all()) and bool(whole.any()):
            return places[whole], seen[whole], True
    return image, known, len(image) == 1


def patch_level(image: Tensor, known: Tensor, alone: bool) -> tuple[Tensor, int]:
    """(sigma, number of patches) of one image (C, H, W); all channels of a place form one patch, of known pixels only.

    `alone`: the patches have one value a place, and so no subspace without texture.
    """
    for side in PATCH_SIDES[PATCH_SIDES.index(LARGEST) :] if alone and len(image) > 1 else PATCH_SIDES:
        if min(image.shape[1:]) < side:
            continue
        windows = patch_rows(image, known, side)
        # With fewer samples the scatter of the eigenvalues themselves is not small against their mean.
        if len(windows) >= 10 * windows[0:1].numel() and len(windows) >= ENOUGH // 2:
            break
    else:
        raise InputError(f"an image of {tuple(image.shape)} with these pixels known has too few whole patches; take more of it")
    return smooth_level(windows) if alone else (flat_level(windows), len(windows))  # pyright: ignore[reportPossiblyUnboundVariable]


def patch_rows(image: Tensor, known: Tensor, side: int) -> Tensor:
    """(N, C, side, side) of known pixels only, thinned to about 65,000 before any is copied; float64."""
    height, width = (length - side + 1 for length in image.shape[1:])
    place = torch.arange(0, height * width, math.ceil(height * width / MOST_PATCHES), device=image.device)
    row, column = place // width, place % width

    def rows(of: Tensor) -> Tensor:
        return of.unfold(1, side, 1).unfold(2, side, 1)[:, row, column].transpose(0, 1)

    return rows(image)[rows(known).flatten(1).all(1)].double()


def flat_level(windows: Tensor) -> Tensor:
    """sigma where the mean of the smallest eigenvalues of the covariance is their median: the largest such set."""
    eigenvalues = torch.linalg.eigvalsh(torch.cov(windows.flatten(1).mT))
    for last in range(len(eigenvalues), 0, -1):
        rest = eigenvalues[:last]
        level = rest.mean()
        if int((rest > level).sum()) >= int((rest < level).sum()):
            break
    return level.clamp_min(0).sqrt()  # pyright: ignore[reportPossiblyUnboundVariable]


def smooth_level(windows: Tensor) -> tuple[Tensor, int]:
    """`flat_level` of the patches whose gradients could be noise alone, found anew with each estimate.

    One channel leaves no subspace without texture; two or more do, since their textures go together.
    """
    side = windows.shape[-1]
    line = torch.eye(side, dtype=windows.dtype, device=windows.device)
    steps = line.diff(dim=0).mT @ line.diff(dim=0)
    energy = torch.kron(line, steps) + torch.kron(steps, line)
    # |gradient|^2 of noise alone has mean sigma^2 tr(E) and variance 2 sigma^4 tr(E^2), those of the channels added.
    highest = windows.shape[1] * energy.trace() + 3 * (2 * windows.shape[1] * energy.square().sum()).sqrt()
    gradient = windows.diff(dim=-1).square().flatten(1).sum(1) + windows.diff(dim=-2).square().flatten(1).sum(1)
    chosen, sigma = windows, flat_level(windows)
    for _ in range(6):
        following = windows[gradient < sigma.square() * highest]
        if len(following) < 10 * windows[0].numel():
            break
        chosen, sigma = following, flat_level(following)
    return sigma, len(chosen)


def coefficients(operator: Operator, y: Tensor) -> NoiseEstimate:
    """The standard deviation of the entries within three of it, found by iteration from the median.

    Raises:
        InputError: the operator is nonlinear, an item has fewer than 200 entries, or no entry stands out, so that signal and noise
            cannot be told apart.
    """
    if not operator.has(Capability.LINEAR):
        raise InputError(f"{operator.label} is nonlinear: its noise is not that of its output's entries alone")
    support = measured(operator, y) > 0
    y = y.to(torch.complex128 if y.is_complex() else torch.float64)
    found = [quietest(one, known) for one, known in zip(y, support, strict=True)]
    return NoiseEstimate(torch.stack([sigma for sigma, _ in found]), "coefficients", min(count for _, count in found))


def quietest(one: Tensor, known: Tensor) -> tuple[Tensor, int]:
    """The least level among all entries and the groups where fine detail of a transform lies together: entries of odd row and column,
    and the like, and the four quarters of the plane. Groups of thousands scatter by a per cent, so the least of nine is not low."""
    whole = core_level(one[known])
    if one.ndim < 2 or min(one.shape[-2:]) < 4:
        return whole
    height, width = one.shape[-2:]
    halves = [(slice(None, side // 2), slice(side // 2, None)) for side in (height, width)]
    groups = [(slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)] + [(a, b) for a in halves[0] for b in halves[1]]
    levels = [whole]
    for rows, columns in groups:
        entries = one[..., rows, columns][known[..., rows, columns]]
        if entries.numel() >= 10 * ENOUGH:
            levels.append(core_level(entries, apart=False))
    return min(levels, key=lambda level: float(level[0]))


def core_level(entries: Tensor, *, apart: bool = True) -> tuple[Tensor, int]:
    """(sigma, number of entries in the core); complex entries count as two, with noise of level sigma in each part. `apart`:
    refuse where nothing stands out."""
    values = (torch.view_as_real(entries) if entries.is_complex() else entries).flatten()
    if values.numel() < ENOUGH:
        raise InputError(f"only {values.numel()} entries; {ENOUGH} are needed")
    size = values.abs()
    sigma = size.median() / 0.6744897501960817
    core = size[size <= 3 * sigma]
    for _ in range(100):
        following = (core.square().mean()).sqrt() / CORE
        settled = bool((following - sigma).abs() <= 1e-6 * sigma)
        sigma = following
        core = size[size <= 3 * sigma]
        if settled or not len(core):
            break
    if apart and (len(core) < ENOUGH or float(values.square().mean().sqrt()) < SPREAD * float(sigma)):
        raise InputError("no entries stand out from the rest, so signal and noise cannot be told apart")
    return sigma, len(core)


WAYS = {"auto": automatic, "null-space": null_space, "patches": patches, "coefficients": coefficients}


def refuse_curved(operator: Operator) -> None:
    """Raise InputError where H is not linear: H(c x) is then not c H(x), and data have one unit only."""
    check_operator(operator)
    if not operator.has(Capability.LINEAR):
        raise InputError(f"{operator.label} is not linear, so that raw data cannot be carried to another unit; give images in [0, 1]")


NO_UNIT = "y is 0 wherever H measures, so that it has no unit"


@torch.no_grad()
def estimate_unit(operator: Operator, y: Measurement) -> Unit:
    """The unit in which the image behind raw data fills [0, 1]: (0, the 99.9 % quantile of what a rough reconstruction holds).

    The reconstruction is that of 10 conjugate gradient steps on |H x - y|^2 from 0, so that c y has c times the unit of y. Of images of two
    channels that are real and imaginary part, both lie in [-1, 1] of it.

    Args:
        operator: H, linear.
        y: one item of raw data, (1, *out_shape), in any unit.

    Raises:
        InputError: H is not linear, y has several items or is 0.
    """
    refuse_curved(operator)
    check_measurement(operator, y, NoNoise(), check_range=False)
    if len(parts(y)[0]) != 1:
        raise InputError(f"a unit is found for one item; given {len(parts(y)[0])}: one at a time, or give unit=Unit(low, high) for all")
    size = max((float(part.abs().max()) for part in parts(y) if part.numel()), default=0.0)
    if size == 0:
        raise InputError(NO_UNIT)
    right = operator.adjoint(mapped(lambda part: part / size, y))  # near 1, so that no square is too small for its precision
    eps = torch.finfo(right.real.dtype).eps
    x = conjugate_gradients(lambda v: operator.adjoint(operator(v)), right, torch.zeros_like(right), tol=10 * eps, max_iter=10).x
    # the k-th smallest: torch.quantile takes no more than 16 million numbers
    values = x.abs().flatten()
    high = size * float(values.kthvalue(max(1, math.ceil(0.999 * values.numel()))).values)
    if not 0 < high < math.inf:
        raise InputError(NO_UNIT)
    return Unit(0.0, high)


@checked
def raw_problem(
    operator: Operator, y: Measurement, noise: NoiseModel | float | None = None, *, unit: Unit | None = None
) -> tuple[Problem, Unit]:
    """The problem of raw data (k-space, projections) in images of [0, 1], and the unit that carries its answer back.

        y = H(x) + n with x = low + (high - low) x':  (y - H(low)) / (high - low) = H(x') + n / (high - low)

    `unit.to(solution.mean)` is the image in the units of the data, `unit.width * solution.std` its standard deviation.

    Args:
        operator: H, linear.
        y: raw data (B, *out_shape), or a tuple for a Stack.
        noise: a model in y's units, or the standard deviation of Gaussian noise there; None: estimated.
        unit: what [0, 1] is in the units of the image, such as Unit(0, 0.06) of attenuations in 1 / mm; None: found, see `estimate_unit`.

    Raises:
        InputError: H is not linear, a unit is to be found for several items, or a low end other than 0 with noise that has no sigma.
    """
    refuse_curved(operator)
    found = estimate_unit(operator, y) if unit is None else unit
    given = estimate_noise(operator, y).sigma if noise is None else noise
    model = given if isinstance(given, NoiseModel) else GaussianNoise(given)
    if found.low != 0 and Ability.SIGMA not in model.abilities:
        raise InputError(
            f"noise {type(model).__name__} depends on y itself, which a low end of {found.low:g} would move; take Unit(0, high)"
        )
    first = parts(y)[0]
    ground = torch.full((len(first), *operator.in_shape), found.low, dtype=first.real.dtype, device=first.device)
    moved = y if found.low == 0 else minus(y, operator(ground))
    return Problem(operator, mapped(lambda part: part / found.width, moved), model.scaled(1 / found.width), check_range=False), found
