"""Conformance of priors: what every Denoiser D(x, sigma) and every Regulariser R(x) promises.

    for denoiser, check in denoiser_cases(MyDenoiser()):
        check(denoiser)                      # raises AssertionError with what was found and what is allowed

Closed forms are held to float64: 1e-10. A network that computes in float32 is held to `NETWORK` times the size of its values:
a chain of L convolutions with sums of n terms, each with gain about 1, rounds by about sqrt(L n) eps when the order of
summation changes (another batch size may choose another kernel); L = 40, n = 9 * 200 gives 270 eps = 3.2e-5.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError, UnknownNameError
from invsolve.priors.base import Denoiser, DiffusionPrior, Prior, Regulariser
from invsolve.rng import Rng
from invsolve.testing.cases import Check, Checks, build_cases, chosen, need
from invsolve.testing.conditions import check_given, check_in_solvers, for_one_problem
from invsolve.testing.objects import check_buffers
from invsolve.testing.promises import PROMISES
from invsolve.testing.settings import frozen_state, refused, same, truth
from invsolve.testing.world import kept, unmoved, worlds

CLOSED = 1e-10
NETWORK = 270 * torch.finfo(torch.float32).eps
SIZE = (12, 13)  # not square, not a multiple of what networks downsample by


def image_shape(prior: Prior) -> tuple[int, int, int]:
    """The images it is checked on: its own shape where it has one, else its channels (3 for any)."""
    own = getattr(prior, "in_shape", None)
    return own if own is not None else (getattr(prior, "channels", None) or 3, *SIZE)


def single(denoiser: Denoiser) -> bool:
    """Whether it computes in float32 whatever it is given: a network that casts, or with float32 parameters."""
    casts = any(getattr(module, "precision", "float64") != "float64" for module in denoiser.modules())
    return casts or any(parameter.dtype == torch.float32 for parameter in denoiser.parameters())


def tolerance(denoiser: Denoiser, *tensors: Tensor) -> float:
    """What rounding may do: see the module."""
    size = max([1.0, *(float(tensor.abs().max()) for tensor in tensors)])
    return (NETWORK if single(denoiser) else CLOSED) * size


def middle(denoiser: Denoiser) -> float:
    """A noise level well inside the range: the geometric mean of 0.05 and the range, cut to it."""
    low, high = denoiser.sigma_range
    return min(max(0.05, low), high)


def noisy(denoiser: Denoiser, sigma: float | Tensor, dtype: torch.dtype = torch.float64, batch: int = 3) -> tuple[Tensor, Tensor]:
    """(x0, x0 + sigma n): x0 drawn from the prior where it can, else smooth images."""
    shape, rng = image_shape(denoiser), Rng(21, range(batch), purpose="noisy")
    like = torch.zeros(1, dtype=dtype)
    draw = getattr(denoiser, "sample", None)
    clean = truth(shape, batch, dtype, texture=0.0) if draw is None else draw(shape, rng, like)
    level = torch.as_tensor(sigma, dtype=dtype).reshape(-1, 1, 1, 1)
    return clean, clean + level * rng.normal_like(clean)


def check_shape_dtype(denoiser: Denoiser) -> None:
    """x0_hat has x's shape and dtype, float32 and float64, for a batch of 1 and 3."""
    for dtype in (torch.float32, torch.float64):
        for batch in (1, 3):
            x = noisy(denoiser, middle(denoiser), dtype, batch)[1]
            out = denoiser(x, middle(denoiser))
            need(out.shape == x.shape, f"x0_hat has shape {tuple(out.shape)}, x {tuple(x.shape)}")
            need(out.dtype == dtype, f"x0_hat is {out.dtype}, x {dtype}")


def check_batch_independence(denoiser: Denoiser) -> None:
    """Every item alone equals that item in a batch of 3."""
    sigma = middle(denoiser)
    x = noisy(denoiser, sigma)[1]
    whole = denoiser(x, sigma)
    for item in range(3):
        same(denoiser(x[item : item + 1], sigma)[0], whole[item], tolerance(denoiser, whole), f"item {item} alone and in a batch")


