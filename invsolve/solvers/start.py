"""Where solvers begin when nobody says where: one rule for every linear operator, and y itself where H is not linear but y an image.

    argmin_x  |Hx - y|^2 / (2 sigma^2) + |grad x|^2 / (2 g^2) + |x - 1/2|^2 / (2 s^2) + |mean x - 1/2|^2 / (2 m^2)

with sigma / |H| = max(sigma_x, 0.01), and the mean of each channel.

The posterior mean of a smooth Gaussian field. It fills what a mask hides, filters where a blur leaves little, never divides by a small
singular value, and lies where the operator's own geometry puts it (decimation, lost borders, mosaics, transforms), since it knows H by
H alone. It is continuous in H and y, and the same for (c H, c y, c sigma).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.cache import written
from invsolve.operator.iterative import inner
from invsolve.operator.measurement import column, minus, parts
from invsolve.operator.preconditioners import convolved, divide, mirror_spectrum
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step

SLOPE = 0.1  # g: about the rms step between neighbouring pixels of a photograph
MEAN = 0.5  # m: no mean of numbers in [0, 1] is further from grey; without it one that H does not see moves with any change of H
WIDTH = 10.0  # s: grey is hardly pulled at, since s / g = 100 pixels is as far as one is felt
LEVELS = (0.1, 0.01)  # sigma_x at least: the first fills large holes soon, the last is the one that counts, also without noise
PRODUCTS = 30  # with H^T H at each level
SPREAD = 200.0  # of the eigenvalues that an iteration is made for; what lies below them comes in more slowly
HELD = "_smooth_guess"  # where a problem keeps it
SLACK = 1.3  # |H|^2 may be larger than the power method found
CLOSE = 0.02  # how far H^T H of a random image may be from its convolution for the preconditioner to be nearly the inverse
Work = tuple[tuple[float, ...], int, float]  # the levels, the products at each and the spread they are made for
WHOLE: Work = (LEVELS[-1:], 4, 1.5)  # the preconditioner is the inverse: |error| falls by .1 with each product
VALID: Work = (LEVELS, 20, 100.0)  # but at the frame; as far from the minimum inside it as with all products of no convolution
LARGEST = math.sqrt(1.5)  # eigenvalue, where it is 1 but for what the power method leaves of |H|^2


@torch.no_grad()
def first_image(problem: Problem, start: Step | None) -> Tensor:
    """The start's x; else the smooth guess of this module for a linear H; else the operator's own, y in the units of x, or grey 1/2."""
    if start is not None:
        return start.x
    if problem.operator.has(Capability.ADJOINT):
        return smooth_guess(problem)
    guess = problem.operator.guess(problem.y)
    return seen_image(problem) if guess is None else guess


def smooth_guess(problem: Problem) -> Tensor:
    """The minimiser above, (B, *in_shape), made once for a problem, as its gain is: the solvers that are compared on it begin at the same.

    It is made anew after somebody wrote into y or the operator. What is returned is the caller's own.

    Args:
        problem: with a linear operator.
    """
    operator, place = problem.operator, vars(problem)
    sources = (*parts(problem.y), *operator.buffers(), *operator.parameters())
    versions = [(id(one), written(one)) for one in sources]
    if HELD not in place or place[HELD][0] != versions:
        place[HELD] = (versions, smoothest(problem))
    return place[HELD][1].clone()


@torch.no_grad()
def smoothest(problem: Problem) -> Tensor:
    """The minimiser above, (B, *in_shape); what is neither (C, H, W) nor (C, D, H, W) has no neighbours: no |grad x|^2.

    By Chebyshev's iteration, preconditioned by c + sigma^2 (|grad|^2 / g^2 + 1 / s^2 + 1 / m^2 of the mean), c the mean diagonal of
    H^T H; where H^T H is a convolution of the mirrored image (a symmetric blur), c is its spectrum, and few products are enough. Its
    coefficients do not depend on y: so x is affine in y, and rounding is not blown up as it is in the directions of conjugate
    gradients, which would make an item's image depend on its batch and on the unit of y.

    Args:
        problem: with a linear operator.

    References:
        Iterative Methods for Sparse Linear Systems (Saad, 2003), algorithm 12.1.
    """
    operator, grey = problem.operator, torch.full_like(problem.image, 0.5)
    size = column(problem.gain, grey) ** 2
    pictures, axes = grey.ndim in (4, 5), tuple(range(2 - grey.ndim, 0))
    bent = laplace_spectrum(grey) if pictures else 0.0
    level_pull = (SLOPE / MEAN) ** 2 / math.prod(grey.shape[2:]) if pictures else 0.0
    if isinstance(bent, Tensor):
        bent[(0,) * bent.ndim] += level_pull  # the constant image

    def seen(x: Tensor) -> Tensor:
        return operator.adjoint(operator(x)) / size

    found = convolution(problem)
    levels, products, spread = (LEVELS, PRODUCTS, SPREAD) if found is None else found[1]
    mean = column(seen_share(problem), grey) if found is None else found[0]
    right, x = operator.adjoint(minus(problem.y, operator(grey))) / size, torch.zeros_like(grey)
    for level in levels:
        noise = column(problem.sigma_x.clamp_min(level), grey)
        bend, pull = (noise / SLOPE) ** 2, (noise / WIDTH) ** 2

        def apply(x: Tensor, bend: Tensor = bend, pull: Tensor = pull) -> Tensor:
            return seen(x) + pull * x + (bend * (rough(x) + level_pull * x.mean(axes, keepdim=True)) if pictures else 0.0)

        def divided(r: Tensor, bend: Tensor = bend, pull: Tensor = pull) -> Tensor:
            return divide("symmetric", mean + bend * bent, pull, r) if pictures else r / (mean + pull)

        largest = (SLACK + pull) / (mean + pull) if found is None else torch.full_like(pull, LARGEST)
        x = chebyshev(apply, divided, right, x, largest, products, spread)
    return grey + x


def convolution(problem: Problem) -> tuple[Tensor, Work] | None:
    """The spectrum of H^T H / |H|^2 on the mirrored image's torus, (1, C, 2 H, W + 1), and the work that is left; None elsewhere.

    H^T H is that convolution where random images say so to `CLOSE`, one of them on the frame alone, and H of a mirror image is the mirror
    image of H: then no eigenvalue is above 1. A blur that gives whole neighbourhoods only ("valid") is one away from the edges, and less
    than it there: of the mirrored image's blur it keeps a part. What is found is a matter of H alone, for an H that all items share, so
    that an item's image does not depend on its batch.
    """
    operator, image = problem.operator, problem.image[:1]
    if operator.batch is not None or image.ndim != 4 or not operator.uniform or operator.stride != 1 or operator.period != 1:
        return None
    given, reach, gain = operator.out_shapes[0], operator.reach, problem.gain[0]
    whole = given == operator.in_shape
    if len(operator.out_shapes) > 1 or len(given) != 3 or given[0] != image.shape[1]:  # pyright: ignore[reportGeneralTypeIssues]
        return None
    if not whole and not 0 < 4 * reach < min(image.shape[-2:]):
        return None
    drawn = Rng(0, [0], purpose="start").normal_like(image)
    inside = torch.zeros_like(drawn)
    inside[..., reach : image.shape[-2] - reach, reach : image.shape[-1] - reach] = 1
    plain = parts(operator(drawn))[0] / gain
    if not all(near(parts(operator(drawn.flip(dim)))[0].flip(dim) / gain - plain, plain) for dim in (-2, -1)):
        return None
    spectrum = mirror_spectrum(operator, image, probes=1) / gain**2
    for probe, place in ((drawn, 1), ((1 - inside) * drawn, 1)) if whole else ((inside * drawn, inside),):
        exact = operator.adjoint(operator(probe)) / gain**2
        if not near(place * (exact - convolved(probe, spectrum)), exact):
            return None
    return spectrum, WHOLE if whole else VALID


def near(apart: Tensor, whole: Tensor) -> bool:
    """Whether a difference is at most `CLOSE` of what it belongs to; not where that is no number."""
    return bool(inner(apart, apart) <= CLOSE**2 * inner(whole, whole))


def chebyshev(
    apply: Callable[[Tensor], Tensor],
    divided: Callable[[Tensor], Tensor],
    right: Tensor,
    x: Tensor,
    largest: Tensor,
    products: int = PRODUCTS,
    spread: float = SPREAD,
) -> Tensor:
    """So many steps towards A x = b from x, for the eigenvalues of M^-1 A from largest / spread to largest, (B, 1, 1, 1)."""
    middle, half = largest * (1 + 1 / spread) / 2, largest * (1 - 1 / spread) / 2
    ratio = (1 + 1 / spread) / (1 - 1 / spread)
    residual = right - apply(x)
    move, factor = divided(residual) / middle, 1 / ratio
    for _ in range(products):
        x = x + move
        residual = residual - apply(move)
        following = 1 / (2 * ratio - factor)
        move = following * factor * move + (2 * following / half) * divided(residual)
        factor = following
    return x


@torch.no_grad()
def seen_share(problem: Problem) -> Tensor:
    """About the mean diagonal of H^T H / |H|^2, (B,), by one product: the share of the image that is seen; 1 for H = identity.

    Args:
        problem: with a linear operator.
    """
    operator, image = problem.operator, problem.image
    probe = Rng(0, [0] * len(image), purpose="start").normal_like(image)  # the same draw for every item
    return inner(probe, operator.adjoint(operator(probe))) / inner(probe, probe) / problem.gain**2


def rough(x: Tensor) -> Tensor:
    """The gradient of |grad x|^2 / 2: minus the Laplacian, with nothing flowing over the edges."""
    out = torch.zeros_like(x)
    for dim in range(2 - x.ndim, 0):
        step = x.diff(dim=dim)
        out.narrow(dim, 1, step.shape[dim]).add_(step)
        out.narrow(dim, 0, step.shape[dim]).sub_(step)
    return out


def laplace_spectrum(x: Tensor) -> Tensor:
    """The eigenvalues of `rough` on the mirrored image's torus, (2 H, W + 1), of a volume (2 D, 2 H, W + 1)."""
    sides = x.shape[2:]
    found = torch.full((), 2.0 * len(sides), dtype=x.dtype, device=x.device)
    for index, side in enumerate(sides):
        count = side + 1 if index == len(sides) - 1 else 2 * side
        waves = torch.arange(count, dtype=x.dtype, device=x.device) * (math.pi / side)
        found = found - 2 * waves.cos().reshape(-1, *[1] * (len(sides) - 1 - index))
    return found


@torch.no_grad()
def seen_image(problem: Problem) -> Tensor:
    """y where H leaves flat images flat (few bits, a clipped range, compression), in units in which black is 0 and white 1; else grey.

    x = (y - H(0)) / (H(1) - H(0)),  clipped to [0, 1],  channel by channel
    """
    operator, y, image = problem.operator, problem.y, problem.image
    if not isinstance(y, Tensor) or y.is_complex() or y.shape != image.shape or image.ndim != 4:
        return image + 0.5
    ends = [operator(image), operator(image + 1)]
    assert isinstance(ends[0], Tensor)
    assert isinstance(ends[1], Tensor)
    black, white = (end.mean((-2, -1), keepdim=True) for end in ends)
    span = white - black
    off = [(end - level).abs().amax((1, 2, 3)) for end, level in zip(ends, (black, white), strict=True)]
    flat = torch.maximum(*off) <= 1e-3 * span.abs().amin((1, 2, 3))
    usable = column(flat, image).bool() & (span != 0)
    return torch.where(usable, (y - black) / torch.where(span != 0, span, 1.0), 0.5).clamp(0, 1)
