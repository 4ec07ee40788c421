"""What Problem and every solver refuse at entry, each with what was given, what is allowed and what to do."""

import inspect
import warnings
from dataclasses import replace

import pytest
import torch
from invsolve_operators import Identity
from sweeps import thinned

from invsolve import Capability, GaussianNoise, IterativeProx, NoNoise, Operator, PoissonNoise, Problem, Rng, Stack, load_prior, registry
from invsolve.errors import ArgumentError, CompatibilityError, InputError
from invsolve.priors import Denoiser, DiffusionPrior, GaussianPrior
from invsolve.schedule import DiscreteVP
from invsolve.solvers import ADMM, DDRM, DPS, HQS, AdamTV, DiffPIR, Heun, ScoreALD
from invsolve.testing.settings import Coupled, Kept, truth

SHAPE = (3, 8, 9)
NOISE = GaussianNoise(0.1)


def measurement(batch=2, dtype=torch.float32):
    return truth(SHAPE, batch, dtype)


def with_bad(value):
    y = measurement()
    y[1, 2, 3, 4] = value
    return y


class Wavy(Operator):
    """y = sin(x): nonlinear, differentiable."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = in_shape

    def forward(self, x):
        return x.sin()


class Odd(Denoiser):
    """A denoiser that breaks its contract."""

    sigma_range = (0.002, 80.0)

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, sigma):
        return self.function(x)


BAD_TENSORS = {
    "channels": (lambda: measurement()[:, :1], r"\(B, 3, 8, 9\); given \(2, 1, 8, 9\)"),
    "height": (lambda: measurement()[:, :, :-1], r"\(B, 3, 8, 9\); given \(2, 3, 7, 9\)"),
    "transposed": (lambda: measurement().transpose(2, 3), r"given \(2, 3, 9, 8\)"),
    "no batch": (lambda: measurement()[0], r"\(B, 3, 8, 9\); given \(3, 8, 9\)"),
    "rank 5": (lambda: measurement()[None], r"given \(1, 2, 3, 8, 9\)"),
    "scalar": (lambda: torch.tensor(0.5), r"given \(\)"),
    "uint8": (lambda: (measurement() * 255).to(torch.uint8), r"float32 or float64, given torch\.uint8; 8-bit images: \w+\.float\(\) / 255"),
    "int": (lambda: measurement().int(), r"float32 or float64, given torch\.int32; convert"),
    "bool": (lambda: measurement() > 0.5, r"given torch\.bool"),
    "float16": (lambda: measurement().half(), r"given torch\.float16; convert"),
    "bfloat16": (lambda: measurement().bfloat16(), r"given torch\.bfloat16"),
    "complex": (lambda: measurement().to(torch.complex64), r"complex.*pass \w+\.real"),
    "numpy": (lambda: measurement().numpy(), r"must be a tensor, given ndarray; torch\.as_tensor"),
    "list": (lambda: measurement().tolist(), r"must be a tensor, given list"),
    "nan": (lambda: with_bad(float("nan")), r"1 NaN or infinite values, the first at index \(1, 2, 3, 4\)"),
    "inf": (lambda: with_bad(float("-inf")), r"1 NaN or infinite values, the first at index \(1, 2, 3, 4\)"),
    "meta": (lambda: measurement().to("meta"), r"meta"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_problem_refuses_the_measurement(name):
    make, words = BAD_TENSORS[name]
    for operator in (Kept(SHAPE), Wavy()):
        with pytest.raises(InputError, match=words):
            Problem(operator, make(), NOISE)


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_simulate_refuses_the_truth(name):
    make, words = BAD_TENSORS[name]
    with pytest.raises(InputError, match=words):
        Problem.simulate(Kept(SHAPE), make(), NOISE, generator=0)


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_solver_refuses_x_init(name):
    """Channel counts and ranks differ in the words only: the wanted shape is given there too."""
    make, words = BAD_TENSORS[name]
    problem = Problem(Kept(SHAPE), measurement(), NOISE)
    shapes = ("channels", "height", "transposed", "no batch", "rank 5", "scalar")
    words = r"x_init must have shape \(2, 3, 8, 9\) on cpu; given" if name in (*shapes, "numpy", "list", "meta") else words
    with pytest.raises(InputError, match=words):
        DPS(steps=2).solve(problem, GaussianPrior(), x_init=make())


class TestRange:
    def test_0_to_255_data(self):
        with pytest.raises(InputError, match=r"spans \[.*\], but Kept of a \[0, 1\] image lies in \[0, 1\]; divide 0\.\.255 data by 255"):
            Problem(Kept(SHAPE), measurement() * 255, NOISE)
        with pytest.raises(InputError, match=r"divide 0\.\.255"):
            Problem.simulate(Kept(SHAPE), measurement() * 255, NOISE, generator=0)

    def test_can_be_allowed(self):
        assert Problem(Kept(SHAPE), measurement() * 255, NOISE, check_range=False).batch == 2

    def test_noise_and_minus_one_to_one_residuals_are_no_reason(self):
        """Ten standard deviations of the noise about the range are data."""
        assert Problem.simulate(Kept(SHAPE), measurement(), GaussianNoise(2.0), generator=0).batch == 2

    def test_only_where_the_operator_says_its_output_is_an_image(self):
        assert Problem(Coupled(SHAPE), measurement() * 255, NOISE).batch == 2


class TestNoise:
    @pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, -0.1]), torch.ones(2, 2)])
    def test_unusable_sigma(self, sigma):
        with pytest.raises(InputError, match="sigma must be finite and not negative, a number or"):
            GaussianNoise(sigma)

    @pytest.mark.parametrize("sigma", ["0.1", None, {}])
    def test_no_number(self, sigma):
        with pytest.raises(InputError, match="sigma must be a number"):
            GaussianNoise(sigma)

    @pytest.mark.parametrize("gain", [0, -1, float("nan"), float("inf")])
    def test_unusable_gain(self, gain):
        with pytest.raises(InputError, match="gain must be positive and finite; given"):
            PoissonNoise(gain)

    @pytest.mark.parametrize("gain", ["x", None, torch.ones(2)])
    def test_a_gain_that_is_no_number(self, gain):
        with pytest.raises(InputError, match="gain must be a number, one for all items"):
            PoissonNoise(gain)

    def test_negative_counts(self):
        """The likelihood falls without end where y < 0: a run would return an image as if nothing were wrong."""
        with pytest.raises(InputError, match=r"Poisson noise needs y >= 0; its smallest value is -0\.25"):
            Problem(Kept(SHAPE), with_bad(-0.25), PoissonNoise(0.01))
        assert Problem(Kept(SHAPE), with_bad(0.0), PoissonNoise(0.01)).batch == 2

    def test_a_level_per_item_must_have_the_batch_s_length(self):
        three = GaussianNoise(torch.full((3,), 0.1))
        with pytest.raises(InputError, match="batch sizes differ: y 2, noise 3"):
            Problem(Kept(SHAPE), measurement(), three)
        with pytest.raises(InputError, match="batch sizes differ: x 2, noise 3"):
            Problem.simulate(Kept(SHAPE), measurement(), three, generator=0)

    def test_poisson_noise_needs_counts(self):
        with pytest.raises(InputError, match=r"needs H\(x\) >= 0; its smallest value is -"):
            Problem.simulate(Kept(SHAPE), measurement() - 0.9, PoissonNoise(0.01), generator=0)


class TestBatches:
    def test_operator_for_another_batch(self):
        masks = Kept(SHAPE).mask.expand(3, 1, *SHAPE[1:]).clone()
        operator = registry().build("operator", "mask", in_shape=SHAPE, mask=masks)
        with pytest.raises(InputError, match="batch sizes differ: y 2, operator 3"):
            Problem(operator, measurement(2), NOISE)
        with pytest.raises(InputError, match="parameters for 3 items, x has 2"):
            Problem.simulate(operator, measurement(2), NOISE, generator=0)

    def test_items_for_another_batch(self):
        with pytest.raises(InputError, match="items has 1 ids, y has 2 items"):
            Problem(Kept(SHAPE), measurement(), NOISE, items=(4,))

    def test_rng_for_another_batch(self):
        with pytest.raises(InputError, match="3 streams, the batch has 2"):
            DPS(steps=2).solve(Problem(Kept(SHAPE), measurement(), NOISE), GaussianPrior(), generator=Rng(0, range(3)))

    def test_parts_of_a_stack(self):
        stack = Stack(Kept(SHAPE), Kept(SHAPE))
        with pytest.raises(InputError, match="a tuple of 2 tensors; y is Tensor"):
            Problem(stack, measurement(), NOISE)
        with pytest.raises(InputError, match="one tensor; y is tuple"):
            Problem(Kept(SHAPE), (measurement(), measurement()), NOISE)
        with pytest.raises(InputError, match="batch sizes differ"):
            Problem(stack, (measurement(2), measurement(3)), NOISE)


class TestDevices:
    def test_operator_elsewhere(self):
        with pytest.raises(InputError, match="operator is on meta, data on cpu; move both"):
            Problem(Kept(SHAPE).to("meta"), measurement(), NOISE)

    def test_prior_elsewhere_names_all_three(self):
        problem = Problem(Kept(SHAPE), measurement(), NOISE)
        with pytest.raises(CompatibilityError, match="devices differ: y on cpu, operator on cpu, prior on meta"):
            DPS(steps=2).solve(problem, GaussianPrior().to("meta"))


class TestKeywords:
    def test_problem(self):
        with pytest.raises(ArgumentError, match=r"'nosie'; did you mean noise\?; it takes \(operator, y, noise"):
            Problem(Kept(SHAPE), measurement(), nosie=NOISE)
        with pytest.raises(ArgumentError, match="'generatr'; did you mean generator"):
            Problem.simulate(Kept(SHAPE), measurement(), NOISE, generatr=0)

    def test_noise_operator_and_prior(self):
        with pytest.raises(ArgumentError, match="did you mean sigma"):
            GaussianNoise(sigm=0.1)
        with pytest.raises(ArgumentError, match="did you mean in_shape"):
            registry().build("operator", "mask", in_shap=SHAPE)
        with pytest.raises(ArgumentError, match="did you mean weight"):
            load_prior("tv", wieght=3.0)

    # bicubic and nearest take no argument
    @pytest.mark.parametrize(
        "entry", [entry for entry in registry().of("solver") if inspect.signature(entry.load()).parameters], ids=lambda entry: entry.name
    )
    def test_solver_by_name_and_by_class(self, entry):
        name = next(iter(inspect.signature(entry.load()).parameters))
        for make in (entry.load(), lambda **options: registry().build("solver", entry.name, **options)):
            with pytest.raises(ArgumentError, match=f"'{name}s'; did you mean .*{name}"):
                make(**{f"{name}s": 3})

    def test_too_many_arguments_and_the_wrong_order(self):
        with pytest.raises(InputError, match=r"expected Operator, given Tensor; the order is Problem\(operator, y, noise\)"):
            Problem(measurement(), Kept(SHAPE), NOISE)
        with pytest.raises(InputError, match="expected NoiseModel, given float"):
            Problem(Kept(SHAPE), measurement(), 0.1)
        with pytest.raises(InputError, match=r"given GaussianPrior; the order is solve\(problem, prior\)"):
            DPS(steps=2).solve(GaussianPrior(), Problem(Kept(SHAPE), measurement(), NOISE))
        with pytest.raises(InputError, match="must be a Problem, given Tensor"):
            DPS(steps=2).solve(measurement(), GaussianPrior())


SAMPLERS = [entry.load() for entry in registry().of("solver") if hasattr(entry.load()(), "grid")]
LEVELLED = [cls for cls in SAMPLERS if hasattr(cls(), "sigma_max")]


FIRST = [
    (cls, sigma_max, schedule) for cls in LEVELLED for sigma_max in (-1, 0, 1e-4, float("nan"), float("inf")) for schedule in (False, True)
]


class TestSolve:
    problem = Problem(Kept(SHAPE), measurement(), NOISE)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"samples": 0}, "samples must be a whole number, at least 1; given 0"),
            ({"samples": 2.5}, r"samples must be a whole number, at least 1; given 2\.5"),
            ({"keep": -1}, "keep must be a whole number, at least 0; given -1"),
            ({"callback": 3}, "callback must be callable.*given int"),
            ({"generator": "0"}, "generator must be an int.*not str"),
            ({"generator": True}, "generator must be an int.*not bool"),
            ({"start": 3}, "start must be a kept Step.*given int"),
        ],
    )
    def test_options(self, options, words):
        with pytest.raises(InputError, match=words):
            DPS(steps=2).solve(self.problem, GaussianPrior(), **options)

    @pytest.mark.parametrize("cls", SAMPLERS, ids=lambda cls: cls.__name__)
    @pytest.mark.parametrize("steps", [0, -3])
    def test_steps(self, cls, steps):
        """Where they are made: no problem and no other solver could help."""
        with pytest.raises(InputError, match=f"steps must be a whole number, at least 1; given {steps}"):
            cls(steps=steps)

    @pytest.mark.parametrize("cls", [AdamTV, HQS, ADMM], ids=lambda cls: cls.__name__)
    @pytest.mark.parametrize("steps", [0, -3, 2.5, "4"])
    def test_steps_of_the_classical_solvers(self, cls, steps):
        with pytest.raises(InputError, match=f"steps must be a whole number, at least 1; given {steps!r}"):
            cls(steps=steps)

    def test_a_number_of_inner_steps_and_a_churn_that_are_none(self):
        with pytest.raises(InputError, match=r"inner must be a whole number.*given 1\.5"):
            ScoreALD(inner=1.5)
        with pytest.raises(InputError, match=r"churn >= 0.*given churn=nan"):
            Heun(churn=float("nan"))

    @pytest.mark.parametrize(("cls", "sigma_max", "schedule"), thinned(FIRST, lambda place: sum(divmod(place, 10)) % 3 == 0))
    def test_a_first_level_that_is_none(self, cls, sigma_max, schedule):
        """A level below the prior's range gave a rising grid, a negative one a complex number, NaN a run that diverged."""
        problem = self.problem if cls.requires.measurement else Problem.unconditional(SHAPE)
        prior = DiffusionPrior(GaussianPrior(), DiscreteVP()) if schedule else GaussianPrior()
        with pytest.raises(CompatibilityError, match="sigma_max must be a finite number, at least the prior's lowest level"):
            cls(steps=3, sigma_max=sigma_max).solve(problem, prior)

    @pytest.mark.parametrize("cls", LEVELLED, ids=lambda cls: cls.__name__)
    @pytest.mark.parametrize("wrong", ["1", [1.0], {"a": 1}, print, torch.ones(2), True])
    def test_an_argument_of_another_type_is_named(self, cls, wrong):
        with pytest.raises(ArgumentError, match=f"{cls.__name__}: sigma_max must be float; given"):
            cls(sigma_max=wrong)
        with pytest.raises(InputError, match="steps must be at most 1000000"):
            cls(steps=10**20)

    def test_other_channels_name_the_argument_that_helps(self):
        grey = Problem(Kept((1, 8, 8)), torch.full((1, 1, 8, 8), 0.5), NOISE)
        with pytest.raises(CompatibilityError, match="takes 3-channel images, the operator 1-channel ones; make it with channels=1"):
            DPS(steps=2).solve(grey, load_prior("natural"))

    @pytest.mark.parametrize(
        "solver", [HQS(), ADMM(), DPS(steps=2), DDRM(steps=2), DiffPIR(steps=2)], ids=lambda solver: type(solver).__name__
    )
    def test_a_denoiser_of_other_channels_or_precision(self, solver):
        """A single channel was broadcast to an image of three, and an answer in float64 became the solution's."""
        problem = Problem(Identity(SHAPE), measurement(), NOISE)
        with pytest.raises(InputError, match=r"prior Odd must return images of shape \(2, 3, 8, 9\); it gave \(2, 1, 8, 9\)"):
            solver.solve(problem, Odd(lambda x: x.mean(1, keepdim=True)), generator=0)
        assert solver.solve(problem, Odd(lambda x: 0.5 * x.double()), generator=0).x.dtype == torch.float32

    def test_a_y_that_asks_for_a_gradient_is_no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Problem(Identity(SHAPE), measurement().requires_grad_(), NOISE).batch == 2

    def test_a_start_of_another_problem(self):
        start = DPS(steps=3).solve(self.problem, GaussianPrior(), generator=0, keep=1).trace[0]
        with pytest.raises(InputError, match=r"start belongs to another problem.*\(2, 3, 8, 9\).*\(1, 3, 8, 9\)"):
            DPS(steps=3).solve(self.problem[0], GaussianPrior(), start=start)
        with pytest.raises(InputError, match="x_init or start, not both"):
            DPS(steps=3).solve(self.problem, GaussianPrior(), start=start, x_init=measurement())

    def test_a_prior_of_another_image_shape_is_not_broadcast(self):
        prior = GaussianPrior(torch.full((3, 4, 4), 0.5))
        with pytest.raises(CompatibilityError, match=r"images of shape \(3, 4, 4\), the operator \(3, 8, 9\)"):
            DPS(steps=2).solve(self.problem, prior)


