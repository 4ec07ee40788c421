"""What a run does besides solving: known pixels, growth, budgets, checkpoints, too little memory; each against a value found otherwise."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from invsolve_operators import Mask, SeparableGaussianBlur

from invsolve import (
    Checkpoint,
    DivergedError,
    GaussianNoise,
    InputError,
    IterativeProx,
    NoNoise,
    Operator,
    Problem,
    Requires,
    Rng,
    Solution,
    Solver,
    Stack,
    Status,
    Step,
)
from invsolve.errors import ArgumentError, Note
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import DDRM, HQS, AdamTV, DiffPIR, ScoreALD

SHAPE = (1, 6, 7)


def drawn(batch, seed=0):
    return torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def half(noise, batch=2, scale=1.0):
    mask = torch.zeros(SHAPE)
    mask[..., :3] = 1
    operator = Mask(SHAPE, mask=mask)
    return Problem.simulate(operator if scale == 1 else scale * operator, drawn(batch), noise, generator=0)


@dataclass(frozen=True)
class Constant(Solver):
    """An image of one number, and numbers of its own."""

    requires: ClassVar[Requires] = Requires()

    def iterate(self, problem, prior, rng, start=None):
        x = problem.image + 0.25
        yield Step(0, 1, x, x, stats={"level": x.flatten(1).mean(1)})


@dataclass(frozen=True)
class Doubling(Solver):
    """x = 2^k: what a step that is too large looks like."""

    requires: ClassVar[Requires] = Requires()
    step: float = 3.0
    total: int = 60

    def iterate(self, problem, prior, rng, start=None):
        for index in range(self.total):
            x = problem.image + 2.0**index
            yield Step(index, self.total, x, x)


@dataclass(frozen=True)
class Hungry(Solver):
    """Fails for more than two images at once, as memory does; its answer is a draw."""

    requires: ClassVar[Requires] = Requires()
    sizes: ClassVar[list[int]] = []
    message: str = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"

    def iterate(self, problem, prior, rng, start=None):
        self.sizes.append(problem.batch)
        x = rng.normal_like(problem.image)
        if problem.batch > 2:
            raise RuntimeError(self.message)
        yield Step(0, 1, x, x)


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_exactly_known_pixels_are_held_to_the_bit_unless_said(scale):
    problem = half(NoNoise(), scale=scale)
    truth = (drawn(2) * scale) / scale
    x = Constant().solve(problem, GaussianPrior(), generator=0).x
    assert torch.equal(x[..., :3], truth[..., :3])
    assert torch.all(x[..., 3:] == 0.25)
    assert torch.all(Constant().solve(problem, GaussianPrior(), generator=0, paste=False).x == 0.25)


def test_the_mean_of_samples_holds_known_pixels_to_the_bit():
    """Of three numbers that are the same a plain mean is off by a rounding in some of them."""
    problem = half(NoNoise())
    found = DiffPIR(steps=3, zeta=1.0).solve(problem, GaussianPrior(), generator=0, samples=3)
    assert torch.equal(found.mean[..., :3], drawn(2)[..., :3])
    assert torch.allclose(found.mean, found.x.mean(0), rtol=0, atol=1e-15)
    assert found.x[..., 3:].std(0).min() > 0


def test_a_covariance_per_frequency_is_another_solver():
    with pytest.raises(InputError, match=r"the solver Spectral\(\)"):
        DiffPIR(variance="spectrum")


def test_noisy_pixels_are_not_pasted_and_each_item_goes_by_its_own_noise():
    assert torch.all(Constant().solve(half(GaussianNoise(0.1)), GaussianPrior()).x == 0.25)
    mixed = half(GaussianNoise(torch.tensor([0.0, 0.1], dtype=torch.float64)))
    x = Constant().solve(mixed, GaussianPrior()).x
    assert torch.equal(x[0, ..., :3], drawn(2)[0, ..., :3])
    assert torch.all(x[1] == 0.25)


@pytest.mark.parametrize("solver", [DiffPIR(steps=3), DDRM(steps=3), ScoreALD(steps=3), HQS(steps=3)])
def test_samples_and_parts_hold_them_too(solver):
    x = solver.solve(half(NoNoise(), 3), GaussianPrior(), generator=0, samples=2, chunk=2).x
    assert torch.equal(x[..., :3], drawn(3)[..., :3].expand(2, -1, -1, -1, -1))


def test_the_seam_is_the_step_at_the_border_over_the_steps_elsewhere():
    """Columns 0..2 rise by .1 a column, the others are .25: only the pair (2, 3) crosses the border."""
    mask = torch.zeros(SHAPE)
    mask[..., :3] = 1
    ramp = torch.arange(7, dtype=torch.float64).mul(0.1).expand(1, *SHAPE).clone()
    problem = Problem.simulate(Mask(SHAPE, mask=mask), ramp, NoNoise(), generator=0)
    found = Constant().solve(problem, GaussianPrior()).stats
    elsewhere = (6 * 2 * 0.1**2) / (6 * 5 + 5 * 7)  # two steps of .1 in each of 6 rows, of 65 pairs
    assert float(found["seam"]) == pytest.approx(0.05 / elsewhere**0.5)
    assert float(found["level"]) == 0.25


def test_growth_is_an_error_with_what_is_known_and_the_last_good_image():
    """The largest of the first five iterates is 16: 2^k / 16 passes 1e5 at k = 21."""
    problem = half(GaussianNoise(0.1))
    with pytest.raises(DivergedError, match=r"grown to 1.3e\+05 times.*step 21 of 60.*smaller step \(step=3\).*throw=False") as caught:
        Doubling().solve(problem, GaussianPrior())
    error = caught.value
    assert (error.step, error.sigma, error.norms) == (21, None, tuple(2.0**k for k in range(17, 22)))
    assert torch.all(error.x == 2.0**20)
    kept = Doubling().solve(problem, GaussianPrior(), throw=False)
    assert kept.status == Status.DIVERGED
    assert torch.all(kept.x == 2.0**20)


def test_what_stands_still_is_counted_item_by_item():
    @dataclass(frozen=True)
    class Settles(Solver):
        requires: ClassVar[Requires] = Requires()

        def iterate(self, problem, prior, rng, start=None):
            for index in range(6):
                x = problem.image + 1.0
                x[0] += min(index, 3)
                x[1] += index
                yield Step(index, 6, x, x)

    assert Settles().solve(half(GaussianNoise(0.1)), GaussianPrior()).stats["still"].tolist() == [2, 0]


def test_a_budget_of_evaluations_is_never_passed_and_shared_by_the_samples():
    problem, prior = half(GaussianNoise(0.1)), GaussianPrior()
    whole = DiffPIR(steps=10).solve(problem, prior, generator=3, keep=1)
    cut = DiffPIR(steps=10).solve(problem, prior, generator=3, budget_nfe=4)
    assert (cut.status, cut.nfe, cut.steps) == (Status.BUDGET, 4, 4)
    assert torch.equal(cut.x, whole.trace[3].x0_hat)
    assert DiffPIR(steps=10).solve(problem, prior, budget_nfe=10).status == Status.FINISHED
    several = DiffPIR(steps=10).solve(problem, prior, generator=3, samples=3, budget_nfe=13)
    assert (several.nfe, several.status) == (13, Status.BUDGET)  # 4 of 13 / 3, 4 of 9 / 2, what is left
    assert DiffPIR(steps=10).solve(problem, prior, samples=3, budget_nfe=1).nfe == 3  # the first step of each is always made


def test_a_budget_of_seconds_ends_a_run_of_slow_steps():
    @dataclass(frozen=True)
    class Slow(Doubling):
        def iterate(self, problem, prior, rng, start=None):
            import time

            for index in range(1000):
                time.sleep(0.02)
                yield Step(index, 1000, problem.image, problem.image)

    found = Slow().solve(half(GaussianNoise(0.1)), GaussianPrior(), budget_s=0.2)
    assert found.status == Status.BUDGET
    assert 1 <= found.steps <= 10  # sleep never ends early: ten steps of .02 fill it


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget_nfe": 0}, "budget_nfe must be a whole number, at least 1; given 0"),
        ({"budget_nfe": 10**400}, "budget_nfe must be a whole number"),
        ({"budget_s": 10**400}, "budget_s must be a number of seconds"),
        ({"budget_nfe": 2.5}, "budget_nfe must be a whole number"),
        ({"budget_s": 0}, "budget_s must be a number of seconds, above 0; given 0"),
        ({"budget_s": "60s"}, "budget_s must be a number of seconds"),
        ({"budget_s": float("nan")}, "budget_s must be a number of seconds"),
        ({"paste": "no"}, "paste must be True or False; given 'no'"),
        ({"throw": 1}, "throw must be True or False; given 1"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(InputError, match=says):
        DDRM(steps=2).solve(half(GaussianNoise(0.1)), GaussianPrior(), **options)


class KilledError(Exception):
    """The process ends."""


@pytest.mark.parametrize(("solver", "options"), [(ScoreALD(steps=6), {}), (DiffPIR(steps=6, zeta=0.5), {"samples": 3, "chunk": 1})])
@pytest.mark.parametrize("calls", [1, 4, 9])
def test_a_run_taken_up_again_has_the_bits_of_one_in_one_piece(tmp_path, solver, options, calls):
    problem, prior, made = half(GaussianNoise(0.1)), GaussianPrior(), []
    whole = solver.solve(problem, prior, generator=5, keep=2, **options)
    call = {"generator": 5, "keep": 2, "checkpoint": Checkpoint(tmp_path / "run", every=0), **options}

    def kill(step):
        made.append(step)
        if len(made) == calls:
            raise KilledError

    if calls <= 6 or options:
        with pytest.raises(KilledError):
            solver.solve(problem, prior, callback=kill, **call)
        made.clear()
    again = solver.solve(problem, prior, callback=lambda step: made.append(step), **call)
    assert torch.equal(again.x, whole.x)
    assert [step.index for step in again.trace] == [step.index for step in whole.trace]
    assert (again.nfe, again.steps, again.status, again.seed) == (whole.nfe, whole.steps, whole.status, 5)
    total = 6 * 3 * 2 if options else 7  # ScoreALD: a level each, and the last denoising
    assert len(made) == total - (calls - 1 if calls <= 6 or options else 0)  # nothing but the step that died is made twice
    made.clear()
    final = solver.solve(problem, prior, callback=lambda step: made.append(step), **call)
    assert torch.equal(final.x, whole.x)
    assert not made


def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(tmp_path):
    problem, prior = half(GaussianNoise(0.1)), GaussianPrior()
    restorer = DDRM(steps=3)
    restorer.solve(problem, prior, generator=5, checkpoint=tmp_path / "run")
    for solver, given, believed, options, differs in (
        (DDRM(steps=4), problem, prior, {}, "solver"),
        (restorer, half(GaussianNoise(0.2)), prior, {}, "noise, y"),
        (restorer, problem, GaussianPrior(0.4), {}, "prior"),
        (restorer, problem, prior, {"samples": 2}, "samples"),
    ):
        with pytest.raises(InputError, match=rf"another run \({differs} differ\)"):
            solver.solve(given, believed, generator=5, checkpoint=tmp_path / "run", **options)
    with pytest.raises(InputError, match="the run of seed 5, not 6"):
        restorer.solve(problem, prior, generator=6, checkpoint=tmp_path / "run")
    assert restorer.solve(problem, prior, checkpoint=tmp_path / "run").seed == 5
    (tmp_path / "run" / "tensors.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="does not belong"):
        restorer.solve(problem, prior, generator=5, checkpoint=tmp_path / "run")


def test_a_checkpoint_belongs_to_everything_that_its_numbers_depend_on(tmp_path):
    """What no state holds too: a weight, a function, a factor, the start."""
    x = drawn(1)

    def shifted(by):
        return Operator.from_function(lambda x: x.roll(by, -1), SHAPE)

    plain = AdamTV(steps=2)
    runs = [
        (Problem.simulate(operator, x, GaussianNoise(0.1), generator=0), prior, options)
        for operator in (shifted(1), shifted(2), 2.0 * shifted(1), 3.0 * shifted(1))
        for prior, options in ((TotalVariation(1.0), {}), (TotalVariation(9.0), {}), (TotalVariation(1.0), {"x_init": x}))
    ]
    for place, (problem, prior, options) in enumerate(runs):
        plain.solve(problem, prior, generator=0, checkpoint=tmp_path / str(place), **options)
        for other in range(place):
            with pytest.raises(InputError, match="another run"):
                plain.solve(problem, prior, generator=0, checkpoint=tmp_path / str(other), **options)
        plain.solve(problem, prior, generator=0, checkpoint=tmp_path / str(place), **options)


def test_what_an_operator_computes_and_keeps_makes_no_other_run_of_it(tmp_path):
    """Singular values, sizes: kept with the operator by the first run, and no part of what the second is made of."""
    blur = SeparableGaussianBlur(SHAPE, 1.0, "reflect")
    dense = Operator.from_matrix(torch.rand(9, 42, generator=torch.Generator().manual_seed(1), dtype=torch.float64), SHAPE)
    for place, operator in enumerate((blur, 2.0 * blur, dense, IterativeProx(dense))):
        problem = Problem.simulate(operator, drawn(2), GaussianNoise(0.1), generator=0, check_range=False)
        first, again = (DiffPIR(steps=2).solve(problem, GaussianPrior(), generator=0, checkpoint=tmp_path / str(place)).x for _ in range(2))
        assert torch.equal(first, again)


@pytest.mark.parametrize("options", [{"callback": lambda step: step.index < 3}, {"budget_nfe": 4}])
@pytest.mark.parametrize("samples", [None, 3])
def test_a_run_that_was_stopped_goes_on(tmp_path, options, samples):
    problem, prior, solver = half(GaussianNoise(0.1)), GaussianPrior(), DiffPIR(steps=10)
    whole = solver.solve(problem, prior, generator=5, samples=samples)
    first = solver.solve(problem, prior, generator=5, samples=samples, checkpoint=tmp_path / "run", **options)
    assert first.status in (Status.STOPPED, Status.BUDGET)
    again = solver.solve(problem, prior, generator=5, samples=samples, checkpoint=tmp_path / "run")
    assert torch.equal(again.x, whole.x)
    assert (again.status, again.nfe) == (Status.FINISHED, whole.nfe)


def test_a_run_taken_up_with_a_budget_has_what_is_left_of_it(tmp_path):
    problem, prior, solver = half(GaussianNoise(0.1)), GaussianPrior(), DiffPIR(steps=10)
    solver.solve(problem, prior, generator=5, checkpoint=tmp_path / "run", callback=lambda step: step.index < 4)
    found = solver.solve(problem, prior, generator=5, checkpoint=tmp_path / "run", budget_nfe=8)
    assert (found.status, found.nfe, found.steps) == (Status.BUDGET, 8, 8)
    assert solver.solve(problem, prior, generator=5, checkpoint=tmp_path / "run", budget_nfe=10).status == Status.FINISHED


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "", "a\0b", 3])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_step(place):
    made = []
    with pytest.raises(InputError, match=r"cannot|folder"):
        DiffPIR(steps=3).solve(half(GaussianNoise(0.1)), GaussianPrior(), checkpoint=place, callback=made.append)
    assert not made


def test_a_disk_that_fails_later_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    import invsolve.io.unfinished as unfinished

    problem, real, calls = half(GaussianNoise(0.1)), unfinished.save_run, []

    def full(kept, path):
        calls.append(path)
        if len(calls) > 2:
            raise InputError("no space left")
        real(kept, path)

    monkeypatch.setattr(unfinished, "save_run", full)
    with pytest.warns(Note, match="no longer kept: no space left"):
        found = DiffPIR(steps=5).solve(problem, GaussianPrior(), generator=1, checkpoint=Checkpoint(tmp_path / "run", every=0))
    assert torch.equal(found.x, DiffPIR(steps=5).solve(problem, GaussianPrior(), generator=1).x)
    assert len(calls) == 3


def test_several_masks_of_one_image_hold_what_either_shows():
    left, top = torch.zeros(SHAPE), torch.zeros(SHAPE)
    left[..., :2], top[..., :2, :] = 1, 1
    operator = Stack(Mask(SHAPE, mask=left), 2.0 * Mask(SHAPE, mask=top))
    x = Constant().solve(Problem.simulate(operator, drawn(2), NoNoise(), generator=0), GaussianPrior()).x
    shown = ((left + top) > 0).expand(2, -1, -1, -1)
    assert torch.allclose(x[shown], drawn(2)[shown], rtol=0, atol=1e-15)
    assert torch.all(x[~shown] == 0.25)


@pytest.mark.parametrize("error", ["DefaultCPUAllocator: can't allocate memory", None])
def test_what_does_not_fit_into_memory_is_made_in_halves_with_the_same_answer(error, monkeypatch):
    if error is None:

        def iterate(self, problem, prior, rng, start=None):
            self.sizes.append(problem.batch)
            x = rng.normal_like(problem.image)
            if problem.batch > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield Step(0, 1, x, x)

        monkeypatch.setattr(Hungry, "iterate", iterate)
    problem = half(GaussianNoise(0.1), 5)
    Hungry.sizes.clear()
    found = Hungry().solve(problem, GaussianPrior(), generator=Rng(3, problem.items), samples=2)
    assert Hungry.sizes == [5, 3, 2, 1, 2] * 2
    streams = [torch.cat([Rng(3, [item], sample).normal_like(problem.image[:1]) for item in range(5)]) for sample in range(2)]
    assert torch.equal(found.x, torch.stack(streams))


def test_another_error_of_an_allocation_that_cannot_be_cut_is_raised():
    with pytest.raises(RuntimeError, match="something else"):
        Hungry("something else").solve(half(GaussianNoise(0.1), 5), GaussianPrior())


def test_intervals_are_quantiles_over_the_samples(tmp_path):
    x = torch.arange(41.0).flip(0)[:, None, None, None, None].expand(41, 2, *SHAPE)
    found = Solution(x, Status.FINISHED, 1, 1, 0.0, 0.0, 0, DDRM(), samples=41, stats={"seam": torch.ones(82)})
    low, high = found.interval(0.9)
    assert torch.allclose(low, torch.full((2, *SHAPE), 2.0))
    assert torch.allclose(high, torch.full((2, *SHAPE), 38.0))
    with pytest.raises(InputError, match=r"an interval of 0.99 needs at least 200 samples; given 41"):
        found.interval(0.99)
    for level in (0.0, 1.0, 90):
        with pytest.raises(InputError, match="between 0 and 1"):
            found.interval(level)
    found.save(tmp_path / "kept")
    assert torch.equal(Solution.load(tmp_path / "kept").stats["seam"], torch.ones(82))


@pytest.mark.parametrize(("number", "shown"), [(2**63, r"9\.223e\+18"), (2**70, r"1\.181e\+21"), (10**400, "one of more than 300 digits")])
def test_whole_numbers_that_torch_cannot_hold_are_refused_where_they_are_given(number, shown):
    for make, name in ((lambda: DiffPIR(weight=number), "weight"), (lambda: DiffPIR(sigma_max=number), "sigma_max")):
        with pytest.raises(ArgumentError, match=rf"DiffPIR: {name} must be below 2\^63 where it is a whole number; given {shown}"):
            make()
    assert DiffPIR(weight=2**63 - 1).weight == 2**63 - 1
