"""The suite of this plug-in: a registered suite is the path of its TOML file."""

from pathlib import Path

SUITE = Path(__file__).parent / "suite.toml"