def check_sigma_forms(denoiser: Denoiser) -> None:
    """sigma as a float, a 0-d tensor and a (B,) tensor give the same; levels that differ per item give what they give alone."""
    sigma = middle(denoiser)
    x = noisy(denoiser, sigma)[1]
    whole = denoiser(x, sigma)
    for form in (torch.tensor(sigma, dtype=x.dtype), torch.full((3,), sigma, dtype=x.dtype), torch.full((3,), sigma)):
        same(
            denoiser(x, form), whole, tolerance(denoiser, whole) + 1e-6 * (form.dtype == torch.float32), f"sigma {form.dtype} {form.shape}"
        )
    low, high = denoiser.sigma_range
    levels = torch.tensor([low, sigma, min(high, 1.0)], dtype=x.dtype)
    mixed = denoiser(x, levels)
    for item in range(3):
        alone = denoiser(x[item : item + 1], float(levels[item]))
        same(alone[0], mixed[item], tolerance(denoiser, mixed), f"sigma {float(levels[item]):.4g} for item {item} of a batch and alone")


def check_sigma_matters(denoiser: Denoiser) -> None:
    """A denoiser that is not blind gives something else at another level; a blind one the same."""
    low, high = denoiser.sigma_range
    x = noisy(denoiser, middle(denoiser))[1]
    first, second = denoiser(x, low), denoiser(x, min(high, 10 * middle(denoiser)))
    equal = torch.equal(first, second)
    need(equal == denoiser.blind, f"blind is {denoiser.blind}, the estimates at two levels are {'equal' if equal else 'different'}")


def check_untouched(denoiser: Denoiser) -> None:
    """x, sigma, parameters and the process (generators, default dtype, threads, modes) are as they were; two calls give the same bits."""
    x = noisy(denoiser, middle(denoiser))[1]
    sigma = torch.full((3,), middle(denoiser), dtype=x.dtype)
    held = [x.clone(), sigma.clone(), *frozen_state(denoiser)]
    for world in worlds("denoiser"):
        with kept():
            world.place()
            with unmoved("the estimate"):
                first, second = denoiser(x, sigma), denoiser(x, sigma)
        same(first, second, 0, "two calls")
        for old, new in zip(held, [x, sigma, *frozen_state(denoiser)], strict=True):
            same(old, new, 0, "x, sigma or a parameter was changed")


def check_near_identity(denoiser: Denoiser) -> None:
    """At the low end of the range D(x, sigma) moves x by at most 2 sigma (root mean square).

    With risk |D - x0| <= sigma (no worse than leaving the noise in) the triangle through x0 gives 2 sigma.
    """
    low = denoiser.sigma_range[0]
    if denoiser.blind or low > 0.1:
        return
    x = noisy(denoiser, low)[1]
    moved = (denoiser(x, low) - x).flatten(1).square().mean(1).sqrt()
    need((moved <= 2 * low).all(), f"at sigma {low:.4g} the estimate lies {float(moved.max()):.3g} from x (rms), allowed is {2 * low:.3g}")


def check_denoises(denoiser: Denoiser) -> None:
    """On images it is meant for (its own draws, else smooth ones) the estimate is nearer to x0 than x is."""
    sigma = middle(denoiser)
    clean, x = noisy(denoiser, sigma)
    before, after = ((y - clean).square().mean().sqrt() for y in (x, denoiser(x, sigma)))
    need(after < before, f"at sigma {sigma:.3g} the error is {float(after):.3g} after denoising, {float(before):.3g} before")


def check_finite(denoiser: Denoiser) -> None:
    """No NaN or Inf at both ends of sigma_range, in either precision, nor on a constant image."""
    for sigma in denoiser.sigma_range:
        need(sigma > 0 and sigma < float("inf"), f"sigma_range must be positive and finite; it is {denoiser.sigma_range}")
        for dtype in (torch.float32, torch.float64):
            x = noisy(denoiser, sigma, dtype)[1]
            for image in (x, torch.full_like(x, 0.5)):
                need(torch.isfinite(denoiser(image, sigma)).all(), f"NaN or Inf at sigma {sigma:.4g} in {dtype}")


