"""Problem files: what is written becomes the objects, what is misspelt is named."""

import pytest
import torch

from invsolve import GaussianNoise, InputError, NoNoise, Problem
from invsolve.cli.setup import set_up, shapes_for
from invsolve.errors import ArgumentError, InvsolveError, UnknownNameError
from invsolve.io.images import write_image
from invsolve.recipe.config import Config, load_config, make_config, parse_value

TEXT = """
[data]
image = "pictures/photo.png"
simulate = true
crop = [6, 8]

[operator]
name = "gaussian-blur"
sigma = 1

[noise]
sigma = 0.05

[prior]
name = "tv"

[solver]
name = "adam-tv"
steps = 3

[run]
seed = 5
"""


@pytest.fixture
def folder(tmp_path):
    """problem.toml beside pictures/photo.png, 3 x 8 x 12."""
    x = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))
    (tmp_path / "pictures").mkdir()
    write_image(tmp_path / "pictures" / "photo.png", x)
    (tmp_path / "problem.toml").write_text(TEXT)
    return tmp_path


def tables(**changes):
    """Plain tables, some of them replaced (None: left out)."""
    values = {
        "data": {"image": "pictures/photo.png", "simulate": True},
        "operator": {"name": "identity"},
        "noise": {"sigma": 0.05},
        "prior": {"name": "tv"},
        "solver": {"name": "adam-tv", "steps": 3},
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def made(folder, overrides=(), **changes):
    return set_up(make_config(tables(**changes), overrides, folder=folder))


def test_the_whole_file(folder):
    config = load_config(folder / "problem.toml")
    setup = set_up(config)
    assert setup.problem.operator.in_shape == (3, 6, 8)
    assert setup.problem.operator.arguments["sigma"] == 1
    assert isinstance(setup.problem.noise, GaussianNoise)
    assert float(setup.problem.noise.sigma) == 0.05
    assert setup.solver.steps == 3
    assert setup.truth.shape == (1, 3, 6, 8)
    expected = Problem.simulate(setup.problem.operator, setup.truth, setup.problem.noise, generator=5)
    assert torch.equal(setup.problem.y, expected.y)


def test_overrides_win_and_leave_the_tables_alone(folder):
    values = tables()
    config = make_config(values, ["solver.steps=7", "run.seed=0", "data.crop=[2, 3]", "run.out=r.png", "noise.name=none"], folder=folder)
    assert (config.solver.arguments["steps"], config.run.seed, config.data.crop, config.run.out) == (7, 0, (2, 3), "r.png")
    assert values == tables()
    with pytest.raises(ArgumentError, match="sigma"):
        set_up(config)  # noise none takes no sigma


def test_a_list_of_operators_is_applied_in_the_order_written(folder):
    parts = [{"name": "block-mean", "factor": 2}, {"name": "gaussian-blur"}]
    setup = made(folder, ["operator.1.sigma=0.5"], operator=parts)
    outer, inner = setup.problem.operator.parts
    assert (type(outer).__name__, type(inner).__name__) == ("GaussianBlur", "BlockMean")
    assert (inner.in_shape, outer.in_shape) == ((3, 8, 12), (3, 4, 6))
    assert outer.arguments["sigma"] == 0.5


@pytest.mark.parametrize(
    ("operator", "in_shape"),
    [
        ({"name": "identity"}, (3, 8, 12)),
        ({"name": "block-mean", "factor": 4}, (3, 32, 48)),
        ({"name": "block-mean", "factor": 4, "in_shape": [3, 32, 48]}, (3, 32, 48)),
        ([{"name": "block-mean", "factor": 2}, {"name": "gaussian-blur"}], (3, 16, 24)),
    ],
)
def test_the_image_shape_is_found_from_the_measurement(operator, in_shape, folder):
    setup = made(folder, data={"image": "pictures/photo.png"}, operator=operator)
    assert setup.problem.operator.in_shape == in_shape
    assert setup.problem.y.shape == (1, 3, 8, 12)
    assert setup.truth is None


def test_grey_measurement_of_a_colour_image(folder):
    data = {"image": "pictures/photo.png", "channels": 1}
    # Grey of a grey image is refused, so the colour image is found.
    assert made(folder, data=data, operator={"name": "grey"}).problem.operator.in_shape == (3, 8, 12)
    setup = made(folder, data=data, operator={"name": "grey", "in_shape": [3, 8, 12]})
    assert setup.problem.operator.in_shape == (3, 8, 12)
    assert setup.problem.y.shape == (1, 1, 8, 12)


def test_a_prior_with_channels_follows_the_image_unless_told(folder):
    grey = {"image": "pictures/photo.png", "channels": 1, "simulate": True}
    for data, said, channels in ((grey, {}, 1), (grey, {"channels": 3}, 3), ({**grey, "channels": 3}, {}, 3)):
        setup = made(folder, data=data, prior={"name": "natural", **said}, solver={"name": "diffpir", "steps": 2})
        assert setup.prior.channels == channels


def test_no_shape_fits(folder):
    with pytest.raises(InputError, match=r"no image shape was found.*in_shape="):
        made(folder, data={"image": "pictures/photo.png"}, operator={"name": "block-mean", "factor": 5})
    with pytest.raises(InputError, match="sigma"):  # a wrong value is named, not hidden behind the search
        made(folder, data={"image": "pictures/photo.png"}, operator={"name": "gaussian-blur", "sigma": -1.0})


def test_shapes_are_tried_from_likely_to_unlikely():
    shapes = list(shapes_for((1, 4, 6)))
    assert shapes[:4] == [(1, 4, 6), (3, 4, 6), (1, 8, 12), (3, 8, 12)]
    assert list(shapes_for((4,))) == []


def test_tensors_from_files(folder):
    mask = torch.zeros(8, 12)
    mask[2:5] = 1
    write_image(folder / "mask.npy", mask)
    setup = made(folder, operator={"name": "mask", "mask": {"file": "mask.npy"}})
    assert torch.equal(setup.problem.operator(torch.ones(1, 3, 8, 12))[0, 0], mask)
    y = torch.rand(3, 8, 12, dtype=torch.float64)
    write_image(folder / "y.npy", y)
    setup = made(folder, data={"image": "y.npy"})
    assert torch.equal(setup.problem.y[0], y)
    kernel = [[0.0, 0.5], [0.25, 0.25]]
    setup = made(folder, operator={"name": "kernel-blur", "kernel": kernel})
    assert torch.equal(setup.problem.operator.kernel.float(), torch.tensor(kernel))


def test_saved_problem_and_bare_shape(folder):
    made(folder).problem.save(folder / "saved")
    again = made(folder, data={"problem": "saved"}, operator=None, noise=None)
    assert torch.equal(again.problem.y, made(folder).problem.y)
    bare = made(
        folder,
        data={"shape": [1, 4, 4], "batch": 2},
        operator=None,
        noise=None,
        prior={"name": "gaussian"},
        solver={"name": "ddim", "steps": 3},
    )
    assert bare.problem.image.shape == (2, 1, 4, 4)
    assert isinstance(bare.problem.noise, NoNoise)


def test_crop(folder):
    whole = made(folder).truth[0]
    assert torch.equal(made(folder, ["data.crop=[4, 6]"]).truth[0], whole[:, 2:6, 3:9])
    assert torch.equal(made(folder, ["data.crop=[1, 0, 3, 2]"]).truth[0], whole[:, 1:4, 0:2])
    for crop in ("[9, 8]", "[0, 4]", "[7, 0, 2, 2]", "[-1, 0, 2, 2]"):
        with pytest.raises(InputError, match="leaves the image"):
            made(folder, [f"data.crop={crop}"])


def test_double_precision(folder):
    assert made(folder, ["data.dtype=float64"]).problem.y.dtype == torch.float64


FAULTS = {
    "unknown table": (tables(solvers={"name": "dps"}), "solvers: no such key; did you mean solver"),
    "unknown key": (tables(data={"imge": "a.png"}), "data.imge: no such key; did you mean image"),
    "unknown run key": (tables(run={"sede": 1}), "run.sede: no such key; did you mean seed"),
    "missing table": (tables(prior=None), "prior: missing"),
    "missing name": (tables(solver={"steps": 3}), "solver.name: missing"),
    "no operator": (tables(operator=None), r"needs the table \[operator\]"),
    "empty list": (tables(operator=[]), "operator"),
    "no source": (tables(data={}), "exactly one of image, set, problem and shape; given none"),
    "two sources": (tables(data={"image": "a.png", "problem": "b"}), "exactly one"),
    "operator of a saved problem": (tables(data={"problem": "b"}), "brings its own"),
    "batch of an image": (tables(data={"image": "a.png", "batch": 2}), "batch goes with shape"),
    "crop of three": (tables(data={"image": "a.png", "crop": [1, 2, 3]}), "crop is"),
    "seed of text": (tables(run={"seed": "1"}), "run.seed"),
    "seed true": (tables(run={"seed": True}), "run.seed"),
    "simulate text": (tables(data={"image": "a.png", "simulate": "yes"}), "data.simulate"),
    "samples 0": (tables(run={"samples": 0}), "run.samples"),
    "name with a path": (tables(solver={"name": "os:system"}), "solver.name"),
    "folder": (tables(folder="/etc"), "folder: no such key"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name, folder):
    values, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        make_config(values, folder=folder)


def test_every_fault_is_listed_at_once():
    with pytest.raises(InputError) as caught:
        make_config(tables(data={"imge": "x"}, run={"sede": 1}))
    assert "imge" in str(caught.value)
    assert "sede" in str(caught.value)


ARGUMENTS = {
    "unknown name": ({"solver": {"name": "diffpri"}}, UnknownNameError, "did you mean diffpir"),
    "unknown prior": ({"prior": {"name": "tvv"}}, UnknownNameError, "did you mean tv"),
    "unknown operator": ({"operator": {"name": "gausian-blur"}}, UnknownNameError, "gaussian-blur"),
    "unknown argument": ({"solver": {"name": "adam-tv", "stps": 3}}, ArgumentError, "did you mean"),
    "text for a number": ({"solver": {"name": "adam-tv", "steps": "3"}}, ArgumentError, "steps must be int; given '3'"),
    "fraction for a count": ({"solver": {"name": "adam-tv", "steps": 2.5}}, ArgumentError, "steps must be int; given 2.5"),
    "truth value for a count": ({"solver": {"name": "adam-tv", "steps": True}}, ArgumentError, "steps must be int; given True"),
    "text for a tensor or a number": ({"noise": {"sigma": "0.1"}}, ArgumentError, "sigma must be Tensor or float"),
    "negative sigma": ({"noise": {"sigma": -0.1}}, InputError, "not negative"),
    "device": ({"run": {"device": "abacus"}}, InputError, "device 'abacus'"),
    "no such image": ({"data": {"image": "gone.png"}}, InputError, "no image file"),
    "image that is text": ({"data": {"image": "problem.toml"}}, InputError, "not an image"),
    "no such saved problem": ({"data": {"problem": "gone"}, "operator": None, "noise": None}, InputError, "no folder"),
    "no such argument file": ({"operator": {"name": "mask", "mask": {"file": "gone.npy"}}}, InputError, "no tensor file"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_checked_before_anything_is_computed(name, folder):
    changes, kind, message = ARGUMENTS[name]
    with pytest.raises(kind, match=message):
        made(folder, **changes)


def test_whole_numbers_serve_where_floats_are_meant(folder):
    assert made(folder, solver={"name": "adam-tv", "steps": 3, "lr": 1}).solver.lr == 1


@pytest.mark.parametrize("text", ["", "[data", "data = 3", "[data]\nimage = 'a'\nimage = 'b'", "a = " + "[" * 5000])
def test_files_that_are_no_problem(text, tmp_path):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(InputError):
        load_config(tmp_path / "p.toml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "big.toml").write_text("#" * 1_000_001)
    for name in ("b.toml", "big.toml", "gone.toml", "."):
        with pytest.raises(InputError):
            load_config(tmp_path / name)


@pytest.mark.parametrize(
    "override", ["", "solver", "solver.steps", "steps=3", ".steps=3", "solver..a=3", "operator.0.sigma=1", "run.seed.x=1"]
)
def test_malformed_overrides(override):
    values = tables(operator={"name": "identity", "0": 3}, run={"seed": 1})
    with pytest.raises(InvsolveError):
        make_config(values, [override])


def test_override_into_a_list_needs_an_entry():
    for override in ("operator.5.sigma=1", "operator.sigma=1", "operator.-1.sigma=1"):
        with pytest.raises(InputError, match=r"entr"):
            make_config(tables(operator=[{"name": "identity"}]), [override])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("no", "no"),
        ("a b", "a b"),
        ("1\nb = 2", "1\nb = 2"),
        ("", ""),
    ],
)
def test_values_are_read_as_toml(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_config_is_frozen(folder):
    config = load_config(folder / "problem.toml")
    assert isinstance(config, Config)
    with pytest.raises(ValueError, match="frozen"):
        config.run = None
