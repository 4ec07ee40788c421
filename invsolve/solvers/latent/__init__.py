"""Solvers of codes: what a LatentPrior has besides a denoiser, its decoder and encoder, is used."""
