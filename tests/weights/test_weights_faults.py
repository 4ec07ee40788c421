"""Mistakes in weight files and in the commands that read them: refused with what was given and what is allowed, or simply working."""

import json
import logging
import os
import re
import sys
from pathlib import Path

import deepinv
import pytest
import torch
from click.testing import CliRunner
from invsolve_deepinv import evaluate
from invsolve_weights.cards import load_network, read_card
from invsolve_weights.conventions import overruled
from invsolve_weights.formats import Convention
from invsolve_weights.networks import NETWORKS
from invsolve_weights.own import inspect_weights, load_weights
from invsolve_weights.places import FOLDER
from invsolve_weights.selftest import card_test, promise_of
from safetensors.torch import save_file
from test_weights import put
from weight_cases import X, drunet, network, weight_file

from invsolve import InputError, load_prior
from invsolve.cli import main
from invsolve.errors import ArgumentError, UnknownNameError


def invoke(*arguments):
    return CliRunner().invoke(main, ["weights", *map(str, arguments)])


@pytest.fixture
def ours(tmp_path):
    """A file with a card of ours: dncnn under another name."""
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"mine{suffix}").write_bytes((FOLDER / f"dncnn{suffix}").read_bytes())
    return tmp_path / "mine.safetensors"


@pytest.fixture
def untrained(tmp_path):
    """A network of ours with random weights, and its card."""
    torch.manual_seed(0)
    arguments = {"channels": 3, "nc": [8, 8, 16, 16], "nb": 1}
    state = NETWORKS["edm-drunet"](**arguments).state_dict()
    return put(tmp_path, state, name="fresh", network="edm-drunet", arguments=arguments, sigma_range=(0.002, 80.0))


def test_paths_of_every_kind_and_what_is_none(ours, monkeypatch):
    wanted = load_prior("dncnn")(X, 0.1)
    assert torch.equal(load_prior(ours)(X, 0.1), wanted)
    monkeypatch.chdir(ours.parent)
    assert torch.equal(load_prior(Path("mine.safetensors"))(X, 0.1), wanted)
    for suffix in (".safetensors", ".json"):
        os.rename(f"mine{suffix}", f"UP{suffix.upper() if suffix != '.json' else suffix}")
    assert torch.equal(load_prior("UP.SAFETENSORS")(X, 0.1), wanted)
    for given in (None, 5, b"natural", ["natural"]):
        with pytest.raises(ArgumentError, match=f"must be text or a path; given {type(given).__name__}"):
            load_prior(given)  # pyright: ignore[reportArgumentType]


def test_a_name_that_is_a_folder_gets_a_hint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "df").mkdir()
    (tmp_path / "natural").mkdir()
    with pytest.raises(UnknownNameError, match=r"there is a folder of that name: say './df'"):
        load_prior("df")
    with pytest.raises(InputError, match="diffusers folder"):
        load_prior(Path("df"))
    with pytest.raises(InputError, match="diffusers folder"):
        load_prior("./natural")
    assert load_prior("natural").card.name == "natural"
    result = invoke("verify", "df", "nope", "mnist")
    assert result.exit_code == 2  # bad input, not a bad file
    assert "say './df'" in result.output
    assert re.search(r"no weight file of that name; there are .*\bdncnn\b", result.output)
    assert "ok    mnist" in result.output


@pytest.mark.parametrize("name", ["a" * 5000, "./" + "b/" * 3000 + "x.pt", "a\0b.pt", "./\0"])
def test_names_that_no_file_can_have(name):
    for load in (lambda: load_prior(f"./{name}.safetensors"), lambda: load_prior(f"./{name}")):
        with pytest.raises(InputError, match="no path to weights") as raised:
            load()
        assert len(str(raised.value)) < 500
    result = invoke("verify", name, "mnist")
    assert result.output.count("ok    mnist") == 1
    assert result.exit_code == 2


def test_what_a_convention_may_hold():
    good = Convention("eps", (-1.0, 1.0), "linear", None)
    for field, values in {
        "range": ("ab", None, 5, (1, 0)),
        "steps": ("a", 10**10, 1, 2.5, None, True),
        "betas": ((0.1, 0.2, 0.3), "ab", None, (0.2, 0.1), (0.1, 1.0), ("a", "b")),
        "sigma_range": ("ab", (0, 1)),
        "kind": ("noise", None, []),
        "schedule": ("quadratic", {}, None),
        "blind": ("yes", None, 1),
        "colour": (1,),
    }.items():
        for value in values:
            with pytest.raises(InputError, match=field if field != "colour" else "has the fields"):
                overruled(good, {field: value})
    assert overruled(good, {"range": [0, 255], "betas": [0.01, 0.01]}) == Convention(
        "eps", (0.0, 255.0), "linear", None, betas=(0.01, 0.01)
    )
    assert overruled(Convention(), {"schedule": "linear"}).sigma_range is None
    assert overruled(Convention(), {"schedule": "linear", "sigma_range": (1, 2)}).sigma_range == (1.0, 2.0)


