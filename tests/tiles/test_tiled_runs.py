"""A large image in pieces: the whole image's answer, without seams, whatever the pieces."""

import pytest
import torch
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import BlockMean, Mask, PaddedBlur, SeparableGaussianBlur

from invsolve import CompatibilityError, GaussianNoise, InputError, Problem, load_prior
from invsolve.operator import Stack, Window
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior
from invsolve.priors.base import Denoiser
from invsolve.solution import Status
from invsolve.solvers import HQS, DiffPIR
from invsolve.tiles.field import Field
from invsolve.tiles.forecast import forecast
from invsolve.tiles.layout import Tiles, laid
from invsolve.tiles.run import Large, solve_tiled

SHAPE = (1, 16, 320)
CUT, WHOLE = Tiles(176, 28, 16), Tiles(400)


class Neighbours(Denoiser):
    """Towards the mean of 3 x 3 and a grey: looks one pixel far."""

    s0 = 0.2

    def forward(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        mean = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        weight = level**2 / (level**2 + self.s0**2)
        return (1 - weight) * x + weight * (0.5 * mean + 0.25)


def problem_of(operator, sigma=0.05):
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5 + 0.25
    return Problem.simulate(operator, x, GaussianNoise(sigma), generator=0)


@pytest.mark.parametrize("sides", [(40, 1000), (517, 803), (64, 64)])
@pytest.mark.parametrize("tiles", [Tiles(200, 16, 8), Tiles(256, 0, 1), Tiles(160, 30, 20)])
def test_weights_sum_to_one_and_are_zero_at_inner_edges(sides, tiles):
    layout = laid(tiles, *sides, reach=3, step=16)
    total, edge = torch.zeros(sides, dtype=torch.float64), tiles.margin + 3
    for index, window in enumerate(layout.windows):
        assert window.top % 16 == window.left % 16 == 0
        assert max(window.height, window.width) <= tiles.size
        weight = layout.weight(index, total)
        window.of(total).add_(weight)
        inner = [(window.top > 0, weight[:edge]), (window.top + window.height < sides[0], weight[len(weight) - edge :])]
        inner += [(window.left > 0, weight[:, :edge]), (window.left + window.width < sides[1], weight[:, window.width - edge :])]
        assert all(not bool(part.any()) for within, part in inner if within)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-14)


LOCAL = ["daps", "ddnm", "ddrm", "diffpir", "dps", "flowdps", "pigdm", "pnp-dm", "red-diff", "repaint", "score-ald", "score-sde"]


@pytest.mark.parametrize("name", LOCAL)
def test_the_answer_is_the_whole_images_to_rounding_where_nothing_reaches_over_the_margin(name):
    """8 steps, 1 pixel a step, a margin of 28; the draws are those of places. 1e-12 is the rounding of float64 over the steps."""
    solver = registry().load("solver", name).examples()[0]
    problem = problem_of(Mask(SHAPE, keep=0.5) if name == "repaint" else BlockMean(SHAPE, 2))
    whole = solve_tiled(solver, problem, Neighbours(), tiles=WHOLE, generator=3)
    cut = solve_tiled(solver, problem, Neighbours(), tiles=CUT, generator=3)
    assert (whole.status, whole.nfe) == (cut.status, cut.nfe)
    torch.testing.assert_close(cut.x, whole.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["daps", "pigdm", "score-ald"])  # none of them asks for |H|, which an iteration finds in every piece anew
def test_several_measurements_of_different_sizes_are_cut_at_once(name):
    """Half the pixels and every mean of four: y is a tuple whose parts stand for 1 and 4 pixels an entry. 1e-12 as above."""
    solver = registry().load("solver", name).examples()[0]
    problem = problem_of(Stack(Mask(SHAPE, keep=0.5), BlockMean(SHAPE, 2)))
    whole = solve_tiled(solver, problem, Neighbours(), tiles=WHOLE, generator=3)
    cut = solve_tiled(solver, problem, Neighbours(), tiles=CUT, generator=3)
    torch.testing.assert_close(cut.x, whole.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["tds", "resampling", "copaint", "copaint-tt"])
