"""What a plug-in brings is certified by the kit and solved by the built-in solvers, without a line changed in the core."""

import contract_plugin as lab
import pytest
import setting_turns
import solver_turns
import torch

from invsolve import CompatibilityError, GaussianNoise, Operator, Problem, Status
from invsolve.noise import PoissonNoise
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior, LatentPrior, TotalVariation
from invsolve.recipe.storage import load_problem
from invsolve.solvers import DPS, HQS, AdamTV, DiffPIR, ScoreALD
from invsolve.testing import failures, noise_checks, prior_checks, solver_checks
from invsolve.testing.oracle import Gaussian
from invsolve.testing.pooled import Pooled
from invsolve.testing.settings import Coupled, Kept, fitting_noises, fitting_priors, settings, truth
from invsolve.which import which_solvers

SHAPE = (1, 6, 7)
CHECKS = {"noise": noise_checks, "prior": prior_checks, "solver": solver_checks}


def named(value):
    return type(value).__name__


@pytest.fixture(autouse=True)
def installed():
    """The plug-in's entries for the length of a test."""
    entries = registry().entries
    before = dict(entries)
    lab.register(registry())
    lab.ByLabel.calls.clear()
    yield
    entries.clear()
    entries.update(before)


def problem(noise=None, operator=None, batch=3, **options):
    options.setdefault("context", {"label": torch.arange(batch) % 3})
    noise = GaussianNoise(0.1) if noise is None else noise
    return Problem.simulate(operator or Kept(SHAPE), truth(SHAPE, batch, torch.float64), noise, generator=0, **options)


@pytest.mark.parametrize(("kind", "name", "attribute"), lab.ENTRIES, ids=lambda value: str(value))
def test_the_kit_certifies_it(kind, name, attribute, pytestconfig):
    place = lab.ENTRIES.index((kind, name, attribute))
    for example in getattr(lab, attribute).examples():
        in_turn = setting_turns.in_turn if kind == "solver" else solver_turns.in_turn
        checks = [
            (said, lambda one, check=check, in_turn=in_turn: in_turn(check, one, place, pytestconfig))
            for said, check in CHECKS[kind](example)
        ]
        assert failures(example, checks) == {}


def test_the_kit_finds_what_the_solvers_need_by_itself():
    """Its own classes where they are asked for, its own entries beside the core's, its own problems where nothing else fits."""
    (own, *_) = settings(lab.SensorAscent.examples()[0])
    assert isinstance(own.problem.noise, lab.SensorNoise)
    assert isinstance(own.prior, lab.ByLabel)
    assert "label" in own.problem.context
    assert {type(noise) for noise in fitting_noises(lab.Ascent())} >= {lab.LaplaceNoise, lab.SensorNoise, GaussianNoise, PoissonNoise}
    assert {type(prior) for prior in fitting_priors(lab.Ascent())} >= {lab.ByLabel, lab.Guided, lab.SeesY, lab.Codes, GaussianPrior}
    assert [setting.problem.operator.label for setting in settings(lab.Twice())] == ["Halved"]


class TestNoise:
    @pytest.mark.parametrize("noise", [lab.LaplaceNoise(0.05), lab.SensorNoise(0.05, 0.1)], ids=named)
    def test_built_in_solvers_solve_it_where_abilities_allow(self, noise):
        given = problem(noise)
        solution = AdamTV(steps=300).solve(given, TotalVariation(weight=2.0), generator=0)
        objective = noise.nll(given.y, given.operator(solution.x)) + 2.0 * TotalVariation().value(solution.x)
        for other in (given.y, torch.full_like(given.y, 0.5), truth(SHAPE, 3, torch.float64)):
            assert (objective < noise.nll(given.y, given.operator(other)) + 2.0 * TotalVariation().value(other)).all()
        fits = {fit.solver for fit in which_solvers(given, GaussianPrior()) if fit.fits}
        assert "dps" in fits
        assert torch.isfinite(DPS(steps=10).solve(given, GaussianPrior(0.5, 0.25), generator=0).x).all()

    def test_others_name_the_ability_that_is_missing(self):
        with pytest.raises(CompatibilityError, match=r"noise LaplaceNoise lacks 'sigma' \(it has: nll, variance\)"):
            HQS().solve(problem(lab.LaplaceNoise()), GaussianPrior(), generator=0)

    def test_a_solver_that_wants_its_own_class_refuses_others(self):
        with pytest.raises(CompatibilityError, match="noise GaussianNoise is not one of: SensorNoise"):
            lab.SensorAscent().solve(problem(), lab.ByLabel(), generator=0)

    def test_the_laplace_median(self):
        """Independent pixels, all seen, TV of weight 0: the minimiser of |y - x| is y; Adam's decaying step ends within its lr of it."""
        given = problem(lab.LaplaceNoise(), Operator.from_matrix(torch.eye(42, dtype=torch.float64), SHAPE, SHAPE))
        x = AdamTV(steps=400).solve(given, TotalVariation(weight=0.0), generator=0).x
        assert float((x - given.y).abs().max()) < 1e-3


