"""Samplers: of the prior (ddim, ddpm, heun) and of the posterior (dps, diffpir, ddrm, score-ald)."""