def test_solvers_that_choose_for_the_whole_image_are_refused(name):
    solver = registry().load("solver", name).examples()[0]
    with pytest.raises(CompatibilityError, match="chooses for the whole image"):
        solve_tiled(solver, problem_of(Mask(SHAPE, keep=0.5)), Neighbours(), tiles=CUT, generator=3)


def test_an_error_at_an_inner_edge_falls_as_the_inverse_of_a_banded_matrix():
    """|A^-1|_ij <= c q^(|i - j| / b), A = H^T H + 1/tau of bandwidth b = 2 reach along the rows, k = 1 + tau |H|^2,
    q = (sqrt(k) - 1) / (sqrt(k) + 1), c = tau max(1, (1 + sqrt(k))^2 / (2 k)): Demko, Moss, Smith, theorem 2.4. What the edge does not
    say, A_w x - right-hand side of the window with x the whole image's answer, lies within 2 reach of it."""
    tau, shape, window = 20.0, (1, 1, 240), Window(0, 0, 1, 160)
    whole = PaddedBlur(shape, torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64), "symmetric")
    part = whole.window(window)
    y, z = (torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2))

    def normal(operator):
        units = torch.eye(operator.in_shape[2], dtype=torch.float64)
        matrix = torch.stack([operator.adjoint(operator(one.reshape(1, *operator.in_shape))).flatten() for one in units])
        return matrix + torch.eye(len(matrix), dtype=torch.float64) / tau

    def right(operator, place):
        return (operator.adjoint(place.of(y)) + place.of(z) / tau).flatten()

    everywhere = Window(0, 0, 1, 240)
    answer = torch.linalg.solve(normal(whole), right(whole, everywhere))[:160]
    error = (torch.linalg.solve(normal(part), right(part, window)) - answer).abs()
    left = (normal(part) @ answer - right(part, window)).abs()
    assert float(left[:156].max()) < 1e-13
    k = 1 + tau
    q, c = (k**0.5 - 1) / (k**0.5 + 1), tau * max(1.0, (1 + k**0.5) ** 2 / (2 * k))
    distance = 155 - torch.arange(156, dtype=torch.float64)
    bound = c * float(left.sum()) * q ** (distance / 2)
    assert bool((error[:156] <= bound + 1e-13).all())  # the rounding of two solves, entries of order 1
    assert float(error[100]) < 1e-4 * float(error[155])  # it does fall


def test_a_photograph_has_no_seams():
    """With a trained network and a blur: the answer in pieces is the whole's within a tenth of an 8-bit step, and neighbours across a seam
    differ no more than in it. dncnn looks 17 pixels far a step; with 8 steps no bound says that a margin of 16 will do."""
    x = torch.cat([photo.image for photo in quick_photos()[:3]], dim=2)[None, :, 32:80, :288]
    operator = SeparableGaussianBlur(x.shape[1:], 1.2, "reflect")
    problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
    solver, prior, tiles = HQS(steps=4), load_prior("dncnn"), Tiles(144, 16, 8)
    whole = solver.solve(problem, prior, generator=0).x
    cut = solve_tiled(solver, problem, prior, tiles=tiles, generator=0).x
    assert float((cut - whole).abs().max()) < 0.1 / 255
    # Across every line of neighbouring columns: the mean difference of the two answers' steps.
    across = ((cut - whole).diff(dim=-1)).abs().mean((0, 1, 2))
    assert float(across.max()) < 0.02 / 255


