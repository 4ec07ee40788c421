"""Networks of other packages, by small files of their formats, and by the packages themselves where they are installed."""

import math
import pickle

import numpy as np
import pytest
import torch
from invsolve_operators import GaussianBlur, Mask, Mosaic
from invsolve_third_party import STLPIPS, DemosaicNet, Galaxy, installed
from invsolve_third_party import demosaic as demosaic_module
from invsolve_third_party.demosaic import Regression, demosaiced, load_regression, offsets
from invsolve_third_party.galaxy import MixerScore, UnitVP, load_score
from invsolve_third_party.installed import DEMOSAICNET, GALAXYGRAD, STLPIPS_FILES, Package
from invsolve_third_party.stlpips import Distance, load_distance
from torch.nn import functional

from invsolve import CompatibilityError, GaussianNoise, InputError, NoNoise, Problem, load_prior, registry
from invsolve.bench.suite import Suite
from invsolve.errors import NotInstalledError
from invsolve.rng import Rng
from invsolve.solvers import DDIM, DiffPIR

NO_STLPIPS = pytest.mark.skipif(not STLPIPS_FILES.present(), reason=f"not installed: {STLPIPS_FILES.advice}")
NO_GALAXY = pytest.mark.skipif(not GALAXYGRAD.present(), reason=f"not installed: {GALAXYGRAD.advice}")
NO_DEMOSAIC = pytest.mark.skipif(not DEMOSAICNET.present(), reason=f"not installed: {DEMOSAICNET.advice}")


# Before a test pretends that nothing is installed: the registry looks once.
LISTED = {entry.name: entry.listed for entry in registry().entries.values()}


