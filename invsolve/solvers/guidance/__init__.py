"""Samplers guided by an approximation of grad log p(y | x_t): a covariance of x0 given x_t, or a gradient, carried through H."""