class TestCondition:
    @pytest.mark.parametrize("solver", [DiffPIR(steps=6), DPS(steps=6), ScoreALD(steps=6), HQS(steps=6)], ids=named)
    @pytest.mark.parametrize("prior", [lab.ByLabel(), lab.Guided()], ids=named)
    def test_a_label_in_a_batch_of_three_gives_what_the_item_gives_alone(self, solver, prior):
        """To the bit where the solver's own arithmetic is the same to the bit for one item and three (the kit asks 1e-10 of the others)."""
        given = problem()
        batch = solver.solve(given, prior, generator=4)
        plain = solver.solve(problem(context={}), GaussianPrior(0.5, lab.STD), generator=4)
        for item in range(3):
            alone = solver.solve(given[item], prior, generator=4).x[0]
            bits = torch.equal(solver.solve(problem(context={})[item], GaussianPrior(0.5, lab.STD), generator=4).x[0], plain.x[item])
            assert torch.equal(alone, batch.x[item]) if bits else torch.allclose(alone, batch.x[item], rtol=0, atol=1e-12)
        assert batch.x[0].mean() < plain.x[0].mean() < batch.x[2].mean() + plain.x[0].mean() - plain.x[2].mean()

    def test_classifier_free_guidance_to_the_bit(self):
        given = problem()
        batch = DiffPIR(steps=6).solve(given, lab.Guided(), generator=4)
        for item in range(3):
            assert torch.equal(DiffPIR(steps=6).solve(given[item], lab.Guided(), generator=4).x[0], batch.x[item])

    def test_two_networks_count_two(self):
        given = problem()
        one, two = (DiffPIR(steps=6).solve(given, prior, generator=0) for prior in (lab.ByLabel(), lab.Guided()))
        assert (one.nfe, two.nfe) == (6, 12)
        assert (one.backward, two.backward) == (0, 0)
        one, two = (DPS(steps=6).solve(given, prior, generator=0) for prior in (lab.ByLabel(), lab.Guided()))
        assert (one.nfe, one.backward) == (6, 6)
        assert (two.nfe, two.backward) == (12, 12)
        assert DPS(steps=6).solve(given, lab.Guided(), generator=0, samples=3, chunk=2).nfe == 36

    def test_given_is_called_once_a_run(self):
        DiffPIR(steps=6).solve(problem(), lab.ByLabel(), generator=0)
        assert lab.ByLabel.calls == [3]
        lab.ByLabel.calls.clear()
        DiffPIR(steps=6).solve(problem(), lab.ByLabel(), generator=0, chunk=2)
        assert lab.ByLabel.calls == [2, 1]

    def test_a_missing_label_is_refused_before_anything_runs(self):
        with pytest.raises(CompatibilityError, match=r"needs context=\{'label': labels\}"):
            DiffPIR(steps=2).solve(problem(context={}), lab.ByLabel(), generator=0)
        assert lab.ByLabel.calls == []

    def test_the_context_goes_with_the_problem(self, tmp_path):
        given = problem()
        assert given[1].context["label"].tolist() == [1]
        assert given[1:].context["label"].tolist() == [1, 2]
        assert given[-1].context["label"].tolist() == [2]
        assert given.repeat(2).context["label"].tolist() == [0, 1, 2, 0, 1, 2]
        masked = Problem.simulate(
            registry().build("operator", "matrix", matrix=torch.eye(42, dtype=torch.float64), in_shape=SHAPE),
            truth(SHAPE, 3, torch.float64),
            GaussianNoise(0.1),
            generator=0,
            context={"label": torch.tensor([2, 0, 1]), "guide": torch.rand(3, 2, 5)},
        )
        masked.save(tmp_path / "problem")
        again = Problem.load(tmp_path / "problem")
        assert set(again.context) == {"label", "guide"}
        assert all(torch.equal(again.context[name], value) for name, value in masked.context.items())
        solutions = [DiffPIR(steps=4).solve(one, lab.ByLabel(), generator=0).x for one in (masked, again)]
        assert torch.equal(*solutions)

    def test_a_noise_of_the_plug_in_is_read_back_by_its_name(self, tmp_path):
        operator = registry().build("operator", "matrix", matrix=torch.eye(42, dtype=torch.float64), in_shape=SHAPE)
        Problem.simulate(operator, truth(SHAPE, 3, torch.float64), lab.LaplaceNoise(0.07), generator=0).save(tmp_path / "problem")
        assert load_problem(tmp_path / "problem").noise.width == 0.07

    def test_a_context_moves_with_the_problem(self, monkeypatch):
        """`meta` stands for another device; a problem without values is refused, so that the look at them is left out."""
        given = problem()
        monkeypatch.setattr(Problem, "__post_init__", lambda self: None)
        moved = given.to("meta")
        assert moved.y.device.type == moved.context["label"].device.type == "meta"
        assert given.context["label"].device.type == "cpu"


