"""Weight files: what is shipped, what export makes, and what loading refuses."""

import hashlib
import json
import os
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from fresh_cases import run_fresh
from invsolve_deepinv import export
from invsolve_priors.evaluate import add_tables, convolutions, mean_psnr
from invsolve_priors.shipped import DnCNNPrior
from invsolve_weights.cards import HEADER_LIMIT, Card, load_network, read_card
from invsolve_weights.networks import NETWORKS
from invsolve_weights.places import FOLDER

from invsolve import load_prior
from invsolve.errors import InputError
from invsolve.training.config import TrainConfig

TINY = {"channels": 3, "depth": 3, "nf": 4}


def put(folder, state, dtype="F32", name="tiny", **changes):
    """A weight file and its card."""
    return put_bytes(folder, safetensors.torch.save(state), dtype, name, **changes)


def put_bytes(folder, data, dtype="F32", name="tiny", **changes):
    card = Card(name, "dncnn", TINY, (0.01, 0.2), 0.25, (0.0, 1.0), dtype, hashlib.sha256(data).hexdigest(), len(data), 1)
    (folder / f"{name}.safetensors").write_bytes(data)
    (folder / f"{name}.json").write_text(replace(card, **changes).text())
    return folder / f"{name}.safetensors"


@pytest.fixture
def state():
    torch.manual_seed(0)
    return NETWORKS["dncnn"](**TINY).state_dict()


def test_a_good_file_loads(tmp_path, state):
    path = put(tmp_path, state)
    network, card = load_network(path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    prior = DnCNNPrior(weights=str(path))
    assert prior.sigma_range == (0.01, 0.2)
    assert prior.weights_sha256 == card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("dtype", "short"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_sixteen_bit_files_load_as_float32(tmp_path, state, dtype, short):
    half = {key: value.to(dtype) for key, value in state.items()}
    network, _ = load_network(put(tmp_path, half, short))
    for key, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, half[key].float())


@pytest.mark.parametrize("position", [9, 200, -1])
def test_a_changed_byte_is_noticed(tmp_path, state, position):
    path = put(tmp_path, state)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"sha256|header is not"):
        load_network(path)


@pytest.mark.parametrize("length", [0, 7, 50, -4])
def test_a_truncated_file_is_noticed(tmp_path, state, length):
    path = put(tmp_path, state)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"truncated|header claims|its card says"):
        load_network(path)


@pytest.mark.parametrize("claim", [HEADER_LIMIT + 1, 2**63, 0])
def test_a_header_beyond_the_cap_is_refused_even_with_a_matching_card(tmp_path, claim):
    path = put_bytes(tmp_path, struct.pack("<Q", claim) + b" " * 64)
    with pytest.raises(InputError, match=f"header claims {claim} bytes"):
        load_network(path)


def test_other_tensors_are_refused_before_they_are_read(tmp_path, state, monkeypatch):
    def never(data):
        raise AssertionError("data was read")

    monkeypatch.setattr(safetensors.torch, "load", never)
    key = next(iter(state))
    wrong = {
        "the network needs F32": {**state, key: state[key][:, :2].contiguous()},
        "missing": {other: value for other, value in state.items() if other != key},
        "unknown": {**state, "extra": torch.zeros(1)},
        "is F64": {**state, key: state[key].double()},
    }
    for message, tensors in wrong.items():
        with pytest.raises(InputError, match=message):
            load_network(put(tmp_path, tensors))


