"""The tables of benchmarks/results as pages of the site, so that they can be read where they are spoken of."""

from __future__ import annotations

import os
import re
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def tables() -> list[Path]:
    """All of them."""
    return sorted(RESULTS.rglob("*.md"))


def adapted(text: str, file: Path, place: Path) -> str:
    """A table's text at another place: its pictures are found there, links to other tables too, and what is no page is named only."""

    def link(match: re.Match[str]) -> str:
        picture, shown, target = match.groups()
        found = (file.parent / target.partition("#")[0]).resolve()
        if target.startswith("http") or (found.suffix == ".md" and found.is_relative_to(RESULTS)):
            return match[0]
        return f"![{shown}]({os.path.relpath(found, place)})" if picture else f"`{shown}`"

    titled = text if text.startswith("# ") else f"# {file.stem.replace('_', ' ').capitalize()}\n\n{text}"
    return LINK.sub(link, titled)


def pages(folder: Path) -> dict[str, str]:
    """{path below the folder: text} of the pages."""
    return {
        f"results/{file.relative_to(RESULTS)}": adapted(
            file.read_text(encoding="utf-8"), file, (folder / "results" / file.relative_to(RESULTS)).parent
        )
        for file in tables()
    }