def picture(side=64, channels=3):
    """(1, C, side, side) in [0, 1]: waves and an edge."""
    across = torch.linspace(0, 1, side)
    waves = torch.stack([0.5 + 0.2 * torch.sin(9 * across[:, None] + (5 + c) * across) for c in range(channels)])
    waves[:, side // 3 : side // 2, side // 4 :] += 0.25
    return waves[None].clamp(0, 1)


def random_state(network):
    generator = torch.Generator().manual_seed(0)
    return {key: 0.2 * torch.randn(value.shape, generator=generator) for key, value in network.state_dict().items()}


@pytest.fixture
def score_file(tmp_path):
    """A score network of 8 x 8 images with patches of 4 as equinox writes it, and what wrote it."""
    network = MixerScore(8, 4, 6, (5, 7), 2, 10.0)
    state = random_state(network)
    network.load_state_dict(state)
    leaves = [state["into.weight"], state["into.bias"].reshape(-1, 1, 1), state["out.weight"].transpose(0, 1).flip(-1, -2)]
    leaves.append(state["out.bias"].reshape(-1, 1, 1))
    for index in range(2):
        for part in ("patch1", "patch2", "hidden1", "hidden2", "norm1", "norm2"):
            leaves += [state[f"blocks.{index}.{part}.{kind}"] for kind in ("weight", "bias")]
    leaves += [state["norm.weight"], state["norm.bias"]]
    path = tmp_path / "small.eqx"
    with path.open("wb") as file:
        for leaf in leaves:
            np.save(file, leaf.contiguous().numpy())
        np.save(file, np.float64(10.0))
    return path, network.eval()


def by_loops(network, u, t):
    """The score by the formulas, patch by patch: convolutions of stride 4 are products with patches, the way back is their adjoint."""
    state = {key: value.double() for key, value in network.state_dict().items()}
    both = torch.stack([u, torch.full_like(u, t / 10)])
    y = torch.stack(
        [
            torch.einsum("hckl,ckl->h", state["into.weight"], both[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]) + state["into.bias"]
            for i in range(2)
            for j in range(2)
        ]
    ).T

    def norm(y, name):
        centred = y - y.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    def mlp(rows, first, second):
        inner = (rows @ state[f"{first}.weight"].T + state[f"{first}.bias"]).clamp_min(0)
        return inner @ state[f"{second}.weight"].T + state[f"{second}.bias"]

    for block in range(2):
        name = f"blocks.{block}"
        y = y + mlp(norm(y, f"{name}.norm1"), f"{name}.patch1", f"{name}.patch2")
        y = (y.T + mlp(norm(y.T, f"{name}.norm2"), f"{name}.hidden1", f"{name}.hidden2")).T
    y = norm(y, "norm")
    out = torch.zeros(8, 8, dtype=torch.float64)
    for place in range(4):
        i, j = divmod(place, 2)
        out[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = torch.einsum("h,hkl->kl", y[:, place], state["out.weight"][:, 0]) + state["out.bias"]
    return out


def test_a_score_file_is_read_and_is_its_formula(score_file):
    path, network = score_file
    read = load_score(path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in read.state_dict().items())
    u = Rng(0, (0,)).normal((8, 8), torch.empty(0, dtype=torch.float64))[0]
    found = read.double()(u[None, None], torch.tensor([3.0], dtype=torch.float64))
    assert torch.allclose(found[0, 0], by_loops(network, u, 3.0), atol=1e-10)


def test_galaxy_converts_scores_to_estimates(score_file):
    """D(v, sigma) = v + scale sigma^2 score / 10 in u = 10 v; t = log(1 + sigma_u^2)."""
    path, network = score_file
    prior = Galaxy(path=str(path))
    assert prior.in_shape == (1, 8, 8)
    v, sigma = Rng(0, (0, 1)).normal((1, 8, 8), torch.empty(0)), torch.tensor([0.05, 2.0])
    level = 10 * sigma.reshape(-1, 1, 1, 1)
    scale = (1 + level**2).rsqrt()
    score = network(10 * v * scale, torch.log1p((10 * sigma) ** 2))
    assert torch.allclose(prior(v, sigma), (10 * v + scale * level**2 * score) / 10, rtol=1e-4, atol=1e-4)
    schedule = UnitVP()
    t = torch.tensor([0.01, 1.0, 9.0], dtype=torch.float64)
    scale, std = schedule(t)
    assert torch.allclose(scale**2 + std**2, torch.ones(3, dtype=torch.float64))
    assert torch.allclose(schedule.time(std / scale), t)
    problem = Problem.simulate(Mask((1, 16, 16), keep=0.5), torch.zeros(1, 1, 16, 16), GaussianNoise(0.1), generator=0)
    assert DiffPIR(steps=3).mismatches(problem, prior)


@pytest.mark.parametrize("fault", ["short", "text", "pickle", "shape"])
def test_other_files_are_refused_and_no_pickle_runs(score_file, fault):
    path, _ = score_file
    content = path.read_bytes()
    if fault == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes({"short": content[:-200], "text": b"weights", "shape": content + content[-136:]}[fault])
    with pytest.raises(InputError, match=r"small\.eqx"):
        load_score(path)
    torch.save(torch.nn.Linear(2, 2), path)  # a pickled module
    for load in (load_distance, load_regression):
        with pytest.raises(InputError, match="cannot be read as weights"):
            load(path)
        torch.save({"a": torch.zeros(2)}, path)
        with pytest.raises(InputError, match="not the weights"):
            load(path)
        path.write_bytes(pickle.dumps(print))


def test_the_distance_is_its_formula(tmp_path):
    """Tiny widths; the strides by hand: blur, then every second pixel of the picture mirrored by two pixels."""
    widths = (2, 3, 2, 4, 2)
    network = Distance(widths)
    state = random_state(network)
    state["scaling_layer.scale"] = torch.full((1, 3, 1, 1), 0.5)
    torch.save(state, tmp_path / "alex.pth")
    network = load_distance(tmp_path / "alex.pth")
    x, y = picture(), picture().flip(-1)

    def features(x):
        def halved(x, name):
            kernel, padded = state[f"net.{name}.filt"], functional.pad(x, (2, 2, 2, 2), mode="reflect")
            rows, columns = padded.shape[-2] - 2, padded.shape[-1] - 2
            whole = sum(
                kernel[:, 0, i, j].reshape(1, -1, 1, 1) * padded[..., i : rows + i, j : columns + j] for i in range(3) for j in range(3)
            )
            return whole[..., ::2, ::2]

        def conv(x, name, padding):
            return functional.conv2d(x, state[f"net.{name}.weight"], state[f"net.{name}.bias"], padding=padding)

        x = (2 * x - 1 - state["scaling_layer.shift"]) / 0.5
        one = halved(conv(x, "slice1.0", 2), "slice1.1").relu()
        two = conv(halved(functional.max_pool2d(one, 3, 1), "slice2.4"), "slice2.5", 2).relu()
        three = conv(halved(functional.max_pool2d(two, 3, 1), "slice3.8"), "slice3.9", 1).relu()
        four = conv(three, "slice4.11", 1).relu()
        return [one, two, three, four, conv(four, "slice5.13", 1).relu()]

    wanted = 0.0
    for index, (f, g) in enumerate(zip(features(x), features(y), strict=True)):
        f, g = (one / (one.square().sum(1, keepdim=True).sqrt() + 1e-10) for one in (f, g))
        weights = state[f"lin{index}.model.1.weight"].reshape(1, -1, 1, 1)
        wanted += float((weights * (f - g) ** 2).sum(1).mean())
    assert float(network(x, y)) == pytest.approx(wanted, rel=1e-5)
    assert float(network(x, x)) == 0


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_pattern_and_every_side_is_shown_as_the_network_was_trained(pattern, monkeypatch):
    """A network that passes its mosaic on gives y back where it was measured: places and colours are kept, whatever the sides."""

    class Passing(torch.nn.Module):
        margin = 31

        def forward(self, mosaic):
            assert mosaic.shape[-2] % 2 == mosaic.shape[-1] % 2 == 0
            colour = (mosaic > 0).float()
            assert bool(colour[:, 1, ::2, ::2].all() and colour[:, 0, ::2, 1::2].all() and colour[:, 2, 1::2, ::2].all())
            return mosaic[..., 31:-31, 31:-31]

    monkeypatch.setattr(demosaic_module, "installed", lambda dtype=None: Passing())
    for sides in ((64, 66), (37, 40), (5, 7), (2, 3)):
        operator = Mosaic((3, *sides), pattern)
        x = 0.1 + Rng(0, (0, 1)).uniform((3, *sides), torch.empty(0))
        problem = Problem.simulate(operator, x, NoNoise())
        solution = DemosaicNet().solve(problem)
        assert solution.nfe == 0
        assert torch.equal(solution.x, operator.adjoint(problem.y))
        scaled = Problem.simulate(4.0 * operator, x, NoNoise())  # in other units of y: by a power of two, to the bit
        assert torch.equal(DemosaicNet().solve(scaled).x, solution.x)


def test_a_regression_file_is_read_and_padded_by_its_margin(tmp_path):
    network = Regression(3, 4)
    state = random_state(network)
    torch.save(state, tmp_path / "bayer.pth")
    read = load_regression(tmp_path / "bayer.pth")
    assert read.margin == 7
    mask = Mosaic((3, 12, 10)).pattern
    mosaic = mask * picture(12)[..., :10]
    found = demosaiced(read, mosaic, mask)
    assert found.shape == mosaic.shape
    large = mask.new_zeros(1, 3, 40, 40)
    assert read(large).shape == (1, 3, 26, 26)
    assert offsets(mask) == (0, 1)


def test_other_operators_are_refused(monkeypatch):
    monkeypatch.setattr(demosaic_module, "installed", lambda dtype=None: Regression(1, 2))
    for operator in (Mask((3, 8, 8), keep=0.5), Mosaic((3, 8, 8)) @ GaussianBlur((3, 8, 8), sigma=1.0)):
        problem = Problem.simulate(operator, torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), NoNoise())
        with pytest.raises(CompatibilityError, match="no Bayer mosaic"):
            DemosaicNet().solve(problem)


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    """No package, and a version without the file."""
    nothing = Package("no-such-package", "1.2", "no_such_module_here", "weights.pth")
    assert not nothing.present()
    with pytest.raises(NotInstalledError, match=r"pip install --no-deps no-such-package==1\.2"):
        nothing.path()
    (tmp_path / "emptied_module").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    empty = Package("emptied", "0.1", "emptied_module", "weights.pth")
    assert not empty.present()
    with pytest.raises(NotInstalledError, match=r"of an unknown version has no weights weights\.pth, as version 0\.1 has"):
        empty.path()
    monkeypatch.setattr(Package, "_folder", lambda self: None)
    with pytest.raises(NotInstalledError, match=r"galaxygrad==0\.1\.5"):
        load_prior("galaxy")
    with pytest.raises(NotInstalledError, match=r"stlpips-pytorch==0\.0\.2"):
        STLPIPS()(picture(), picture())
    demosaic_module.installed.cache_clear()
    problem = Problem.simulate(Mosaic((3, 8, 8)), picture(8), NoNoise())
    with pytest.raises(CompatibilityError, match=r"demosaicnet==0\.0\.14"):
        DemosaicNet().solve(problem)


def test_a_row_without_its_package_is_skipped_with_the_reason(monkeypatch, tmp_path):
    from invsolve.bench import run

    monkeypatch.setattr(Package, "_folder", lambda self: None)
    demosaic_module.installed.cache_clear()
    suite = Suite.model_validate(
        {
            "data": {"name": "synthetic", "shape": [3, 64, 64], "images": 1},
            "noise": {"sigma": 0.01},
            "operator": [{"name": "mosaic"}],
            "metrics": [{"name": "psnr"}, {"name": "stlpips"}],
            "solver": [
                {"name": "demosaicnet", "prior": {"name": "tv"}},
                {"name": "diffpir", "steps": 2, "prior": {"name": "galaxy"}},
                {"name": "adam-tv", "steps": 2, "prior": {"name": "tv"}},
            ],
        }
    )
    rows = run(suite, seed=0, out=tmp_path / "run")
    assert [row["status"] for row in rows[:2]] == ["skipped", "skipped"]
    assert "demosaicnet==0.0.14" in rows[0]["reason"]
    assert "galaxygrad==0.1.5" in rows[1]["reason"]
    assert "stlpips-pytorch==0.0.2" in str(rows[2])


def test_they_are_offered_where_they_are_installed():
    offered = [("metric", "stlpips", STLPIPS_FILES), ("prior", "galaxy", GALAXYGRAD), ("solver", "demosaicnet", DEMOSAICNET)]
    for kind, name, package in offered:
        assert registry().entry(kind, name).listed == LISTED[name] == package.present()
        assert registry().entry(kind, name).needs == package.advice
    assert installed.LIMIT > 1 << 20


@NO_STLPIPS
def test_stlpips_orders_changes_as_its_paper_does():
    """A shift of a pixel counts next to nothing; noise and blur count more the stronger they are."""
    metric, x = STLPIPS(), torch.cat([picture(96), picture(96).flip(-2)])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    blurred = [functional.avg_pool2d(functional.pad(x, (k // 2,) * 4, mode="reflect"), k, 1) for k in (3, 9)]
    assert metric(x, x).tolist() == [0, 0]
    shift = metric(x[..., 1:], x[..., :-1])
    for milder, stronger in ((x + 0.1 * noise, x + 0.4 * noise), blurred):
        assert bool((metric(stronger, x) > metric(milder, x)).all())
        assert bool((metric(milder, x) > shift).all())
    with pytest.raises(InputError, match="3 channels"):
        metric(x[:, :1], x[:, :1])


@NO_GALAXY
def test_the_galaxies_score_is_that_of_noise_at_the_end_and_its_samples_are_galaxies():
    prior = load_prior("galaxy")
    network = load_score(GALAXYGRAD.path())
    noise = torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    both = torch.stack([network(noise, torch.full((8,), 10.0)).flatten(), -noise.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.999
    drawn = DDIM(steps=30).solve(Problem.unconditional((1, 64, 64), 4), prior, generator=0).x
    assert bool(((drawn.amax((1, 2, 3)) > 0.5) & (drawn.amax((1, 2, 3)) < 1)).all())
    middle = drawn[..., 22:42, 22:42].clamp_min(0).sum((1, 2, 3)) / drawn.clamp_min(0).sum((1, 2, 3))
    assert bool((middle > 0.5).all())  # a tenth of the pixels
    for sigma in (0.03, 0.3):
        left = (prior(drawn + sigma * noise[:4], sigma) - drawn).square().mean().sqrt() / sigma
        assert left < 0.4


@NO_DEMOSAIC
@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_demosaicnet_is_far_ahead_of_an_average(pattern):
    x = picture(96)
    operator = Mosaic(x.shape[1:], pattern)
    problem = Problem.simulate(operator, x, NoNoise())
    window, parts = torch.ones(3, 1, 3, 3), (operator.adjoint(problem.y), operator.pattern[None])
    seen = [functional.conv2d(functional.pad(one, (1,) * 4, mode="reflect"), window, groups=3) for one in parts]
    average = seen[0] / seen[1]
    ours, plain = (-10 * math.log10(float((one - x).square().mean())) for one in (DemosaicNet().solve(problem).x, average))
    assert ours > plain + 6
