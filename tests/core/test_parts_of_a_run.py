"""Runs in parts (chunk=, samples=): what stops them, and what is kept of them."""

import pytest
import torch

from invsolve import GaussianNoise, InputError, Problem, Status
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.rng import Rng
from invsolve.solvers import ADMM, DDRM, DPS, DiffPIR
from invsolve.testing.settings import Coupled, truth

SHAPE = (1, 6, 7)
PRIOR = GaussianPrior(0.5, 0.25)
LEVELS = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.4])


@pytest.fixture
def given():
    return Problem.simulate(Coupled(SHAPE), truth(SHAPE, 5, torch.float64), GaussianNoise(LEVELS), generator=0)


class TestStop:
    """False ends the whole run: what had ended stays, the part that was going on stops there, the others make one step."""

    def test_in_a_later_part(self, given):
        solver, seen = DPS(steps=6), []

        def callback(step):
            seen.append((len(step.x), step.index))
            return len(seen) < 8  # in the second part, at its second step

        found = solver.solve(given, PRIOR, generator=1, chunk=2, callback=callback)
        assert seen == [(2, index) for index in range(6)] + [(2, 0), (2, 1)]
        assert found.status == Status.STOPPED
        assert found.steps == 6
        whole = solver.solve(given[:2], PRIOR, generator=1)
        stopped = [
            solver.solve(part, PRIOR, generator=1, callback=lambda step, last=last: step.index < last).x
            for part, last in ((given[2:4], 1), (given[4:], 0))
        ]
        assert torch.equal(found.x, torch.cat([whole.x, *stopped]))
        assert found.nfe == round((2 * 6 + 2 * 2 + 1) / 5)

    def test_among_samples(self, given):
        calls = []
        found = DPS(steps=4).solve(given, PRIOR, generator=1, samples=3, callback=lambda step: bool(calls.append(step.index)))
        assert calls == [0]
        assert found.x.shape == (3, 5, *SHAPE)
        assert torch.isfinite(found.x).all()
        assert (found.status, found.nfe, found.steps) == (Status.STOPPED, 3, 1)
        one = DPS(steps=4).solve(given, PRIOR, generator=1, callback=lambda step: False).x
        assert torch.equal(found.x[0], one)
        assert not torch.equal(found.x[1], one)

    def test_none_and_true_go_on(self, given):
        for say in (None, True):
            assert DPS(steps=3).solve(given, PRIOR, generator=1, chunk=2, callback=lambda step, say=say: say).status == Status.FINISHED


class TestKeep:
    """A Step of the trace has all images, as in a run in one piece."""

    @pytest.mark.parametrize("solver", [DPS(steps=5), DiffPIR(steps=5), DDRM(steps=5)], ids=lambda one: type(one).__name__)
    @pytest.mark.parametrize("chunk", [1, 2, 3])
    def test_of_chunks(self, given, solver, chunk):
        plain = solver.solve(given, PRIOR, generator=1, keep=2)
        cut = solver.solve(given, PRIOR, generator=1, keep=2, chunk=chunk)
        assert [step.index for step in cut.trace] == [step.index for step in plain.trace] == [0, 2, 4]
        for one, two in zip(cut.trace, plain.trace, strict=True):
            assert torch.allclose(one.x, two.x, rtol=0, atol=1e-12)
            assert torch.allclose(one.x0_hat, two.x0_hat, rtol=0, atol=1e-12)
            assert (one.sigma, one.total) == (two.sigma, two.total)
            assert one.state.keys() == two.state.keys()
            assert one.stats.keys() == two.stats.keys()

    def test_of_samples(self, given):
        """The batch of sample 0, then that of sample 1, ..."""
        solver = DPS(steps=3)
        for chunk in (None, 3, 10):
            many = solver.solve(given, PRIOR, generator=1, samples=3, keep=1, chunk=chunk)
            assert [len(step.x) for step in many.trace] == [15, 15, 15]
            assert torch.allclose(many.trace[-1].x.reshape(3, 5, *SHAPE), many.x, rtol=0, atol=1e-12)

    def test_a_part_that_ended_earlier_stays_at_its_end(self, given):
        solver, tv = ADMM(steps=300), TotalVariation(3.0)
        parts = [solver.solve(given[index], tv, generator=1, keep=1) for index in range(5)]
        assert len({part.steps for part in parts}) > 1
        cut = solver.solve(given, tv, generator=1, keep=1, chunk=1)
        assert cut.steps == len(cut.trace) == max(part.steps for part in parts)
        for step in cut.trace:
            for item, part in enumerate(parts):
                assert torch.equal(step.x[item], part.trace[min(step.index, part.steps - 1)].x[0])
        assert torch.equal(cut.trace[-1].x, cut.x)
        assert cut.trace[-1].converged
        assert not cut.trace[0].converged

    def test_it_can_be_gone_on_from(self, given):
        """A kept Step of a run in chunks starts a run of the whole batch."""
        solver, rng, places = DDRM(steps=5), Rng(1, given.items), []
        plain = solver.solve(given, PRIOR, generator=rng, callback=lambda step: places.append(rng.state()))
        step = solver.solve(given, PRIOR, generator=1, keep=1, chunk=2).trace[2]
        rest = solver.solve(given, PRIOR, generator=Rng(1, given.items).restore(places[2]), start=step)
        assert torch.allclose(rest.x, plain.x, rtol=0, atol=1e-11)

    def test_nothing_is_kept_unasked(self, given):
        assert DPS(steps=3).solve(given, PRIOR, generator=1, chunk=2).trace == ()


@pytest.mark.parametrize("name", ["samples", "chunk", "keep"])
@pytest.mark.parametrize("value", [True, 1.0, "2", -1])
def test_counts_are_whole_numbers(given, name, value):
    with pytest.raises(InputError, match=f"{name} must be a whole number, at least .; given {value!r}"):
        DPS(steps=2).solve(given, PRIOR, **{name: value})
