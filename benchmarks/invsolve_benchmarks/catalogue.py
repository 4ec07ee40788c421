"""The suites that are shipped: a registered suite is the path of its TOML file."""

from pathlib import Path

SUITES = Path(__file__).parent / "suites"
QUICK = SUITES / "quick.toml"
SMOKE = SUITES / "smoke.toml"
