"""Priors around priors: data per item, another space, doors to solvers that ask for more, and what their calls count."""

import pytest
import torch
from torch import nn

from invsolve import CompatibilityError, GaussianNoise, InputError, Operator, Problem
from invsolve.operator import Capability
from invsolve.operator.iterative import IterativePinv, IterativeProx
from invsolve.operator.measurement import column
from invsolve.priors import Denoiser, DiffusionPrior, GaussianPrior, LatentPrior
from invsolve.priors.convert import NetworkDenoiser, rescale
from invsolve.schedule import DiscreteVP
from invsolve.solvers import ADMM, DPS, HQS, DiffPIR, ScoreALD
from invsolve.testing.oracle import Gaussian
from invsolve.testing.settings import Coupled, Hidden, Kept, truth
from invsolve.which import which_solvers

SHAPE, CODES = (1, 6, 7), (1, 3, 7)
PAIRS = torch.eye(21, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5


class PerItem(Denoiser):
    """N(mean, .25) with a mean of each item."""

    s0, centre = 0.5, 0.0
    mean: torch.Tensor

    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", mean)
        self.batch = len(mean)

    def forward(self, x, sigma):
        mean = column(self.mean, x)
        return mean + (x - mean) * (0.25 / (0.25 + column(sigma, x) ** 2))

    def select(self, items):
        return PerItem(self.mean[list(items)])


def means():
    return PerItem(torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64))


def decoder():
    return Operator.from_matrix(PAIRS, CODES, SHAPE)


def turned(seed=0):
    """A decoder of each item: the pairs in three orders."""
    orders = [torch.randperm(42, generator=torch.Generator().manual_seed(seed + item)) for item in range(3)]
    return Operator.from_matrix(torch.stack([PAIRS[order] for order in orders]), CODES, SHAPE)


def problem(operator=None, batch=3):
    return Problem.simulate(operator or Coupled(SHAPE), truth(SHAPE, batch, torch.float64), GaussianNoise(0.1), generator=0)


