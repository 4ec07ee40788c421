"""The suites that are shipped: a registered suite is the path of its TOML file."""

from pathlib import Path

SUITES = Path(__file__).parent / "suites"
QUICK = SUITES / "quick.toml"
SMOKE = SUITES / "smoke.toml"
CLASSICAL_VS_DIFFUSION = SUITES / "classical-vs-diffusion.toml"
INPAINTING_MASKS = SUITES / "inpainting-masks.toml"
SUPER_RESOLUTION = SUITES / "super-resolution.toml"
DEBLURRING = SUITES / "deblurring.toml"
NONLINEAR = SUITES / "nonlinear.toml"
CONDITIONAL = SUITES / "conditional.toml"
PEERS = SUITES / "peers.toml"
PARTDIFF_K = SUITES / "partdiff-k.toml"
SDEDIT_T0 = SUITES / "sdedit-t0.toml"
PUBLISHED = Path(__file__).parent / "published"
