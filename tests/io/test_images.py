"""Reading and writing pictures and tensors: every mode has a defined answer, every damaged file is an InputError."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from invsolve import InputError
from invsolve.io.images import read_image, read_tensor, write_image


def ramp(height=4, width=6, channels=3):
    count = height * width * channels
    return (np.arange(count) * 251 % 256).astype(np.uint8).reshape(height, width, channels)


def save(picture, path, **options):
    picture.save(path, **options)
    return path


def test_rgb_png_exactly(tmp_path):
    pixels = ramp()
    x, info = read_image(save(Image.fromarray(pixels), tmp_path / "a.png"))
    assert x.shape == (3, 4, 6)
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert (info.format, info.mode, info.bits, info.rotated, info.notes) == ("PNG", "RGB", 8, False, ())


def test_grey_and_sixteen_bits_keep_every_bit(tmp_path):
    grey = ramp(channels=1)[..., 0]
    x, _ = read_image(save(Image.fromarray(grey), tmp_path / "g.png"))
    assert torch.equal(x, torch.from_numpy(grey)[None].float() / 255)
    deep = (np.arange(24, dtype=np.uint32) * 2849 % 65536).astype(np.uint16).reshape(4, 6)
    x, info = read_image(save(Image.fromarray(deep), tmp_path / "d.png"))
    assert info.bits == 16
    # A float32 has 24 bits: v / 65535 * 65535 rounds back to v exactly.
    assert np.array_equal((x[0].double() * 65535).round().numpy().astype(np.uint16), deep)


def test_one_bit_is_zero_and_one(tmp_path):
    bits = np.array([[True, False, True], [False, False, True]])
    x, info = read_image(save(Image.fromarray(bits), tmp_path / "b.png"))
    assert x.tolist() == [[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]
    assert info.bits == 1


def test_palette_is_colour(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    x, _ = read_image(save(picture, tmp_path / "p.png"))
    assert x[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert x[:, 0, 1].tolist() == [0.0, 0.0, 1.0]


def test_opaque_alpha_is_dropped_and_another_is_on_white(tmp_path):
    opaque = np.dstack([ramp(), np.full((4, 6), 255, np.uint8)])
    x, info = read_image(save(Image.fromarray(opaque), tmp_path / "o.png"))
    assert torch.equal(x, torch.from_numpy(ramp()).permute(2, 0, 1).float() / 255)
    assert "opaque alpha dropped" in info.notes
    clear = np.zeros((1, 2, 4), np.uint8)  # black: transparent at the left, opaque at the right
    clear[0, 1, 3] = 255
    x, info = read_image(save(Image.fromarray(clear), tmp_path / "c.png"))
    assert x[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert x[:, 0, 1].tolist() == [0.0, 0.0, 0.0]
    assert "alpha composited on white" in info.notes
    x, _ = read_image(save(Image.fromarray(clear[..., [0, 3]]), tmp_path / "la.png"))
    assert x[0].tolist() == [[1.0, 0.0]]


def test_cmyk_and_float_tiff(tmp_path):
    x, _ = read_image(save(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), tmp_path / "c.tif"))
    assert x[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    values = np.array([[0.25, 1.5]], np.float32)
    x, info = read_image(save(Image.fromarray(values), tmp_path / "f.tif"))
    assert x[0].tolist() == [[0.25, 1.5]]
    assert info.bits == 32
    with pytest.raises(InputError, match="NaN"):
        read_image(save(Image.fromarray(np.array([[np.nan]], np.float32)), tmp_path / "n.tif"))
    with pytest.raises(InputError, match="white level"):
        read_image(save(Image.fromarray(np.array([[7]], np.int32)), tmp_path / "i.tif"))


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    pixels = ramp(2, 3)
    x, info = read_image(save(Image.fromarray(pixels), tmp_path / "r.png", exif=exif))
    assert x.shape == (3, 3, 2)
    assert torch.equal(x, torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1).float() / 255)
    assert info.rotated


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "lime")]
    x, info = read_image(save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:]))
    assert info.frames == 2
    assert x[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def png(width, height, depth, colour, rows):
    """A PNG by hand: Pillow writes no 16-bit colour and no header that lies."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_keeps_its_bits(tmp_path):
    path = tmp_path / "deep.png"
    path.write_bytes(png(1, 1, 16, 2, b"\x00" + struct.pack(">HHH", 65535, 32769, 0)))
    x, info = read_image(path)
    assert torch.equal(x[:, 0, 0], torch.tensor([65535, 32769, 0], dtype=torch.float64).div(65535).float())
    assert (info.bits, info.format, info.notes) == (16, "PNG", ())


