"""Callbacks for `solve(..., callback=...)`: each is called with every Step; returning False stops the run."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from invsolve.plugins.former import without
from invsolve.solution import Step


class Progress:
    """A tqdm bar on stderr, in a notebook below the cell; silent where there is neither. Shows the noise level and the solver's numbers.

    Args:
        label: text in front of the bar.
        disable: True or False to force; None: a bar in a terminal and in a notebook.
    """

    def __init__(self, label: str = "", *, disable: bool | None = None) -> None:
        self.label, self.disable = label, disable
        self.bar: Any = None

    @property
    def hidden(self) -> bool | None:
        """What tqdm is told: a notebook's stderr is no terminal, and yet somebody looks."""
        return False if self.disable is None and in_notebook() else self.disable

    def __call__(self, step: Step) -> None:
        """Advance the bar to this step."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notebook without ipywidgets gets a bar of text, which is no fault
            from tqdm.auto import tqdm

        if self.bar is None or step.index < self.bar.n:
            self.bar = tqdm(total=step.total, desc=self.label or None, disable=self.hidden, leave=False)
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


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


without(
    __name__,
    {
        "Trace": "solve(..., keep=1), which keeps the steps in solution.trace",
        "StopWhen": "callback=lambda step: step.index < 9: a callback that returns False stops the run",
        "SaveImages": "a callback that calls invsolve.io.images.write_image",
        "Callbacks": "a function that calls one after the other",
    },
)