def check_grid(denoiser: Denoiser) -> None:
    """sigmas(steps) decreases strictly, ends at 0, has at most `steps` levels inside sigma_range; sigma_max caps it."""
    low, high = denoiser.sigma_range
    for steps in (1, 2, 7, 50):
        for top in (None, (low * high) ** 0.5):
            grid = denoiser.sigmas(steps, "karras", top)
            need(grid[-1] == 0 and all(a > b for a, b in pairwise(grid)), f"not decreasing to 0: {grid}")
            need(2 <= len(grid) <= steps + 1, f"steps={steps} gives {len(grid) - 1} levels")
            ceiling = (high if top is None else top) * (1 + 1e-6)  # a schedule's table in float32 may miss its end by rounding
            need(
                grid[-2] >= low * (1 - 1e-6) and grid[0] <= ceiling,
                f"levels {grid[-2]:.4g} .. {grid[0]:.4g} leave {low:.4g} .. {ceiling:.4g}",
            )
    need(abs(denoiser.sigmas(7)[0] / high - 1) < 1e-6, f"the grid starts at {denoiser.sigmas(7)[0]:.4g}, the range ends at {high:.4g}")
    refused(lambda: denoiser.sigmas(7, "karas"), UnknownNameError, "karas", "karras")
    refused(lambda: denoiser.sigmas(0), InputError, "steps", "0")


def check_gradient(denoiser: Denoiser) -> None:
    """If differentiable: the gradient in x is finite, not zero, of x's shape, and an item's estimate has none in other items."""
    sigma = middle(denoiser)
    x = noisy(denoiser, sigma)[1].requires_grad_(True)
    out = denoiser(x, sigma)
    need(
        out.requires_grad == denoiser.differentiable, f"differentiable is {denoiser.differentiable}, but autograd says {out.requires_grad}"
    )
    if not denoiser.differentiable:
        return
    (gradient,) = torch.autograd.grad(out[1].sum(), x)
    need(torch.isfinite(gradient).all() and bool((gradient[1] != 0).any()), "the gradient is not finite, or zero")
    need(bool((gradient[[0, 2]] == 0).all()), "an item's estimate depends on other items")
    if not single(denoiser):
        aim, step = Rng(3, range(3), purpose="direction").normal_like(x), 1e-5
        with torch.no_grad():
            found = ((denoiser(x + step * aim, sigma) - denoiser(x - step * aim, sigma)) / (2 * step))[1].sum()
        slope = (gradient * aim).sum()
        # central differences: truncation step^2, rounding eps / step = 2e-11, both per pixel and summed over a few hundred
        same(found.detach(), slope, 1e-6 * max(1.0, float(slope.abs())), "the derivative along a direction and its finite difference")
    with torch.no_grad():
        need(not denoiser(x, sigma).requires_grad, "a graph is built under no_grad")


def check_levels(denoiser: Denoiser) -> None:
    """The grid of a DiffusionPrior with a discrete schedule consists of its levels."""
    if isinstance(denoiser, DiffusionPrior) and denoiser.schedule.discrete:
        table = torch.tensor(denoiser.sigmas(10**6), dtype=torch.float64)
        for level in denoiser.sigmas(9)[:-1]:
            need(float((table / level - 1).abs().min()) < 1e-9, f"level {level:.4g} is not one of the schedule's")


def check_strides(denoiser: Denoiser) -> None:
    """A view with other strides gives what its contiguous copy gives."""
    x = noisy(denoiser, middle(denoiser))[1]
    view, whole = torch.stack([x, x], dim=-1)[..., 0], denoiser(x, middle(denoiser))
    same(denoiser(view, middle(denoiser)), whole, tolerance(denoiser, whole), "the estimate of a strided view")


def check_copies(prior: Prior) -> None:
    """A pickled and a deep copy compute the same bits, and so does the prior made again from its own state."""
    x = truth(image_shape(prior), 2, torch.float64)

    def answer(one: Prior) -> Tensor:
        return one(x, middle(one)) if isinstance(one, Denoiser) else one(x)

    with torch.no_grad():
        wanted = answer(prior)
        for kind, twin in (("pickled", pickle.loads(pickle.dumps(prior))), ("deep", copy.deepcopy(prior))):
            same(answer(twin), wanted, 0, f"the answer of a {kind} copy")
        twin.load_state_dict(prior.state_dict())
        same(answer(twin), wanted, 0, "the answer after load_state_dict of its own state")


