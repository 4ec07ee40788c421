"""Every registered metric, data set and suite: what a run relies on. A new entry is tested unasked; what it computes, its own test says."""

import inspect
import re
from dataclasses import replace

import pytest
import torch

from invsolve import GaussianNoise, InputError, Problem, registry
from invsolve.bench import Case, Suite
from invsolve.bench.metrics import Metric, SetMetric
from invsolve.bench.own import own_suite
from invsolve.bench.plan import check
from invsolve.data import load_pictures
from invsolve.errors import InvsolveError
from invsolve.priors import GaussianPrior
from invsolve.solvers import DDRM
from invsolve.testing.settings import Kept, truth

METRICS = [entry.name for entry in registry().of("metric")]
RANKED = [  # those that compare an answer with the truth alone
    entry.name
    for entry in registry().of("metric")
    if entry.load().higher is not None and issubclass(entry.load(), Metric) and entry.load().compute is not Metric.compute
]
MADE = [  # data sets that need no files of the user
    entry.name
    for entry in registry().of("dataset")
    if all(one.default is not one.empty for one in inspect.signature(entry.load()).parameters.values())
]
SHAPE, BATCH, DRAWS = (3, 16, 18), 3, 4


def case(samples, metric=None):
    """A problem, its truth, and an answer that leaves [0, 1] in places."""
    shape = SHAPE if metric is None or metric.image_shape is None else metric.image_shape
    x = truth(shape, BATCH, torch.float64)
    problem = Problem.simulate(Kept(shape), x, GaussianNoise(0.3), generator=0)
    return Case(problem, x, DDRM(steps=3).solve(problem, GaussianPrior(0.5, 0.5), generator=0, samples=samples))


def item_of(whole, index):
    """The case of one item, solved within its batch."""
    x = whole.solution.x
    one = x[:, index : index + 1] if whole.samples is not None else x[index : index + 1]
    return Case(whole.problem[index], whole.truth[index : index + 1], replace(whole.solution, x=one))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_is(name):
    metric = registry().build("metric", name)
    assert isinstance(metric, Metric | SetMetric)
    assert metric.label
    assert metric.settings, "a number without what it was computed with cannot be compared"
    assert metric.higher in (True, False, None)
    assert 0 <= metric.digits <= 6


@pytest.mark.parametrize("samples", [1, DRAWS])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_of_an_item(name, samples):
    """(B,) in float64; an item's is what it is alone; nothing is written into; a case without truth has a number or NaN."""
    metric = registry().build("metric", name)
    whole = case(samples, metric)
    if isinstance(metric, SetMetric):
        answers, truths = list(whole.x.clamp(0, 1)), list(whole.truth)
        try:
            assert isinstance(metric.compute(answers, truths), float)
        except InputError as error:  # one that needs many images says how many
            times = -(-int(re.search(r"needs at least (\d+) images", str(error))[1]) // BATCH)
            assert isinstance(metric.compute(answers * times, truths * times), float)
        return
    held = [one.clone() for one in (whole.solution.x, whole.truth, whole.problem.y)]
    found = metric.measure(whole)
    assert (tuple(found.shape), found.dtype) == ((BATCH,), torch.float64)
    for old, new in zip(held, (whole.solution.x, whole.truth, whole.problem.y), strict=True):
        assert torch.equal(old, new)
    assert torch.allclose(metric.measure(whole), found, rtol=0, atol=0, equal_nan=True)
    for index in range(BATCH):
        alone = metric.measure(item_of(whole, index))
        # a sum over 16 x 18 x 3 numbers in another order, eps of float32 for each: some metrics compute in it
        assert torch.allclose(alone[0], found[index], rtol=3 * 16 * 18 * torch.finfo(torch.float32).eps, atol=0, equal_nan=True)
    assert tuple(metric.measure(Case(whole.problem, None, whole.solution)).shape) == (BATCH,)


@pytest.mark.parametrize("name", RANKED)
def test_a_metric_that_ranks_prefers_the_truth(name):
    """The truth compared with itself is better than an answer: `higher` has the right sign."""
    metric = registry().build("metric", name)
    whole = case(1, metric)
    best, found = metric(whole.truth, whole.truth), metric(whole.x, whole.truth)
    assert bool((best > found).all() if metric.higher else (best < found).all())


@pytest.mark.parametrize("name", MADE)
def test_a_data_set_is_the_same_every_time(name):
    """Ids, images and order; `first` gives the first ones."""
    once, again = load_pictures(name, {}), load_pictures(name, {"first": 2})
    assert [(one.id, one.sha256) for one in once[:2]] == [(one.id, one.sha256) for one in again]
    assert all(one.title and one.licence != "not stated" and one.source != "not stated" for one in once)


def test_what_is_asked():
    assert set(RANKED) >= {"psnr", "ssim"}
    assert set(MADE) >= {"quick-photos", "synthetic"}
    assert not set(MADE) & {"folder", "zip", "npz"}


@pytest.mark.parametrize("name", [entry.name for entry in registry().of("suite") if own_suite(entry.name) is None])
def test_a_suite_names_what_there_is(name):
    """Every part, argument and type, as `bench run` checks them before anything is computed."""
    suite = Suite.load(name)
    assert suite.title
    check(suite)


def test_a_suite_that_names_what_there_is_not_is_found():
    entry = {"name": "gaussian-blur", "sigma": "wide"}
    values = {"data": "synthetic", "noise": {"sigma": 0.1}, "operator": entry, "solver": {"name": "ddim", "prior": {"name": "tv"}}}
    with pytest.raises(InputError, match="sigma"):
        check(Suite.make(values))


def mae(x, truth):
    """A metric as a newcomer writes it: no class."""
    return (x - truth).abs().flatten(1).mean(1)


def made():
    """A function that returns a metric is one."""
    return registry().build("metric", "psnr")


@pytest.fixture
def own(monkeypatch):
    """Entries of this module, taken out again."""
    monkeypatch.setattr(registry(), "entries", dict(registry().entries))
    monkeypatch.setattr(registry(), "plugins", list(registry().plugins))
    return lambda kind, name, target: registry().add(kind, name, f"{__name__}:{target}")


def test_a_metric_that_is_a_function_is_told_what_a_metric_is(own):
    own("metric", "test-mae", "mae")
    own("metric", "test-made", "made")
    values = {
        "data": "synthetic",
        "noise": {"sigma": 0.1},
        "operator": {"name": "identity"},
        "solver": {"name": "ddim", "prior": "gaussian"},
    }
    check(Suite.make({**values, "metrics": ["test-made"]}))
    with pytest.raises(InvsolveError, match=r"class derived from invsolve\.bench\.Metric that writes compute"):
        check(Suite.make({**values, "metrics": ["test-mae"]}))


def tensors():
    """A data set as a newcomer writes it: no ids."""
    return [torch.zeros(3, 8, 8)]


def pairs():
    """Ids and tensors."""
    return [("one", torch.zeros(3, 8, 8)), ["two", torch.zeros(3, 8, 8)]]


def test_a_data_set_of_bare_tensors_is_told_what_a_data_set_gives(own):
    own("dataset", "test-tensors", "tensors")
    own("dataset", "test-pairs", "pairs")
    assert [one.id for one in load_pictures("test-pairs", {})] == ["one", "two"]
    with pytest.raises(InputError, match=r"must give Pictures, or pairs.* it gave a tensor \(3, 8, 8\): yield Picture"):
        load_pictures("test-tensors", {})
