"""score_sde's NCSN++ and DDPM++: keys made in the layout of its checkpoints, loaded, and held against a forward pass of our own."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from invsolve_weights.containers import open_weights
from invsolve_weights.own import inspect_weights, load_weights
from score_sde_cases import CHANNELS, SKIPS, TIMED, VE, VP, X, forward, made, sines, waves

from invsolve import InputError, load_prior
from invsolve.cli import main
from invsolve.priors import DiffusionPrior
from invsolve.schedule import DiscreteVP


def saved(path, state, ema=None, model=True):
    """As the training program saves: the network in a DataParallel, the averages as a list."""
    content = {"optimizer": {"state": {}, "param_groups": []}, "step": 7, "model": {f"module.{key}": value for key, value in state.items()}}
    if ema is not None:
        content["ema"] = {"decay": 0.999, "num_updates": 7, "shadow_params": ema}
    torch.save(content if model else state, path)
    return path


def loaded(path, **options):
    return load_weights(path, check=False, precision="float64", **options).double()


def close(found, wanted, tolerance):
    """Compared with what the network does, not with the images."""
    return float((found - wanted).abs().max()) <= tolerance * float((wanted - X).abs().max())


@pytest.mark.parametrize("kind", [VE, SKIPS, {**VE, "inputs": "none"}, {**VE, "outputs": "output_skip"}])
def test_ncsnpp_of_the_ve_sde_computes_what_its_keys_say(tmp_path, kind):
    """score = F(2 x - 1, log sigma) / sigma, x0_hat = x + sigma^2 score; rounding of float64 on some thirty layers."""
    state = made(**kind)
    path = saved(tmp_path / "ve.pth", state)
    one = inspect_weights(path)
    assert one.found.format == "score_sde NCSN++"
    assert (one.convention.kind, one.convention.range, one.convention.schedule) == ("eps", (0.0, 1.0), "none")
    prior = loaded(path)
    assert prior.sigma_range == (0.01, 50.0)
    for sigma in (0.02, 0.7, 30.0):
        score = forward(state, 2 * X - 1, waves(state, sigma), **kind) / sigma
        assert close(prior(X, sigma), X + sigma**2 * score, 1e-10)


@pytest.mark.parametrize(("kind", "sde"), [(VP, None), (VP, "subvp"), (TIMED, "vp")])
def test_networks_of_the_vp_sdes_compute_what_their_keys_say(tmp_path, kind, sde):
    """x_t = sqrt(a) x0 + std n, label 999 t: t is looked for by halving, where ours is the root of an equation.

    What differs are the sines' frequencies, float32 on both sides: 1e-7 of angles up to 999.
    """
    state = made(**kind)
    path = saved(tmp_path / "vp.pth", state)
    prior = loaded(path, arguments=None if sde is None else {"sde": sde})
    assert isinstance(prior, DiffusionPrior)
    assert inspect_weights(path).found.format == f"score_sde {'DDPM++' if kind is VP else 'NCSN++'}"
    for sigma in (0.006, 0.1, 2.0, 70.0):
        low, high = 0.0, 1.0
        for _ in range(100):
            t = (low + high) / 2
            a = math.exp(-(t**2) * 19.9 / 2 - 0.1 * t)
            std = 1 - a if sde == "subvp" else math.sqrt(1 - a)
            low, high = (t, high) if std / math.sqrt(a) < 2 * sigma else (low, t)
        x_t = math.sqrt(a) * (2 * X - 1)
        score = -forward(state, x_t, sines(999 * t), **kind) / std
        wanted = ((x_t + std**2 * score) / math.sqrt(a) + 1) / 2
        assert close(prior(X, sigma), wanted, 1e-4)
        assert not close(prior(X, 1.02 * sigma), wanted, 1e-3)


def test_networks_trained_at_discrete_levels(tmp_path):
    """VP: the label is the index of the schedule; VE with sines: the index in the file's table, from the highest level."""
    state = made(**VP)
    prior = loaded(saved(tmp_path / "vp.pth", state), arguments={"continuous": False})
    for index in (0, 300, 999):
        sigma = DiscreteVP().sigmas[index]
        eps = forward(state, (2 * X - 1) / math.sqrt(1 + sigma**2), sines(index), **VP)
        assert close(prior(X, sigma / 2), X - sigma / 2 * eps, 1e-4)
    state = made(**TIMED)
    path = saved(tmp_path / "ve.pth", state)
    prior = loaded(path, arguments={"sde": "ve"})
    for index in (5, 500, 990):
        sigma = float(state["sigmas"][index])
        assert close(prior(X, sigma), X + sigma * forward(state, 2 * X - 1, sines(index), **TIMED), 1e-4)
    with pytest.raises(InputError, match="say arguments="):
        load_weights(path)
    del state["sigmas"]
    with pytest.raises(InputError, match="table of noise levels"):
        load_weights(saved(tmp_path / "ve.pth", state), arguments={"sde": "ve"})


