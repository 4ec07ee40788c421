"""Progress of a run on stderr."""

from __future__ import annotations

import sys
import time

from invsolve.solution import Step


class Bar:
    """Progress over all cells on stderr: a tqdm bar, or a line per operator and solver where stderr is no terminal.

    Args:
        total: number of cells.
        show: False for silence.
    """

    def __init__(self, total: int, show: bool) -> None:
        from tqdm import tqdm

        self.show, self.label, self.drawn, self.told, self.computed = show, "", 0.0, "", 0
        self.bar = tqdm(total=total, disable=None if show else True, unit="cell", dynamic_ncols=True, leave=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def begin(self, label: str, held: int) -> None:
        """A new operator and solver, with cells that are there already."""
        self.label, self.since, self.computed = label, time.perf_counter(), 0
        self.bar.set_description_str(label, refresh=False)
        self.bar.update(held)

    def step(self, step: Step) -> None:
        """A solver's callback: shows its step ten times a second at most."""
        now = time.perf_counter()
        if now - self.drawn > 0.1:
            self.drawn = now
            self.bar.set_postfix_str(f"step {step.index + 1}/{step.total}")

    def tell(self, text: str) -> None:
        """A word beside the bar, and a line where there is none; each once."""
        if text != self.told:
            self.told = text
            self.bar.set_postfix_str(text)
            if self.show and self.bar.disable and text:
                print(text, file=sys.stderr, flush=True)

    def done(self) -> None:
        """One cell more."""
        self.computed += 1
        self.bar.update(1)

    def end(self, held: int, computed: int) -> None:
        """The line for logs."""
        if self.show and self.bar.disable and computed:
            kept = f", {held} were there" if held else ""
            print(f"{self.label}: {computed} computed{kept}, {time.perf_counter() - self.since:.1f} s", file=sys.stderr, flush=True)
