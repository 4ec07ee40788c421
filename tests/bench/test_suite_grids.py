"""Grids, includes, presets, several noises and data sets, the user's pictures, filters and seeds: what a suite says in short."""

# pyright: reportOptionalMemberAccess=false

import pytest
import torch
from language_cases import BLUR, CPU, HOLES, suite

from invsolve.bench import Suite, run
from invsolve.bench.plan import Workshop
from invsolve.errors import InputError, UnknownNameError
from invsolve.io.images import write_image

SOLVER = {"name": "hqs", "steps": 2, "prior": {"name": "tv"}}


def labels(entries):
    return [one.label for one in entries]


def test_a_grid_is_a_product_of_lists_and_its_values_stand_in_the_labels():
    made = suite(
        [{"name": "block-mean", "label": "SR x{factor}", "grid": {"factor": [2, 4]}}],
        solver=[{**SOLVER, "grid": {"steps": [1, 3], "prior.weight": [2.0, 0.5]}}],
    )
    assert labels(made.operator) == ["SR x2", "SR x4"]
    assert [one.arguments["factor"] for one in made.operator] == [2, 4]
    assert labels(made.solver) == [f"hqs, steps {steps}, weight {weight}" for steps in (1, 3) for weight in ("2", "0.5")]
    assert [(one.arguments["steps"], one.prior.arguments["weight"]) for one in made.solver] == [(1, 2.0), (1, 0.5), (3, 2.0), (3, 0.5)]


def test_a_list_of_grids_is_one_after_the_other_and_steps_into_chains():
    grid = [{"chain.0.sigma": [1.0, 2.0]}, {"chain.0.sigma": 3.0, "noise.sigma": 0.2}]
    made = suite([{"chain": [BLUR, HOLES], "label": "both", "grid": grid}])
    assert labels(made.operator) == ["both, sigma 1", "both, sigma 2", "both, sigma 3, sigma 0.2"]
    assert [one.arguments["operators"][0]["sigma"] for one in made.operator] == [1.0, 2.0, 3.0]
    assert made.operator[2].noise.arguments == {"sigma": 0.2}
    kernels = suite([{"name": "padded-blur", "label": "{kernel}", "grid": {"kernel": [[[0.5, 0.5]], [[1.0]]]}}])
    assert [one.arguments["kernel"] for one in kernels.operator] == [[[0.5, 0.5]], [[1.0]]]  # a list of lists: each is one value


