"""invsolve train as its user runs it: a config, a run that is killed and goes on, bad input, and what comes out."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fresh_cases import COMMAND, ended_fresh, run_fresh, started_fresh
from invsolve_priors.train import fitted, network_of
from invsolve_weights.cards import read_card
from PIL import Image
from places import ROOT
from train_cases import TOY, run, toy_folder, weights

from invsolve import InputError, load_prior
from invsolve.training.config import TrainConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.objectives import loss_weight


@pytest.fixture
def folder(tmp_path):
    return toy_folder(tmp_path)


def command(*arguments, first=""):
    """The program that the shell runs, in a process of its own; with what is to be done first."""
    return first + COMMAND.format(site=[], words=["invsolve", "train", *map(str, arguments), "--threads", "1"])


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_run_gives_weights_that_load_by_their_path(folder):
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    prior = load_prior(str(folder / "run" / "toy.safetensors"))
    assert prior.sigma_range == (0.05, 0.3)
    state = weights(folder / "run")
    network = network_of(TrainConfig.load(folder / "toy.toml"))
    network.load_state_dict(state["ema"])
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(prior(x, 0.1), network(x, 0.1), atol=1e-5)  # channels last and not: other orders of summation
    card = read_card(folder / "run" / "toy.json")
    assert card.training["steps"] == 30
    assert card.training["images"] == 60
    assert (folder / "run" / "denoised.png").exists()
    assert not (folder / "run" / "samples.png").exists()  # sigma 0.3 is no start for a sampler
    rows = (folder / "run" / "log.csv").read_text().splitlines()
    assert rows[0] == "step,images,minutes,loss,psnr15,psnr25,psnr50"
    assert rows[-1].startswith("30,60,")


def test_a_killed_run_ends_at_the_bits_of_one_that_was_not(folder):
    (folder / "toy.toml").write_text(TOY.replace("steps = 30", "steps = 100"))
    assert run(folder / "toy.toml", "--out", folder / "whole").exit_code == 0
    process = started_fresh(command(folder / "toy.toml", "--out", folder / "killed"), folder)
    deadline = time.monotonic() + 120
    while not (folder / "killed" / "checkpoint.pt").exists() and time.monotonic() < deadline and process.is_alive():
        time.sleep(0.005)
    process.kill()
    assert ended_fresh(process, folder).returncode == -signal.SIGKILL
    assert weights(folder / "killed")["step"] < 100, "it was over before it was killed"
    result = run("--resume", folder / "killed")
    assert result.exit_code == 0, result.output
    one, other = weights(folder / "killed"), weights(folder / "whole")
    assert one["step"] == other["step"] == 100
    for part in ("network", "ema"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in other[part])
    assert (folder / "killed" / "toy.safetensors").read_bytes() == (folder / "whole" / "toy.safetensors").read_bytes()


def test_diffusion_networks_draw_samples_while_they_train(folder):
    text = TOY.replace("high = 0.3", "high = 80.0").replace("steps = 30", "steps = 2")
    (folder / "toy.toml").write_text(text)
    assert run(folder / "toy.toml", "--out", folder / "run").exit_code == 0
    assert Image.open(folder / "run" / "samples.png").size == (8 * 16, 2 * 16)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 30", "stepps = 30", "run.stepps: no such key; did you mean steps"),
        ("steps = 30", "steps = 30\nhours = 1.0", "hours (of wall clock) or steps"),
        ("batch = 2", "batch = 0", "run.batch"),
        ("low = 0.05", "low = 0.5", "sigmas.low must be below"),
        ('"uniform"', '"flat"', "objective.sigmas"),
        ("side = 16\n[[", "side = 64\n[[", "no image of at least 64 x 64"),
        ('path = "photographs"', 'path = "nowhere"', "no image found (there is no such path)"),
        ("networks:EDMDRUNet", "networks:Nothing", "network.class"),
        ("nb = 1", "nb = 1, wide = 3", "network.class"),
        ("invsolve_weights.networks:EDMDRUNet", "torch.nn:Identity", "fails on (x, sigma)"),
        ('name = "toy"', 'name = "toy"\nstart = "nothing"', "no prior of that name"),
        ('name = "toy"', 'name = "toy"\nstart = "dncnn"', "another network"),
        ("[run]", "[run", "is not TOML"),
        ("batch = 2", "batch = 100000000", "run.batch"),
        ("batch = 2", "batch = 2\nseed = 9223372036854775807", "run.seed"),
        ("batch = 2", "batch = 2\nlr = " + "9" * 5000, "is not TOML"),
        ("steps = 30", "steps = true", "run.steps"),
        ("steps = 30", 'steps = "5"', "run.steps"),
        ("[objective]", "levels = [1e300]\n[objective]", "validation.levels.0"),
        ("[objective]", "[objective]\ns0 = 1e300", "objective.s0"),
        ("high = 0.3", "high = 1e300", "objective.sigmas.uniform.high"),
        ('"uniform"', '"log-normal", mean = nan, std = 1.0', "objective.sigmas.mean: a number must be finite"),
        ("channels = 3", "channels = 0", "must be 1 or 3"),
        ("nb = 1", "nb = 1, mean = nan", "network.arguments"),
        ("[[data", "pad = 1000000\n[[data", "data.pad"),
        ("[validation]", "scales = [1000]\n[validation]", "data.source.0.scales.0"),
        ("[validation]", "scales = [1e300]\n[validation]", "data.source.0.scales.0"),
        ('"photographs"\ncount', '"\\u0000"\ncount', "validation.path"),
        ("invsolve_weights.networks:EDMDRUNet", "builtins:dict", "must make a torch.nn.Module"),
    ],
)
def test_bad_configs_end_in_a_clear_line(folder, old, new, message):
    assert old in TOY
    (folder / "toy.toml").write_text(TOY.replace(old, new))
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 2
    assert message in result.output
    assert not (folder / "run" / "checkpoint.pt").exists()


def test_bad_images_are_named_before_the_first_step(folder):
    (folder / "photographs" / "1.png").write_bytes((folder / "photographs" / "0.png").read_bytes()[:200])
    result = run(folder / "toy.toml", "--out", folder / "run")
    assert result.exit_code == 2
    assert "1.png: not a readable image" in result.output


def test_runs_are_not_overwritten_or_mixed(folder):
    assert run(folder / "toy.toml", "--out", folder / "run").exit_code == 0
    again = run(folder / "toy.toml", "--out", folder / "run")
    assert again.exit_code == 2
    assert "--resume" in again.output
    (folder / "toy.toml").write_text(TOY.replace("batch = 2", "batch = 3"))
    other = run(folder / "toy.toml", "--resume", folder / "run")
    assert other.exit_code == 2
    assert "differs in run.batch" in other.output
    assert "no run to go on with" in run("--resume", folder / "photographs").output
    assert run().exit_code == 2


def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(folder):
    assert run(folder / "toy.toml", "--out", folder / "run").exit_code == 0
    state = weights(folder / "run")
    state["network"]["net.m_head.weight"].fill_(np.nan)
    torch.save({**state, "step": 20}, folder / "run" / "checkpoint.pt")
    result = run("--resume", folder / "run")
    assert result.exit_code == 1
    assert "loss is nan at step 20" in result.output
    assert "checkpoint.pt" in result.output


def test_a_full_disk_leaves_the_last_good_checkpoint(folder):
    """Files of this process may not grow beyond 20 kB: the checkpoint (60 kB) cannot be written."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
    done = run_fresh(command(folder / "toy.toml", "--out", folder / "run", first=limit), folder)
    assert done.returncode == 2, done.stderr
    assert "cannot be written at step" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "run").glob("*.tmp"))


