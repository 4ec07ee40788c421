"""Checks of what inverts an operator: the SVD contract, the Moore-Penrose laws, the prox's normal equations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import Measurement, column, minus, parts
from invsolve.operator.svd import SVD
from invsolve.rng import Rng
from invsolve.testing.cases import Check, need
from invsolve.testing.probes import below, close, dot, equal, frobenius, image, measurement, norms, pick, rows, unit

# Above this condition number times unit, H^+ H H^+ y is rounding, and nothing can be said about it in float64.
HOPELESS = 1e-3
# What a draw may lie from its mean: beyond it once in 5e8 draws.
SIGMAS = 6.0


def coefficients(operator: Operator, svd: SVD, seed: int = 5) -> Tensor:
    """White (B, *spec)."""
    spectrum = svd.Vt(image(operator))
    return Rng(seed, range(len(spectrum)), purpose="check").normal(spectrum.shape[1:], spectrum)


def seen(svd: SVD, c: Tensor) -> Tensor:
    """1 where s > 0, shaped (B, *spec)."""
    return (svd.values(c) > 0).expand_as(c)


def check_svd_layout(operator: Operator) -> None:
    """Vt(x) is real with prod(spec) = n; s is real, finite, not negative, of shape spec or (B, *spec), and obeys the rank rule."""
    svd, x = operator.svd(), image(operator)
    spectrum, pixels = svd.Vt(x), math.prod(operator.in_shape)
    need(not spectrum.is_complex(), f"Vt(x) is {spectrum.dtype}; the spectrum must be real")
    need(len(spectrum) == len(x) and spectrum[0].numel() == pixels, f"Vt(x) has shape {tuple(spectrum.shape)} for {pixels} pixels")
    allowed = (spectrum.shape[1:],) if operator.batch is None else (spectrum.shape[1:], spectrum.shape)
    need(svd.s.shape in allowed, f"s has shape {tuple(svd.s.shape)}, Vt(x) {tuple(spectrum.shape)}")
    need(not svd.s.is_complex() and bool(torch.isfinite(svd.s).all()) and bool((svd.s >= 0).all()), "s must be real, finite and >= 0")
    limit = torch.finfo(svd.s.dtype).eps * max(rows(operator), pixels)
    for s in svd.s if svd.s.ndim == spectrum.ndim else [svd.s]:
        small = (s > 0) & (s <= limit * s.max())
        need(not bool(small.any()), f"{int(small.sum())} singular values lie in (0, eps max(m, n) s_max]; set them to 0 (svd.rank_rule)")


def check_svd_right(operator: Operator) -> None:
    """V is orthogonal on the whole image space: V Vt x = x, Vt V c = c, <V c, x> = <c, Vt x>."""
    svd, x = operator.svd(), image(operator)
    c, allowed = coefficients(operator, svd), unit(operator)
    close(svd.V(svd.Vt(x)), x, allowed * float(norms(x).max()), "V Vt x against x")
    close(svd.Vt(svd.V(c)), c, allowed * float(norms(c).max()), "Vt V c against c")
    below((norms(svd.Vt(x)) - norms(x)).abs(), allowed * norms(x), "|Vt x| - |x|")
    below((dot(svd.V(c), x) - dot(c, svd.Vt(x))).abs(), allowed * norms(c) * norms(x), "<V c, x> - <c, Vt x>")


def check_svd_left(operator: Operator) -> None:
    """U is an isometry on s > 0 and blind elsewhere: Ut U c = c there, Ut y = 0 and U ignores c where s = 0."""
    svd, y = operator.svd(), parts(measurement(operator))[0]
    c, allowed = coefficients(operator, svd), unit(operator)
    known = seen(svd, c)
    kept = torch.where(known, c, 0)
    need(equal(svd.U(c), svd.U(kept)), "U reads entries where s = 0")
    back = svd.Ut(y)
    need(back.shape == c.shape, f"Ut(y) has shape {tuple(back.shape)}, Vt(x) {tuple(c.shape)}")
    need(bool((back[~known] == 0).all()), "Ut(y) is not 0 where s = 0")
    close(svd.Ut(svd.U(c)), kept, allowed * float(norms(c).max()), "Ut U c against c where s > 0")
    below((dot(svd.U(c), y) - dot(c, back)).abs(), allowed * norms(c) * norms(y), "<U c, y> - <c, Ut y>")


def check_svd_product(operator: Operator) -> None:
    """U diag(s) Vt x = H x and V diag(s) Ut y = H^T y: the three factors share one order."""
    svd, x, y = operator.svd(), image(operator), parts(measurement(operator))[0]
    largest = math.sqrt(math.prod(operator.in_shape)) * float(svd.s.max()) if svd.s.numel() else 0.0
    close(svd.forward(x), operator(x), unit(operator) * largest * float(norms(x).max()), "U diag(s) Vt x against H x")
    close(svd.adjoint(y), operator.adjoint(y), unit(operator) * largest * float(norms(y).max()), "V diag(s) Ut y against H^T y")
    close(operator(svd.null(x)), torch.zeros_like(y), unit(operator) * largest * float(norms(x).max()), "H of the null-space part")


def check_pinv(operator: Operator) -> None:
    """The four Moore-Penrose laws: H P H = H, P H P = P, P H and H P symmetric, for P = H^+.

    With an SVD under the rank rule P H x is no larger than about x, so the laws on P H hold to unit |H| (|x| + |P H x|); without
    one P may be any backward unstable product, and the condition number |H| |P| enters. The laws on P y for arbitrary y always
    carry the condition number, and are left out where it makes them rounding.
    """
    x, z, y, r = image(operator), image(operator, seed=6), measurement(operator), measurement(operator, seed=7)
    norm, inverse = frobenius(operator(x), x), frobenius(operator.pinv(y), y)
    condition, allowed = norm * inverse, unit(operator)
    loss = 1.0 if operator.has(Capability.SVD) else max(1.0, condition)
    kept, other = operator.pinv(operator(x)), operator.pinv(operator(z))
    size = float((norms(x) + norms(kept)).max())
    close(operator(kept), operator(x), allowed * loss * norm * size, "H H^+ H x against H x")
    scale = (norms(x) + norms(kept)) * (norms(z) + norms(other)) * max(1.0, condition)
    if allowed * condition > HOPELESS:
        return
    below((dot(kept, z) - dot(x, other)).abs(), allowed * scale, "H^+ H is not symmetric (H^+ y is not of minimum norm)")
    once = operator.pinv(y)
    close(operator.pinv(operator(once)), once, allowed * condition * float(norms(once).max()), "H^+ H H^+ y against H^+ y")
    seen_y, seen_r = operator(once), operator(operator.pinv(r))
    scale = (norms(y) + norms(seen_y)) * (norms(r) + norms(seen_r)) * max(1.0, condition)
    below((dot(seen_y, r) - dot(y, seen_r)).abs(), allowed * scale, "H H^+ is not symmetric (H^+ y is not a least-squares solution)")


def check_pinv_zero(operator: Operator) -> None:
    """H^+ 0 = 0."""
    y = measurement(operator)
    nothing = tuple(torch.zeros_like(part) for part in parts(y))
    found = operator.pinv(nothing if isinstance(y, tuple) else nothing[0])
    need(bool((found == 0).all()), "H^+ 0 is not 0")


def residual(operator: Operator, x: Tensor, z: Tensor, y: Measurement, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """|H^T (H x - y) + (x - z) / tau| per item, and what rounding makes of it.

    The backward error of x = z + d acts on |H| (|H| |x| + |H| |z| + |y|) + (|x| + |z|) / tau, whatever the condition number.
    """
    weight = 1 / column(tau, x)
    gradient = operator.adjoint(minus(operator(x), y)) + weight * (x - z)
    norm = frobenius(operator(image(operator, batch=len(x))), image(operator, batch=len(x)))
    size = norm * (norm * (norms(x) + norms(z)) + norms(y)) + weight.flatten() * (norms(x) + norms(z))
    return norms(gradient), unit(operator) * size


def check_prox(operator: Operator) -> None:
    """H^T (H x - y) + (x - z) / tau = 0, for tau from 1e-8 to 1e8; of a nonlinear operator: no candidate has a lower objective."""
    z, y = image(operator), measurement(operator)
    for tau in (1e-8, 1e-3, 0.7, 1e3, 1e8):
        found = operator.prox(z, y, tau)
        if not operator.has(Capability.LINEAR):
            not_beaten(operator, found, z, y, tau)
            continue
        below(*residual(operator, found, z, y, tau), f"the normal equations of prox at tau = {tau:g}")


def not_beaten(operator: Operator, x: Tensor, z: Tensor, y: Measurement, tau: float) -> None:
    """AssertionError where a candidate near x, or on the way from x to z, has a lower 1/2 |H x - y|^2 + 1/(2 tau) |x - z|^2."""

    def objective(u: Tensor) -> Tensor:
        return norms(minus(operator(u), y)).square() / 2 + norms(u - z).square() / (2 * tau)

    best, rng = objective(x), Rng(10, range(len(x)), purpose="candidates")
    candidates = [x + step * (z - x) for step in (1e-3, 0.1, 0.5, 1.0)]
    candidates += [x + size * rng.normal_like(x) for size in (1e-3, 1e-2, 0.1, 1.0) for _ in range(5)]
    for candidate in candidates:
        below(best - objective(candidate), unit(operator) * best, f"a candidate is better than the prox at tau = {tau:g}")


def check_prox_items(operator: Operator) -> None:
    """tau of shape (B,) gives every item its own."""
    z, y = image(operator), measurement(operator)
    taus = torch.logspace(-1, 2, len(z), dtype=torch.float64, device=z.device)
    together = operator.prox(z, y, taus)
    norm = frobenius(operator(z), z)
    if operator.has(Capability.LINEAR):
        below(*residual(operator, together, z, y, taus), "the normal equations of prox with a tau per item")
    for item, tau in enumerate(taus.tolist()):
        alone = operator[item].prox(z[item : item + 1], pick(y, [item]), tau)
        # The gain from y - H z to x - z is at most sqrt(tau) / 2.
        size = float(norms(alone).max() + norms(z).max()) + math.sqrt(tau) * float(norms(y).max() + norm * norms(z).max())
        close(together[item : item + 1], alone, unit(operator) * size, f"prox with tau[{item}] against prox with a number")


def check_prox_limit(operator: Operator) -> None:
    """tau = inf is z + H^+ (y - H z), the least-squares solution nearest to z, where there is a pinv to hold it against; tau = 0 is z.

    An iterative prox may refuse tau = 0 with an InputError; NaN is no answer.
    """
    z, y = image(operator), measurement(operator)
    try:
        at_zero = operator.prox(z, y, 0.0)
    except InputError:
        at_zero = z
    close(at_zero, z, unit(operator) * float(norms(z).max()), "prox at tau = 0 against z")
    if not operator.has(Capability.PINV):
        return
    wanted = z + operator.pinv(minus(y, operator(z)))
    found = operator.prox(z, y, math.inf)
    norm, inverse = frobenius(operator(z), z), frobenius(operator.pinv(y), y)
    size = float(norms(z).max() * (1 + inverse * norm) + norms(wanted).max() + inverse * norms(y).max())
    close(found, wanted, unit(operator) * size, "prox at tau = inf against z + H^+ (y - H z)")


def check_prox_sample(operator: Operator) -> None:
    """Draws x of exp(-|y - Hx|^2 / (2 s^2) - |x - z|^2 / (2 r^2)): d = x - prox has precision A = H^T H / s^2 + 1 / r^2.

    Then d^T A d is chi-square with n degrees of freedom and v^T A d / sqrt(v^T A v) standard normal for a fixed v: both may lie
    `SIGMAS` from their means (the cube root of a chi-square is normal: Wilson and Hilferty, 1931). And draws are per item.
    """
    if not operator.has(Capability.LINEAR):
        return
    z, y, v = image(operator), measurement(operator), image(operator, seed=11)
    pixels = z[0].numel() * (2 if z.is_complex() else 1)
    gain = frobenius(operator(z), z) / math.sqrt(z[0].numel())
    r, s = 0.8, 0.56 * gain or 1.0  # both factors weigh about alike: |H|^2 / s^2 = 2 / r^2

    def precise(d: Tensor) -> Tensor:
        return operator.adjoint(operator(d)) / s**2 + d / r**2

    middle = operator.prox(z, y, (r / s) ** 2)
    draws = [operator.prox_sample(z, y, s, r, seed) for seed in range(4)]
    need(equal(operator.prox_sample(z, y, s, r, 0), draws[0]), "prox_sample of the same seed differs from call to call")
    need(not equal(draws[0], draws[1]), "prox_sample of seeds 0 and 1 are equal")
    total = sum(float(dot(draw - middle, precise(draw - middle)).real.sum()) for draw in draws)
    count = len(draws) * len(z) * pixels
    cube = ((total / count) ** (1 / 3) - 1 + 2 / (9 * count)) / math.sqrt(2 / (9 * count))
    need(abs(cube) < SIGMAS, f"prox_sample: d^T A d is {total / count:.3g} of what it should be, {cube:.1f} standard deviations away")
    for draw in draws:
        score = dot(v, precise(draw - middle)).real / dot(v, precise(v)).real.sqrt()
        below(score.abs(), SIGMAS, "prox_sample: the mean along a direction, in standard deviations,")
    item = len(z) - 1
    alone = operator[item].prox_sample(z[item:], pick(y, [item]), s, r, Rng(0, [item], purpose="prox-sample"))
    size = float(norms(draws[0]).max() + norms(z).max() + norms(y).max() / s)
    close(alone, draws[0][item:], unit(operator) * size, f"prox_sample: item {item} alone and in a batch")


SVD_CHECKS: tuple[Check, ...] = (check_svd_layout, check_svd_right, check_svd_left, check_svd_product)
PINV_CHECKS: tuple[Check, ...] = (check_pinv, check_pinv_zero)
PROX_CHECKS: tuple[Check, ...] = (check_prox, check_prox_items, check_prox_limit, check_prox_sample)
