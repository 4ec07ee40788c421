"""Pictures of people's own by one line, in suites, problem files, training and reports: order, crops, refusals, hashes."""

import importlib
import io
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from invsolve import InputError
from invsolve.bench import Suite, run
from invsolve.bench.plan import Workshop
from invsolve.cli import main
from invsolve.cli.setup import set_up
from invsolve.data import Here, Picture, centred, chosen, keys, load_pictures, load_set
from invsolve.errors import UnknownNameError
from invsolve.plugins import Entry, registry
from invsolve.recipe.config import load_config, make_config
from invsolve.recipe.tables import Part
from invsolve.training.config import Source, Validation
from invsolve.training.data import Crops, read_images, validation_images

SIZES = {"b.png": (20, 24), "a.png": (21, 19), "sub/c d.png": (18, 18)}


def pixels(rows, columns, seed):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path):
    """photos/ with three pictures of three sizes, photos.zip of the same, photos.npz of two of one size."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for seed, (name, size) in enumerate(SIZES.items()):
            Image.fromarray(pixels(*size, seed)).save(folder / name)
            archive.write(folder / name, name)
        archive.writestr("__MACOSX/._a.png", b"nothing")
        archive.writestr("notes.txt", b"nothing")
    (folder / "notes.txt").write_text("no picture")
    (folder / "._a.png").write_bytes(b"nothing")
    np.savez(tmp_path / "photos.npz", images=np.stack([pixels(20, 24, 0), pixels(20, 24, 5)]))
    return tmp_path


def taken(photos, **values):
    return load_set(Part.model_validate(values), Here(photos))


def test_pictures_come_in_the_order_of_their_names_with_their_values(photos):
    found = taken(photos, name="folder", path="photos")
    assert [one.id for one in found] == ["a", "b", "sub-c-d"]
    assert [one.title for one in found] == ["a.png", "b.png", "sub/c d.png"]
    for one, (size, seed) in zip(found, [((21, 19), 1), ((20, 24), 0), ((18, 18), 2)], strict=True):
        expected = torch.from_numpy(pixels(*size, seed)).permute(2, 0, 1).to(torch.float32) / 255
        assert torch.equal(one.image, expected)
    zipped = taken(photos, name="zip", path="photos.zip")
    assert [(one.id, one.sha256) for one in zipped] == [(one.id, one.sha256) for one in found]
    arrays = taken(photos, name="npz", path="photos.npz")
    assert [one.id for one in arrays] == ["image-0000", "image-0001"]
    assert arrays[0].sha256 == found[1].sha256


@pytest.mark.parametrize(("rows", "columns", "height", "width"), [(21, 19, 16, 16), (20, 24, 15, 9), (18, 18, 18, 18), (21, 19, 1, 2)])
def test_crops_are_from_the_middle_and_odd_pixels_stay_below_and_right(rows, columns, height, width):
    """What is cut off above and below differs by at most one, the larger part below; counted here by a ramp."""
    x = torch.arange(rows, dtype=torch.float64)[:, None] / 100 + torch.arange(columns) / 10_000
    image = Picture("ramp", x[None].float())
    found = centred(image.image, [height, width], "it")
    above = int(float(found[0, 0, 0]) * 100 + 1e-4)  # whole rows count in hundredths, columns in ten-thousandths
    below = rows - height - above
    assert found.shape == (1, height, width)
    assert below - above in (0, 1)
    left = round((float(found[0, 0, 0]) * 100 - above) * 100)
    assert columns - width - 2 * left in (0, 1)


def test_common_keys_go_with_every_set(photos):
    found = taken(photos, name="folder", path="photos", crop=16, first=2, channels=1)
    assert [one.id for one in found] == ["a", "b"]
    assert {tuple(one.image.shape) for one in found} == {(1, 16, 16)}
    whole = taken(photos, name="folder", path="photos", crop=16)
    grey = (whole[0].image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    assert torch.allclose(found[0].image, grey, atol=1e-6)  # three roundings of numbers below 1 in float32
    photo = load_pictures("quick-photos", {"crop": [32, 48], "first": 1})
    assert [(one.id, tuple(one.image.shape)) for one in photo] == [("astronaut", (3, 32, 48))]


REFUSED = {
    "too small": (
        {"name": "folder", "path": "photos", "crop": 20},
        r"'a' of 'folder' has 21 x 19 pixels .*fewer than crop = 20 x 20",
    ),
    "no folder": ({"name": "folder", "path": "gone"}, "gone: there is no such path; give a folder"),
    "a zip as folder": ({"name": "folder", "path": "photos.zip"}, r"not a folder: .*\{ zip = "),
    "a folder as zip": ({"name": "zip", "path": "photos"}, r"not a zip file: .*\{ folder = "),
    "no npz": ({"name": "npz", "path": "photos/a.png"}, "not a readable npz file"),
    "no picture": ({"name": "folder", "path": "empty"}, "empty: no image found; give one of .*png"),
    "crop of three": ({"name": "folder", "path": "photos", "crop": [1, 2, 3]}, "crop is a side or"),
    "negative crop": ({"name": "folder", "path": "photos", "crop": -3}, "crop is a side or"),
    "text": ({"name": "folder", "path": 3}, "path must be a path; given 3"),
    "unknown": ({"name": "folder", "path": "photos", "size": 3}, "unexpected keyword argument 'size'"),
    "damaged": ({"name": "folder", "path": "damaged"}, r"1\.png: .*remove it or put a good copy"),
    "damaged zip": ({"name": "zip", "path": "damaged.zip"}, r"damaged\.zip: not a readable zip file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named(name, photos):
    (photos / "empty").mkdir()
    (photos / "damaged").mkdir()
    (photos / "damaged" / "1.png").write_bytes((photos / "photos" / "a.png").read_bytes()[:100])
    (photos / "damaged.zip").write_bytes((photos / "photos.zip").read_bytes()[:300])
    values, message = REFUSED[name]
    with pytest.raises((InputError, TypeError), match=message):
        taken(photos, **values)


def test_a_zip_that_claims_more_than_is_read_is_refused_before_memory_is_taken(photos):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 1000)
    data = bytearray(buffer.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**31).to_bytes(4, "little")  # the directory's uncompressed size
    (photos / "bomb.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png claims 2147483648 bytes"):
        taken(photos, name="zip", path="bomb.zip")


def test_a_set_beyond_memory_names_the_ways_out(photos, monkeypatch):
    """Three pictures of 1197, 1440 and 972 numbers: the limit is on their sum, and a crop or a count gets below it."""
    monkeypatch.setattr(importlib.import_module(load_set.__module__), "MAX_NUMBERS", 3000)
    with pytest.raises(InputError, match="more than 3000 numbers: give crop = 256, or first = 10"):
        taken(photos, name="folder", path="photos")
    assert len(taken(photos, name="folder", path="photos", first=2)) == 2
    assert len(taken(photos, name="folder", path="photos", crop=16)) == 3


def test_ids_do_not_depend_on_the_other_files(tmp_path):
    names = ["a b.png", "a-b.png", "x" * 80 + ".png", ".png", "u.png"]
    found = keys(names, tmp_path)
    assert len(set(found)) == 5
    assert found[4] == "u"
    assert keys(names[:2], tmp_path) == found[:2]
    assert all(len(one) <= 64 for one in found)


def test_a_set_of_a_stranger_has_the_common_keys_and_keeps_its_own(monkeypatch):
    def own(first=1):
        return [(f"p{index}", torch.full((1, 8, 8), 0.5)) for index in range(3)][first:]

    def broken():
        yield "p", torch.zeros(1, 4, 4)
        raise KeyError("gone")

    monkeypatch.setitem(globals(), "own_pictures", own)
    monkeypatch.setitem(globals(), "broken_pictures", broken)
    for name in ("own", "broken"):
        monkeypatch.setitem(registry().entries, ("dataset", name), Entry("dataset", name, f"{__name__}:{name}_pictures", "stranger 1.0"))
    assert [one.id for one in load_pictures("own", {"first": 2})] == ["p2"]  # its own `first`
    assert load_pictures("own", {"crop": 4})[0].image.shape == (1, 4, 4)
    with pytest.raises(InputError, match="data set 'broken' failed: KeyError: 'gone'"):
        load_pictures("broken", {})
    assert len(load_pictures("broken", {"first": 1})) == 1


# --- where they serve --------------------------------------------------------------------------------------------------------


def test_a_suite_names_a_folder_in_one_line(photos):
    text = """