def check_value(prior: Regulariser) -> None:
    """R(x) is (B,), finite, not negative, per item; forward is weight times it; x is as it was; autograd gives no NaN."""
    x = truth(image_shape(prior), 3, torch.float64)
    kept = x.clone()
    value = prior.value(x)
    need(tuple(value.shape) == (3,), f"R(x) has shape {tuple(value.shape)}, expected (3,)")
    need(torch.isfinite(value).all() and bool((value >= 0).all()), f"R(x) = {value.tolist()}")
    same(prior.value(x), value, 0, "two calls")
    same(x, kept, 0, "x was changed")
    same(prior(x), prior.weight * value, CLOSED * float(value.max()), "forward and weight R")
    for item in range(3):
        alone = prior.value(x[item : item + 1])
        same(alone[0], value[item], CLOSED * max(1.0, float(value[item])), f"R of item {item} alone and in a batch")
    for image in (x, torch.full_like(x, 0.5), torch.zeros_like(x)):
        leaf = image.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(prior.value(leaf).sum(), leaf)
        need(torch.isfinite(gradient).all(), "the gradient of R has NaN or Inf")
    need(prior.value(x.float()).dtype == torch.float32, f"R of float32 images is {prior.value(x.float()).dtype}")


def prox_objective(prior: Regulariser, u: Tensor, x: Tensor, tau: float) -> Tensor:
    """R(u) + |u - x|^2 / (2 tau), (B,)."""
    return prior.value(u) + (u - x).flatten(1).square().sum(1) / (2 * tau)


def check_prox(prior: Regulariser) -> None:
    """No candidate beats the prox: for convex R, J(v) >= J(u*) + |v - u*|^2 / (2 tau), so J(u) may exceed J(v) by tol J(u) at most.

    Candidates: x, constants, blends of x and u, u with noise of several sizes, and u moved along the gradient of J.
    """
    slack = getattr(prior, "tol", 1e-8)
    x = noise_image(prior)
    for tau in (0.01, 0.1, 1.0):
        u = prior.prox(x, tau)
        need(u.shape == x.shape and u.dtype == x.dtype, f"the prox of {x.dtype} {tuple(x.shape)} is {u.dtype} {tuple(u.shape)}")
        best = prox_objective(prior, u, x, tau)
        leaf = u.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(prox_objective(prior, leaf, x, tau).sum(), leaf)
        rng = Rng(9, range(3), purpose="candidates")
        candidates = [x, x.mean((2, 3), keepdim=True).expand_as(x), *(u + t * (x - u) for t in (-0.1, -0.01, 0.01, 0.1, 0.5))]
        candidates += [u + size * rng.normal_like(u) for size in (1e-4, 1e-3, 1e-2, 1e-1) for _ in range(10)]
        candidates += [u - size * tau * slope for size in (1e-3, 1e-2, 1e-1, 1.0)]
        for candidate in candidates:
            lead = ((best - prox_objective(prior, candidate, x, tau)) / best.clamp_min(1e-300)).max()
            need(
                lead <= slack,
                f"tau {tau}: a candidate is better than the prox by {float(lead):.3g} of its objective, allowed is {slack:.3g}",
            )


def noise_image(prior: Regulariser) -> Tensor:
    """A smooth image with noise of 0.1."""
    clean = truth(image_shape(prior), 3, torch.float64)
    return clean + 0.1 * Rng(8, range(3), purpose="prox").normal_like(clean)


def check_unmoved(prior: Regulariser) -> None:
    """R and its prox leave x, the prior's tensors and the process (generators, default dtype, threads, modes) as they were."""
    x = noise_image(prior)
    held = [x.clone(), *frozen_state(prior)]
    for world in worlds("regulariser"):
        with kept():
            world.place()
            with unmoved("R(x)"):
                prior.value(x)
            with unmoved("the prox"):
                if prior.has_prox:
                    prior.prox(x, 0.1)
        for old, new in zip(held, [x, *frozen_state(prior)], strict=True):
            same(old, new, 0, "x or a tensor of the prior was changed")


