"""More operators that break one promise each: what they hold, what they remember, what autograd and other devices see."""

import numpy as np
import torch
from planted_faults import SHAPE, LinearOnly, Sound

from invsolve import SVD, Capability, Operator


class PlainTensor(LinearOnly):
    """A gain that .to() and state_dict do not know, moved by hand where it is used."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain = torch.linspace(0.5, 1, 5, dtype=torch.float64)

    def forward(self, x):
        return self.gain.to(x) * x


class ListOfTensors(PlainTensor):
    """The same in a list: nn.Module does not look into one."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gains, self.gain = [self.gain], None

    def forward(self, x):
        return self.gains[0].to(x) * x


class BoundToFirstUse(Sound):
    """Converts its gain once, and keeps it where it was first used."""

    def g(self, x):
        if "held" not in vars(self) or self.held.dtype != x.dtype:
            self.held = self.gain.to(x)
        return self.held


class RemembersLast(LinearOnly):
    """Normalises by the largest value of the call before."""

    def forward(self, x):
        last, self.last = getattr(self, "last", 1.0), float(x.abs().max()) if x.numel() and x.device.type != "meta" else 1.0
        return x / last


class RemembersAnswer(Sound):
    """Keeps H^+ y and takes a new y of the same shape for the old one."""

    def pinv(self, y):
        answers = vars(self).setdefault("answers", {})
        key = (tuple(y.shape), y.dtype, y.device)
        if key not in answers:
            answers[key] = super().pinv(y)
        return answers[key].clone()


class WritesThroughView(LinearOnly):
    """In place on a view: x itself is changed."""

    def forward(self, x):
        rows = x.view(len(x), -1)
        rows *= 2.0
        return rows.view(x.shape)


class WritesMeasurement(Sound):
    """y -= H z in place, then the closed form: what a published sampler does to the caller's measurement."""

    def prox(self, z, y, tau):
        y -= self(z)
        return super().prox(z, y + self(z), tau)


class SetsSeed(LinearOnly):
    """Resets the global generator to draw the same mask at every call."""

    def forward(self, x):
        torch.manual_seed(0)
        return x * (torch.rand(4, 5) > 0.5).to(x)


class DrawnByNumpy(LinearOnly):
    """A mask drawn anew at every call."""

    def forward(self, x):
        return x * torch.from_numpy(np.random.rand(4, 5) > 0.5).to(x)


class SumOverBatch(LinearOnly):
    """Scaled by the number of items."""

    def forward(self, x):
        return x * len(x)


class BatchNormedPinv(Sound):
    """H^+ y brought to the scale of the batch's mean."""

    def pinv(self, y):
        found = super().pinv(y)
        return found / (1 + 1e-6 * found.square().mean())


class ReshapesEmpty(LinearOnly):
    """(0, -1) is ambiguous."""

    def forward(self, x):
        return (2 * x.reshape(len(x), -1)).reshape(x.shape)


class WrongFlip(LinearOnly):
    """The adjoint of a convolution with the kernel not turned."""

    def run(self, x, kernel):
        kernel = torch.tensor(kernel, dtype=x.dtype, device=x.device).reshape(1, 1, 1, 3).expand(2, 1, 1, 3)
        return torch.nn.functional.conv2d(x, kernel, padding=(0, 1), groups=2)

    def forward(self, x):
        return self.run(x, [0.5, 0.3, 0.2])

    def adjoint(self, y):
        return self.run(y, [0.5, 0.3, 0.2])


class UpsamplingAdjoint(LinearOnly):
    """Interpolation for the adjoint of a mean."""

    def __init__(self, in_shape=(2, 4, 6)):
        super().__init__(in_shape)
        self.out_shape = (2, 2, 3)

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 2)

    def adjoint(self, y):
        return torch.nn.functional.interpolate(y, scale_factor=2, mode="nearest")


