"""Solvers that alternate: a draw (or a step) that knows y but no network, and one of the network's that knows no y."""