def test_draws_belong_to_places():
    """A window's numbers are the whole's own, in both shapes; other shapes, other items and the next draw differ as they do of Rng."""
    like, whole = torch.zeros(1, dtype=torch.float64), Field(5, [0, 7], Window(0, 0, 130, 200), (2,))
    window = Window(62, 40, 68, 100)
    part = Field(5, [0, 7], window, (2,))
    for _ in range(2):
        image = whole.normal((3, 130, 200), like)
        torch.testing.assert_close(part.normal((3, 68, 100), like), window.of(image))
        torch.testing.assert_close(part.uniform((1, 34, 50), like), window.over(2).of(whole.uniform((1, 65, 100), like)))
        assert torch.equal(part.normal((4,), like), whole.normal((4,), like))
    # 156,000 numbers: mean and variance within 5 standard errors, 5 / sqrt(n) and 5 sqrt(2 / n).
    assert abs(float(image.mean())) < 0.013
    assert abs(float(image.var()) - 1) < 0.018
    assert float((image[0] * image[1]).mean().abs()) < 0.018  # 5 / sqrt(78,000)
    kept = part.state()
    first = part.normal((1, 68, 100), like)
    assert torch.equal(part.restore(kept).normal((1, 68, 100), like), first)
    more = part.chosen([(0, 1), (1, 1)]).normal((1, 68, 100), like)
    assert not torch.equal(more[0], more[1])


def test_a_run_goes_on_where_it_was_stopped_and_is_counted_through(tmp_path):
    problem, prior, seen = problem_of(BlockMean(SHAPE, 2)), Neighbours(), []
    arguments = {"tiles": CUT, "generator": 4, "samples": 2, "checkpoint": tmp_path / "run"}
    plain = solve_tiled(DiffPIR(steps=4), problem, prior, tiles=CUT, generator=4, samples=2, callback=lambda step: seen.append(step))
    pieces = len(Large.of(problem).layout(CUT).windows)
    assert pieces == 3
    assert [step.total for step in seen] == [4 * pieces] * len(seen)
    assert sorted({step.index for step in seen}) == list(range(4 * pieces))
    stopped = solve_tiled(DiffPIR(steps=4), problem, prior, callback=lambda step: step.index < 5, **arguments)
    assert stopped.status == Status.STOPPED
    assert stopped.x.shape == plain.x.shape
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["00000", "pieces.json"]
    counted = []
    again = solve_tiled(DiffPIR(steps=4), problem, prior, callback=counted.append, **arguments)
    assert torch.equal(again.x, plain.x)
    assert again.seed == 4
    assert min(step.index for step in counted) == 4
    with pytest.raises(InputError, match=r"holds another run \(solver differ"):
        solve_tiled(DiffPIR(steps=5), problem, prior, **arguments)
    with pytest.raises(InputError, match="seed differ"):
        solve_tiled(DiffPIR(steps=4), problem, prior, **{**arguments, "generator": 9})


def test_the_forecast_counts_pieces_and_evaluations_and_refusals_name_what_to_do():
    problem = problem_of(BlockMean(SHAPE, 2))
    found = forecast(HQS(steps=3), problem, Neighbours(), CUT)
    assert (found.pieces, found.evaluations) == (3, 3)
    assert 0 < found.seconds < 60
    assert "3 pieces, 3 evaluations of the network each, about" in str(found)
    with pytest.raises(InputError, match=r"Tiles\(size="):
        solve_tiled(HQS(), problem, Neighbours(), tiles=Tiles(64, 28, 16))
    with pytest.raises(CompatibilityError, match="take one of any size"):
        solve_tiled(HQS(), problem, GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), 0.1), tiles=CUT)
    with pytest.raises(InputError, match="keep belongs to a run in one piece"):
        solve_tiled(HQS(), problem, Neighbours(), tiles=CUT, keep=1)


def test_a_piece_without_a_known_pixel_is_filled():
    """A hole larger than a piece: masks are cut, and nothing is refused."""
    mask = torch.ones(1, *SHAPE[1:])
    mask[..., 100:300] = 0
    problem = problem_of(Mask(SHAPE, mask=mask), 0.0)
    cut = solve_tiled(DiffPIR(steps=4), problem, Neighbours(), tiles=Tiles(176, 28, 16), generator=0).x
    assert bool(torch.isfinite(cut).all())
    y = problem.y
    assert isinstance(y, torch.Tensor)
    torch.testing.assert_close(cut[..., :100], y[..., :100])
