"""Operators that break one promise each, and the sound one that they derive from."""

import torch

from invsolve import SVD, Capability, Operator
from invsolve.errors import CapabilityError
from invsolve.operator.measurement import column

SHAPE = (2, 4, 5)
LINEAR = frozenset({Capability.LINEAR})


class Sound(Operator):
    """y = g * x with a positive gain per pixel, 0 in one column: every capability in closed form, and the base of the faults."""

    traits = LINEAR
    gain: torch.Tensor

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)
        height, width = in_shape[-2:]
        gain = 0.5 + torch.arange(height * width, dtype=torch.float64).reshape(height, width) / (height * width)
        gain[:, 2] = 0
        self.register_buffer("gain", gain)

    def g(self, x):
        return self.like("gain", x)

    def forward(self, x):
        return self.g(x) * x

    def adjoint(self, y):
        return self.g(y) * y

    def pinv(self, y):
        return torch.where(self.g(y) > 0, y / self.g(y).clamp_min(0.1), 0)

    def prox(self, z, y, tau):
        return z + torch.where(self.g(z) > 0, self.g(z) * (y - self(z)) / (self.g(z) ** 2 + 1 / column(tau, z)), 0)

    def svd(self):
        seen = self.gain > 0
        return SVD(self.gain.expand(self.in_shape), lambda c: seen * c, lambda y: seen * y, torch.clone, torch.clone)


class LinearOnly(Operator):
    """Base of the faults in `forward` alone."""

    traits = LINEAR

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)


class MinusBatchMean(LinearOnly):
    """Symmetric over the batch: a dot test over the whole batch cannot see it."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)

    def adjoint(self, y):
        return y - y.mean(0, keepdim=True)


class Rooted(LinearOnly):
    """A parameter that is no buffer: it stays on the CPU."""

    def forward(self, x):
        return x * torch.full((4, 5), 2.0, dtype=x.dtype)


class FirstItemForAll(LinearOnly):
    """Uses the first item's mean for every item."""

    def forward(self, x):
        return x + 0.1 * x[:1].mean()


class HiddenNoise(LinearOnly):
    """Noise from the global generator, as small as 1e-9."""

    def forward(self, x):
        return x + 1e-9 * torch.randn_like(x)


class Affine(LinearOnly):
    """x + c claimed linear."""

    def forward(self, x):
        return x + 1e-6

    def adjoint(self, y):
        return y.clone()


class WritesInput(LinearOnly):
    """Works in place."""

    def forward(self, x):
        return x.mul_(2.0)


class Halves(LinearOnly):
    """Always float32."""

    def forward(self, x):
        return 2 * x.float()


class RoundsInside(LinearOnly):
    """float64 in and out, float32 inside."""

    def forward(self, x):
        return (x.float() * 0.3).to(x.dtype)

    def adjoint(self, y):
        return 0.3 * y


class Detached(LinearOnly):
    """Leaves the graph; the adjoint is written by hand."""

    def forward(self, x):
        return 2 * x.detach()

    def adjoint(self, y):
        return 2 * y


class WrongShape(LinearOnly):
    """Says (2, 4, 5), gives (2, 4, 4)."""

    def forward(self, x):
        return x[..., :4]


class CountsCalls(Sound):
    """Keeps state in a buffer."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class ForgetsBuffer(Sound):
    """Keeps a converted gain of its own that load_state_dict does not reach."""

    def g(self, x):
        if "held" not in vars(self) or self.held.dtype != x.dtype:
            self.held = self.gain.to(x)
        return self.held


class HoldsLambda(Sound):
    """Cannot be pickled."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.f = lambda x: x


class OtherArguments(Sound):
    """Random parameters that the arguments do not determine."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain.add_(torch.rand(()))


class WrongAdjoint(Sound):
    """Off by a pixel."""

    def adjoint(self, y):
        return super().adjoint(y).roll(1, -1)


class AlmostAdjoint(Sound):
    """Off by 1e-9."""

    def adjoint(self, y):
        return super().adjoint(y) * (1 + 1e-9)


class AdjointAsPinv(Sound):
    """H^T for H^+."""

    def pinv(self, y):
        return self.adjoint(y)


class NotMinimumNorm(Sound):
    """A least-squares solution with something in the null space."""

    def pinv(self, y):
        return super().pinv(y) + (self.g(y) == 0) * super().pinv(y).roll(1, -1)


class NotLeastSquares(Sound):
    """Reads the part of y outside the range."""

    def pinv(self, y):
        return super().pinv(y + torch.where(self.g(y) == 0, y, 0).roll(1, -1))


class AffinePinv(Sound):
    """0 does not go to 0."""

    def pinv(self, y):
        return super().pinv(y) + 1e-9 * (self.g(y) > 0)


class WrongProx(Sound):
    """tau for 1 / tau."""

    def prox(self, z, y, tau):
        return super().prox(z, y, 1 / torch.as_tensor(tau, dtype=z.dtype))


class FirstTau(Sound):
    """The first item's tau for all."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.as_tensor(tau).flatten()[0])


