"""A burst: crops that are drawn on the device, levels that are balanced there, states that go on, weights that come out."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_cases import TOY, toy_folder

from invsolve.errors import DivergedError, InputError
from invsolve.training.config import TrainConfig
from invsolve.training.objectives import Balance

PLACE = Path(__file__).parents[2] / "benchmarks" / "training"
pytestmark = pytest.mark.skipif(not PLACE.is_dir(), reason="benchmarks/ is not beside the tests")
CPU = torch.device("cpu")


@pytest.fixture
def burst(monkeypatch):
    monkeypatch.syspath_prepend(str(PLACE))
    import burst

    yield burst
    for name in ("burst", "burst_pool"):
        sys.modules.pop(name, None)


def numbered(height, width):
    """A picture whose pixel (r, c) says so."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0], -1).astype(np.uint8)


def test_crops_are_pieces_mirrored_and_turned_at_uniform_places(burst):
    pool = burst.Pool([([numbered(9, 12)], 1.0)], 4, CPU)
    crops = (255 * pool.sample(4000, torch.Generator().manual_seed(0))).round().long()
    rows, columns = crops[:, 0], crops[:, 1]
    turned = rows[:, 0, 0] == rows[:, 0, 1]  # rows differ along the first axis as they lie, along the second where turned
    rows, columns = (torch.where(turned[:, None, None], part, part.mT) for part in (rows, columns))
    assert bool((rows == rows[:, :, :1]).all())
    assert bool((columns == columns[:, :1]).all())
    assert bool((rows.diff(dim=1).abs() == 1).all())
    assert bool((columns.diff(dim=2).abs() == 1).all())
    first = torch.stack([rows.amin((1, 2)), columns.amin((1, 2))])
    for line, places in zip(first, (6, 9), strict=True):
        counts = torch.bincount(line, minlength=places).double()
        assert len(counts) == places  # up to the last place, and not beyond
        # chi^2 with places - 1 degrees of freedom: mean + 5 standard deviations
        expected = 4000 / places
        assert float(((counts - expected) ** 2 / expected).sum()) < places - 1 + 5 * math.sqrt(2 * (places - 1))
    for flipped in (turned, rows[:, 0, 0] < rows[:, 1, 0], columns[:, 0, 0] < columns[:, 0, 1]):
        assert abs(float(flipped.double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(4000)


def test_a_picture_smaller_than_a_crop_goes_on_as_its_mirror_image(burst):
    pool = burst.Pool([([numbered(3, 1)], 1.0)], 7, CPU)
    crop = (255 * pool.sample(50, torch.Generator().manual_seed(0))).round().long()[:, 0]
    lines = torch.where((crop[:, 0, 0] == crop[:, 0, 1])[:, None], crop[:, :, 0], crop[:, 0])
    wanted = {(0, 1, 2, 1, 0, 1, 2), (2, 1, 0, 1, 2, 1, 0)}
    assert {tuple(line.tolist()) for line in lines} == wanted


def test_sources_are_drawn_by_their_weights_and_pictures_alike(burst):
    flat = [np.full((5, 5, 1), level, np.uint8) for level in (0, 51, 255)]
    pool = burst.Pool([(flat[:2], 3.0), (flat[2:], 1.0)], 4, CPU)
    levels = pool.sample(8000, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    shares = [float((levels == level).double().mean()) for level in (0.0, 0.2, 1.0)]
    assert shares == pytest.approx([3 / 8, 3 / 8, 1 / 4], abs=5 * 0.5 / math.sqrt(8000))


def test_levels_are_balanced_as_by_the_loop(burst):
    rng = np.random.default_rng(0)
    mine, theirs = burst.Levels(0.01, 10.0, CPU), Balance(0.01, 10.0)
    for _ in range(200):
        sigma, loss = torch.tensor([float(np.exp(rng.uniform(-4, 2)))]), torch.tensor([float(rng.random() + 0.1)])
        assert float(mine.factors(sigma, loss)) == pytest.approx(float(theirs.factors(sigma, loss)), rel=1e-5)
    before = mine.means.clone()
    mine.factors(torch.tensor([0.1]), torch.tensor([math.nan]))
    assert torch.equal(mine.means, before)


def test_noise_levels_follow_the_law(burst, tmp_path):
    law = 'sigmas = { kind = "log-normal", mean = -2.0, std = 1.0, low = 0.002, high = 80.0, flat = 0.0 }'
    (tmp_path / "log.toml").write_text(TOY.replace('sigmas = { kind = "uniform", low = 0.05, high = 0.3 }', law))
    drawn = burst.levels_of(TrainConfig.load(tmp_path / "log.toml"), 20_000, torch.Generator().manual_seed(0), CPU).log()
    assert float(drawn.mean()) == pytest.approx(-2.0, abs=5 / math.sqrt(20_000))
    assert float(drawn.std()) == pytest.approx(1.0, abs=5 / math.sqrt(40_000))
    (tmp_path / "even.toml").write_text(TOY)
    drawn = burst.levels_of(TrainConfig.load(tmp_path / "even.toml"), 20_000, torch.Generator().manual_seed(0), CPU)
    assert 0.05 <= float(drawn.min()) < 0.051
    assert 0.299 < float(drawn.max()) <= 0.3


def rehearse(burst, folder, *more):
    burst.main([*("run", str(folder / "toy.toml"), "--pool", str(folder / "pool"), "--out", str(folder / "out")), *more])


@pytest.fixture
def packed(burst, tmp_path):
    folder = toy_folder(tmp_path)
    burst.main(["pack", str(folder / "toy.toml"), "--data", str(folder), "--out", str(folder / "pool")])
    return folder


SHORT = ("--minutes", "0.005", "--batch", "2", "--side", "16", "--device", "cpu")


def test_a_rehearsal_goes_on_and_its_average_becomes_a_prior(burst, packed, monkeypatch):
    monkeypatch.setattr(burst, "PART", 5_000)
    rehearse(burst, packed, *SHORT)
    first = json.loads((packed / "out" / "figures.json").read_text())
    assert first["bursts"] == 1
    assert first["images"] == 2 * first["steps"]
    assert {"psnr15", "psnr25", "psnr50"} <= set(first["rows"][0])
    assert all((packed / "out" / name).stat().st_size < 12_000 for name in first["parts"])  # 5 kB of numbers and their names
    weights = burst.state_of(packed / "out")[1]
    taken = []
    go_on = burst.go_on

    def looked(one, out):
        go_on(one, out)
        taken.append({key: value.clone() for key, value in one.network.state_dict().items()})
        moments = next(iter(one.optimiser.state.values()))
        assert float(moments["step"]) == first["steps"]

    monkeypatch.setattr(burst, "go_on", looked)
    rehearse(burst, packed, *SHORT)
    second = json.loads((packed / "out" / "figures.json").read_text())
    assert second["bursts"] == 2
    assert second["images"] > first["images"]
    assert all(torch.equal(value, weights[f"network.{key}"]) for key, value in taken[0].items())
    assert sorted(file.name for file in (packed / "out").glob("state-*")) == sorted(second["parts"])  # the old ones are gone
    with (packed / "out" / "log.csv").open() as file:
        assert [row["burst"] for row in csv.DictReader(file)] == ["1", "2"]
    burst.main(["finish", str(packed / "toy.toml"), "--from", str(packed / "out"), "--out", str(packed / "run")])
    kept = torch.load(packed / "run" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == round(second["images"] / 2)
    from invsolve_priors.export import export_run
    from invsolve_weights.cards import load_network

    file, _ = export_run(packed / "run", TrainConfig.load(packed / "run" / "config.toml"))
    network, card = load_network(file)
    average = burst.state_of(packed / "out")[1]
    assert all(torch.equal(value, average[f"ema.{key}"]) for key, value in network.state_dict().items())
    assert card.training["images"] == 2 * kept["step"]


def test_a_state_at_every_step_and_none_twice(burst, packed, monkeypatch):
    monkeypatch.setattr(burst, "EVERY", 0.0)
    rehearse(burst, packed, *SHORT)
    table = json.loads((packed / "out" / "figures.json").read_text())
    assert [row["images"] for row in table["rows"]] == list(range(2, table["images"] + 1, 2))


def test_it_learns(burst, packed):
    """Flat pictures, whose noise the mean of 256 pixels takes away: the loss falls far below that of the network it began with."""
    config = TrainConfig.load(packed / "toy.toml")
    flat = [np.full((24, 24, 3), level, np.uint8) for level in (60, 120, 180)]
    torch.manual_seed(0)
    one = burst.made(config, packed / "toy.toml", burst.Pool([(flat, 1.0)], 16, CPU), 8, False, packed / "none", "no")
    losses = [float(one.step(1e-2)) for _ in range(100)]
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    assert all(bool((a != b).any()) for a, b in zip(one.average, one.weights, strict=True))


def test_what_is_no_number_takes_no_good_state_s_place(burst, packed):
    rehearse(burst, packed, *SHORT)
    before = (packed / "out" / "figures.json").read_text()
    config = TrainConfig.load(packed / "toy.toml")
    one = burst.made(config, packed / "toy.toml", burst.pool_of(config, packed / "pool", 16, CPU), 2, False, packed / "out", "no")
    with torch.no_grad():
        one.weights[0].fill_(math.nan)
    with pytest.raises(DivergedError, match="the last good state is in"):
        one.run(0.1, packed / "out", None)
    assert (packed / "out" / "figures.json").read_text() == before
    burst.state_of(packed / "out")


def test_the_wide_network_and_what_does_not_fit(burst, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(burst, "WIDE", {"nc": [4, 8, 8, 8]})
    rehearse(burst, packed, *SHORT, "--wide", "yes")
    assert json.loads((packed / "out" / "figures.json").read_text())["arguments"]["nc"] == [4, 8, 8, 8]
    rehearse(burst, packed, *SHORT)  # goes on with the wide one
    assert json.loads((packed / "out" / "figures.json").read_text())["bursts"] == 2
    with pytest.raises(InputError, match="write these arguments into"):
        burst.main(["finish", str(packed / "toy.toml"), "--from", str(packed / "out"), "--out", str(tmp_path / "run")])
    with pytest.raises(InputError, match="holds no burst"):
        burst.main(["finish", str(packed / "toy.toml"), "--from", str(tmp_path), "--out", str(tmp_path / "other")])
    monkeypatch.setattr(burst, "FAST", 0.0)
    monkeypatch.setattr(burst, "patches", lambda one, seconds: 1.0)
    monkeypatch.setattr("sys.argv", ["burst"])
    burst.main(
        [*("run", str(packed / "toy.toml"), "--pool", str(packed / "pool"), "--out", str(tmp_path / "auto")), *SHORT, "--wide", "auto"]
    )
    assert json.loads((tmp_path / "auto" / "figures.json").read_text())["arguments"]["nc"] == [4, 8, 8, 8]


def test_what_does_not_fit_is_left_out_evenly(burst, tmp_path):
    rng = np.random.default_rng(0)
    for folder, count in (("many", 20), ("few", 2)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / folder / f"{index:02d}.png")
    sources = '[[data.source]]\npath = "many"\n[[data.source]]\npath = "few"'
    (tmp_path / "two.toml").write_text(
        TOY.replace('[[data.source]]\npath = "photographs"', sources).replace('path = "photographs"', 'path = "few"')
    )
    config = TrainConfig.load(tmp_path / "two.toml")
    size = (tmp_path / "many" / "00.png").stat().st_size
    (_, many, _), (_, few, _), (_, validation, _) = burst.pack(config, tmp_path, tmp_path / "pool", 12.5 * size / 1e6)
    assert (many, few, validation) == (10, 2, 2)  # the few take what they need, the others the rest
    (_, many, _), (_, few, _), _ = burst.pack(config, tmp_path, tmp_path / "pool", 100)
    assert (many, few) == (20, 2)
    assert len(burst.pool_of(config, tmp_path / "pool", 16, CPU).starts) == 22


def test_the_shipped_config_is_one(burst):
    config = TrainConfig.load(PLACE / "natural-burst.toml")
    assert config.start == "natural"
    assert config.network == TrainConfig.load(PLACE / "natural.toml").network
