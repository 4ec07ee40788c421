"""Solvers that noise an image and let the prior take it from there, or denoise it once."""