def test_nonsense_in_a_converted_card_names_the_card(tmp_path):
    source, out = weight_file(tmp_path / "a.safetensors", drunet), tmp_path / "b.safetensors"
    assert invoke("convert", source, "--out", out).exit_code == 0
    card = json.loads(out.with_suffix(".json").read_text())
    for field, value in (("range", "ab"), ("range", None), ("steps", "a"), ("steps", 10**10), ("betas", [0.1, 0.2, 0.3]), ("kind", {})):
        out.with_suffix(".json").write_text(json.dumps({**card, "convention": {**card["convention"], field: value}}))
        with pytest.raises(InputError, match=rf"b\.json: .*{field}"):
            load_prior(out)
    for text in ("[" * 100_000, "not JSON", json.dumps({**card, "convention": 5}), json.dumps({**card, "arguments": 5}), " " * 2_000_000):
        out.with_suffix(".json").write_text(text)
        with pytest.raises(InputError, match=r"b\.json"):
            load_prior(out)
    out.with_suffix(".json").unlink()
    os.mkfifo(out.with_suffix(".json"))
    with pytest.raises(InputError, match=r"b\.json: not a regular file"):
        load_prior(out)


def folder_with(path, config=None, scheduler=None):
    path.mkdir(exist_ok=True)
    sizes = {"_class_name": "UNet2DModel", "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4}
    kinds = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    (path / "config.json").write_text(json.dumps({**sizes, **kinds, **(config or {})}))
    (path / "scheduler_config.json").write_text(json.dumps({"prediction_type": "epsilon", **(scheduler or {})}))
    save_file({"conv_in.weight": torch.zeros(8, 3, 3, 3)}, path / "diffusion_pytorch_model.safetensors")
    return path


def test_nonsense_in_a_diffusers_folder(tmp_path):
    for config in (
        {"in_channels": "a"},
        {"out_channels": 10**9},
        {"block_out_channels": 5},
        {"block_out_channels": [8, "a"]},
        {"layers_per_block": 10**7},
    ):
        with pytest.raises(InputError, match=next(iter(config))):
            load_prior(folder_with(tmp_path / "df", config))
    for scheduler in (
        {"prediction_type": []},
        {"beta_start": "a"},
        {"beta_end": None},
        {"num_train_timesteps": 10**9},
        {"beta_schedule": {}},
    ):
        with pytest.raises(InputError, match=r"prediction_type|schedule"):
            load_prior(folder_with(tmp_path / "df", scheduler=scheduler))
    folder_with(tmp_path / "df")
    with pytest.raises(InputError, match="takes no arguments"):
        load_prior(tmp_path / "df", arguments={"in_channels": 1})
    facts = json.loads(invoke("inspect", tmp_path / "df", "--json").output)
    assert (facts["format"], facts["kind"], facts["schedule"], facts["tensors"]) == ("diffusers UNet2DModel", "eps", "linear", 1)
    for name in ("config.json", "scheduler_config.json"):
        folder_with(tmp_path / "df")
        (tmp_path / "df" / name).unlink()
        (tmp_path / "df" / name).symlink_to("/dev/zero")
        with pytest.raises(InputError, match="not a regular file"):
            load_prior(tmp_path / "df")
        (tmp_path / "df" / name).unlink()


def test_a_diffusers_folder_larger_than_its_file(tmp_path):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    with pytest.raises(InputError, match="more layers than the 1 tensors"):
        load_prior(folder_with(tmp_path / "df", {"layers_per_block": 64}))


def test_convert_overwrites_nothing(tmp_path, ours):
    source = weight_file(tmp_path / "a.safetensors", drunet)
    (tmp_path / "notes.json").write_text("precious")
    result = invoke("convert", source, "--out", tmp_path / "notes.safetensors")
    assert result.exit_code == 2
    assert "notes.json is there already" in result.output
    assert (tmp_path / "notes.json").read_text() == "precious"
    assert not (tmp_path / "notes.safetensors").exists()
    assert "folder that exists" in invoke("convert", source, "--out", tmp_path / "no" / "dir.safetensors").output
    assert "nothing is to be converted" in invoke("convert", ours, "--out", tmp_path / "c.safetensors").output
    result = invoke("convert", source, "--out", tmp_path / "d.safetensors", "--sigma-range", "nan", "-1")
    assert (result.exit_code, list(tmp_path.glob("d.*"))) == (2, [])
    assert "sigma_range must be" in result.output
    assert "range must be" in invoke("convert", source, "--out", tmp_path / "d.safetensors", "--range", "1", "-1").output


def test_verify_goes_on_after_any_failure(monkeypatch):
    from invsolve_deepinv import selftest

    real, calls = selftest.card_test, []

    def fails_once(network, card):
        calls.append(card.name)
        if len(calls) == 1:
            raise ZeroDivisionError("of a kind nobody thought of")
        return real(network, card)

    monkeypatch.setattr(selftest, "card_test", fails_once)
    result = invoke("verify", "dncnn", "mnist")
    assert result.exit_code == 1
    assert [text.split()[0] for text in result.output.splitlines()] == ["FAIL", "ok"]


def test_inspect_shows_the_card_of_our_own_files(ours):
    facts = json.loads(invoke("inspect", ours, "--json").output)
    card = read_card(ours)
    assert facts["format"].startswith("dncnn ")
    assert (facts["sha256"], facts["parameters"], facts["sigma_range"]) == (card.sha256, card.parameters, list(card.sigma_range))
    ours.write_bytes(ours.read_bytes()[:-1] + b"x")
    assert "sha256" in invoke("inspect", ours).output
    assert invoke("inspect", ours).exit_code == 2


def test_a_promise_is_made_by_trained_networks_only(untrained, caplog):
    """mnist keeps its promise and would make it again; random weights make none, nor does a forged one help them."""
    network, card = load_network("mnist")
    assert promise_of(network, card) == [(pytest.approx(sigma, rel=1e-3), pytest.approx(left, rel=1e-2)) for sigma, left in card.promise]
    assert card_test(network, card).passed
    network, card = load_network(untrained)
    assert promise_of(network, card) == []
    assert not card_test(network, card).passed
    forged = [(sigma, left) for sigma, _, left in card_test(network, card).levels]
    state = network.state_dict()
    path = put(
        untrained.parent, state, name="forged", network=card.network, arguments=card.arguments, sigma_range=(0.002, 80.0), promise=forged
    )
    for file in (untrained, path):
        result = invoke("verify", file)
        assert result.exit_code == 1
        assert "are the weights trained?" in result.output
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="invsolve"):
            load_prior(file, check=False)
            assert not caplog.records
            load_prior(file)
        assert "are the weights trained?" in caplog.text


