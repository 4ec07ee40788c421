"""Few-step maps in closed form: of a Gaussian, and of a mixture of two values by a fine integration of its ODE.

Of N(m, C) with eigenvalues l the ODE dx / dsigma = (x - D(x, sigma)) / sigma has, in an eigendirection, D - m = l / (l + sigma^2) (x - m),
so that d log(x - m) / dsigma = sigma / (l + sigma^2): x - m goes as sqrt(l + sigma^2), and a path from sigma ends, at sigma_min = 0, at

    f(x, sigma) = m + U diag(sqrt(l / (l + sigma^2))) U^T (x - m)
"""

import torch

from invsolve.priors import Denoiser, GaussianPrior


class GaussianMap(GaussianPrior):
    """f of N(m, C), with GaussianPrior's arguments."""

    few_step = True

    def forward(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1) if torch.as_tensor(sigma).ndim else sigma
        centred = (x - self.mean.to(x)).flatten(1)
        if not self.full:
            return self.mean.to(x) + (centred * self.std / (self.std**2 + level**2) ** 0.5).reshape(x.shape)
        gain = (self.values / (self.values + level**2)).sqrt()
        return self.mean.to(x) + (((centred @ self.vectors) * gain) @ self.vectors.T).reshape(x.shape)


class Scaled(torch.nn.Module):
    """A network (1 + a) f(x, sigma) + b of an exact map, exact at a = b = 0."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact
        self.a, self.b = (torch.nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))

    def forward(self, x, sigma):
        return (1 + self.a) * self.exact(x, sigma) + self.b


class Named(Denoiser):
    """A denoiser that is said to be a few-step map."""

    few_step = True

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, sigma):
        return self.inner(x, sigma)
