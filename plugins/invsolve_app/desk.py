"""What happens when something on the page is pressed, in plain values: nothing here knows gradio."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from invsolve.cli.photograph import LARGE
from invsolve.io.volumes import is_volume
from invsolve_app.answers import Answer, answers, plain
from invsolve_app.pictures import fitted, painted, preview, write_mask
from invsolve_app.wish import Wish

ASKED = "Put in a photograph."


def sentence(text: str, bad: bool = False) -> str:
    """A message on the page, which a screen reader reads out."""
    return f'<div class="said{" bad" if bad else ""}" role="{"alert" if bad else "status"}">{html.escape(text)}</div>'


def report(found: Sequence[Answer]) -> str:
    """What is to be said of each answer."""
    text = ""
    for one in found:
        facts = ", ".join(f"{key} {value}" for key, value in one.facts.items())
        lines = [html.escape(one.words), html.escape(facts), f"in the shell: <code>{html.escape(one.line)}</code>"]
        text += f'<div class="answer"><h3>{html.escape(one.name)}</h3>{"".join(f"<p>{line}</p>" for line in lines if line)}</div>'
    return text


def pictures(found: Sequence[Answer]) -> dict[str, np.ndarray]:
    """All pictures by their names, the photograph first."""
    return {key: picture for one in found for key, picture in one.pictures.items()}


def pair(found: Sequence[Answer], left: str, right: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The two pictures that are looked at, as large as the larger one; nothing where one is not there."""
    known = pictures(found)
    if left not in known or right not in known:
        return None, None
    largest = max(known[left], known[right], key=lambda picture: picture.size)
    return fitted(known[left], largest), fitted(known[right], largest)


class Desk:
    """The work behind a page.

    Args:
        folder: where files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = threading.Event()

    def opened(self, image: str | None) -> tuple[np.ndarray | None, str]:
        """The picture as it is shown, None where there is none, and a word."""
        if image is None:
            return None, sentence(ASKED)
        if is_volume(image):
            return None, sentence(f"{Path(image).name} is a volume; the shell restores it: invsolve restore {Path(image).name}", bad=True)
        try:
            shown, (height, width) = preview(image)
        except Exception as error:
            return None, sentence(plain(error, Path(image).parent), bad=True)
        text = f"{Path(image).name}: {width} x {height} pixels."
        if height * width > LARGE:
            text += f" That is more than the {LARGE / 1e6:.0f} million that the page takes: try the square in its middle here (More), "
            text += "and restore the whole in the shell, with the line that is shown then."
        return shown, sentence(text)

    def stop(self) -> str:
        """End what is running after its step."""
        self.stopped.set()
        return sentence("Stopping after this step.")

    def run(
        self, wish: Wish, layers: Sequence[Any] = (), progress: Callable[[str, int, int], Any] = lambda name, done, total: None
    ) -> Iterator[tuple[str, list[Answer]]]:
        """(a word, the answers so far) as they come.

        Args:
            wish: what was said.
            layers: what was painted.
            progress: told the solver, the steps done and all steps.
        """
        found: list[Answer] = []
        self.stopped.clear()

        def watch(name: str, step: Any) -> bool:
            progress(name, step.index + 1, step.total)
            return not self.stopped.is_set()

        if wish.image is None:
            yield sentence(ASKED, bad=True), found
            return
        try:
            for one in answers(wish, self.folder, self.mask(wish, layers), watch):
                found.append(one)
                ended = self.stopped.is_set()
                word = f"{one.name}: {one.words}" if one.worked else f"{one.name} gives no answer; why is said below."
                yield sentence("Stopped." if ended else word, bad=not (one.worked or ended)), list(found)
                if ended:
                    return
        except Exception as error:
            yield sentence(plain(error, Path(wish.image).parent, self.folder), bad=True), list(found)

    def mask(self, wish: Wish, layers: Sequence[Any]) -> str | None:
        """The path of what was painted, where it is asked for and there is something."""
        if wish.happened != "mask" or wish.image is None:
            return None
        holes = painted(layers, preview(wish.image)[1], wish.middle)
        return None if holes is None else str(write_mask(holes, self.folder / f"{Path(wish.image).stem}_mask.png"))