class Rectifies(LinearOnly):
    """max(x, 0) called linear: H 0 = 0, and H (2 x) = 2 H x."""

    def forward(self, x):
        return x.clamp_min(0)


class HalfSupport(Sound):
    """Says that measured pixels hold nothing."""

    @property
    def supports(self):
        return ((self.gain > 0).double().roll(1, -1),)


class SupportOfImage(Sound):
    """A support that does not have y's shape."""

    @property
    def supports(self):
        return (torch.ones(4, 6),)


class NearlyMask(Sound):
    """0.999 where the mask should be 1."""

    traits = frozenset({Capability.LINEAR, Capability.MASK})

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain.copy_(torch.where(self.gain > 0, 0.999, 0))

    @property
    def mask(self):
        return self.gain


class OtherMask(Sound):
    """A proper mask that is not the one applied."""

    traits = frozenset({Capability.LINEAR, Capability.MASK})

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain.copy_((self.gain > 0).double())

    @property
    def mask(self):
        return 1 - self.gain


class Sharpens(LinearOnly):
    """Overshoots at edges, and says that images stay images."""

    output_range = (0.0, 1.0)

    def forward(self, x):
        return 1.5 * x - 0.25 * (x.roll(1, -1) + x.roll(-1, -1))


class DetachedAdjoint(Sound):
    """An adjoint that autograd does not see."""

    def adjoint(self, y):
        return super().adjoint(y.detach())


class NaNInGradient(Sound):
    """0 where the gain is 0, but a division by 0 behind it."""

    def pinv(self, y):
        return torch.where(self.g(y) > 0, y / self.g(y), 0)


class Nonlinear(Operator):
    """Base of what is nonlinear, with autograd."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return x.abs()


class StraightThrough(Nonlinear):
    """A gradient of 1 behind a rounding, not declared."""

    def forward(self, x):
        return x + (torch.round(8 * x) / 8 - x).detach()


class DeclaredStraightThrough(StraightThrough):
    """The same, declared: sound."""

    surrogate = "straight through: that of x"


class DeadSurrogate(Nonlinear):
    """Declares a surrogate and has none: the gradient of a rounding is 0."""

    surrogate = "straight through"

    def forward(self, x):
        return torch.round(8 * x) / 8


class InferenceCache(LinearOnly):
    """Keeps a tensor made at the first use, which under inference mode can take no part in a graph."""

    def forward(self, x):
        held = vars(self).setdefault("held", {})
        key = (x.dtype, x.device)
        if key not in held:
            held[key] = torch.linspace(0.5, 1, 5, dtype=torch.float64).to(x)
        return Product.apply(x, held[key])


class Product(torch.autograd.Function):
    """a b, remembering b for the way back."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(b)
        return a * b

    @staticmethod
    def backward(ctx, *grads):
        return grads[0] * ctx.saved_tensors[0], None


class RankOfTheBatch(LinearOnly):
    """Singular values of an item dropped against the largest of all items."""

    def __init__(self, in_shape=SHAPE, gains=(1.0, 1e-3, 0.5)):
        super().__init__(in_shape)
        self.gains, self.batch = tuple(gains), len(gains)
        self.register_buffer("gain", torch.tensor(gains, dtype=torch.float64).reshape(-1, 1, 1, 1))

    def forward(self, x):
        return self.like("gain", x) * x

    def svd(self):
        s = self.gain.expand(-1, *self.in_shape)
        s = torch.where(s > 1e-2 * s.max(), s, 0)
        return SVD(s, lambda c: (s > 0) * c, lambda y: (s > 0) * y, torch.clone, torch.clone)

    def select(self, items):
        return type(self)(self.in_shape, [self.gains[item] for item in items])


class Aliases(Sound):
    """Hands back what it was given: no copy is promised, so this is sound; whoever writes in place must copy."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain.fill_(1)

    def forward(self, x):
        return x

    def adjoint(self, y):
        return y

    def pinv(self, y):
        return y