WRAPPED = {
    "latent": lambda: LatentPrior(means(), decoder()),
    "latent, decoders": lambda: LatentPrior(GaussianPrior(0.3, 0.5), turned()),
    "latent, both": lambda: LatentPrior(means(), turned()),
    "latent of a schedule": lambda: LatentPrior(DiffusionPrior(means(), DiscreteVP()), turned()),
    "schedule of a latent": lambda: DiffusionPrior(LatentPrior(means(), turned()), DiscreteVP()),
    "schedule": lambda: DiffusionPrior(means(), DiscreteVP()),
    "rescaled": lambda: rescale(means(), (-1.0, 1.0)),
    "rescaled schedule": lambda: rescale(DiffusionPrior(means(), DiscreteVP()), (-1.0, 1.0)),
    "latent of a rescaled": lambda: LatentPrior(rescale(means(), (-1.0, 1.0)), decoder()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_an_item_is_itself_alone_in_parts_and_in_samples(name):
    """prior[i] with problem[i], chunk=2 and samples: the item's own mean and decoder, whatever holds them."""
    prior, given, solver = WRAPPED[name](), problem(), DPS(steps=6)
    assert prior.batch == 3
    batch = solver.solve(given, prior, generator=1)
    for item in range(3):
        assert prior[item].batch == 1
        alone = solver.solve(given[item], prior[item], generator=1)
        assert torch.allclose(alone.x[0], batch.x[item], rtol=0, atol=1e-11)
        if item:  # and not another's
            assert not torch.allclose(solver.solve(given[item], prior[0], generator=1).x[0], batch.x[item], atol=1e-3)
    cut = solver.solve(given, prior, generator=1, chunk=2)
    many = solver.solve(given, prior, generator=1, samples=2, chunk=4)
    assert torch.allclose(cut.x, batch.x, rtol=0, atol=1e-11)
    assert torch.allclose(many.x[0], batch.x, rtol=0, atol=1e-11)
    assert (cut.nfe, many.nfe) == (6, 12)


@pytest.mark.parametrize("name", WRAPPED)
def test_what_it_holds_moves_with_it(name):
    """`meta` stands for another device."""
    prior = WRAPPED[name]()
    assert prior.device == torch.device("cpu")
    assert {value.device.type for value in prior.to("meta").buffers()} == {"meta"}


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(CompatibilityError, match="decoder holds data for 3 items, the problem has 2"):
        DPS(steps=2).solve(problem(batch=2), LatentPrior(GaussianPrior(0.3, 0.5), turned()), generator=0)
    with pytest.raises(InputError, match="the denoiser holds data for 2 items, the decoder for 3"):
        LatentPrior(PerItem(torch.zeros(2)), turned())


def test_codes_are_rescaled_inside():
    with pytest.raises(InputError, match=r"LatentPrior\(rescale\(D\), decoder\)"):
        rescale(LatentPrior(means(), decoder()))
    with pytest.raises(InputError, match=r"LatentPrior\(rescale\(D\), decoder\)"):
        rescale(DiffusionPrior(LatentPrior(means(), decoder()), DiscreteVP()))


def test_the_answer_with_decoders_of_their_own_is_the_posterior():
    """HQS's limit is ADMM's: z ~ N(.3, .5^2 I), y = H D_i z + n has a posterior mean in closed form, item by item."""
    given, prior = problem(IterativeProx(Coupled(SHAPE), 1e-10, 2000)), LatentPrior(GaussianPrior(0.3, 0.5), turned())
    x = ADMM(steps=80, tol=0.0).solve(given, prior, generator=0).x
    basis = torch.eye(42, dtype=torch.float64).reshape(42, *SHAPE)
    matrix = given.operator(basis).flatten(1).T
    law = Gaussian(torch.full((21,), 0.3, dtype=torch.float64), 0.25 * torch.eye(21, dtype=torch.float64))
    for item in range(3):
        own = prior.decoder.select(range(item, item + 1))(torch.eye(21, dtype=torch.float64).reshape(21, 1, *CODES)[:, 0][:1])
        assert own.shape == (1, *SHAPE)
        columns = [prior.decoder.select(range(item, item + 1))(unit.reshape(1, *CODES)) for unit in torch.eye(21, dtype=torch.float64)]
        decode = torch.cat(columns).flatten(1).T
        wanted = decode @ law.posterior(matrix @ decode, given.y[item].flatten(), 0.1).mean
        assert float((x[item].flatten() - wanted).abs().max()) < 1e-6


class TestDoors:
    """A prior of codes and the solvers that ask for prox: the door is named, and leads there."""

    def latent(self):
        return LatentPrior(GaussianPrior(0.3, 0.5), decoder())

    @pytest.mark.parametrize("solver", [DiffPIR(steps=6), HQS(steps=6), ADMM(steps=6)], ids=lambda one: type(one).__name__)
    def test_the_refusal_names_the_door_and_the_door_opens(self, solver):
        given, prior = problem(), self.latent()
        assert Capability.PROX in given.operator.capabilities  # what is missing is missing of H @ D
        with pytest.raises(CompatibilityError, match=r"Or give it IterativeProx\(H, tol=1e-4\) in place of H"):
            solver.solve(given, prior, generator=0)
        (fit,) = [one for one in which_solvers(given, prior) if one.solver == type(solver).__name__.lower()]
        assert fit.doors == ("IterativeProx(H, tol=1e-4)",)
        through = Problem(IterativeProx(given.operator, 1e-12, 2000), given.y, given.noise)
        found = solver.solve(through, prior, generator=0)
        by_hand = Problem(IterativeProx(given.operator @ prior.decoder, 1e-12, 2000), given.y, given.noise)
        assert torch.equal(found.latent, solver.solve(by_hand, prior.denoiser, generator=0).x)
        assert torch.equal(found.x, prior.decoder(found.latent))

    def test_an_operator_without_a_prox_has_the_same_door(self):
        given = problem(Hidden(Coupled(SHAPE), Capability.PROX))
        assert [one.doors for one in which_solvers(given, self.latent()) if one.solver == "diffpir"] == [("IterativeProx(H, tol=1e-4)",)]

    def test_no_door_where_none_leads_through(self):
        """A Krylov SVD of H is none of H D; a decoder that is not linear has no adjoint."""
        assert [one.doors for one in which_solvers(problem(), self.latent()) if one.solver == "ddrm"] == [()]
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 42), nn.Tanh(), nn.Unflatten(1, SHAPE)).double()
        bent = LatentPrior(GaussianPrior(0.0, 1.0), Operator.from_function(net, (1, 2, 2), linear=False))
        assert [one.doors for one in which_solvers(problem(), bent) if one.solver == "diffpir"] == [()]
        with pytest.raises(CompatibilityError, match="lacks 'prox'"):
            DiffPIR(steps=2).solve(problem(IterativeProx(Coupled(SHAPE))), bent, generator=0)

    def test_the_wrapped_composition_is_the_composition_wrapped(self):
        inner, outer = decoder(), Coupled(SHAPE)
        product = IterativeProx(outer, 1e-12, 2000) @ inner
        z, tau = torch.randn(2, *CODES, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5, 2.0])
        y = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        matrix = outer(torch.eye(42, dtype=torch.float64).reshape(42, *SHAPE)).flatten(1).T @ PAIRS
        for item in range(2):
            left = matrix.T @ matrix + torch.eye(21, dtype=torch.float64) / tau[item]
            wanted = torch.linalg.solve(left, matrix.T @ y[item].flatten() + z[item].flatten() / tau[item])
            assert float((product.prox(z, y, tau)[item].flatten() - wanted).abs().max()) < 1e-9
        back = (IterativePinv(outer, 1e-12, 2000) @ inner).pinv(y[:1])[0].flatten()
        assert float((back - torch.linalg.pinv(matrix) @ y[0].flatten()).abs().max()) < 1e-6
        square = IterativeProx(outer, preconditioner="symmetric") @ inner
        assert square.preconditioner is None  # which was the blur's


