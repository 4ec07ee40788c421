"""Operators whose SVD, pinv, prox or draws are wrong, each in one way; most were found in published code."""

import torch
from planted_faults import Factors, Sound
from planted_faults_objects import Nonlinear

from invsolve import SVD
from invsolve.operator.measurement import column
from invsolve.rng import Rng


class ThresholdedValues(Factors):
    """Small singular values dropped for stability: the SVD is another operator's."""

    def swap(self, svd):
        s = torch.where(svd.s > 0.7, svd.s, 0)
        return SVD(s, lambda c: (s > 0) * c, lambda y: (s > 0) * y, svd.V, svd.Vt)


class MovedLeft(Factors):
    """U in another order than s."""

    def swap(self, svd):
        def order(c):
            return c.flip(-2)

        return SVD(svd.s, lambda c: order(svd.U(c)), lambda y: svd.Ut(order(y)), svd.V, svd.Vt)


class TransposedRight(Factors):
    """Vt for V: a shift is not its own inverse."""

    def swap(self, svd):
        def shift(c):
            return c.roll(1, -2)

        return SVD(svd.s, svd.U, svd.Ut, shift, shift)


class NegativeValue(Factors):
    """A sign in s that belongs into U."""

    def swap(self, svd):
        sign = torch.ones(svd.s.shape, dtype=svd.s.dtype)
        sign[..., 0, 0] = -1
        return SVD(svd.s * sign, lambda c: sign * svd.U(c), lambda y: svd.Ut(sign * y), svd.V, svd.Vt)


class ComplexSpectrum(Factors):
    """The complex Fourier basis: real noise would not stay real."""

    def swap(self, svd):
        def there(x):
            return torch.fft.fft2(x, norm="ortho")

        def back(c):
            return torch.fft.ifft2(c, norm="ortho").real

        return SVD(svd.s, svd.U, svd.Ut, back, there)


class UReadsNull(Factors):
    """U uses what stands where s = 0."""

    def swap(self, svd):
        return SVD(svd.s, torch.clone, svd.Ut, svd.V, svd.Vt)


class ThresholdedPinv(Sound):
    """Gains below 0.7 dropped."""

    def pinv(self, y):
        return torch.where(self.g(y) > 0.7, super().pinv(y), 0)


class ScaledPinv(Sound):
    """The right directions, the wrong length: repeating pixels for the adjoint, over the number of pixels."""

    def pinv(self, y):
        return super().pinv(y) / 4


class DampedPinv(Sound):
    """g / (g^2 + 1e-6)."""

    def pinv(self, y):
        return self.g(y) * y / (self.g(y) ** 2 + 1e-6)


class SinglePinv(Sound):
    """float64 in and out, float32 inside."""

    def pinv(self, y):
        return super().pinv(y.float()).to(y.dtype)


class Projects(Sound):
    """The prox of tau = inf for every tau."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.full_like(torch.as_tensor(tau, dtype=z.dtype), torch.inf))


class TwiceTau(Sound):
    """|x - z|^2 / tau: the other convention."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.as_tensor(tau, dtype=z.dtype) / 2)


class SwappedProx(Sound):
    """z and y change places where both have one shape."""

    def prox(self, z, y, tau):
        return super().prox(y, z, tau)


class TauFloor(Sound):
    """tau is cut at 1e-4."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.as_tensor(tau, dtype=z.dtype).clamp_min(1e-4))


class TauCeiling(Sound):
    """Finite tau is cut at 1e6."""

    def prox(self, z, y, tau):
        tau = torch.as_tensor(tau, dtype=z.dtype)
        return super().prox(z, y, torch.where(tau.isinf(), tau, tau.clamp_max(1e6)))


class MeanTau(Sound):
    """The batch's mean of tau for every item."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.as_tensor(tau, dtype=z.dtype).mean())


class NaNAtZero(Sound):
    """0 / 0 at tau = 0."""

    def prox(self, z, y, tau):
        ratio = column(tau, z).clamp_max(1e300)
        return super().prox(z, y, tau) * (ratio / ratio)


class DetachedProx(Sound):
    """No gradient reaches z."""

    def prox(self, z, y, tau):
        return super().prox(z.detach(), y, tau)


class QuietDraws(Sound):
    """Noise smaller by sqrt(2): found in a published sampler."""

    def prox_sample(self, z, y, sigma_y, r, generator=None):
        return super().prox_sample(z, y, sigma_y / 2**0.5, r / 2**0.5, generator)


class HalfPerturbed(Sound):
    """Only z is perturbed, y is not."""

    def prox_sample(self, z, y, sigma_y, r, generator=None):
        rng = Rng.make(generator, range(len(z)), purpose="prox-sample")
        return self.prox(z + r * rng.normal_like(z), y, (r / sigma_y) ** 2)


class ShiftedDraws(Sound):
    """Draws about z in place of the prox."""

    def prox_sample(self, z, y, sigma_y, r, generator=None):
        return super().prox_sample(z, self(z), sigma_y, r, generator)


class ZeroIsNoSeed(Sound):
    """`if seed:` takes 0 for none."""

    def prox_sample(self, z, y, sigma_y, r, generator=None):
        return super().prox_sample(z, y, sigma_y, r, generator or None)


class OneStream(Sound):
    """All items' numbers from the first one's stream."""

    def prox_sample(self, z, y, sigma_y, r, generator=None):
        first = Rng.make(generator, range(len(z)), purpose="prox-sample").streams[0]
        near, moved = (part + width * torch.randn(part.shape, generator=first, dtype=part.dtype) for part, width in ((z, r), (y, sigma_y)))
        return self.prox(near, moved, (r / sigma_y) ** 2)


class Modulus(Nonlinear):
    """y = |x| with its prox, sign(z) max(0, (|z| + tau y) / (1 + tau)): sound, and nonlinear."""

    def prox(self, z, y, tau):
        tau = column(tau, z)
        length = torch.where(tau.isinf(), y, (z.abs() + tau.clamp_max(1e300) * y) / (1 + tau))
        return torch.where(z < 0, -1.0, 1.0) * length.clamp_min(0)


class WrongModulus(Modulus):
    """tau for 1 / tau."""

    def prox(self, z, y, tau):
        return super().prox(z, y, 1 / torch.as_tensor(tau, dtype=z.dtype))