def test_sixteen_bits_with_alpha_lie_on_white(tmp_path):
    for colour, numbers in ((6, (65535, 0, 1000, 16384)), (4, (1000, 16384))):
        path = tmp_path / f"{colour}.png"
        path.write_bytes(png(1, 1, 16, colour, b"\x00" + struct.pack(f">{len(numbers)}H", *numbers)))
        x, info = read_image(path)
        part = numbers[-1] / 65535
        right = torch.tensor([one / 65535 * part + 1 - part for one in numbers[:-1]])
        torch.testing.assert_close(x[:, 0, 0], right, atol=2**-22, rtol=0)  # three roundings of numbers below 1
        assert info.notes == ("alpha composited on white",)


def test_channels(tmp_path):
    red = save(Image.new("RGB", (2, 2), "red"), tmp_path / "r.png")
    grey, _ = read_image(red, channels=1)
    assert grey.shape == (1, 2, 2)
    assert grey[0, 0, 0].item() == pytest.approx(0.299, abs=1e-7)
    colour, _ = read_image(save(Image.new("L", (2, 2), 51), tmp_path / "g.png"), channels=3)
    assert torch.equal(colour, torch.full((3, 2, 2), 51 / 255))
    with pytest.raises(InputError, match="channels"):
        read_image(red, channels=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_thin_images(size, tmp_path):
    x, _ = read_image(save(Image.new("RGB", size, "white"), tmp_path / "t.png"))
    assert x.shape == (3, size[1], size[0])


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    bomb = tmp_path / "bomb.png"
    # 10,000^2 only warns in Pillow, 30,000^2 raises its own error: both end here, from the header alone.
    for side in (10_000, 30_000):
        bomb.write_bytes(png(side, side, 8, 0, b"\x00"))
        with pytest.raises(InputError, match=r"more than max_pixels|too large"):
            read_image(bomb)
    with pytest.raises(InputError, match="more than max_pixels = 5"):
        read_image(save(Image.new("L", (3, 2)), tmp_path / "small.png"), max_pixels=5)


def encoded(form):
    stream = io.BytesIO()
    Image.fromarray(ramp(16, 16)).save(stream, format=form)
    return stream.getvalue()


BAD = {
    "empty.png": b"",
    "text.png": b"hello, world",
    "cut.png": encoded("PNG")[:60],
    "cut.jpg": encoded("JPEG")[:200],
    "cut.webp": encoded("WEBP")[:40],
    "cut.tif": encoded("TIFF")[:30],
    "header.png": png(0, 0, 8, 2, b""),
    "depth.png": png(2, 2, 7, 9, b"\x00" * 9),
    "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "empty.npy": b"",
    "text.npy": b"hello, world",
    "text.safetensors": b"hello, world",
    "header.safetensors": (2**40).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files(name, tmp_path):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(InputError):
        read_image(tmp_path / name)


def test_every_cut_of_a_png_is_refused(tmp_path):
    whole = encoded("PNG")
    for length in range(1, whole.index(b"IEND") - 4, 37):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_image(tmp_path / "cut.png")


def test_missing_and_folder(tmp_path):
    with pytest.raises(InputError, match="no image file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="not a regular file"):
        read_image(tmp_path)


def test_tensor_files_as_images(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 51], [102, 255]], np.uint8))
    x, info = read_image(tmp_path / "a.npy")
    assert torch.equal(x, torch.tensor([[[0, 51], [102, 255]]]) / 255)
    assert info.bits == 8
    np.save(tmp_path / "b.npy", np.full((3, 2, 2), -0.25, ">f8"))
    assert torch.equal(read_image(tmp_path / "b.npy")[0], torch.full((3, 2, 2), -0.25))
    for bad in (np.zeros(3), np.zeros((2, 3, 0)), np.zeros((2, 2), np.int64), np.full((2, 2), np.inf), np.zeros((2, 2), complex)):
        np.save(tmp_path / "c.npy", bad)
        with pytest.raises(InputError):
            read_image(tmp_path / "c.npy")


