"""Total variation and its prox, against loops, enumeration, and a dense projected gradient written here.

Distances: the prox's objective P(u) = tau R(u) + |u - x|^2 / 2 is 1-strongly convex, so a dual point with gap g = P(u) - D(p) has
|u - u*| <= sqrt(2 g). The stopping rule is g <= tol P(u), hence every bound here is sqrt(2 tol P), plus the oracle's own.
"""

import itertools

import pytest
import torch

from invsolve.errors import InputError
from invsolve.priors import TotalVariation

TINY = 1e-12


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def primal(tv, u, x, tau):
    return tau * tv.value(u) + (u - x).square().flatten(1).sum(1) / 2


def bound(tv, u, x, tau, tol):
    return (2 * tol * primal(tv, u, x, tau)).sqrt()


class Counting(TotalVariation):
    """Counts iterations."""

    climbs = 0

    def _climb(self, *args):
        self.climbs += 1
        return super()._climb(*args)


def test_value_by_loops():
    x = image(2, 2, 4, 5)
    for isotropic in (True, False):
        expected = []
        for item in x:
            total = 0.0
            for plane in item:
                for i in range(4):
                    for j in range(5):
                        dy = float(plane[i + 1, j] - plane[i, j]) if i < 3 else 0.0
                        dx = float(plane[i, j + 1] - plane[i, j]) if j < 4 else 0.0
                        total += (dx**2 + dy**2) ** 0.5 if isotropic else abs(dx) + abs(dy)
            expected.append(total)
        value = TotalVariation(isotropic=isotropic).value(x)
        # 40 terms of size 1 in float64
        assert torch.allclose(value, torch.tensor(expected, dtype=x.dtype), rtol=1e-13, atol=0)