def test_what_a_file_cannot_tell_is_said(tmp_path):
    """Images in [-1, 1] for the VE SDE, and means of 2 x 2 in place of the filter."""
    kind = {**VE, "inputs": "none", "fir": False}
    state = made(**kind)
    path = saved(tmp_path / "ve.pth", state)
    prior = loaded(path, arguments={"centered": True, "fir": False}, sigma_range=(0.01, 90.0))
    assert prior.sigma_range == (0.005, 45.0)
    eps = -forward(state, 2 * X - 1, waves(state, 0.6), **kind)
    assert close(prior(X, 0.3), X - 0.3 * eps, 1e-10)
    assert not close(loaded(path, arguments={"centered": True})(X, 0.3), X - 0.3 * eps, 1e-2)
    assert not close(loaded(path, arguments={"fir": False})(X, 0.3), X - 0.3 * eps, 1e-2)
    odd = prior(X[..., :13, :15], 0.3)
    assert odd.shape == (2, CHANNELS, 13, 15)


def trained(state):
    """In the order of the parameters: without the table and without the random frequencies."""
    return [value for key, value in state.items() if key not in ("sigmas", "all_modules.0.W")]


def test_averaged_weights_are_taken(tmp_path):
    state = made(**VE)
    raw = {key: value if key in ("sigmas", "all_modules.0.W") else 2 * value for key, value in state.items()}
    path = saved(tmp_path / "both.pth", raw, ema=trained(state))
    wanted = loaded(saved(tmp_path / "plain.pth", state, model=False))(X, 0.3)
    assert torch.equal(loaded(path)(X, 0.3), wanted)
    assert not torch.equal(loaded(saved(tmp_path / "raw.pth", raw))(X, 0.3), wanted)
    assert any("are the averaged ones" in note for note in inspect_weights(path).found.notes)
    assert open_weights(tmp_path / "plain.pth").note == ""


def test_averages_that_are_not_those_of_the_network_are_left(tmp_path):
    state, others = made(**VE), made(**VE)
    right = [0 * value for value in trained(others)]
    swapped = [right[1], right[0], *right[2:]]
    cases = {"short": right[:-1], "long": [state["all_modules.0.W"], *right], "swapped": swapped, "text": ["a"] * len(right), "none": None}
    wanted = loaded(saved(tmp_path / "plain.pth", state, model=False))(X, 0.3)
    for name, ema in cases.items():
        path = saved(tmp_path / f"{name}.pth", state, ema=ema)
        assert any("last ones of the training" in note for note in inspect_weights(path).found.notes), name
        assert torch.equal(loaded(path)(X, 0.3), wanted), name
    assert not torch.equal(loaded(saved(tmp_path / "right.pth", state, ema=right))(X, 0.3), wanted)


def changed(state, index, old, new=None, shape=None):
    """A tensor renamed, given another shape, or without `new` and `shape` left out."""
    value = state.pop(f"all_modules.{index}.{old}")
    if new or shape:
        state[f"all_modules.{index}.{new or old}"] = value if shape is None else torch.zeros(shape)


def first(state, part):
    """The first module that has a part."""
    return min(int(key.split(".")[1]) for key in state if key.endswith(part))


def without(state, index):
    """A module left out, those behind it moved up."""
    kept = {}
    for key, value in state.items():
        number = int(key.split(".")[1]) if key != "sigmas" else -1
        if number != index:
            kept[key.replace(f".{number}.", f".{number - 1}.") if number > index else key] = value
    return kept


def old_block(state):
    index = first(state, "Conv_2.weight")
    changed(state, index, "Conv_2.weight", "NIN_0.W")
    changed(state, index, "Conv_2.bias", "NIN_0.b")


def untold(state):
    for key in [key for key in state if ".Dense_0." in key]:
        del state[key]