class Twice(Denoiser):
    """A network of its own, called twice."""

    s0 = 0.25

    def __init__(self, said):
        super().__init__()
        self.net = nn.Conv2d(1, 1, 3, padding=1).double()
        if said:
            self.evaluations = 2

    def forward(self, x, sigma):
        return (self.net(x) + self.net(x.flip(-1)).flip(-1)) / 2


class Held(Twice):
    """The same, each call through a Denoiser."""

    def __init__(self):
        super().__init__(said=True)  # what it says of calls of its own counts for nothing here: it makes none
        self.inner = NetworkDenoiser(lambda x, sigma: self.net(x), precision="float64")

    def forward(self, x, sigma):
        return (self.inner(x, sigma) + self.inner(x.flip(-1), sigma).flip(-1)) / 2


class TestCounts:
    @pytest.mark.parametrize(
        ("prior", "each"), [(Twice(said=False), 1), (Twice(said=True), 2), (Held(), 2)], ids=["silent", "said", "held"]
    )
    def test_a_call_is_as_many_evaluations_as_the_denoiser_says(self, prior, each):
        """Counted against the network's own calls, of 3 items each."""
        rows = []
        prior.net.register_forward_hook(lambda net, args, out: rows.append(len(args[0])))
        for solver, backward in ((DPS(steps=5), 5 * each), (ScoreALD(steps=5), 0)):
            rows.clear()
            found = solver.solve(problem(Kept(SHAPE)), prior, generator=0)
            assert found.nfe == each * sum(rows) // 6  # two calls of 3 rows in each
            assert found.backward == backward
            assert solver.solve(problem(Kept(SHAPE)), prior, generator=0, samples=2, chunk=2).nfe == 2 * found.nfe

    def test_wrappers_count_what_is_inside(self):
        for prior in (rescale(Twice(said=True)), DiffusionPrior(Twice(said=True), DiscreteVP())):
            assert DPS(steps=4).solve(problem(Kept(SHAPE)), prior, generator=0).nfe == 8


class Nothing(GaussianPrior):
    def given(self, problem):
        return None


@pytest.mark.parametrize("wrap", [lambda p: p, rescale, lambda p: DiffusionPrior(p, DiscreteVP()), lambda p: LatentPrior(p, decoder())])
def test_given_must_return_a_denoiser(wrap):
    with pytest.raises(InputError, match=r"Nothing: given.* must return a Denoiser; it returned NoneType"):
        DPS(steps=2).solve(problem(), wrap(Nothing(0.5, 0.2)), generator=0)


def test_a_latent_prior_passes_on_what_its_denoiser_asks_of_the_problem():
    class Labelled(GaussianPrior):
        def gaps(self, problem):
            return [] if "label" in problem.context else ["it needs labels"]

    with pytest.raises(CompatibilityError, match="it needs labels"):
        DPS(steps=2).solve(problem(), LatentPrior(Labelled(0.5, 0.2), decoder()), generator=0)