def test_a_grey_network_begins_as_the_colour_one_on_grey_pictures(folder):
    config = TrainConfig.load(folder / "toy.toml")
    colour = network_of(config)
    grey = network_of(
        config.model_copy(update={"network": config.network.model_copy(update={"arguments": {"channels": 1, "nc": [4, 4, 8, 8], "nb": 1}})})
    )
    grey.load_state_dict(fitted(colour.state_dict(), grey.state_dict(), "colour"))
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    # float32 sums of three in another order
    assert torch.allclose(grey(x, 0.1), colour(x.expand(1, 3, 16, 16), 0.1).mean(1, keepdim=True), atol=1e-5)


def test_images_from_an_npz_with_a_border(tmp_path):
    digits = np.random.default_rng(0).integers(1, 255, (5, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=digits)
    crops = Crops([(tmp_path / "digits.npz", 1.0, (1.0,))], 32, channels=1, flips="none", pad=32)
    batch = crops.sample(8, np.random.default_rng(0))
    assert batch.shape == (8, 1, 32, 32)
    assert float(batch[..., :2, :].max()) == 0
    inside = (255 * batch[..., 2:30, 2:30]).round().to(torch.uint8)[:, 0].numpy()
    assert all(any(np.array_equal(one, digit) for digit in digits) for one in inside)
    assert validation_images(tmp_path / "digits.npz", 3, 32, 1, 32).shape == (3, 1, 32, 32)
    np.savez(tmp_path / "bad.npz", images=digits.astype(float))
    with pytest.raises(InputError, match="must be uint8"):
        Crops([(tmp_path / "bad.npz", 1.0, (1.0,))], 32)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not a readable npz"):
        Crops([(tmp_path / "objects.npz", 1.0, (1.0,))], 32)


@pytest.mark.parametrize("target", ["x0", "eps", "v"])
def test_weights_turn_the_error_of_x0_into_that_of_the_target(target):
    """An error e in x0_hat is e / sigma in eps, and in v (of data in units of s0) -(sigma / s0 + s0 / sigma) e / sqrt(sigma^2 + s0^2)."""
    sigma, s0, e = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64), 0.25, 0.01
    error = {"x0": torch.full_like(sigma, e / s0), "eps": e / sigma, "v": (sigma / s0 + s0 / sigma) * e / (sigma**2 + s0**2).sqrt()}[target]
    assert torch.allclose(loss_weight(sigma, s0, target) * e**2, error**2, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["natural", "natural-1", "natural-2", "natural-gray", "dncnn", "dncnn-gray", "mnist", "faces64", "natural-few", "mnist-few"]
)
def test_the_recipes_of_the_shipped_priors_are_configs_that_fit_their_cards(name):
    from invsolve_weights.networks import NETWORKS
    from invsolve_weights.places import FOLDER

    recipes = str(ROOT / "benchmarks" / "training")
    config = TrainConfig.load(os.path.join(recipes, f"{name}.toml"))
    if not (FOLDER / f"{name}.json").exists():
        assert config.recipe().batch > 0
        return
    card = read_card(FOLDER / f"{name}.json")
    assert card.arguments == config.network.arguments
    assert NETWORKS[card.network].__name__ == config.network.path.split(":")[1]
    assert card.sigma_range == (config.objective.sigmas.low, config.objective.sigmas.high)
    assert f"{name}.toml" in card.reproduce
    assert card.training["rate"] == config.run.lr or "stages" in card.training