class NoLimit(Sound):
    """tau = inf is cut at 1e9."""

    def prox(self, z, y, tau):
        return super().prox(z, y, torch.as_tensor(tau, dtype=z.dtype).clamp_max(1e9))


class Factors(Sound):
    """An SVD with one factor replaced."""

    def swap(self, svd):
        raise NotImplementedError

    def svd(self):
        return self.swap(super().svd())


class SortedValues(Factors):
    """s in another order than Vt: the erratum of a published super-resolution operator."""

    def swap(self, svd):
        s = svd.s.flatten().sort(descending=True).values.reshape(svd.s.shape)
        return SVD(s, lambda c: (s > 0) * c, lambda y: (s > 0) * y, svd.V, svd.Vt)


class NotOrthogonal(Factors):
    """V is scaled, s makes up for it."""

    def swap(self, svd):
        return SVD(svd.s * 2, svd.U, svd.Ut, lambda c: 2 * c, lambda x: x / 2)


class LeftNotIsometric(Factors):
    """U is scaled, s makes up for it."""

    def swap(self, svd):
        return SVD(svd.s / 2, lambda c: 2 * svd.U(c), lambda y: 2 * svd.Ut(y), svd.V, svd.Vt)


class ReadsNull(Factors):
    """Ut is not 0 where s = 0."""

    def swap(self, svd):
        return SVD(svd.s, svd.U, torch.clone, svd.V, svd.Vt)


class EconomyBasis(Factors):
    """Vt leaves out the last column."""

    def swap(self, svd):
        def back(c):
            return torch.nn.functional.pad(c, (0, 1))

        return SVD(svd.s[..., :-1], back, lambda x: x[..., :-1], back, lambda x: x[..., :-1])


class KeepsRounding(Factors):
    """A singular value of 1e-17 that the rank rule calls 0."""

    def swap(self, svd):
        return SVD(torch.where(svd.s > 0, svd.s, 1e-17), torch.clone, torch.clone, svd.V, svd.Vt)


class ClaimsSVD(LinearOnly):
    """Overrides svd for all and raises inside."""

    def forward(self, x):
        return 2 * x

    def svd(self):
        raise CapabilityError("not for this one")


class HidesPinv(Sound):
    """Can do more than it says."""

    @property
    def capabilities(self):
        return super().capabilities - {Capability.PINV}


class GreyMask(Sound):
    """A mask with values between 0 and 1."""

    traits = frozenset({Capability.LINEAR, Capability.MASK})

    @property
    def mask(self):
        return self.gain


class OutOfRange(LinearOnly):
    """Says that images stay images."""

    output_range = (0.0, 1.0)

    def forward(self, x):
        return 1.1 * x


class WrongSelection(LinearOnly):
    """A batched operator whose items are always the first one's."""

    def __init__(self, in_shape=SHAPE, gains=(1.0, 2.0, 3.0)):
        super().__init__(in_shape)
        self.gains, self.batch = tuple(gains), len(gains)

    def forward(self, x):
        return x * torch.tensor(self.gains, dtype=x.dtype).reshape(-1, 1, 1, 1)

    def select(self, items):
        return type(self)(self.in_shape, self.gains[: len(items)])


class NotConjugate(Operator):
    """F^T for F^H: real images and real parts alone do not show it."""

    traits = LINEAR
    complex_output = True

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return torch.fft.fft2(x, norm="ortho")

    def adjoint(self, y):
        return torch.fft.fft2(y, norm="ortho")


class BreaksOnEmpty(LinearOnly):
    """Needs an item."""

    def forward(self, x):
        return 2 * x / (x[0, 0, 0, 0] * 0 + 1)


class NeedsContiguous(LinearOnly):
    """Reads the memory, not the tensor."""

    def forward(self, x):
        return 2 * x.as_strided((x.numel(),), (1,)).reshape(x.shape)


class Coarse(Sound):
    """float32 input goes through half precision."""

    def forward(self, x):
        return super().forward(x.half().float() if x.dtype == torch.float32 else x)


class Nameless(Sound):
    """Says nothing about itself."""

    def __repr__(self):
        return "operator"


class WrongCount(WrongSelection):
    """Selects all items whatever is asked."""

    def select(self, items):
        return self
