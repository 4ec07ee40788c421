"""Solvers that compute the answer from y alone, or in one call."""