def check_prox_forms(prior: Regulariser) -> None:
    """tau as a float and as (B,) agree; items do not influence each other; tau = 0 gives x; x and the generators are as they were."""
    x = noise_image(prior)
    kept, world = x.clone(), torch.get_rng_state()
    whole = prior.prox(x, 0.1)
    same(prior.prox(x, 0.1), whole, 0, "the prox twice")
    same(prior.prox(x, torch.full((3,), 0.1, dtype=x.dtype)), whole, CLOSED, "tau as a number and as (B,)")
    taus = torch.tensor([0.02, 0.1, 0.5], dtype=x.dtype)
    mixed = prior.prox(x, taus)
    for item in range(3):
        one = x[item : item + 1]
        same(prior.prox(one, 0.1)[0], whole[item], CLOSED, f"the prox of item {item} alone and in a batch")
        same(prior.prox(one, float(taus[item]))[0], mixed[item], CLOSED, f"tau {float(taus[item])} for item {item} of a batch and alone")
    same(prior.prox(x, 0.0), x, 0, "the prox with tau = 0 and x")
    same(x, kept, 0, "x was changed")
    need(torch.equal(world, torch.get_rng_state()), "torch's global generator was used")


def check_prox_contracts(prior: Regulariser) -> None:
    """Firm nonexpansiveness, |u - v|^2 <= <u - v, x - z>, up to the tolerance of the two solutions.

    A relative gap tol leaves |u - u*| <= sqrt(2 tau tol J(u)) by strong convexity.
    """
    tau, slack = 0.1, getattr(prior, "tol", 1e-8)
    x = noise_image(prior)
    z = x.flip(0) + 0.05
    u, v = prior.prox(x, tau), prior.prox(z, tau)
    error = sum((2 * tau * slack * prox_objective(prior, a, b, tau)).sqrt() for a, b in ((u, x), (v, z)))
    step, gap = (u - v).flatten(1), (x - z).flatten(1)
    allowed = error * (2 * step.norm(dim=1) + gap.norm(dim=1) + error)
    lead = step.square().sum(1) - (step * gap).sum(1)
    need((lead <= allowed).all(), f"the prox is not firmly nonexpansive: {lead.tolist()} above {allowed.tolist()}")  # pyright: ignore


DENOISER_CHECKS: tuple[Check, ...] = (
    check_shape_dtype,
    check_batch_independence,
    check_sigma_forms,
    check_sigma_matters,
    check_untouched,
    check_near_identity,
    check_denoises,
    check_finite,
    check_grid,
    check_gradient,
    check_levels,
    check_strides,
    check_buffers,
    check_copies,
    check_given,
    *PROMISES,
    check_in_solvers,
)
AS_THEY_ARE = (check_buffers, check_given, *PROMISES, check_in_solvers)  # the others are called with the denoiser of one problem
REGULARISER_CHECKS: tuple[Check, ...] = (check_value, check_unmoved, check_buffers, check_copies)
PROX_CHECKS: tuple[Check, ...] = (check_prox, check_prox_forms, check_prox_contracts)


def denoiser_checks(denoiser: Denoiser, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """The checks of a denoiser by name; each is called with it. What its class declares as `expected_failures` must fail."""
    every = [check if check in AS_THEY_ARE else for_one_problem(check) for check in DENOISER_CHECKS]
    return chosen(denoiser, every, every, expected_failures)


def regulariser_checks(regulariser: Regulariser, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """The checks of a regulariser by name, those of the prox where it has one."""
    every = (*REGULARISER_CHECKS, *PROX_CHECKS)
    return chosen(regulariser, every if regulariser.has_prox else REGULARISER_CHECKS, every, expected_failures)


def prior_checks(prior: Prior, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """Those of its kind."""
    made = denoiser_checks if isinstance(prior, Denoiser) else regulariser_checks
    return made(prior, expected_failures)  # pyright: ignore[reportArgumentType]


def denoiser_cases(*denoisers: Denoiser, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every denoiser with every check, for `pytest.mark.parametrize("denoiser, check", ...)`."""
    return build_cases(denoisers, denoiser_checks, expected_failures)


def regulariser_cases(*regularisers: Regulariser, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every regulariser with every check, for `pytest.mark.parametrize("regulariser, check", ...)`."""
    return build_cases(regularisers, regulariser_checks, expected_failures)


def prior_cases(*priors: Prior, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every prior with the checks of its kind, for `pytest.mark.parametrize("prior, check", ...)`."""
    return build_cases(priors, prior_checks, expected_failures)