def test_prefixes_of_wrappers_are_taken_off(tmp_path):
    torch.manual_seed(0)
    state = drunet().state_dict()
    wanted = None
    for prefix in ("", "model.", "_orig_mod.", "module.", "model._orig_mod.", "net.module."):
        path = tmp_path / "a.ckpt"
        torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
        out = load_prior(path, check=False)(X, 0.1)
        wanted = out if wanted is None else wanted
        assert torch.equal(out, wanted), prefix
    torch.save(
        {f"model.{key}": value for key, value in torch.nn.Sequential(network(), torch.nn.ReLU(), network()).state_dict().items()}, path
    )
    assert inspect_weights(path).found.format == "DnCNN, 2 convolutions"


def test_complex_weights_are_refused(tmp_path):
    torch.save({key: value.to(torch.complex64) for key, value in drunet().state_dict().items()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="complex"):
        load_prior(tmp_path / "a.pt", check=False)


def test_arguments_beyond_the_file_are_given_up_early(tmp_path):
    """Milliseconds; without a bound the blocks would be made one by one until memory ends."""
    sizes = {"img_resolution": 16, "model_channels": 32, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (8,)}
    path = weight_file(tmp_path / "a.safetensors", lambda: deepinv.models.ADMUNet(pretrained=None, **sizes))
    with pytest.raises(InputError, match="more layers than"):
        load_weights(path, arguments={**sizes, "num_blocks": 10**9}, check=False)


@pytest.mark.parametrize("given", ["x", 5, [1]], ids=str)
def test_arguments_must_be_a_table(tmp_path, given):
    with pytest.raises(InputError, match="arguments must be a table"):
        load_weights(weight_file(tmp_path / "a.safetensors", drunet), arguments=given)


def test_mistakes_in_an_evaluation_are_one_line(tmp_path, ours, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("something was measured")

    monkeypatch.setattr(evaluate, "mean_psnr", never)
    plain = weight_file(tmp_path / "plain.safetensors", drunet)
    converted = tmp_path / "converted.safetensors"
    assert invoke("convert", plain, "--out", converted).exit_code == 0
    for arguments, said in {
        ("nope",): "no prior 'nope'",
        ("tv",): "no denoiser",
        ("dncnn",): "no image found",
        (plain, "--card"): "no readable model card",
        (converted, "--card"): "not a model card",
        (ours, "--card"): "no image found",
        ("gaussian", "--card"): "no readable model card",
        ("dncnn", "--images", "-1"): "--images",
        ("dncnn", "--images", "0"): "--images",
        ("dncnn", "--peers"): "published networks",
        ("mnist", "--channels", "3"): "channels",
        ("dncnn", "--json", tmp_path / "no" / "where.json"): "there is no folder",
    }.items():
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments), "--data", str(tmp_path / "data")])
        with pytest.raises(SystemExit) as ended:
            evaluate.main()
        assert ended.value.code == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert said in last, (arguments, last)