FAULTS = {
    "nothing": ({"steps": []}, "'steps' has no values"),
    "no table": (3, "a table of lists"),
    "empty": ({}, "a table of lists"),
    "too many": ({"steps": list(range(100)), "rho": list(range(100))}, "10000 points; at most 2000"),
    "no place": ({"steps.more": [1]}, "'steps' of 'steps.more' is no table"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_grids_that_are_none(name):
    grid, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        suite([BLUR], solver=[{**SOLVER, "grid": grid}])


def test_a_label_names_what_the_grid_has():
    with pytest.raises(InputError, match=r"the label names \{b\}, which is no key of the grid: keep"):
        suite([{"name": "mask", "label": "a {b}", "grid": {"keep": [0.1, 0.2]}}])


def test_several_noises_and_data_sets_go_with_each_operator():
    drawings = [{"shape": [3, 12, 16], "images": 1, "label": "wide"}, {"shape": [3, 8, 8], "images": 1, "seed": 4, "label": "square"}]
    made = suite([BLUR, {**HOLES, "noise": {"sigma": 0.3}}], noise=[{"sigma": 0.01}, {"name": "poisson", "gain": 0.1}], data=drawings)
    noises = ["gaussian-blur, sigma 0.01", "gaussian-blur, poisson, gain 0.1", "mask"]
    assert labels(made.operator) == [f"{noise}, {data}" for noise in noises for data in ("wide", "square")]
    shop = Workshop(made, CPU)
    assert [shop.pictures(one)[0].image.shape[-2:] for one in made.operator[:2]] == [(12, 16), (8, 8)]
    assert Suite.stored(made.plain(), "it") == made  # what run.json holds is written out
    assert suite([BLUR], data=drawings[:1]).data.label == "wide"


def test_the_users_pictures_take_the_place_of_what_a_suite_wants(tmp_path):
    """Without them the fault says what is wanted and how to give it; with them the labels stay."""
    write_image(tmp_path / "one.png", torch.rand(3, 20, 16, generator=torch.Generator().manual_seed(0)))
    text = 'data = { label = "faces", wants = "aligned faces", crop = 12 }\nnoise = { sigma = 0.1 }\noperator = "mask"\n'
    (tmp_path / "s.toml").write_text(text + '[[solver]]\nname = "hqs"\nsteps = 1\nprior = "tv"\n')
    with pytest.raises(InputError, match=r"not shipped: aligned faces.*-d faces=FOLDER"):
        run(tmp_path / "s.toml", out=tmp_path / "out", progress=False)
    made = Suite.load(tmp_path / "s.toml", {"faces": str(tmp_path)})
    (picture,) = Workshop(made, CPU).pictures(made.operator[0])
    assert (picture.id, picture.image.shape) == ("one", (3, 12, 12))
    assert made.data_names(made.operator[0])[0] == "faces"
    with pytest.raises(InputError, match=r"no data set 'face'; did you mean faces"):
        Suite.load(tmp_path / "s.toml", {"face": str(tmp_path)})
    with pytest.raises(InputError, match="no pictures at"):
        Suite.load(tmp_path / "s.toml", {"faces": str(tmp_path / "gone")})


def test_includes_bring_their_tables_with_paths_in_full(tmp_path):
    (tmp_path / "far").mkdir()
    torch_mask = torch.ones(1, 12, 16)
    write_image(tmp_path / "far" / "mask.npy", torch_mask)
    (tmp_path / "far" / "base.toml").write_text(
        'data = { shape = [3, 12, 16], images = 1 }\nnoise = { sigma = 0.1 }\nmetrics = ["psnr"]\n'
        'operator = [{ name = "file-mask", path = "mask.npy" }, { name = "mask", label = "holes", mask = { file = "mask.npy" } }]\n'
        '[[solver]]\nname = "hqs"\nprior = "tv"\n[[solver]]\nname = "adam-tv"\nprior = "tv"\n'
    )
    (tmp_path / "own.toml").write_text(
        'include = "far/base.toml"\nnoise = { sigma = 0.2 }\n[[solver]]\nname = "hqs"\nsteps = 3\nprior = "tv"\n'
        '[[solver]]\nname = "adam-tv"\nlabel = "pgm"\nprior = "tv"\n'
    )
    made = Suite.load(tmp_path / "own.toml")
    assert labels(made.operator) == ["file-mask", "holes"]
    assert made.operator[0].arguments["path"] == str(tmp_path / "far" / "mask.npy")
    assert made.operator[1].arguments["mask"] == {"file": str(tmp_path / "far" / "mask.npy")}
    assert labels(made.solver) == ["hqs", "adam-tv", "pgm"]
    assert made.solver[0].arguments == {"steps": 3}  # one's own takes the place of one of the same label
    assert made.noise.arguments == {"sigma": 0.2}
    assert labels(made.metrics) == ["psnr"]
    (tmp_path / "part.toml").write_text(
        'include = { suite = "far/base.toml", take = ["solver"] }\ndata = { shape = [3, 8, 8] }\n'
        'noise = { sigma = 0.1 }\noperator = "mask"\n'
    )
    assert labels(Suite.load(tmp_path / "part.toml").operator) == ["mask"]


def test_includes_that_are_none(tmp_path):
    (tmp_path / "a.toml").write_text('include = "b.toml"\n')
    (tmp_path / "b.toml").write_text('include = "a.toml"\n')
    with pytest.raises(InputError, match="includes itself"):
        Suite.load(tmp_path / "a.toml")
    with pytest.raises(InputError, match=r"no suite and no file 'quik'; did you mean quick"):
        suite([BLUR], include="quik")
    with pytest.raises(InputError, match=r"include: take is a list of data.*given 'solvers'"):
        suite([BLUR], include={"suite": "quick", "take": ["solvers"]})
    for name, sigma in (("c", 0.1), ("d", 0.2)):
        (tmp_path / f"{name}.toml").write_text(f"noise = {{ sigma = {sigma} }}\n")
    (tmp_path / "e.toml").write_text('include = ["c.toml", "d.toml"]\n')
    with pytest.raises(InputError, match="the suites differ in noise; say which"):
        Suite.load(tmp_path / "e.toml")


PRESET = """[solver]
name = "hqs"
steps = 7
growth = 2.0
[prior]
name = "tv"
weight = 3.0
[tuned]
on = "drawings"
by = "psnr"
trials = 9
"""


def test_a_preset_stands_below_what_the_suite_says(tmp_path):
    (tmp_path / "p.toml").write_text(PRESET)
    text = 'data = { shape = [3, 12, 16] }\nnoise = { sigma = 0.1 }\noperator = "mask"\n[[solver]]\npreset = "p"\nsteps = 2\n'
    (tmp_path / "s.toml").write_text(text + '[[solver]]\nname = "hqs"\nlabel = "plain"\nprior = "tv"\n')
    tuned, plain = Suite.load(tmp_path / "s.toml").solver
    assert (tuned.name, tuned.arguments) == ("hqs", {"steps": 2, "growth": 2.0})
    assert (tuned.prior.name, tuned.prior.arguments) == ("tv", {"weight": 3.0})
    assert tuned.settings("mask") == "tuned on drawings by psnr, 9 trials"
    assert tuned.tuned.preset == "p.toml"
    assert plain.settings("mask") == "default"
    (tmp_path / "s.toml").write_text(text.replace("steps = 2", 'name = "dps"'))
    with pytest.raises(InputError, match="is one of hqs, not of dps"):
        Suite.load(tmp_path / "s.toml")
    (tmp_path / "p.toml").write_text(PRESET.replace("[tuned]", "[tunned]"))
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=r"p\.toml is no preset"):
        Suite.load(tmp_path / "s.toml")


def test_a_part_of_a_suite_is_chosen_by_name_or_pattern():
    made = suite([{**BLUR, "label": "SR x2"}, HOLES], solver=[SOLVER, {**SOLVER, "label": "other", "for": {"mask": {"steps": 1}}}])
    assert labels(made.only(operators=["SR*"]).operator) == ["SR x2"]
    assert labels(made.only(operators=["gaussian-blur", "mask"]).operator) == ["SR x2", "mask"]
    assert labels(made.only(solvers=["oth*"]).solver) == ["other"]
    assert made.only(operators=["SR*"]).solver[1].overrides == {}
    assert made.only() == made
    for name, wanted in (("solvers", "hqss"), ("operators", "SR x3"), ("data", "synthetik")):
        with pytest.raises(UnknownNameError, match=rf"has no .* '{wanted}'; did you mean .*; there are: "):
            made.only(**{name: [wanted]})


def test_a_number_of_seeds_is_a_list_from_zero():
    assert suite([BLUR], seeds=3).seeds == [0, 1, 2]
    assert suite([BLUR], seeds=[4, 2]).seeds == [4, 2]
    for wrong in (0, [1, 1], [-1], [], "2"):
        with pytest.raises(InputError, match="seed"):
            suite([BLUR], seeds=wrong)
