"""What went wrong in trainings: interruptions in the middle of a step, deep images, networks with buffers and dropout, divergence."""

import copy
import os
import signal
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from invsolve.errors import DivergedError, InputError
from invsolve.training.data import Crops, read_images, validation_images
from invsolve.training.loop import Recipe, Training
from invsolve.training.objectives import UniformSigma

RECIPE = Recipe(UniformSigma(0.05, 0.2), s0=0.25, hours=0, batch=2, lr=1e-2, warmup=2, bf16=False, steps=6)


class Small(nn.Module):
    """A toy with what networks of one's own may have: running statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 3, 3, padding=1))

    def forward(self, x, sigma):
        return x + self.body(x)


@pytest.fixture
def crops(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (3, 12, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    return Crops([(tmp_path / "images.npz", 1.0, (1.0,))], 8)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small()


def training(folder, crops, network, recipe=RECIPE):
    validation = crops.sample(1, np.random.default_rng(9))
    return Training(copy.deepcopy(network), crops, recipe, folder, validation)


def quiet(line):
    pass


def state(run):
    return [*run.network.state_dict().values(), *run.ema.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(state(one), state(other), strict=True))


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as at a terminal: a test run in the background of a shell script begins with SIGINT ignored, and would keep it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signal_at(run, count, number, monkeypatch):
    """Sends a signal in the middle of a step: after its patches were drawn, before the rest."""
    sample, calls = run.crops.sample, []

    def sends(*arguments):
        found = sample(*arguments)
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return found

    monkeypatch.setattr(run.crops, "sample", sends)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_in_the_middle_of_a_step_goes_on_to_the_same_bits(tmp_path, crops, network, monkeypatch, number):
    whole = training(tmp_path / "whole", crops, network)
    whole.run(quiet)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    part = training(tmp_path / "part", crops, network)
    signal_at(part, 3, number, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        part.run(quiet)
    assert part.kept == part.step == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    monkeypatch.undo()
    resumed = training(tmp_path / "part", crops, network)
    resumed.run(quiet)
    assert resumed.step == 6
    assert same(resumed, whole)


def test_a_second_interruption_stops_at_once_and_saves_nothing(tmp_path, crops, network, monkeypatch):
    run = training(tmp_path / "run", crops, network)
    signal_at(run, 2, signal.SIGINT, monkeypatch)
    signal_at(run, 2, signal.SIGINT, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run.run(quiet)
    assert run.step == 1
    assert not run.checkpoint.exists()


def test_an_interruption_after_a_save_does_not_write_its_row_again(tmp_path, crops, network):
    run = training(tmp_path / "run", crops, network, replace(RECIPE, save_seconds=-1))
    with pytest.raises(KeyboardInterrupt):
        run.run(quiet, lambda run: os.kill(os.getpid(), signal.SIGINT) if run.step == 2 else None)
    steps = [line.split(",")[0] for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2", "3"]


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path, crops, network):
    run = training(tmp_path / "run", crops, network)
    thread = threading.Thread(target=run.run, args=(quiet,))
    thread.start()
    thread.join()
    assert run.step == 6


def test_sixteen_bits_and_floats_keep_their_grey_levels(tmp_path):
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    (tmp_path / "deep").mkdir()
    Image.fromarray((65535 * ramp).round().astype(np.uint16)).save(tmp_path / "deep" / "a.png")
    Image.fromarray((65535 * ramp).round().astype(np.uint16)).save(tmp_path / "deep" / "b.tif")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "deep" / "c.tiff")
    found = [np.asarray(image) for image in read_images(tmp_path / "deep")]
    assert len(found) == 3
    for image in found:
        assert image.shape == (8, 8, 3)
        # rounding to 8 bits, and to 16 before
        assert np.abs(image[..., 0] / 255 - ramp).max() <= 0.5 / 255 + 0.5 / 65535
    assert float(validation_images(tmp_path / "deep", 3, 8, 1).std()) > 0.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 8), 300, np.int32), "no defined white level"),
        (np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8), r"floats from 0 to 255"),
        (np.full((8, 8), np.nan, np.float32), "NaN"),
    ],
)
def test_values_without_a_range_are_refused_by_name(tmp_path, values, message):
    (tmp_path / "odd").mkdir()
    Image.fromarray(values).save(tmp_path / "odd" / "x.tif")
    with pytest.raises(InputError, match=rf"x\.tif: .*{message}"):
        list(read_images(tmp_path / "odd"))


def test_zips_in_upper_case_and_the_files_of_macos(tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    with zipfile.ZipFile(tmp_path / "Z.ZIP", "w") as archive:
        archive.write(picture, "in/a.png")
        archive.writestr("in/._a.png", b"resource fork")
        archive.writestr("__MACOSX/in/b.png", b"resource fork")
    assert len(list(read_images(tmp_path / "Z.ZIP"))) == 1
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    assert len(list(read_images(tmp_path))) == 1


def test_the_average_has_running_statistics(tmp_path, crops, network):
    run = training(tmp_path / "run", crops, network)
    run.run(quiet)
    trained, average = dict(run.network.named_buffers()), dict(run.ema.named_buffers())
    assert not torch.equal(average["body.1.running_mean"], torch.zeros(4))
    assert torch.equal(average["body.1.running_mean"], trained["body.1.running_mean"])
    assert int(average["body.1.num_batches_tracked"]) == 6


def test_dropout_resumes_to_the_bit_whatever_the_global_generator_does(tmp_path, crops, network):
    whole = training(tmp_path / "whole", crops, network)
    before = torch.random.get_rng_state()
    whole.run(quiet)
    assert torch.equal(before, torch.random.get_rng_state())
    part = training(tmp_path / "part", crops, network)
    for _ in range(3):
        part._train_step()
    part.save(quiet)
    torch.rand(7)
    resumed = training(tmp_path / "part", crops, network)
    resumed.run(quiet)
    assert same(resumed, whole)
    other = training(tmp_path / "other", crops, network)
    other.draws.states = training(tmp_path / "seed", crops, network, replace(RECIPE, seed=1)).draws.states
    other.run(quiet)
    assert not same(other, whole)  # dropout does draw from that stream


@pytest.mark.parametrize("validated", [True, False])
def test_a_diverged_state_never_takes_the_place_of_a_good_one(tmp_path, crops, network, validated):
    """At lr 1e30 the weights are finite after one step, and nothing else is."""
    good = training(tmp_path / "run", crops, network, replace(RECIPE, steps=2))
    good.run(quiet)
    kept = good.checkpoint.read_bytes()
    recipe = replace(RECIPE, lr=1e30, save_seconds=-1, steps=20)
    bad = Training(copy.deepcopy(network), crops, recipe, tmp_path / "run", good.validation if validated else None)
    with pytest.raises(DivergedError, match=r"step 3; the last good state is in .*checkpoint\.pt"):
        bad.run(quiet)
    assert bad.checkpoint.read_bytes() == kept