def test_pickles_and_archives_are_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        read_tensor(tmp_path / "o.npy")
    with (tmp_path / "z.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    with pytest.raises(InputError, match="archive"):
        read_tensor(tmp_path / "z.npy")
    with (tmp_path / "big.npy").open("wb") as stream:  # 8e14 bytes promised, none there
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    with pytest.raises(InputError):
        read_tensor(tmp_path / "big.npy")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.int64, torch.bool])
def test_tensors_round_trip_bitwise(suffix, dtype, tmp_path):
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).mul(9).to(dtype).transpose(1, 2)
    write_image(tmp_path / f"x{suffix}", x)
    again = read_tensor(tmp_path / f"x{suffix}")
    assert again.dtype == dtype
    assert torch.equal(again, x)


def test_several_tensors_need_a_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"y": torch.ones(2), "z": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert torch.equal(read_tensor(tmp_path / "a.safetensors"), torch.ones(2))
    save_file({"a": torch.ones(2), "b": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="none of them named"):
        read_tensor(tmp_path / "b.safetensors")


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip_is_exact_on_8_bit_values_and_clamps(channels, tmp_path):
    levels = torch.arange(256).reshape(1, 16, 16).repeat(channels, 1, 1) / 255
    write_image(tmp_path / "a.png", levels)
    assert torch.equal(read_image(tmp_path / "a.png")[0], levels)
    write_image(tmp_path / "b.png", 4 * levels[None] - 1)
    assert torch.equal(read_image(tmp_path / "b.png")[0], ((4 * levels.double() - 1).clamp(0, 1) * 255 + 0.5).floor().float() / 255)


def test_rounding_is_to_nearest(tmp_path):
    x = torch.tensor([[[100.49, 100.51, 100.0]]]) / 255
    write_image(tmp_path / "a.png", x)
    assert torch.equal(read_image(tmp_path / "a.png")[0] * 255, torch.tensor([[[100.0, 101.0, 100.0]]]))


def test_what_cannot_be_written(tmp_path):
    good = torch.zeros(3, 2, 2)
    for bad in (torch.zeros(2, 2, 2), torch.zeros(2, 3, 2, 2), torch.zeros(2, 2), good.to(torch.uint8), good + torch.nan, good + 0j):
        with pytest.raises(InputError):
            write_image(tmp_path / "a.png", bad)
    with pytest.raises(InputError, match="suffix"):
        write_image(tmp_path / "a.bmp", good)
    with pytest.raises(InputError, match="complex64"):
        write_image(tmp_path / "a.safetensors", good.to(torch.complex128))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="folder"):
        write_image(tmp_path / "folder.png", good)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot make"):
        write_image(tmp_path / "file" / "a.png", good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", torch.zeros(1, 2, 2))
    before = (tmp_path / "a.png").read_bytes()

    def full_disk(self, stream, **options):
        stream.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_image(tmp_path / "a.png", torch.ones(1, 2, 2))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_results_carry_no_tags(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    x, _ = read_image(save(Image.fromarray(ramp()), tmp_path / "a.jpg", exif=exif))
    write_image(tmp_path / "b.png", x)
    with Image.open(tmp_path / "b.png") as result:
        assert not dict(result.getexif())