@pytest.mark.parametrize("isotropic", [True, False])
def test_gradient(isotropic):
    tv = TotalVariation(isotropic=isotropic)
    x = image(1, 1, 4, 5).requires_grad_(True)
    assert torch.autograd.gradcheck(tv.value, (x,))
    flat = torch.full((1, 1, 4, 5), 0.3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(tv.value(flat).sum(), flat)
    assert torch.equal(gradient, torch.zeros_like(flat))


def exact_line(x, tau):
    """1-D TV prox by enumeration: the minimiser is constant on runs, each the mean of x moved by tau (s_right - s_left) / length.

    Every pattern of signs s in {-1, 0, 1} at the gaps gives a candidate; the optimum is among them, and no candidate is below it.
    """
    size, best, found = len(x), float("inf"), None
    for signs in itertools.product((-1, 0, 1), repeat=size - 1):
        u, begin, left = torch.empty_like(x), 0, 0
        for end in range(1, size + 1):
            right = signs[end - 1] if end < size else 0
            if end == size or right != 0:
                u[begin:end] = x[begin:end].mean() + tau * (right - left) / (end - begin)
                begin, left = end, right
        value = float(tau * u.diff().abs().sum() + (u - x).square().sum() / 2)
        if value < best:
            best, found = value, u
    return found


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("tau", [0.05, 0.2])
def test_exact_in_one_dimension(isotropic, tau):
    """Both kinds are |dx| on a line."""
    tv = TotalVariation(isotropic=isotropic, tol=TINY, max_iter=100_000)
    x = image(1, 1, 1, 7, seed=3)
    u = tv.prox(x, tau)
    assert (u[0, 0, 0] - exact_line(x[0, 0, 0], tau)).norm() <= bound(tv, u, x, tau, TINY) + 1e-14
    assert torch.allclose(tv.prox(x.mT.contiguous(), tau).mT, u, atol=float(2 * bound(tv, u, x, tau, TINY)))


def dense_prox(x, tau, isotropic, steps=20_000):
    """(u, gap) by projected gradient on the dual with a dense difference matrix and no momentum; x (H, W)."""
    height, width = x.shape
    index = torch.arange(height * width).reshape(height, width)
    D = torch.zeros(2, height, width, height * width, dtype=x.dtype)
    for i, j in itertools.product(range(height), range(width)):
        for axis, (k, m) in enumerate([(i + 1, j), (i, j + 1)]):
            if k < height and m < width:
                D[axis, i, j, index[k, m]], D[axis, i, j, index[i, j]] = 1, -1
    D = D.reshape(2, height * width, -1)
    joined, flat = D.reshape(-1, height * width), x.flatten()
    p = torch.zeros(2, height * width, dtype=x.dtype)
    for _ in range(steps):
        u = flat - tau * (joined.T @ p.flatten())
        p = p + (joined @ u).reshape(2, -1) / (8 * tau)
        p = p / p.norm(dim=0).clamp_min(1) if isotropic else p.clamp(-1, 1)
    u = flat - tau * (joined.T @ p.flatten())
    slope = (joined @ u).reshape(2, -1)
    size = slope.norm(dim=0).sum() if isotropic else slope.abs().sum()
    return u.reshape(height, width), float(tau * (size - (p * slope).sum()))


@pytest.mark.parametrize("isotropic", [True, False])
def test_against_dense_projected_gradient(isotropic):
    tau = 0.15
    x = image(1, 1, 5, 6, seed=1)
    tv = TotalVariation(isotropic=isotropic, tol=TINY, max_iter=100_000)
    u = tv.prox(x, tau)
    oracle, gap = dense_prox(x[0, 0], tau, isotropic)
    assert gap < 1e-7
    assert (u[0, 0] - oracle).norm() <= bound(tv, u, x, tau, TINY) + (2 * max(gap, 0)) ** 0.5 + 1e-14


def test_the_two_kinds_differ():
    x = image(1, 1, 8, 8)
    isotropic, other = TotalVariation(), TotalVariation(isotropic=False)
    # |v|_2 <= |v|_1 <= sqrt(2) |v|_2 per pixel
    assert isotropic.value(x) < other.value(x) < 2**0.5 * isotropic.value(x)
    assert (isotropic.prox(x, 0.1) - other.prox(x, 0.1)).abs().max() > 0.01


@pytest.mark.parametrize("isotropic", [True, False])
def test_gap_certifies_the_distance(isotropic):
    x, tau = image(2, 3, 12, 9, seed=2), 0.1
    best = TotalVariation(isotropic=isotropic, tol=1e-11, max_iter=100_000).prox(x, tau)
    for tol in (1e-2, 1e-4, 1e-6):
        tv = TotalVariation(isotropic=isotropic, tol=tol)
        u, dual = tv.prox_with_dual(x, tau)
        assert (tv.gap(x, tau, dual) <= tol * (1 + 1e-9)).all()
        distance = (u - best).flatten(1).norm(dim=1)
        assert (distance <= bound(tv, u, x, tau, tol) + bound(tv, best, x, tau, 1e-11)).all()
        assert (primal(tv, u, x, tau) - primal(tv, best, x, tau) <= tol * primal(tv, u, x, tau)).all()


@pytest.mark.parametrize("isotropic", [True, False])
def test_moreau(isotropic):
    """x = prox + tau D^T p with p in the dual ball and <p, Du> = R(u); D^T by autograd of the loops' differences."""
    x, tau, tol = image(2, 2, 7, 8, seed=4), 0.08, 1e-8
    tv = TotalVariation(isotropic=isotropic, tol=tol, max_iter=100_000)
    u, p = tv.prox_with_dual(x, tau)
    image_of = torch.zeros_like(x, requires_grad=True)
    dy = torch.diff(image_of, dim=-2)
    dx = torch.diff(image_of, dim=-1)
    product = (dy * p[:, 0, :, :-1]).sum() + (dx * p[:, 1, :, :, :-1]).sum()
    (back,) = torch.autograd.grad(product, image_of)
    assert torch.allclose(u + tau * back, x, atol=1e-14)
    size = p.norm(dim=1) if isotropic else p.abs().amax(1)
    assert size.max() <= 1 + 1e-14
    assert (p[:, 0, :, -1] == 0).all()
    assert (p[:, 1, :, :, -1] == 0).all()
    pairing = (torch.diff(u, dim=-2) * p[:, 0, :, :-1]).flatten(1).sum(1) + (torch.diff(u, dim=-1) * p[:, 1, :, :, :-1]).flatten(1).sum(1)
    slack = tv.value(u) - pairing
    # tau * slack is the duality gap
    assert (slack >= -1e-12).all()
    assert (tau * slack <= tol * primal(tv, u, x, tau) + 1e-14).all()


def test_warm_start():
    x, tau, tol = image(2, 1, 16, 16), 0.1, 1e-6
    tv = Counting(tol=tol, max_iter=10_000)
    u, dual = tv.prox_with_dual(x, tau)
    cold, tv.climbs = tv.climbs, 0
    again, _ = tv.prox_with_dual(x, tau, dual)
    assert tv.climbs == 0
    assert torch.allclose(again, u, atol=1e-14)
    near = x + 1e-4 * image(2, 1, 16, 16, seed=9)
    warm, _ = tv.prox_with_dual(near, 0.98 * tau, dual)
    assert 0 < tv.climbs < cold
    tv.climbs = 0
    fresh, _ = tv.prox_with_dual(near, 0.98 * tau)
    assert ((warm - fresh).flatten(1).norm(dim=1) <= 2 * bound(tv, fresh, near, 0.98 * tau, tol)).all()


@pytest.mark.parametrize("isotropic", [True, False])
def test_items_are_independent(isotropic):
    """Items that need very different numbers of iterations, a tau of their own each, and tau = 0 among them."""
    x = image(4, 2, 9, 11, seed=5)
    x[1] *= 1e-3
    x[3] = 0.25
    tau = torch.tensor([0.5, 0.0, 0.01, 0.2], dtype=torch.float64)
    tv = TotalVariation(isotropic=isotropic, tol=1e-7)
    u, dual = tv.prox_with_dual(x, tau)
    for item in range(4):
        alone, own = tv.prox_with_dual(x[item : item + 1], tau[item : item + 1])
        assert torch.allclose(alone[0], u[item], atol=1e-12)
        assert torch.allclose(own[0], dual[item], atol=1e-12)
    assert torch.equal(u[1], x[1])
    assert torch.equal(u[3], x[3])
    assert torch.allclose(tv.prox(x[:1], 0.5), u[:1], atol=1e-12)


def test_channels_are_independent():
    x, tau, tol = image(1, 3, 8, 8, seed=6), 0.1, 1e-9
    tv = TotalVariation(tol=tol, max_iter=100_000)
    u = tv.prox(x, tau)
    for channel in range(3):
        own = tv.prox(x[:, channel : channel + 1], tau)
        assert (own - u[:, channel : channel + 1]).norm() <= 2 * bound(tv, u, x, tau, tol)


def test_a_large_tau_gives_the_mean_and_scales():
    x = image(1, 2, 6, 7, seed=7)
    tol = 1e-9
    tv = TotalVariation(tol=tol, max_iter=100_000)
    u = tv.prox(x, 100.0)
    assert (u - x.mean((-2, -1), keepdim=True)).norm() <= bound(tv, u, x, 100.0, tol)
    u, tripled = tv.prox(x, 0.1), tv.prox(3 * x + 1, 0.3)
    assert (tripled - 3 * u - 1).norm() <= 2 * bound(tv, tripled, 3 * x + 1, 0.3, tol)


def test_inputs_are_left_alone():
    x, dual = image(2, 1, 6, 6), 0.1 * image(2, 2, 1, 6, 6, seed=1)
    dual[:, 0, :, -1], dual[:, 1, :, :, -1] = 0, 0
    copies = x.clone(), dual.clone()
    TotalVariation().prox_with_dual(x, 0.1, dual)
    assert torch.equal(x, copies[0])
    assert torch.equal(dual, copies[1])


def test_float32_stops_at_what_it_can_resolve():
    tv = Counting(tol=1e-12, max_iter=5000)
    x = image(1, 3, 32, 32).float()
    u = tv.prox(x, 0.05)
    assert u.dtype == torch.float32
    assert tv.climbs < 5000
    exact = TotalVariation(tol=1e-10, max_iter=10_000).prox(x.double(), 0.05)
    # tol is floored at 4 eps of float32; 1e-7 per pixel for the rounding of u itself
    slack = bound(tv, exact, x.double(), 0.05, 4 * torch.finfo(torch.float32).eps) + 1e-7 * x.numel() ** 0.5
    assert (u - exact).norm() <= slack


def test_refusals():
    x = image(2, 1, 6, 6)
    tv = TotalVariation()
    for tau in (-0.1, float("inf"), float("nan"), torch.tensor([0.1, -0.1])):
        with pytest.raises(InputError, match="tau must be finite"):
            tv.prox(x, tau)
    with pytest.raises(InputError, match="dual must have shape"):
        tv.prox_with_dual(x, 0.1, torch.zeros(2, 1, 2, 6, 6))
    for bad in ({"weight": -1.0}, {"weight": float("nan")}, {"tol": 0.0}, {"tol": 1.0}, {"max_iter": 0}):
        with pytest.raises(InputError):
            TotalVariation(**bad)
