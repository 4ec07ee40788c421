"""The exact laws of the inpainting samplers under a Gaussian prior, by recursions on mean and covariance: x <- F x + g + N(0, Q).

Written with diagonal matrices and from the chain x0 -> x_s -> y -> x_t, not from the solvers' formulas: what is drawn given several
things is conditioned by Bayes.
"""

import functools
import itertools
import math

import torch
from invsolve_operators import Mask

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.priors import GaussianPrior
from invsolve.schedule import DiscreteVP
from invsolve.testing.oracle import Gaussian, gaussian_case, normal, propagate

DOUBLE = torch.float64


class Case:
    """A law of x0, pixels shown (0/1), y on all pixels (0 where hidden), sigma_y."""

    def __init__(self, law, shown, y, sigma):
        self.law, self.shown, self.y, self.sigma, self.size = law, shown, y, sigma, len(y)
        self.eye, self.zero = torch.eye(len(y), dtype=DOUBLE), torch.zeros(len(y), dtype=DOUBLE)
        self.prior = GaussianPrior(law.mean.reshape(1, 1, -1), cov=law.cov)
        self.posterior = law.posterior(torch.diag(shown)[shown > 0], y[shown > 0], max(sigma, 1e-9))

    def problem(self, chains):
        noise = GaussianNoise(self.sigma) if self.sigma else NoNoise()
        return Problem(Mask((1, 1, self.size), mask=self.shown.reshape(1, -1)), self.y.expand(chains, 1, 1, -1), noise, check_range=False)

    def start(self, sigma):
        return Gaussian(torch.full_like(self.y, float(self.law.mean.mean())), sigma**2 * self.eye)

    def pixels(self, known, hidden):
        """A diagonal matrix: one number on pixels shown, another on hidden ones."""
        return torch.diag(torch.where(self.shown > 0, float(known), float(hidden)).double())


def entries(seed, sigma):
    """Every other entry of 8, correlated (case I)."""
    law, _, matrix, y = gaussian_case("I", seed, sigma=sigma)
    return Case(law, matrix.sum(0), matrix.T @ y, sigma)


def field(seed, sigma, side=6, hole=2):
    """A hole in a field with exponential covariance of length 3, std 1/4."""
    at = torch.cartesian_prod(torch.arange(side, dtype=DOUBLE), torch.arange(side, dtype=DOUBLE))
    law = Gaussian(torch.full((side**2,), 0.5, dtype=DOUBLE), torch.exp(-torch.cdist(at, at) / 3) / 16)
    shown, low = torch.ones(side, side, dtype=DOUBLE), (side - hole) // 2
    shown[low : low + hole, low : low + hole] = 0
    y = shown.flatten() * (law.sample(1, seed + 50)[0] + sigma * normal(side**2, seed=seed + 900))
    return Case(law, shown.flatten(), y, sigma)


def between(near, far):
    """Weights of two points of Brownian motion, and the variance left, for one between them at these variances from each."""
    return far / (near + far), near / (near + far), near * far / (near + far)


def put_back(case, sigma):
    if sigma < case.sigma:
        return case.eye, case.zero, 0 * case.eye
    return case.pixels(0, 1), case.shown * case.y, case.pixels(sigma**2 - case.sigma**2, 0)


def downward(case, sigma, following, eta=1.0):
    """x0_hat + kept (x_t or y - x0_hat) + N(0, ...): with eta 1 the bridge from x0_hat at noise 0 to the state at its level."""
    gain, offset = case.law.denoiser(sigma)
    if following == 0:
        exact = case.pixels(case.sigma == 0, 0)
        return (case.eye - exact) @ gain, (case.eye - exact) @ offset + exact @ case.y, 0 * case.eye
    passed = following < case.sigma <= sigma
    kept, fresh = {}, {}
    for name, level in (("hidden", sigma), ("known", case.sigma if passed else sigma)):
        fresh[name] = (eta * following) ** 2 * (1 - following**2 / level**2)
        kept[name] = math.sqrt(following**2 - fresh[name]) / level
    kept, fresh = (case.pixels(one["known"], one["hidden"]) for one in (kept, fresh))
    from_y = case.pixels(passed, 0)
    return (case.eye - kept) @ gain + kept @ (case.eye - from_y), (case.eye - kept) @ offset + kept @ from_y @ case.y, fresh


def upward(case, sigma, higher):
    added = higher**2 - sigma**2
    if higher >= case.sigma:
        return case.eye, case.zero, added * case.eye
    of_x, of_y, left = between(added, case.sigma**2 - higher**2)
    return case.pixels(of_x, 1), of_y * case.shown * case.y, case.pixels(left, added)


