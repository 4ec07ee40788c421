"""invsolve train and what lies around a run: classes and starts beside the config, names, records, exports."""

import json
import shutil
import sys

import pytest
import safetensors.torch
import torch
from invsolve_deepinv import export, train
from invsolve_priors.train import network_of
from invsolve_weights.cards import read_card
from train_cases import TOY, run, toy_folder, weights

from invsolve.training.config import TrainConfig


@pytest.fixture
def folder(tmp_path):
    return toy_folder(tmp_path)


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


OWN = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, channels=3, kind=""):
        super().__init__()
        self.one = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.two = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.two.weight = self.one.weight
        if kind == "still":
            self.requires_grad_(False)
        if kind == "mask":
            self.register_buffer("mask", torch.tensor(float("-inf")))

    def forward(self, x, sigma):
        return x + self.two(self.norm(self.one(x)))
"""


def own_config(folder, module, extra=""):
    (folder / f"{module}.py").write_text(OWN)
    text = TOY.replace("invsolve_weights.networks:EDMDRUNet", f"{module}:Own").replace("channels = 3, nc = [4, 4, 8, 8], nb = 1", extra)
    (folder / "toy.toml").write_text(text.replace("steps = 30", "steps = 3"))


def test_a_network_beside_the_config_with_tied_weights_and_counters(folder, tmp_path_factory, monkeypatch):
    """Trained, resumed from elsewhere, and exported, all without the folder being importable beforehand."""
    own_config(folder, "ownnet_tied")
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    stored = safetensors.torch.load_file(folder / "run" / "toy.safetensors")
    assert torch.equal(stored["one.weight"], stored["two.weight"])
    assert int(stored["norm.num_batches_tracked"]) == 3
    assert not (folder / "run" / "toy.json").exists()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    del sys.modules["ownnet_tied"]
    result = run("--resume", folder / "run")
    assert result.exit_code == 0, result.output
    assert str(folder) not in sys.path


@pytest.mark.parametrize(("kind", "message"), [("still", "no parameters to train"), ("mask", "mask is not finite")])
def test_networks_that_cannot_be_trained_or_stored_are_refused(folder, kind, message):
    own_config(folder, f"ownnet_{kind}", f'kind = "{kind}"')
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("name", ["run", "config", "log", "checkpoint"])
def test_no_name_destroys_the_record_of_the_run(folder, name):
    """The name is the file's, as the config has none."""
    (folder / f"{name}.toml").write_text(TOY.replace('name = "toy"', "").replace("steps = 30", "steps = 2"))
    assert run(folder / f"{name}.toml", "--out", folder / "out").exit_code == 0
    again = run("--resume", folder / "out")
    assert again.exit_code == 0, again.output
    assert read_card(folder / "out" / f"{name}.json").name == name


def test_runs_recorded_as_earlier_versions_did_go_on(folder):
    (folder / "toy.toml").write_text(TOY.replace("steps = 30", "steps = 2"))
    assert run(folder / "toy.toml", "--out", folder / "out").exit_code == 0
    (folder / "out" / "run_record.json").unlink()
    (folder / "out" / "run.json").write_text(json.dumps({"name": "toy", "data": str(folder)}))
    assert run("--resume", folder / "out").exit_code == 0


@pytest.mark.parametrize("kind", ["run", "file"])
def test_a_start_lies_beside_the_config_and_is_not_needed_to_go_on(folder, tmp_path_factory, monkeypatch, kind):
    text = TOY.replace("steps = 30", "steps = 2")
    (folder / "toy.toml").write_text(text)
    assert run(folder / "toy.toml", "--out", folder / "first").exit_code == 0
    start = "first" if kind == "run" else "first/toy.safetensors"
    (folder / "next.toml").write_text(text.replace('name = "toy"', f'name = "next"\nstart = "{start}"'))
    monkeypatch.chdir(folder)
    assert network_of(TrainConfig.load("next.toml")).state_dict().keys()  # as given from the working directory
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    result = run(folder / "next.toml", "--out", folder / "second", "--data", folder)
    assert result.exit_code == 0, result.output
    config = TrainConfig.load(folder / "next.toml")
    average, begun = weights(folder / "first")["ema"], network_of(config, folder).state_dict()
    assert all(torch.equal(average[key], begun[key]) for key in average)
    shutil.rmtree(folder / "first")
    result = run("--resume", folder / "second")
    assert result.exit_code == 0, result.output
    fresh = run(folder / "next.toml", "--out", folder / "third")
    assert fresh.exit_code == 2
    assert "no prior of that name" in fresh.output


def export_command(monkeypatch, *arguments):
    """Status and output of python -m invsolve_priors.export."""
    monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
    try:
        export.main()
    except SystemExit as end:
        return end.code
    return 0


def test_export_takes_the_name_of_the_run_and_ends_in_one_line(folder, monkeypatch, capsys):
    (folder / "mine.toml").write_text(TOY.replace('name = "toy"', "").replace("steps = 30", "steps = 2"))
    assert run(folder / "mine.toml", "--out", folder / "out").exit_code == 0
    assert export_command(monkeypatch, folder / "out", "--folder", folder / "there" / "deep", "--data", folder) == 0
    assert sorted(path.name for path in (folder / "there" / "deep").iterdir()) == ["mine.json", "mine.safetensors"]
    assert '"name": "mine"' in capsys.readouterr().out
    assert export_command(monkeypatch, folder / "nowhere") == 2
    assert "Error: " in capsys.readouterr().err
    own_config(folder, "ownnet_export")
    assert run(folder / "toy.toml", "--out", folder / "own").exit_code == 0
    assert export_command(monkeypatch, folder / "own") == 0
    assert "no card" in capsys.readouterr().out


def test_a_network_whose_weight_file_could_not_be_read_is_refused_at_the_start(folder, monkeypatch):
    monkeypatch.setattr(train, "FILE_LIMIT", 10_000)
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 2
    assert "more than the 10000 that are read" in result.output
