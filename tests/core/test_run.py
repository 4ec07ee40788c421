"""Runs in parts, of several samples, with data per item: what `Solver.solve` does around `iterate`."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from invsolve import CapabilityError, CompatibilityError, GaussianNoise, InputError, Problem, Requires, Rng, Solver, Status, Step
from invsolve.priors import GaussianPrior
from invsolve.priors.base import Prior
from invsolve.solvers import DDRM, HQS, DiffPIR
from invsolve.testing.settings import Coupled, Kept

SHAPE = (1, 6, 7)


@dataclass(frozen=True)
class Ends(Solver):
    """Each of its runs ends as the next of `ways` says."""

    requires: ClassVar[Requires] = Requires()
    ways: tuple[str, ...] = ()
    made: ClassVar[list[int]] = []

    def iterate(self, problem, prior, rng, start=None):
        way = self.ways[len(self.made)]
        self.made.append(1)
        x = problem.image + (float("nan") if way == "diverged" else 0.0)
        yield Step(0, 2, x, x, converged=way == "converged")


def problem(batch=3, **options):
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Problem.simulate(Coupled(SHAPE), x, GaussianNoise(0.1), generator=0, **options)


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        (("converged", "converged"), Status.CONVERGED),
        (("converged", "finished"), Status.FINISHED),
        (("finished", "converged"), Status.FINISHED),
        (("diverged", "converged"), Status.DIVERGED),
        (("converged", "diverged", "finished"), Status.DIVERGED),
    ],
)
def test_several_samples_report_the_worst_status(ways, expected):
    Ends.made.clear()
    assert Ends(ways).solve(problem(), GaussianPrior(), generator=0, samples=len(ways), throw=False).status == expected


def test_a_stopped_sample_is_worse_than_a_finished_one():
    assert Status.worst([Status.FINISHED, Status.STOPPED, Status.CONVERGED]) == Status.STOPPED
    assert Status.worst([Status.STOPPED, Status.DIVERGED]) == Status.DIVERGED


@pytest.mark.parametrize("solver", [DiffPIR(steps=4), DDRM(steps=4), HQS(steps=4)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 6, 100])
def test_parts_are_the_runs_of_the_parts(solver, chunk):
    """Coupled sums within items only and the prior is elementwise, so a part's bits are those of the whole.

    But for the default start of hqs: torch rounds its inverse transform otherwise in another batch. Two roundings of numbers of order 1 are
    seen, fifty allowed; from an x_init it is the same bits.
    """
    allowed = 50 * torch.finfo(torch.float64).eps if isinstance(solver, HQS) else 0.0
    given, prior = problem(), GaussianPrior()
    plain, many = solver.solve(given, prior, generator=4), solver.solve(given, prior, generator=4, samples=3)
    cut = solver.solve(given, prior, generator=4, chunk=chunk)
    assert float((cut.x - plain.x).abs().max()) <= allowed
    assert (cut.nfe, cut.samples, cut.seed) == (plain.nfe, None, 4)
    again = solver.solve(given, prior, generator=4, samples=3, chunk=chunk)
    assert float((again.x - many.x).abs().max()) <= allowed
    assert (again.nfe, again.samples) == (many.nfe, 3)


@pytest.mark.parametrize("chunk", [1, 2])
def test_hqs_from_an_image_of_its_own_is_cut_to_the_same_bits(chunk):
    given, x_init = problem(), torch.zeros(3, *SHAPE, dtype=torch.float64)
    whole, cut = (HQS(steps=4).solve(given, GaussianPrior(), generator=4, x_init=x_init, chunk=size) for size in (None, chunk))
    assert torch.equal(whole.x, cut.x)


def test_a_part_is_never_larger_than_the_chunk():
    seen = []

    class Watching(GaussianPrior):
        def forward(self, x, sigma):
            seen.append(len(x))
            return super().forward(x, sigma)

    DiffPIR(steps=2).solve(problem(5), Watching(), generator=0, samples=2, chunk=2)
    assert set(seen) == {2, 1}
    seen.clear()
    DiffPIR(steps=2).solve(problem(2), Watching(), generator=0, samples=5, chunk=5)  # two whole batches at a time
    assert set(seen) == {4, 2}


def test_an_rng_given_to_a_cut_run_moves_on():
    given = problem()
    whole, cut = Rng(3, given.items), Rng(3, given.items)
    DiffPIR(steps=3).solve(given, GaussianPrior(), generator=whole)
    DiffPIR(steps=3).solve(given, GaussianPrior(), generator=cut, chunk=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.state(), cut.state(), strict=True))


def test_x_init_is_cut_with_the_problem():
    given, x_init = problem(), torch.rand(3, *SHAPE, dtype=torch.float64)
    whole = DiffPIR(steps=3).solve(given, GaussianPrior(), generator=0, x_init=x_init, samples=2)
    cut = DiffPIR(steps=3).solve(given, GaussianPrior(), generator=0, x_init=x_init, samples=2, chunk=2)
    assert torch.equal(whole.x, cut.x)


@pytest.mark.parametrize("chunk", [0, -1, 1.5])
def test_an_unusable_chunk_is_refused(chunk):
    with pytest.raises(InputError, match="chunk must be a whole number, at least 1"):
        DiffPIR(steps=2).solve(problem(), GaussianPrior(), chunk=chunk)


def test_a_kept_step_belongs_to_a_run_in_one_piece():
    kept = DiffPIR(steps=4).solve(problem(), GaussianPrior(), generator=0, keep=1).trace[0]
    with pytest.raises(InputError, match="start or chunk, not both"):
        DiffPIR(steps=4).solve(problem(), GaussianPrior(), generator=0, start=kept, chunk=1)


class TestPriorWithDataPerItem:
    means = torch.stack([torch.full(SHAPE, value, dtype=torch.float64) for value in (0.2, 0.5, 0.8)])

    def test_every_item_has_its_own(self):
        """The same numbers alone and in a batch of three."""
        given, prior = problem(), GaussianPrior(self.means)
        whole = DiffPIR(steps=4).solve(given, prior, generator=0)
        for item in range(3):
            alone = DiffPIR(steps=4).solve(given[item], prior[item], generator=0)
            # some tens of roundings of numbers of order 1
            assert float((whole.x[item] - alone.x[0]).abs().max()) < 1e-13
            x = torch.rand(3, *SHAPE, dtype=torch.float64)
            assert torch.equal(prior(x, 0.3)[item], GaussianPrior(self.means[item])(x, 0.3)[item])

    def test_it_is_cut_with_the_problem(self):
        given, prior = problem(), GaussianPrior(self.means)
        whole = DiffPIR(steps=4).solve(given, prior, generator=0, samples=2)
        assert float((DiffPIR(steps=4).solve(given, prior, generator=0, samples=2, chunk=2).x - whole.x).abs().max()) < 1e-13

    def test_another_batch_is_refused(self):
        with pytest.raises(CompatibilityError, match=r"holds data for 3 items, the problem has 1; prior\[i\] takes some"):
            DiffPIR(steps=2).solve(problem()[0], GaussianPrior(self.means), generator=0)

    def test_it_saves_moves_and_reads_back(self, tmp_path):
        prior = GaussianPrior(self.means)[1:].to("cpu")
        prior.save(tmp_path / "prior")
        again = Prior.load(tmp_path / "prior")
        x = torch.rand(2, *SHAPE, dtype=torch.float64)
        assert again.batch == 2
        assert torch.equal(again(x, 0.3), prior(x, 0.3))

    def test_one_without_serves_every_item_and_cannot_be_counted_through(self):
        prior = GaussianPrior()
        assert prior[2] is prior
        with pytest.raises(CapabilityError, match="holds no data per item"):
            iter(prior)


def test_context_must_have_a_row_per_item():
    assert problem(context={"label": torch.arange(3)})[1].context["label"].tolist() == [1]
    with pytest.raises(InputError, match=r"names in context must be text, such as .*; given 3 \(int\)"):
        problem(context={3: torch.arange(3)})
    for bad in ({"label": torch.arange(2)}, {"label": [0, 1, 2]}, {"label": torch.tensor(1)}):
        with pytest.raises(InputError, match="row for each of 3 items"):
            problem(context=bad)
    with pytest.raises(InputError, match="must be a dict of tensors"):
        problem(context=[1])


def test_mask_and_dense_problems_have_the_noise_of_their_gain():
    given = Problem(Kept(SHAPE), torch.zeros(2, *SHAPE), GaussianNoise(torch.tensor([0.1, 0.2])))
    assert given.gain.tolist() == pytest.approx([1, 1])
    assert given.sigma_x.tolist() == pytest.approx([0.1, 0.2])
    twice = Problem(2.5 * Kept(SHAPE), torch.zeros(2, *SHAPE), GaussianNoise(0.1))
    assert twice.sigma_x.tolist() == pytest.approx([0.04, 0.04])