def by_torchrun(folder, *arguments):
    """(exit code, what was said on stderr) of two processes. On GPUs `accelerate launch` does the same; on CPUs it wants MPI."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "invsolve", "train"]
    done = subprocess.run([*launch, *map(str, arguments), "--threads", "1"], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def told_their_ranks(folder, *arguments):
    """The same of two processes that are told what torchrun tells them, without the six imports of torch that its two runs cost."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    folders = [folder / f"rank-{rank}" for rank in range(2)]
    processes = []
    for rank, own in enumerate(folders):
        own.mkdir(exist_ok=True)
        names = {**told, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(started_fresh(command(*arguments, first=f"import os\nos.environ.update({names!r})\n"), own))
    done = [ended_fresh(process, own, 120) for process, own in zip(processes, folders, strict=True)]
    return max(abs(one.returncode) for one in done), "".join(one.stderr for one in done)


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")
@pytest.mark.parametrize("together", [told_their_ranks, pytest.param(by_torchrun, marks=pytest.mark.whole)])
def test_two_processes_average_their_gradients_and_go_on(folder, together):
    """Both must come to every save, of a run saved at its end and of one saved at every step: one that waits alone would wait for ever."""
    (folder / "toy.toml").write_text(TOY.replace("steps = 30", "steps = 6").replace("save_minutes = 0.001", "save_minutes = 10"))
    code, said = together(folder, folder / "toy.toml", "--out", folder / "run")
    assert code == 0, said[-2000:]
    state = weights(folder / "run")
    assert state["step"] == 6
    assert len(state["streams"]) == 2
    assert state["streams"][0][0] != state["streams"][1][0]  # each draws its own patches
    assert read_card(folder / "run" / "toy.json").training["images"] == 6 * 2 * 2
    alone = run("--resume", folder / "run")
    assert "it is of 2 processes, these are 1; go on with 2" in alone.output
    config = folder / "run" / "config.toml"
    found = config.read_text()
    assert "save_minutes = 10" in found
    config.write_text(found.replace("steps = 6", "steps = 9").replace("save_minutes = 10", "save_minutes = 1e-7 #"))
    code, said = together(folder, "--resume", folder / "run")
    assert code == 0, said[-2000:]
    assert weights(folder / "run")["step"] == 9


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")
def test_processes_that_would_train_apart_are_refused(monkeypatch):
    import accelerate

    from invsolve.training.processes import these_processes

    monkeypatch.setattr(accelerate, "Accelerator", lambda **settings: SimpleNamespace(num_processes=1, process_index=0, device="cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="the launcher started 2 processes, accelerate sees 1"):
        these_processes()
    # what `accelerate launch --cpu --num_processes 2` sets for the one process it starts
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(InputError, match="take torchrun"):
        these_processes()