class TestChunks:
    @pytest.mark.parametrize("prior", [lab.ByLabel(), lab.Guided(), lab.SeesY(), lab.Codes.examples()[0]], ids=named)
    @pytest.mark.parametrize("chunk", [1, 2, 3, 4])
    def test_the_same_bits(self, prior, chunk):
        solver = DPS(steps=5)
        given = problem()
        whole = solver.solve(given, prior, generator=4)
        cut = solver.solve(given, prior, generator=4, chunk=chunk)
        parts = [solver.solve(given[first : first + chunk], prior, generator=4).x for first in range(0, 3, chunk)]
        assert torch.equal(cut.x, torch.cat(parts))
        assert torch.allclose(cut.x, whole.x, rtol=0, atol=1e-12)
        assert (cut.nfe, cut.backward) == (whole.nfe, whole.backward)

    def test_samples_in_chunks(self):
        solver, given = DiffPIR(steps=5), problem()
        whole = solver.solve(given, lab.Guided(), generator=4, samples=4)
        for chunk in (1, 2, 3, 6, 100):
            cut = solver.solve(given, lab.Guided(), generator=4, samples=4, chunk=chunk)
            assert torch.equal(cut.x, whole.x)
            assert (cut.nfe, cut.samples, cut.status) == (whole.nfe, 4, Status.FINISHED)


class TestCodes:
    @pytest.mark.parametrize("solver", [DPS(steps=12), ScoreALD(steps=12)], ids=named)
    def test_it_is_the_composed_problem(self, solver):
        """Solving with the prior of codes is solving y = H D z + n for z, and decoding."""
        prior, given = lab.Codes.examples()[0], problem(operator=Coupled(SHAPE), context={})
        inner = Problem(given.operator @ prior.decoder, given.y, given.noise)
        solution, by_hand = solver.solve(given, prior, generator=0), solver.solve(inner, prior.denoiser, generator=0)
        assert torch.equal(solution.latent, by_hand.x)
        assert torch.equal(solution.x, prior.decoder(by_hand.x))
        assert solution.x.shape == (3, *SHAPE)

    def test_the_mean_is_the_closed_form(self):
        """z ~ N(.7, .4^2 I), y = H D z + n: the image's posterior mean is D m_z, by the covariance form, with another code."""
        prior, given = lab.Codes.examples()[0], problem(operator=Coupled(SHAPE), context={})
        basis = torch.eye(42, dtype=torch.float64).reshape(42, *SHAPE)
        matrix = given.operator(basis).flatten(1).T @ lab.DECODER
        law = Gaussian(torch.full((21,), 0.7, dtype=torch.float64), 0.16 * torch.eye(21, dtype=torch.float64))
        x = lab.CodeMean().solve(given, prior, generator=0).x
        for item in range(3):
            wanted = lab.DECODER @ law.posterior(matrix, given.y[item].flatten(), 0.1).mean
            assert float((x[item].flatten() - wanted).abs().max()) < 1e-10

    def test_a_sampler_draws_images_about_it(self):
        """100 chains of score-ald: their mean is nearer to the closed form than half of the prior's mean; every draw is decoder(z)."""
        prior, given = lab.Codes.examples()[0], problem(operator=Coupled(SHAPE), context={}, batch=1)
        exact = lab.CodeMean().solve(given, prior, generator=0).x[0]
        draws = ScoreALD(steps=60).solve(given.repeat(100), prior, generator=Pooled(0, range(100))).x
        ahead = prior.decoder(torch.full((1, 1, 3, 7), 0.7, dtype=torch.float64))[0]
        assert float((draws.mean(0) - exact).norm()) < 0.5 * float((ahead - exact).norm())
        pairs = draws.flatten(1).reshape(100, 21, 2)
        assert float((pairs[..., 0] - pairs[..., 1]).abs().max()) < 1e-12

    def test_an_image_of_another_shape_is_a_gap_and_no_crash(self):
        other = Problem.simulate(Kept((1, 5, 5)), truth((1, 5, 5), 1, torch.float64), GaussianNoise(0.1), generator=0)
        prior = lab.Codes.examples()[0]
        with pytest.raises(CompatibilityError, match="decoder gives images of shape"):
            DPS(steps=2).solve(other, prior, generator=0)
        assert not any(fit.fits for fit in which_solvers(other, prior))

    def test_a_solver_reaches_decoder_and_encode(self):
        seen = []

        class Looks(DPS):
            def iterate(self, problem, prior, rng, start=None):
                seen.extend([prior.decoder, prior.encode(torch.zeros(1))])
                return super().iterate(problem, prior, rng, start)

        prior = LatentPrior(GaussianPrior(0.7, 0.4), Operator.from_matrix(lab.DECODER, (1, 3, 7), SHAPE), encode=lambda x: x + 1)
        Looks(steps=2).solve(problem(context={}), prior, generator=0)
        assert seen[0] is prior.decoder
        assert seen[1].tolist() == [1.0]