data = { folder = "photos", crop = 16, first = 2 }
noise = { sigma = 0.05 }
operator = { name = "mask", keep = 0.5 }
solver = { name = "hqs", steps = 2, prior = "tv" }
metrics = ["psnr"]
"""
    (photos / "own.toml").write_text(text)
    rows = run(photos / "own.toml", out=photos / "out", progress=False)
    assert [(row["image"], row["status"]) for row in rows] == [("a", "finished"), ("b", "finished")]
    before = {row["image"]: row["key"] for row in rows}
    Image.fromarray(pixels(21, 19, 9)).save(photos / "photos" / "a.png")  # other pixels, another cell; the other one stays
    after = {row["image"]: row["key"] for row in run(photos / "own.toml", out=photos / "out", progress=False)}
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]
    named = Suite.make({**Suite.load(photos / "own.toml").plain(), "data": {"name": "folder", "path": "photos", "crop": 16, "first": 2}})
    named._folder = photos
    assert [one.id for one in Workshop(named, torch.device("cpu")).pictures()] == ["a", "b"]


def test_a_suite_refuses_what_is_no_set():
    from invsolve.bench.plan import check

    values = {"operator": {"name": "mask"}, "noise": {"sigma": 0.1}, "solver": {"name": "hqs", "prior": "tv"}}
    with pytest.raises(InputError, match="did you mean folder"):
        check(Suite.make({**values, "data": "foldr"}))
    with pytest.raises(InputError, match=r"data\.crop"):
        Suite.make({**values, "data": {"folder": "a", "crop": "large"}})
    with pytest.raises(InputError, match="did you mean path"):
        check(Suite.make({**values, "data": {"name": "folder", "pth": "a"}}))


def test_a_problem_file_takes_a_picture_of_a_set(photos):
    tables = {"operator": {"name": "mask"}, "noise": {"sigma": 0.1}, "prior": {"name": "tv"}, "solver": {"name": "hqs", "steps": 2}}
    data = {"set": {"folder": "photos"}, "picture": "b", "simulate": True, "crop": [8, 8]}
    truth = set_up(make_config({"data": data, **tables}, folder=photos)).truth
    whole = taken(photos, name="folder", path="photos")[1].image
    assert torch.equal(truth[0], whole[:, 6:14, 8:16])
    with pytest.raises(InputError, match=r"no picture 'd' in 'folder'; there are: a, b, sub-c-d"):
        set_up(make_config({"data": {**data, "picture": "d"}, **tables}, folder=photos))


SETS = [
    {"folder": "photos", "crop": 12, "first": 2},
    {"folder": "photos", "crop": [10, 12], "channels": 1},
    {"zip": "photos.zip", "channels": 1},
    {"npz": "photos.npz", "first": 1},
    {"name": "quick-photos", "first": 1, "crop": 16},
    {"shape": [3, 16, 16], "images": 2, "crop": 8},
]


@pytest.mark.parametrize("table", SETS, ids=lambda table: " ".join(map(str, table)))
def test_crop_first_and_channels_go_with_every_set_in_suites_problem_files_and_training(photos, table):
    parts = {"operator": {"name": "mask"}, "noise": {"sigma": 0.1}}
    suite = Suite.make({"data": table, **parts, "solver": {"name": "hqs", "prior": "tv"}})
    suite._folder = photos
    pictures = Workshop(suite, torch.device("cpu")).pictures()
    assert all(table.get("channels", 3) == len(one.image) for one in pictures)
    assert len(pictures) <= table.get("first", 3)
    crop = table.get("crop")
    assert all(one.image.shape[1] == (crop[0] if isinstance(crop, list) else crop) for one in pictures if crop)
    tables = {**parts, "prior": {"name": "tv"}, "solver": {"name": "hqs", "steps": 2}}
    for one in pictures:
        config = make_config({"data": {"set": table, "picture": one.id, "simulate": True}, **tables}, folder=photos)
        assert torch.equal(set_up(config).truth[0], one.image)
    (photos / "elsewhere").mkdir()
    (photos / "elsewhere" / "saved.toml").write_text(config.toml())
    assert torch.equal(set_up(load_config(photos / "elsewhere" / "saved.toml")).truth[0], one.image)
    assert all(torch.equal(a.image, b.image) for a, b in zip(Source(set=table).of(photos), pictures, strict=True))


def test_a_wrong_crop_of_a_set_is_named_in_a_problem_file_too(photos):
    tables = {"operator": {"name": "mask"}, "noise": {"sigma": 0.1}, "prior": {"name": "tv"}, "solver": {"name": "hqs", "steps": 2}}
    for key, wrong in (("crop", "large"), ("crop", 0), ("first", 0), ("channels", 2)):
        with pytest.raises(InputError, match=rf"data\.set\.{key}"):
            make_config({"data": {"set": {"folder": "photos", key: wrong}}, **tables}, folder=photos)
    with pytest.raises(InputError, match=r"'a' of 'folder'.*fewer than crop = 40 x 40"):
        set_up(make_config({"data": {"set": {"folder": "photos", "crop": 40}}, **tables}, folder=photos))


def test_training_takes_the_same_sets(photos):
    source = Source(folder="photos")
    assert source.of(photos) == Source(path="photos").of(photos) == photos / "photos"
    crops = Crops([(Source(zip="photos.zip").of(photos), 1.0, (1.0,))], 16)
    assert crops.sample(2, np.random.default_rng(0)).shape == (2, 3, 16, 16)
    quick = Source(set="quick-photos").of(photos)
    original = load_pictures("quick-photos", {})
    read = [np.asarray(image) for image in read_images(quick)]
    assert all(np.array_equal(a, (255 * b.image).round().permute(1, 2, 0).numpy()) for a, b in zip(read, original, strict=True))
    small = Validation(set={"name": "synthetic", "shape": [3, 16, 16], "images": 2})
    assert validation_images(small.of(photos), 8, 16).shape == (2, 3, 16, 16)
    assert Crops([(small.of(photos), 1.0, (1.0,))], 8, channels=1).sample(1, np.random.default_rng(0)).shape == (1, 1, 8, 8)
    with pytest.raises(InputError, match="a set of 2 pictures: no image of at least 32 x 32"):
        Crops([(small.of(photos), 1.0, (1.0,))], 32)
    with pytest.raises(ValueError, match="give one of path, folder, zip, npz, set; given path, set"):
        Source(path="photos", set="quick-photos")


def test_reports_take_the_same_sets(photos):
    for text, name in ((str(photos / "photos"), "folder"), (str(photos / "photos.zip"), "zip"), ("quick-photos", "quick-photos")):
        part = chosen(text)
        assert part.name == name
        assert load_set(part, Here())
    with pytest.raises(InputError, match=r"'quick-photo' is neither a folder.*did you mean quick-photos"):
        chosen("quick-photo")
    done = CliRunner().invoke(main, ["prior-report", "tv", "--images", str(photos / "gone")])
    assert done.exit_code == 2
    assert "is neither a folder, a zip or npz file, nor a data set" in done.output


def test_unknown_sets_are_named():
    with pytest.raises(UnknownNameError, match="did you mean quick-photos"):
        load_pictures("quick-photo", {})