def schedule(levels, jump, repeats):
    """(level, next level): RePaint's way, by recursion on its times that count up to the noise."""
    jumps, time, times = dict.fromkeys(range(0, levels - jump, jump), repeats - 1), levels - 1, [levels - 1]
    while time >= 0:
        if jumps.get(time, 0) > 0 and len(times) > 1 and times[-2] != time - jump:
            jumps[time] -= 1
            times.append(time + jump)
            time += jump
        else:
            time -= 1
            times.append(time)
    return [(levels - 1 - first, levels - 1 - second) for first, second in itertools.pairwise(times)]


def repaint_law(case, sigmas, jump=1, repeats=1):
    @functools.cache
    def step(at, to):
        if to < at:
            return upward(case, sigmas[at], sigmas[to])
        (first, shift, noise), (matrix, offset, fresh) = put_back(case, sigmas[at]), downward(case, sigmas[at], sigmas[to])
        return matrix @ first, matrix @ shift + offset, matrix @ noise @ matrix.T + fresh

    return propagate(case.start(sigmas[0]), (step(at, to) for at, to in schedule(len(sigmas) - 1, jump, repeats)))


def langevin(case, sigma, step, guidance):
    """Exact in A: mean exp(-A dt) x + (1 - exp(-A dt)) C / A with C = drift + A x, variance sigma^2 (1 - exp(-2 A dt)) / A."""
    gain, offset = case.law.denoiser(sigma)
    gap = abs(sigma**2 - case.sigma**2)
    if case.sigma <= sigma:  # the score of y's law there times sigma^2 (1 + lambda), the network's times -lambda
        rate = (1 + guidance) * sigma**2 / gap
        known, held = sigma**2 * (1 + guidance) / gap * case.y - guidance * offset, -guidance * (gain - case.eye)
    else:  # the score of x_s plus that of y given x_s
        rate = 1 + sigma**2 / gap
        known, held = sigma**2 / gap * case.y + offset, gain
    decay = case.pixels(math.exp(-rate * step), math.exp(-step))
    to_goal = (case.eye - decay) @ case.pixels(1 / rate, 1)
    constant = torch.where(case.shown > 0, known, offset)
    matrix = torch.where(case.shown[:, None] > 0, held, gain)
    spread = case.pixels(-math.expm1(-2 * rate * step) / rate, -math.expm1(-2 * step))
    return decay + to_goal @ matrix, to_goal @ constant, sigma**2 * spread


def lanpaint_law(case, sigmas, inner, step, guidance=6.0, eta=0.0):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            yield put_back(case, sigma)
            for _ in range(inner):
                yield langevin(case, sigma, step, guidance)
            yield downward(case, sigma, following, eta)

    return propagate(case.start(sigmas[0]), steps())


def fitting(case, sigma, inner, rate):
    """Gradient steps on v |m (G x + g - y)|^2 + c |x - x_t|^2, from the authors' numbers for a VP state in [-1, 1]."""
    gain, offset = case.law.denoiser(sigma)
    time = float(DiscreteVP().time(torch.tensor(2 * sigma, dtype=DOUBLE)))
    done, a = 250 * (1 - min(max(time, 0.0), 999.0) / 999), 1 / (1 + 4 * sigma**2)
    # lr sqrt(a) grad of 4 L in x_vp = 2 sqrt(a) x: in x that is lr sqrt(a) / (2 sqrt(a)) (1 / (2 sqrt(a))) 4 = lr / sqrt(a)
    length, anchor = rate * 1.012**done / math.sqrt(a), 1e-4 * 1.01**done * a
    pull = 2 * sigma**2 / (sigma**2 + case.sigma**2) * gain.T @ torch.diag(case.shown)
    matrix, shift = case.eye, case.zero
    for _ in range(inner):
        matrix, shift = (
            matrix - length * (pull @ gain @ matrix + 2 * anchor * (matrix - case.eye)),
            shift - length * (pull @ (gain @ shift + offset - case.y) + 2 * anchor * shift),
        )
    return matrix, shift, 0 * case.eye


def copaint_law(case, sigmas, inner=2, rate=0.02, jump=1, repeats=1):
    def steps():
        for at, to in schedule(len(sigmas) - 1, jump, repeats):
            yield fitting(case, sigmas[at], inner, rate)
            if to > at:
                yield downward(case, sigmas[at], sigmas[to], 0.0) if sigmas[to] == 0 else plain(case, sigmas[at], sigmas[to])
            else:
                yield case.eye, case.zero, (sigmas[to] ** 2 - sigmas[at] ** 2) * case.eye

    return propagate(case.start(sigmas[0]), steps())


def plain(case, sigma, following):
    """DDIM."""
    gain, offset = case.law.denoiser(sigma)
    kept = following / sigma
    return gain + kept * (case.eye - gain), (1 - kept) * offset, 0 * case.eye
