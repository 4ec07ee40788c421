"""Training: crops, noise levels, the loop; resuming, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from invsolve.errors import DivergedError, InputError
from invsolve.training.data import Crops, read_images
from invsolve.training.loop import Recipe, Training, psnr_at
from invsolve.training.objectives import Balance, LogSigma, UniformSigma, damping, denoising_losses

RECIPE = Recipe(UniformSigma(0.05, 0.2), s0=0.25, hours=0, batch=2, lr=1e-2, warmup=2, bf16=False, steps=8)


class Shrink(nn.Module):
    """D(x, sigma) = x + w * convolution(x): a toy denoiser."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x, sigma):
        return x + self.convolution(x)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        # smooth pictures: a plane of random slope, so that averaging neighbours removes noise and nothing else
        ramp = np.linspace(0, 1, 24)
        plane = 0.5 + 0.4 * (rng.uniform(-1, 1) * ramp[:, None] + rng.uniform(-1, 1) * ramp[None, :])
        Image.fromarray((255 * np.repeat(plane[..., None], 3, 2)).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def crops(photographs):
    return Crops([(photographs, 1.0, (1.0, 0.5))], 12)


def training(folder, crops, recipe=RECIPE, network=None):
    validation = crops.sample(2, np.random.default_rng(9))
    return Training(network or Shrink(), crops, recipe, folder, validation)


def quiet(line):
    pass


def weights(run):
    return [value.clone() for network in (run.network, run.ema) for value in network.state_dict().values()]


def test_loss_falls_and_the_log_says_so(tmp_path, crops):
    recipe = replace(RECIPE, steps=300)
    run = training(tmp_path / "run", crops, recipe)
    before = psnr_at(run.ema, run.validation, 25 / 255, bf16=False)
    average = run.run(quiet)
    after = psnr_at(average, run.validation, 25 / 255, bf16=False)
    # A 3x3 mean of a plane keeps it and divides the noise variance by 9 (9.5 dB); half of that in dB is asked for.
    assert after > before + 4.7
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert lines[0] == "step,images,minutes,loss,psnr15,psnr25,psnr50"
    assert lines[1].startswith("300,600,")


def test_an_interrupted_run_ends_at_the_same_bits(tmp_path, crops):
    whole = training(tmp_path / "whole", crops)
    whole.run(quiet)
    part = training(tmp_path / "part", crops)
    for _ in range(3):
        part._train_step()
    part.save(quiet)
    resumed = training(tmp_path / "part", crops)
    assert resumed.step == 3
    resumed.run(quiet)
    assert resumed.step == whole.step == 8
    for one, other in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(one, other)
    assert resumed.loss == whole.loss


def test_a_finished_run_does_nothing_more(tmp_path, crops):
    first = training(tmp_path / "run", crops)
    first.run(quiet)
    second = training(tmp_path / "run", crops)
    second.run(quiet)
    assert second.step == 8
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_two_runs_with_one_seed_agree_and_other_seeds_differ(tmp_path, crops):
    runs = [training(tmp_path / str(index), crops, replace(RECIPE, seed=seed)) for index, seed in enumerate((0, 0, 1))]
    results = [weights(run) for run in runs if run.run(quiet)]
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(results[0], results[2], strict=True))


def test_training_leaves_the_global_generator_alone(tmp_path, crops):
    run = training(tmp_path / "run", crops)
    before = torch.random.get_rng_state()
    run.run(quiet)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_checkpoint_is_never_half_written(tmp_path, crops, monkeypatch):
    run = training(tmp_path / "run", crops)
    run.run(quiet)
    kept = run.checkpoint.read_bytes()

    def dies(state, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(InputError, match=r"cannot be written at step 8 \(disk full\); the checkpoint of step 8 is kept"):
        run.save(quiet)
    assert run.checkpoint.read_bytes() == kept


@pytest.mark.parametrize("damage", ["garbage", "other network"])
def test_an_unusable_checkpoint_is_named(tmp_path, crops, damage):
    run = training(tmp_path / "run", crops)
    run.run(quiet)
    if damage == "garbage":
        run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:100])
    network = nn.Sequential(Shrink()) if damage == "other network" else None
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot go on from it"):
        training(tmp_path / "run", crops, network=network)


def test_divergence_is_reported_with_the_step(tmp_path, crops):
    run = training(tmp_path / "run", crops)
    with torch.no_grad():
        run.network.convolution.bias.fill_(math.nan)
    with pytest.raises(DivergedError, match="loss is nan at step 0"):
        run.run(quiet)