def unfiltered(state):
    index = first(state, "Conv2d_0.weight")
    changed(state, index, "Conv2d_0.weight", "Conv_0.weight")
    changed(state, index, "Conv2d_0.bias", "Conv_0.bias")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda s: changed(s, 5, "Conv_1.weight"), r"all_modules\.5 is block: missing \['Conv_1.weight'\]"),
        (lambda s: changed(s, 5, "Conv_1.weight", "Conv_9.weight"), r"all_modules\.5 is block: missing .* unknown \['Conv_9"),
        (lambda s: changed(s, 4, "Conv_1.weight", shape=(8, 16, 3, 3)), "not its shapes: .*conv1.weight is"),
        (lambda s: changed(s, first(s, "NIN_1.W"), "NIN_1.W", shape=(32, 16)), "attention of other shapes"),
        (lambda s: changed(s, 0, "W", shape=(12,)), "as many as there are features"),
        (lambda s: s.update(sigmas=torch.zeros(10, 10)), "must be a list"),
        (lambda s: s.update(strange=torch.zeros(1)), r"unknown \['strange'\]"),
        (old_block, "resblock_type 'ddpm'"),
        (untold, r"missing \['Dense_0.bias', 'Dense_0.weight'\]"),
        (unfiltered, "convolution without filter"),
        (lambda s: changed(s, 1, "weight") or changed(s, 1, "bias"), r"all_modules\.1 is missing"),
        (lambda s: without(s, first(s, "NIN_0.W")), "missing .*level1_block0.norm2"),
        (lambda s: without(s, first(s, "Conv2d_0.bias")), "at some of its levels only"),
        (lambda s: without(without(s, 1), 1), r"all_modules\.1 is conv where dense"),
        (lambda s: without(s, 4), "no U-Net's"),
        (lambda s: without(s, 1 + max(int(k.split(".")[1]) for k in s if k != "sigmas") - 1), "is missing where conv"),
    ],
)
def test_files_that_are_not_whole_or_another_networks_are_refused(tmp_path, fault, message):
    state = made(**VE)
    turned = fault(state)
    path = saved(tmp_path / "faulty.pth", turned if isinstance(turned, dict) else state)
    with pytest.raises(InputError, match=message):
        load_prior(str(path), check=False)


@pytest.mark.parametrize(
    ("kind", "message"),
    [({**SKIPS, "inputs": "cat"}, "'cat'; read"), ({**VE, "outputs": "residual"}, "belongs to progressive 'residual'")],
)
def test_other_ways_in_and_out_are_refused(tmp_path, kind, message):
    with pytest.raises(InputError, match=message):
        load_prior(str(saved(tmp_path / "other.pth", made(**kind))), check=False)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (VE, {"sde": "edm"}, 'sde is "ve", "vp" or "subvp"'),
        (VE, {"fir": "no"}, "true or false"),
        (VE, {"sise": 3}, "its arguments are sde, continuous, centered, fir"),
        (VE, {"fir": False}, "fir is said to be off"),
        (VE, {"continuous": False}, "random Fourier features"),
        (VP, {"sde": "subvp", "continuous": False}, "no network with sines"),
        (TIMED, {"sde": "ve", "continuous": True}, "no network with sines"),
        (TIMED, None, "its SDE is not in the file"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, kind, arguments, message):
    with pytest.raises(InputError, match=message):
        load_weights(saved(tmp_path / "x.pth", made(**kind)), arguments=arguments, check=False)


def test_untrained_and_hostile_files_are_refused(tmp_path):
    state = made(**VE)
    with pytest.raises(InputError, match="trained"):
        load_prior(str(saved(tmp_path / "fresh.pth", state)))
    for key, value in state.items():
        state[key] = torch.zeros(1).expand(value.shape)
    with pytest.raises(InputError, match="views of a few numbers"):
        load_prior(str(saved(tmp_path / "views.pth", state, ema=trained(state))))


def test_converted_files_need_no_arguments(tmp_path):
    """The averages are what is written, and the card keeps what was said."""
    run = CliRunner().invoke
    state = made(**TIMED)
    path = saved(tmp_path / "vp.pth", {key: 2 * value for key, value in state.items()}, ema=trained(state))
    facts = json.loads(run(main, ["weights", "inspect", str(path), "--json"]).output)
    assert facts["format"] == "score_sde NCSN++"
    assert "say arguments" in facts["loads"]
    assert facts["channels"] == CHANNELS
    out = tmp_path / "new.safetensors"
    for text in ("{", "3"):
        assert run(main, ["weights", "convert", str(path), "--out", str(out), "--arguments", text]).exit_code == 2
    result = run(main, ["weights", "convert", str(path), "--out", str(out), "--arguments", '{"sde": "subvp", "centered": false}'])
    assert result.exit_code == 0, result.output
    said = {"sde": "subvp", "centered": False}
    prior = load_prior(str(out), check=False)
    x = X.float()
    assert torch.equal(prior(x, 0.3), load_prior(str(path), arguments=said, check=False)(x, 0.3))
    assert not torch.equal(prior(x, 0.3), load_prior(str(path), arguments={"sde": "vp"}, check=False)(x, 0.3))
    run(main, ["weights", "convert", str(out), "--out", str(tmp_path / "again.safetensors")])
    assert torch.equal(load_prior(str(tmp_path / "again.safetensors"), check=False)(x, 0.3), prior(x, 0.3))
    card = json.loads((tmp_path / "new.json").read_text())
    assert card["arguments"] == said
    (tmp_path / "new.json").write_text(json.dumps({**card, "arguments": [1]}))
    with pytest.raises(InputError, match="arguments must be a table"):
        load_prior(str(out))