def test_offsets_outside_the_file_are_refused(tmp_path, state):
    data = safetensors.torch.save(state)
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    key = next(key for key in header if key != "__metadata__")
    header[key]["data_offsets"][1] += 10_000
    text = json.dumps(header).encode()
    path = put_bytes(tmp_path, struct.pack("<Q", len(text)) + text + data[8 + size :])
    with pytest.raises(InputError, match="safetensors refuses it"):
        load_network(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no readable model card"),
        ("[1]", "a JSON object is needed"),
        ('{"name": "x"}', "not a model card"),
        ("[" * 100_000, "no readable model card"),
        ('{"a": ' * 50 + "1" + "}" * 50, "nested deeper"),
        (" " * 2_000_000, "more than"),
        (json.dumps({"surprise": 1}), "surprise"),
    ],
)
def test_bad_cards_are_refused(tmp_path, state, text, message):
    path = put(tmp_path, state)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_network(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "other"}, "need network in"),
        ({"network": []}, "network must be text"),
        ({"dtype": "I8"}, "dtype in"),
        ({"dtype": {}}, "dtype must be text"),
        ({"sigma_range": (0.2, 0.1)}, "sigma_range must be"),
        ({"sigma_range": "ab"}, "sigma_range must be"),
        ({"sigma_range": (float("nan"), 1)}, "sigma_range must be"),
        ({"clip": (1, 1)}, "clip must be"),
        ({"clip": None}, "clip must be"),
        ({"s0": "a"}, "s0 > 0; given .*'a'"),
        ({"s0": float("nan")}, "s0 > 0"),
        ({"size": "many"}, "size and parameters"),
        ({"promise": [1]}, "promise must be"),
        ({"promise": [(0.1, "a")]}, "promise must be"),
        ({"arguments": {"depht": 3}}, "cannot be built"),
        ({"arguments": {"depth": 3.5}}, "cannot be built"),
        ({"arguments": {"depth": "3"}}, "numbers or lists"),
        ({"arguments": {"depth": 10**400}}, "numbers or lists"),
    ],
    ids=str,
)
def test_cards_with_impossible_values_are_refused(tmp_path, state, change, message):
    path = put(tmp_path, state, **change)
    for load in (load_network, load_prior):
        with pytest.raises(InputError, match=message):
            load(path)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [("dncnn", {"depth": 10**9}), ("edm-drunet", {"nb": 10**8}), ("edm-drunet", {"nc": [10**4] * 4, "nb": 10**8})],
)
def test_sizes_beyond_the_file_are_given_up_early(tmp_path, state, network, arguments):
    start = time.monotonic()
    with pytest.raises(InputError, match=f"more layers than the {len(state)} tensors"):
        load_network(put(tmp_path, state, network=network, arguments=arguments))
    assert time.monotonic() - start < 5  # milliseconds; hours without a bound


def test_a_large_network_loads(tmp_path):
    """16.8 M weights in float32 take 67 MB."""
    arguments = {"channels": 3, "depth": 4, "nf": 966}
    with torch.device("meta"):
        shapes = NETWORKS["dncnn"](**arguments).state_dict()
    path = put(tmp_path, {key: torch.zeros(value.shape) for key, value in shapes.items()}, arguments=arguments)
    assert path.stat().st_size > 64 << 20
    assert sum(value.numel() for value in load_network(path)[0].parameters()) > 16_000_000
    path.unlink()


def test_pipes_and_devices_in_place_of_files(tmp_path, state):
    path = put(tmp_path, state)
    content = path.with_suffix(".json").read_bytes()
    for target in (path, path.with_suffix(".json")):
        for make in (os.mkfifo, lambda place: place.symlink_to("/dev/zero")):
            target.unlink()
            make(target)
            for load in (load_network, load_prior):
                with pytest.raises(InputError, match=r"not a (regular )?file"):
                    load(path)
        target.unlink()
        put(tmp_path, state)
    assert content == path.with_suffix(".json").read_bytes()


