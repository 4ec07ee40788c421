"""Callbacks for `solve(..., callback=...)`: each is called with every Step; returning False stops the run."""

from __future__ import annotations

from typing import Any

from invsolve.plugins.former import without
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


without(
    __name__,
    {
        "Trace": "solve(..., keep=1), which keeps the steps in solution.trace",
        "StopWhen": "callback=lambda step: step.index < 9: a callback that returns False stops the run",
        "SaveImages": "a callback that calls invsolve.io.images.write_image",
        "Callbacks": "a function that calls one after the other",
    },
)
