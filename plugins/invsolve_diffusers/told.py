"""A network that is told something besides x and sigma: words, and what it sees of the measurement in channels beside x_t.

x0_hat = D(x, sigma | words, seen),   net(x_t | seen in further channels, t, **words)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.convert import NetworkDenoiser, ScheduledNet
from invsolve.schedule import Schedule

if TYPE_CHECKING:
    from invsolve.problem import Problem


class Words(nn.Module):
    """What a network is told, tensors by the name of its argument: a row for all items, or one for each.

    Args:
        rows: (1, ...) or (n, ...) each.
        each: whether the rows are those of n items, so that they serve no other number of them.

    Raises:
        InputError: other numbers of rows, or none.
    """

    def __init__(self, rows: Mapping[str, Tensor], each: bool = False) -> None:
        super().__init__()
        counts = {len(value) for value in rows.values()}
        if len(counts) > 1 or (not each and counts - {1}):
            raise InputError(f"words need one row, or a row for each item; given rows {sorted(counts)}")
        for name, value in rows.items():
            self.register_buffer(name, value.detach().clone())
        self.count = counts.pop() if each and counts else None

    def for_rows(self, x: Tensor) -> dict[str, Tensor]:
        """The tensors with a row for each of x's, in x's type and place."""
        return {name: a_row_each(name, value.to(x), x) for name, value in self.named_buffers()}

    def select(self, items: Sequence[int]) -> Words:
        """Those of some items; themselves where all are told the same."""
        if self.count is None:
            return self
        return Words({name: value[list(items)] for name, value in self.named_buffers()}, each=True)


def a_row_each(name: str, value: Tensor, x: Tensor) -> Tensor:
    """A tensor with as many rows as x.

    Raises:
        InputError: it has some for another number.
    """
    if len(value) not in (1, len(x)):
        raise InputError(f"{name} has rows for {len(value)} items, x has {len(x)}; prior[i] takes some")
    return value.expand(len(x), *value.shape[1:])


class Asked(nn.Module):
    """net(x_t, t) of a network that is told words, and sees channels beside x_t.

    Args:
        model: called with x_t (B, C + c, H, W), t (B,) and the words by name.
        words: see `Words`.
        seen: (1, c, H, W) or (B, c, H, W), after x_t in the channels; None for none.
    """

    seen: Tensor | None

    def __init__(self, model: nn.Module, words: Words, seen: Tensor | None = None) -> None:
        super().__init__()
        self.model, self.words = model, words
        self.register_buffer("seen", seen)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network predicts, of x_t's shape."""
        inside = x if self.seen is None else torch.cat([x, a_row_each("what is seen", self.seen.to(x), x)], dim=1)
        return self.model(inside, t, **self.words.for_rows(x))


class Told(NetworkDenoiser):
    """A denoiser D(x, sigma | words) in VE form, from a network of a schedule that takes words as arguments and pictures as channels.

    Args:
        model: net(x_t, t, **words), x_t (B, C, H, W) with the channels of what is seen after it; gives what `kind` says, (B, C, H, W).
        kind: "eps", "x0", "v", "score" or "velocity"; see `invsolve.priors.convert`.
        schedule: of the network.
        channels: C.
        words: what it is told; None for nothing.
        without: what it is told where it goes without its condition, the empty or negative prompt: the words of `unconditional()`.
        sees: called with the problem, gives the channels that it sees, (B, c, H, W), and by `gaps(problem)` why it cannot; None for a
            network that sees nothing.
        seen: those channels, where they are known already.
        precision: see NetworkDenoiser.

    Raises:
        InputError: words for another number of items than there are; called before `given(problem)` although it sees something.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: str,
        schedule: Schedule,
        *,
        channels: int,
        words: Words | None = None,
        without: Words | None = None,
        sees: nn.Module | None = None,
        seen: Tensor | None = None,
        precision: str = "float32",
    ) -> None:
        words = Words({}) if words is None else words
        net, levels = ScheduledNet(Asked(model, words, seen), kind, schedule), schedule.levels()
        super().__init__(net, sigma_range=(levels[0], levels[-1]), s0=1.0, centre=0.0, channels=channels, precision=precision)
        self.model, self.says, self.schedule, self.words = model, kind, schedule, words
        self.without, self.sees = without, sees
        self.sees_y, self.batch = sees is not None, words.count if seen is None else len(seen)
        if None not in (words.count, self.batch) and words.count != self.batch:
            raise InputError(f"words for {words.count} items, pictures for {self.batch}: as many are needed")

    def own_type(self) -> torch.dtype | None:
        """The type of the network's parameters; what it is told follows it."""
        held = (tensor.dtype for tensor in chain(self.model.parameters(), self.model.buffers()) if tensor.is_floating_point())
        return next(held, None)

    @property
    def seen(self) -> Tensor | None:
        """The channels beside x_t, (B, c, H, W), once they are known."""
        net: ScheduledNet = self.net  # pyright: ignore[reportAssignmentType]
        return net.net.seen  # pyright: ignore[reportFunctionMemberAccess]

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat in x's dtype."""
        if self.sees is not None and self.seen is None:
            raise InputError(f"{type(self).__name__} looks at the measurement: ask prior.given(problem), as solve does")
        return super().forward(x, sigma)

    def gaps(self, problem: Problem) -> list[str]:
        """Why it cannot see the problem's measurement."""
        return [] if self.sees is None else self.sees.gaps(problem)  # pyright: ignore[reportCallIssue]

    def given(self, problem: Problem) -> Denoiser:
        """With what it sees of this problem; itself where it sees nothing."""
        if self.sees is None:
            return self
        with torch.no_grad():
            return self._twin(self.words, self.sees(problem))

    def unconditional(self) -> Denoiser:
        """With the empty or negative prompt, and what it sees.

        Raises:
            CapabilityError: it has none, as networks without a text.
        """
        if self.without is None:
            raise CapabilityError("this network was not made to go without its condition: it takes no text, and no scale")
        return self._twin(self.without, self.seen)

    def select(self, items: Sequence[int]) -> Prior:
        """The words and pictures of some items."""
        if self.batch is None:
            return self
        rows, seen = list(items), self.seen
        without = None if self.without is None else self.without.select(rows)
        return self._twin(self.words.select(rows), None if seen is None else seen[rows], without)

    def _twin(self, words: Words, seen: Tensor | None, without: Words | None = None) -> Told:
        without = self.without if without is None else without
        shared = {"channels": self.channels, "precision": self.precision, "sees": self.sees, "without": without}
        return Told(self.model, self.says, self.schedule, words=words, seen=seen, **shared)  # pyright: ignore[reportArgumentType]