def test_empty_missing_and_corrupt_sources(tmp_path, photographs):
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (empty, tmp_path / "missing"):
        with pytest.raises(InputError, match="no image found"):
            list(read_images(source))
    (photographs / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"1\.png: not a readable image"):
        list(read_images(photographs))
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"bad\.zip: not a readable zip file"):
        list(read_images(tmp_path / "bad.zip"))
    (photographs / "1.png").unlink()
    truncated = (photographs / "0.png").read_bytes()
    (photographs / "0.png").write_bytes(truncated[: len(truncated) // 2])
    with pytest.raises(InputError, match=r"0\.png: not a readable image"):
        list(read_images(photographs))


def test_images_that_are_too_small_are_refused_when_none_is_left(photographs):
    with pytest.raises(InputError, match="no image of at least 40 x 40 pixels"):
        Crops([(photographs, 1.0, (1.0,))], 40)


def test_crops_are_parts_of_the_images(photographs):
    crops = Crops([(photographs, 1.0, (1.0,))], 24)
    pictures = {np.asarray(image).tobytes() for image in read_images(photographs)}
    turned = {
        np.ascontiguousarray(np.rot90(side, turn)).tobytes()
        for raw in pictures
        for picture in [np.frombuffer(raw, np.uint8).reshape(24, 24, 3)]
        for side in (picture, picture[:, ::-1])
        for turn in range(4)
    }
    batch = crops.sample(8, np.random.default_rng(0))
    assert batch.shape == (8, 3, 24, 24)
    for crop in batch:
        pixels = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        assert pixels.tobytes() in turned


def test_noise_levels_follow_their_law():
    rng, count = np.random.default_rng(0), 20_000
    logs = LogSigma(mean=-2.0, std=1.0, low=1e-6, high=1e6, flat=0.0).sample(count, rng).double().log()
    # standard errors: 1 / sqrt(n) of the mean, 1 / sqrt(2 n) of the standard deviation; four of them
    assert abs(float(logs.mean()) + 2) < 4 / math.sqrt(count)
    assert abs(float(logs.std()) - 1) < 4 / math.sqrt(2 * count)
    flat = LogSigma(mean=-2.0, std=1.0, low=0.01, high=10.0, flat=1.0).sample(count, rng)
    assert float(flat.min()) >= 0.01 * (1 - 1e-6)
    assert float(flat.max()) <= 10.0 * (1 + 1e-6)
    # log-uniform on three decades: each holds a third, standard error sqrt(2 / 9 / n)
    share = float(((flat >= 0.1) & (flat < 1)).double().mean())
    assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / count)
    even = UniformSigma(0.1, 0.3).sample(count, rng).double()
    assert abs(float(even.mean()) - 0.2) < 4 * 0.2 / math.sqrt(12 * count)


def test_the_loss_is_one_for_the_best_constant_and_weighted_per_item():
    # With D = x0 + sigma s0 / sqrt(sigma^2 + s0^2), the squared error times the weight is 1 exactly.
    x0 = torch.rand(3, 3, 4, 4, dtype=torch.float64)
    sigma = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    column = sigma.reshape(-1, 1, 1, 1)
    error = column * 0.25 / (column**2 + 0.25**2).sqrt()
    losses = denoising_losses(lambda x, s: x0 + error, x0, sigma, torch.randn(3, 3, 4, 4, dtype=torch.float64), 0.25)
    # ten roundings of float64, amplified by x0 / error <= 1 / 0.01
    assert losses.tolist() == pytest.approx([1.0] * 3, abs=1e-12)


def test_balance_makes_every_level_count_the_same():
    """Losses that depend on sigma alone become 1 once every bin has seen them; a level's weight follows a change within 33 items."""
    balance = Balance(0.01, 10.0)
    sigma = torch.logspace(-2, 1, 400)
    losses = sigma.sqrt()
    balance.factors(sigma, losses)
    # within a bin the loss varies by half its width in log sigma: ln(1000) / 40 / 2 = 0.086
    assert (losses * balance.factors(sigma, losses) - 1).abs().max() < 0.09
    one = torch.tensor([0.5])
    for _ in range(33):
        factor = balance.factors(one, torch.tensor([7.0]))
    # what is left of the old mean after 33 items is (32 / 33)^33 = 0.36 of it
    assert 1 / 7 < float(factor) < 1 / (7 * (1 - 0.37))
    outside = balance.factors(torch.tensor([1e-6, 1e6]), torch.tensor([1.0, 1.0]))
    assert torch.isfinite(outside).all()
    assert math.isfinite(float(balance.factors(one, torch.tensor([math.nan]))))


def test_a_balanced_run_resumes_to_the_bit_and_is_another_run(tmp_path, crops):
    recipe = replace(RECIPE, balance=True)
    whole = training(tmp_path / "whole", crops, recipe)
    whole.run(quiet)
    part = training(tmp_path / "part", crops, recipe)
    for _ in range(3):
        part._train_step()
    part.save(quiet)
    resumed = training(tmp_path / "part", crops, recipe)
    assert resumed.balance.means == part.balance.means != [0.0] * Balance.BINS
    resumed.run(quiet)
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))
    plain = training(tmp_path / "plain", crops)
    plain.run(quiet)
    assert not all(torch.equal(a, b) for a, b in zip(weights(plain), weights(whole), strict=True))


def test_damped_levels_count_by_their_weight(tmp_path, crops):
    """The gradient of a damped run is that of the same losses with the weights written out: with weight 0 nothing above is learnt."""
    sigma = torch.tensor([0.1, 0.4, 0.41, 5.0])
    assert damping(sigma, 0.4, 0.2).tolist() == pytest.approx([1.0, 1.0, 0.2, 0.2])
    still = training(tmp_path / "still", crops, replace(RECIPE, damp=(1e-9, 0.0)))
    before = [value.detach().clone() for value in still.network.parameters()]
    still.run(quiet)
    assert all(torch.equal(old, new) for old, new in zip(before, still.network.parameters(), strict=True))
    moved = training(tmp_path / "moved", crops, replace(RECIPE, damp=(1.0, 0.0)))  # no level of this recipe lies above 1
    moved.run(quiet)
    plain = training(tmp_path / "plain", crops)
    plain.run(quiet)
    assert all(torch.equal(one, other) for one, other in zip(weights(moved), weights(plain), strict=True))
