"""Callbacks for `solve(..., callback=...)`: each is called with every Step; returning False stops the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from invsolve.solution import Step


class Progress:
    """A tqdm bar on stderr, silent where stderr is no terminal; shows the noise level and the solver's numbers.

    Args:
        label: text in front of the bar.
        disable: True or False to force; None lets tqdm decide by the terminal.
    """

    def __init__(self, label: str = "", *, disable: bool | None = None) -> None:
        self.label, self.disable = label, disable
        self.bar: Any = None

    def __call__(self, step: Step) -> None:
        """Advance the bar to this step."""
        from tqdm import tqdm

        if self.bar is None or step.index < self.bar.n:
            self.bar = tqdm(total=step.total, desc=self.label or None, disable=self.disable, leave=False)
        if self.bar.disable:  # the numbers below would wait for the device
            return
        self.bar.update(step.index + 1 - self.bar.n)
        shown = {key: f"{float(value.mean()):.3g}" for key, value in step.stats.items()}
        if step.sigma is not None:
            shown = {"sigma": f"{step.sigma:.3g}", **shown}
        self.bar.set_postfix(shown, refresh=False)
        if step.index + 1 >= step.total or step.converged:
            self.bar.close()
            self.bar = None


class Trace:
    """Keeps every `every`-th Step on the CPU in `steps`."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        """Keep the step if it is its turn."""
        if step.index % self.every == 0:
            self.steps.append(step.to("cpu"))


class StopWhen:
    """Stops as soon as rule(step) is true, e.g. StopWhen(lambda step: step.index >= 9)."""

    def __init__(self, rule: Callable[[Step], bool]) -> None:
        self.rule = rule

    def __call__(self, step: Step) -> bool:
        """False when the run is to stop."""
        return not self.rule(step)


class SaveImages:
    """Writes x0_hat of every `every`-th step as PNG files, one per item: folder/step0010_item0.png."""

    def __init__(self, folder: str | Path, every: int = 10) -> None:
        self.folder, self.every = Path(folder), every
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: Step) -> None:
        """Write the pictures if it is the step's turn."""
        from invsolve.io.images import write_image

        if step.index % self.every == 0:
            for item, image in enumerate(step.x0_hat):
                write_image(self.folder / f"step{step.index:04d}_item{item}.png", image)


class Callbacks:
    """Several callbacks in turn; the run stops if any says so."""

    def __init__(self, *callbacks: Callable[[Step], bool | None]) -> None:
        self.callbacks = callbacks

    def __call__(self, step: Step) -> bool:
        """False when any callback returned False; all are called."""
        answers = [callback(step) for callback in self.callbacks]
        return all(answer is not False for answer in answers)