def test_missing_files_are_named(tmp_path, state):
    with pytest.raises(InputError, match="no readable model card"):
        load_network("nothing")
    path = put(tmp_path, state)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_network(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_shipped_cards_say_what_they_must(name):
    card = read_card(FOLDER / f"{name}.json")
    file = FOLDER / f"{name}.safetensors"
    assert card.size == file.stat().st_size < 10_000_000
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card.parameters == sum(value.numel() for value in load_network(name)[0].parameters())
    assert card.dtype == ("F32" if card.parameters <= 2_500_000 else card.dtype)
    assert {"steps", "images", "hours"} <= card.training.keys()
    assert "never val" in card.data or "BSDS" not in card.data
    assert card.licence
    assert card.reproduce
    assert card.weaknesses


def test_a_weight_file_outside_the_package_is_found_by_name(tmp_path):
    """In a folder of INVSOLVE_WEIGHTS; `faces64` is a prior where its file is, and says what is missing where it is not."""
    network = NETWORKS["edm-drunet"](3, (4, 4, 4, 4), 1)
    content = safetensors.torch.save(network.state_dict())
    card = Card(
        name="faces64",
        network="edm-drunet",
        arguments={"channels": 3, "nc": [4, 4, 4, 4], "nb": 1},
        sigma_range=(0.002, 80.0),
        s0=0.25,
        clip=(0.0, 1.0),
        dtype="F32",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        parameters=1,
    )
    (tmp_path / "faces64.safetensors").write_bytes(content)
    (tmp_path / "faces64.json").write_text(card.text())
    code = (
        "import invsolve_weights.places as places; from pathlib import Path; places.CHECKOUT = Path('none')\n"
        "from invsolve import load_prior\n"
        "try: print(load_prior('faces64').weights_sha256)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    for folders, said in ((f"none{os.pathsep}{tmp_path}", card.sha256), ("", "InputError weights 'faces64' are not here")):
        done = run_fresh(f"import os; os.environ['INVSOLVE_WEIGHTS'] = {folders!r}\n{code}", tmp_path)
        assert done.stdout.startswith(said), done.stderr


CONFIG = """
name = "dncnn"
[network]
class = "invsolve_weights.networks:NoiseMapDnCNN"
arguments = { channels = 3, depth = 3, nf = 4 }
[data]
side = 40
[[data.source]]
path = "photographs"
[objective]
sigmas = { kind = "uniform", low = 0.01, high = 0.2 }
[run]
steps = 5
"""


def test_export_writes_the_average_and_a_card_that_loads(tmp_path):
    torch.manual_seed(1)
    network, average = (NETWORKS["dncnn"](**TINY) for _ in range(2))
    (tmp_path / "config.toml").write_text(CONFIG)
    config = TrainConfig.load(tmp_path / "config.toml")
    content = {"network": network.state_dict(), "ema": average.state_dict(), "step": 5, "seconds": 36.0, "loss": 0.5, "streams": [0]}
    torch.save(content, tmp_path / "checkpoint.pt")
    file, card_file = export.export_run(tmp_path, config, tmp_path / "out")
    card = read_card(card_file)
    assert card.training["images"] == 5 * config.run.batch
    assert card.training["hours"] == 0.01
    loaded, again = load_network(file)
    assert again == card
    assert all(torch.equal(value, average.state_dict()[key]) for key, value in loaded.state_dict().items())
    table = {"psnr_db": {"dncnn": {"25": 30.0}}}
    assert add_tables(file, card.sha256, psnr=table).psnr == table
    assert read_card(file).psnr == table
    with pytest.raises(InputError, match="run evaluate again"):
        add_tables(file, "0" * 64, psnr=table)
    content["ema"]["net.in_conv.bias"].fill_(np.nan)
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="not finite"):
        export.export_run(tmp_path, config, tmp_path / "out")


def test_a_further_stage_is_added_to_the_card(tmp_path):
    """Steps, images and hours are sums over the stages; exporting a stage again does not count it twice; random starts count alone."""
    average = NETWORKS["dncnn"](**TINY)

    def exported(folder, seed, steps, start):
        run = tmp_path / f"{seed}"
        run.mkdir(exist_ok=True)
        text = CONFIG.replace('name = "dncnn"', f'name = "dncnn"\nstart = "{start}"' if start else 'name = "dncnn"')
        (run / "config.toml").write_text(text + f"seed = {seed}\n")
        state = {"ema": average.state_dict(), "step": steps, "seconds": 3600.0, "loss": 0.5, "streams": [0], "bf16": False}
        torch.save(state, run / "checkpoint.pt")
        return read_card(export.export_run(run, TrainConfig.load(run / "config.toml"), folder)[0]).training

    assert "stages" not in exported(tmp_path, 1, 5, "")
    for _ in range(2):
        training = exported(tmp_path, 2, 7, "runs/1")
        assert (training["steps"], training["images"], training["hours"]) == (12, 12 * 12, 2.0)
        assert [stage["steps"] for stage in training["stages"]] == [5, 7]
    assert exported(tmp_path, 3, 1, "runs/2")["steps"] == 13
    assert exported(tmp_path, 4, 9, "")["steps"] == 9


def test_storage_is_sixteen_bit_above_two_and_a_half_million():
    assert export.storage({"w": torch.zeros(2_500_000)}) == (torch.float32, "F32")
    assert export.storage({"w": torch.zeros(2_500_001)}) == (torch.float16, "F16")
    assert export.storage({"w": torch.full((2_500_001,), 1e5)}) == (torch.bfloat16, "BF16")


def test_published_networks_are_built_from_their_keys(tmp_path):
    """A chain of two convolutions from a file, against the same two by hand; no bias where the file has none."""
    first, second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 3, padding=1, bias=False)
    state = {"model.0.weight": first.weight.data, "model.0.bias": first.bias.data, "model.2.weight": second.weight.data}
    torch.save(state, tmp_path / "net.pth")
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(convolutions(tmp_path / "net.pth")(x), second(first(x).relu()))


def test_psnr_of_a_known_error():
    """Leaving the noise in gives -20 log10 sigma before clamping; a constant shift of 0.1 gives 20 dB exactly."""
    images = [torch.full((1, 3, 8, 8), 0.5)]
    assert mean_psnr(lambda x, sigma: images[0] + 0.1, images, 25) == pytest.approx(20.0, abs=1e-4)
