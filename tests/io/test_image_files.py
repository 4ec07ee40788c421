"""What was done to a file is said; TIFF of every depth and order; axes and scales of arrays; what is written is what is read."""

import itertools
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from invsolve import InputError
from invsolve.errors import Note
from invsolve.io.images import load_image, read_image, read_measurement, read_tensor, write_image
from invsolve.io.png import write_deep
from invsolve.io.tags import Tags, tags_of
from invsolve.io.writing import check_place, check_target

DEEP = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)


def notes(call, *arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call(*arguments)
    assert all(one.category is Note for one in caught), [str(one.message) for one in caught]
    return value, " | ".join(str(one.message) for one in caught)


TIFFS = {
    "chunky": (DEEP, {}),
    "deflated": (DEEP, {"compression": "zlib", "predictor": True}),
    "tiled": (np.tile(DEEP, (9, 9, 1)), {"tile": (16, 16), "compression": "zlib"}),
    "big-endian": (DEEP, {"byteorder": ">"}),
    "bigtiff": (DEEP, {"bigtiff": True}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_sixteen_bit_colour_tiff_keeps_every_bit(name, tmp_path):
    pixels, options = TIFFS[name]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    x, info = read_image(tmp_path / "a.tif")
    # v / 65535 in float32 (24 bits) rounds back to v exactly.
    assert np.array_equal((x.double() * 65535).round().numpy().astype(np.uint16), pixels.transpose(2, 0, 1))
    assert (info.bits, info.notes) == (16, ())


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
def test_planes_one_after_the_other_are_the_same_picture(dtype, tmp_path):
    pixels = (DEEP >> 8).astype(dtype) if dtype == "u1" else DEEP.astype(dtype) if dtype == "u2" else (DEEP / 65535).astype(dtype)
    tifffile.imwrite(tmp_path / "planar.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "chunky.tif", pixels, photometric="rgb")
    planar, chunky = (read_image(tmp_path / f"{name}.tif")[0] for name in ("planar", "chunky"))
    assert torch.equal(planar, chunky)
    assert planar.shape == (3, 5, 7)


def test_float_colour_is_taken_as_it_is(tmp_path):
    values = np.random.default_rng(1).normal(size=(5, 7, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "f.tif", values, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "f.tif")[0].numpy(), values.transpose(2, 0, 1))


def test_alpha_of_sixteen_bits_is_laid_on_white_and_white_may_be_zero(tmp_path):
    black = np.zeros((1, 2, 4), np.uint16)
    black[0, 1, 3] = 65535
    tifffile.imwrite(tmp_path / "a.tif", black, photometric="rgb", extrasamples=["unassalpha"])
    x, told = notes(load_image, tmp_path / "a.tif")
    assert x[:, 0, 0].tolist() == [1.0] * 3
    assert x[:, 0, 1].tolist() == [0.0] * 3
    assert "alpha composited on white" in told
    tifffile.imwrite(tmp_path / "w.tif", np.array([[0, 65535]], np.uint16), photometric="miniswhite")
    assert read_image(tmp_path / "w.tif")[0].tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiffs_is_pillows(orientation, tmp_path):
    """Pillow's exif_transpose of the 8-bit picture is the reference."""
    tag = [(274, "H", 1, orientation, True)]
    for name, pixels in (("deep", DEEP), ("flat", (DEEP >> 8).astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", extratags=tag)
    (deep, info), (flat, other) = (read_image(tmp_path / f"{name}.tif") for name in ("deep", "flat"))
    assert deep.shape == flat.shape
    assert (deep - flat).abs().max() < 1 / 255  # the low byte dropped
    assert info.rotated == other.rotated == (orientation != 1)
    assert any("upright" in note for note in info.notes) == (orientation != 1)


@pytest.mark.parametrize(
    ("dtype", "words"), [("i2", "16-bit signed integers"), ("i4", "32-bit signed"), ("u4", "32-bit integers"), ("c8", "complex")]
)
def test_numbers_without_a_white_level_are_named_truly(dtype, words, tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.ones((4, 5), dtype))
    with pytest.raises(InputError, match=f"{words}.*no defined white level"):
        read_image(tmp_path / "i.tif")


def test_odd_tiffs_are_refused_in_their_own_words(tmp_path):
    tifffile.imwrite(tmp_path / "five.tif", np.ones((4, 6, 5), np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InputError, match="5 channels"):
        read_image(tmp_path / "five.tif")
    tifffile.imwrite(tmp_path / "large.tif", np.ones((4, 6, 3), np.uint16), photometric="rgb")
    with pytest.raises(InputError, match="6 x 4 pixels, more than max_pixels = 5"):
        read_image(tmp_path / "large.tif", max_pixels=5)
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((64, 4000, 3), np.uint16), photometric="rgb", compression="zlib", rowsperstrip=64)
    data = bytearray((tmp_path / "bomb.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "bomb.tif") as stack:  # the header now says 64 x 4, the strip still unpacks to 64 x 4000
        offset = stack.pages.first.tags["ImageWidth"].valueoffset
    data[offset : offset + 2] = (4).to_bytes(2, "little")
    (tmp_path / "bomb.tif").write_bytes(data)
    with pytest.raises(InputError, match="unpacks to more"):
        read_image(tmp_path / "bomb.tif")


def test_what_was_done_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    flat = Image.fromarray((DEEP >> 8).astype(np.uint8))
    flat.save(tmp_path / "turned.png", exif=exif)
    flat.save(tmp_path / "pages.tif", save_all=True, append_images=[flat, flat])
    flat.convert("P").save(tmp_path / "palette.png")
    np.save(tmp_path / "bytes.npy", (DEEP >> 8).astype(np.uint8))
    flat.save(tmp_path / "plain.png")
    expected = {
        "turned.png": "turned upright",
        "pages.tif": "first of 3 frames or pages",
        "palette.png": "palette",
        "bytes.npy": "divided by 255",
    }
    for name, words in expected.items():
        _, told = notes(load_image, tmp_path / name)
        assert words in told
        assert name in told
    assert notes(load_image, tmp_path / "plain.png")[1] == ""


def test_axes_of_arrays(tmp_path):
    picture = np.random.default_rng(2).random((37, 53, 3)).astype(np.float32)
    np.save(tmp_path / "hwc.npy", picture)
    np.save(tmp_path / "chw.npy", picture.transpose(2, 0, 1))
    for read in (load_image, read_measurement):
        x, told = notes(read, tmp_path / "hwc.npy")
        assert torch.equal(x, read_tensor(tmp_path / "chw.npy"))
        assert "(H, W, C) = (37, 53, 3)" in told
        assert notes(read, tmp_path / "chw.npy")[1] == ""
        np.save(tmp_path / "rgba.npy", np.ones((37, 53, 4), np.float32))
        with pytest.raises(InputError, match=r"\(H, W, C\); expected \(C, H, W\)"):
            read(tmp_path / "rgba.npy")
    np.save(tmp_path / "grey.npy", picture[..., :1])
    assert notes(load_image, tmp_path / "grey.npy")[0].shape == (1, 37, 53)
    assert notes(lambda file: read_measurement(file, image_axes=False), tmp_path / "hwc.npy")[0].shape == (37, 53, 3)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_measurement_and_a_truth_of_one_file_are_the_same_numbers(dtype, white, tmp_path):
    values = (np.arange(24).reshape(1, 4, 6) * (white // 24)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    truth, said = notes(load_image, tmp_path / "a.npy")
    y, told = notes(read_measurement, tmp_path / "a.npy")
    assert torch.equal(truth, y)
    assert f"divided by {white}" in said
    assert said == told
    for bad in (np.int64, bool):
        np.save(tmp_path / "b.npy", values.astype(bad))
        for read in (load_image, read_measurement):
            with pytest.raises(InputError, match=r"astype\('float32'\)"):
                read(tmp_path / "b.npy")


def test_measurements_keep_their_rank_and_their_phase(tmp_path):
    for shape, dtype in itertools.product([(5,), (5, 6), (2, 3, 4, 5), (8, 6, 3)], ["f8", "c8"]):
        if dtype == "f8" and shape == (8, 6, 3):
            continue  # real (H, W, 3) is a picture
        value = np.random.default_rng(3).random(shape).astype(dtype)
        np.save(tmp_path / "y.npy", value)
        y, told = notes(read_measurement, tmp_path / "y.npy")
        assert np.array_equal(y.numpy(), value)
        assert told == ""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("suffix", "bits"), [(".tif", None), (".tif", 8), (".tif", 16), (".tiff", 16), (".png", 16)])
def test_written_pictures_are_read_again(suffix, bits, channels, tmp_path):
    x = torch.rand(channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    file = tmp_path / f"a{suffix}"
    write_image(file, x, bits=bits)
    again, info = read_image(file)
    assert info.bits == (bits or 32)
    if bits is None:
        assert torch.equal(again, x)
    else:
        white = 2**bits - 1
        assert torch.equal(again, ((x.double().clamp(0, 1) * white + 0.5).floor() / white).float())


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".jpg", 8), (".tif", 8), (".tif", 16), (".tif", 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_photograph_says_of_itself_is_kept(suffix, bits, channels, tmp_path):
    """Read by Pillow from each format: maker, date of exposure, time; the place and the orientation are not there."""
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0110: "Model", 0x0112: 6, 0x8825: {1: "N"}})
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x9003: "2001:02:03 04:05:06", 0x8827: 200})
    Image.new("RGB", (3, 2)).save(tmp_path / "in.jpg", exif=exif, icc_profile=b"a profile")
    write_image(tmp_path / f"out{suffix}", torch.rand(channels, 5, 7), bits=bits, tags=tags_of(tmp_path / "in.jpg"))
    if bits == 32 and channels == 3:  # Pillow opens no colour of floats
        with tifffile.TiffFile(tmp_path / "out.tif") as stack:
            tags = stack.pages.first.tags
            assert (tags[0x010F].value, tags[0x8769].value["ExposureTime"], tags[0x8773].value) == ("Maker", 0.5, b"a profile")
        return
    write_image(tmp_path / "again.png", torch.rand(channels, 5, 7), tags=tags_of(tmp_path / f"out{suffix}"))  # and from there on
    for name in (f"out{suffix}", "again.png"):
        with Image.open(tmp_path / name) as made:
            said = made.getexif()
            assert (said[0x010F], said[0x0110]) == ("Maker", "Model")
            assert {0x0112, 0x8825}.isdisjoint(said)
            inner = said.get_ifd(0x8769)
            assert (inner[0x829A], inner[0x9003], inner[0x8827]) == (0.5, "2001:02:03 04:05:06", 200)
            assert made.info["icc_profile"] == b"a profile"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_png_is_turned_as_pillow_turns(orientation, tmp_path):
    shallow, exif = (DEEP >> 8).astype(np.uint8), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(shallow).save(tmp_path / "shallow.png", exif=exif)
    write_deep(tmp_path / "deep.png", DEEP, Tags(exif=exif.tobytes()))
    deep, info = read_image(tmp_path / "deep.png")
    assert info.rotated == (orientation > 1)
    assert torch.equal((deep.double() * 65535).round().int() >> 8, (read_image(tmp_path / "shallow.png")[0] * 255).round().int())


def test_a_jpeg_is_within_its_quality(tmp_path):
    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).repeat_interleave(16, 1).repeat_interleave(16, 2)  # flat blocks
    write_image(tmp_path / "a.jpg", x)
    # a flat block has one coefficient, rounded to 2 of 255 at quality 95 in a transform of 8 x 8 whose mean is an eighth of it: an eighth
    # of a level; rounding of Y, Cb, Cr and of R, G, B, half a level each, weigh at most 1 + 1.772 + 1
    assert float((read_image(tmp_path / "a.jpg")[0] - x).abs().max()) <= (0.5 + 0.625 * (1 + 1.772) + 0.5) / 255


def test_targets_are_checked_before_anything_is_written(tmp_path):
    for name, shape, bits in (
        ("a.gif", (3, 2, 2), None),
        ("a.jpg", (3, 2, 2), 16),
        ("a.png", (2, 2, 2), None),
        ("a.tif", (3, 2, 2), 12),
        ("a.npy", (3, 2, 2), 8),
    ):
        with pytest.raises(InputError):
            check_target(name, shape, bits)
        with pytest.raises(InputError):
            write_image(tmp_path / name, torch.zeros(shape), bits=bits)
    (tmp_path / "file").write_text("x")
    for place, size, words in (("file/a.png", 1, "cannot make"), ("a.png", 10**18, "bytes left")):
        with pytest.raises(InputError, match=words):
            check_place(tmp_path / place, size)
    check_place(tmp_path / "new" / "a.png", 1000)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new"]