class TestGaps:
    def test_every_gap_is_listed_and_what_would_work_is_named(self):
        problem = Problem(Kept(SHAPE) @ Coupled(SHAPE), measurement(), PoissonNoise(0.01))
        with pytest.raises(CompatibilityError) as caught:
            DiffPIR(steps=2).solve(problem, load_prior("tv"))
        lines = str(caught.value).splitlines()
        assert lines[0] == "DiffPIR cannot solve this problem:"
        assert "lacks 'prox' (it has: adjoint, differentiable, linear)" in lines[1]
        assert "TotalVariation is not a Denoiser" in lines[2]
        assert "PoissonNoise lacks 'sigma' (it has: nll, variance)" in lines[3]
        able = [name for name in registry().names("solver") if not registry().load("solver", name)().mismatches(problem, load_prior("tv"))]
        assert {"adam-tv", "rl-tv"} <= set(able)
        assert "diffpir" not in able
        assert lines[4] == f"Installed solvers that can: {', '.join(sorted(able))}"
        assert "IterativeProx(H, tol=1e-4)" in lines[5]

    def test_the_named_wrapper_works(self):
        wrapped = IterativeProx(Kept(SHAPE) @ Coupled(SHAPE), tol=1e-4)
        problem = Problem(wrapped, measurement(), NOISE)
        assert DiffPIR(steps=2).mismatches(problem, GaussianPrior()) == []

    def test_the_solvers_named_really_can(self):
        problem = Problem(Kept(SHAPE) @ Coupled(SHAPE), measurement(), NOISE)
        with pytest.raises(CompatibilityError, match="Composed lacks 'svd'") as caught:
            DDRM(steps=2).solve(problem, GaussianPrior())
        (line,) = [one for one in str(caught.value).splitlines() if one.startswith("Installed solvers that can: ")]
        assert str(caught.value).splitlines()[-1] == "Or give it KrylovSVD(H, rank=...) in place of H"
        names = line.removeprefix("Installed solvers that can: ").split(", ")
        assert "dps" in names
        assert "ddrm" not in names
        for name in names:
            solver = registry().load("solver", name).examples()[0]
            short = replace(solver, steps=3) if hasattr(solver, "steps") else solver
            assert short.solve(problem, GaussianPrior(), generator=0).x.isfinite().all()

    def test_nonlinear_operator(self):
        problem = Problem(Wavy(), measurement(), NOISE)
        for entry in registry().of("solver"):
            solver = entry.load().examples()[0]
            if solver.requires.operator - {Capability.DIFFERENTIABLE}:
                assert any("Wavy lacks" in gap for gap in solver.mismatches(problem, GaussianPrior())), entry.name

    def test_no_noise_where_an_objective_is_needed(self):
        problem = Problem(Kept(SHAPE), measurement() * Kept(SHAPE).mask, NoNoise())
        for entry in registry().of("solver"):
            solver = entry.load().examples()[0]
            if solver.requires.measurement and not solver.mismatches(problem, GaussianPrior()):
                assert solver.solve(problem, GaussianPrior(), generator=0).x.isfinite().all(), entry.name
            assert solver.mismatches(problem, load_prior("tv")), entry.name


class TestUnconditional:
    def test_shape_and_batch(self):
        with pytest.raises(InputError, match=r"\(channels, height, width\).*given \(8, 8\)"):
            Problem.unconditional((8, 8))
        with pytest.raises(InputError, match="batch must be at least 1; given 0"):
            Problem.unconditional(SHAPE, 0)
