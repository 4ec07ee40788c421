"""Solvers that were written for flows and for few-step maps; any denoiser will do for both."""
