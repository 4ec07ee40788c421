"""A mask is read as it is meant, in every way in which people store one, or refused."""

import itertools
import warnings

import numpy as np
import pytest
import tifffile
import torch
from invsolve_operators import FileMask
from PIL import Image
from safetensors.torch import save_file

from invsolve import InputError
from invsolve.errors import Note

KNOWN = np.ones((24, 32), bool)
KNOWN[5:15, 7:20] = False
KNOWN[20:22, 1:30] = False
BYTES = (KNOWN * 255).astype(np.uint8)
SHAPE = (3, 24, 32)


def palette(colours, index=None):
    picture = Image.fromarray(KNOWN.astype(np.uint8) if index is None else index, "P")
    picture.putpalette([part for colour in colours for part in colour])
    return picture


def photograph():
    rows, columns = np.mgrid[:24, :32]
    return (127 + 90 * np.sin(rows / 5) * np.cos(columns / 7)).astype(np.uint8)


def erased():
    """A photograph whose missing part was rubbed out: transparent there, with the colours still in the file."""
    return np.dstack([photograph()] * 3 + [BYTES])


def painted(colour, alpha):
    return np.dstack([np.full(KNOWN.shape, colour, np.uint8)] * 3 + [alpha])


PICTURES = {
    "grey.png": lambda: Image.fromarray(BYTES),
    "ones.png": lambda: Image.fromarray(KNOWN.astype(np.uint8)),
    "rgb.png": lambda: Image.fromarray(np.dstack([BYTES] * 3)),
    "rgb-ones.png": lambda: Image.fromarray(np.dstack([KNOWN.astype(np.uint8)] * 3)),
    "opaque.png": lambda: Image.fromarray(np.dstack([BYTES] * 3 + [np.full_like(BYTES, 255)])),
    "bit.png": lambda: Image.fromarray(KNOWN),
    "bit.tif": lambda: Image.fromarray(KNOWN),
    "palette.png": lambda: palette([(0, 0, 0), (255, 255, 255)]),
    "palette.gif": lambda: palette([(0, 0, 0), (255, 255, 255)]),
    "deep.png": lambda: Image.fromarray((KNOWN * 65535).astype(np.uint16)),
    "deep-ones.png": lambda: Image.fromarray(KNOWN.astype(np.uint16)),
    "photo.jpg": lambda: Image.fromarray(BYTES),
    "photo.webp": lambda: Image.fromarray(np.dstack([BYTES] * 3)),
    "near.png": lambda: Image.fromarray(np.where(KNOWN, 250, 4).astype(np.uint8)),
    "erased.png": lambda: Image.fromarray(erased()),
    "white-on-nothing.png": lambda: Image.fromarray(painted(255, BYTES)),
    "grey-erased.png": lambda: Image.fromarray(np.dstack([photograph(), BYTES])),
}


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        return FileMask(*arguments, **options)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, tmp_path):
    PICTURES[name]().save(tmp_path / name)
    for invert in (False, True):
        mask = quietly(SHAPE, str(tmp_path / name), invert=invert).mask
        assert np.array_equal(mask[0].numpy() > 0, invert != KNOWN)


STORED = [(dtype, white) for dtype in ("i1", "u1", "i4", "i8", "f4", "f8", "u2") for white in (1, 7, 255, 65535)]
STORED = [("?", 1), *((dtype, white) for dtype, white in STORED if dtype[0] == "f" or white <= np.iinfo(dtype).max)]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize(("dtype", "white"), STORED)
def test_arrays(suffix, dtype, white, tmp_path):
    value = (KNOWN * white).astype(dtype)
    for shape in (KNOWN.shape, (1, *KNOWN.shape), (*KNOWN.shape, 1)):
        file = tmp_path / f"m{suffix}"
        array = value.reshape(shape)
        np.save(file, array) if suffix == ".npy" else save_file({"mask": torch.from_numpy(array)}, file)
        assert np.array_equal(quietly(SHAPE, str(file)).mask[0].numpy() > 0, KNOWN)


def test_arrays_of_three_planes_and_of_several_items(tmp_path):
    np.save(tmp_path / "hwc.npy", np.dstack([BYTES] * 3))
    assert np.array_equal(quietly(SHAPE, str(tmp_path / "hwc.npy")).mask[0].numpy() > 0, KNOWN)
    each = np.stack([KNOWN, ~KNOWN, KNOWN])
    np.save(tmp_path / "chw.npy", each)
    assert np.array_equal(FileMask(SHAPE, str(tmp_path / "chw.npy")).mask.numpy() > 0, each)
    np.save(tmp_path / "items.npy", each[:2, None])
    several = FileMask(SHAPE, str(tmp_path / "items.npy"))
    assert several.batch == 2
    assert np.array_equal(several.mask[:, 0].numpy() > 0, each[:2])


LABELS = np.where(KNOWN, 0, 3).astype(np.uint8)
LABELS[6:9, 8:12] = 1
VOID = np.where(KNOWN, 0, 1).astype(np.uint8)
VOID[4, 6:21] = 255
THIRD = np.where(KNOWN, 255, 0).astype(np.uint8)
THIRD[6:12, 8:14] = 128
WRONG = {
    "all.png": (np.full_like(BYTES, 255), "everything is known"),
    "none.png": (np.zeros_like(BYTES), "nothing is known"),
    "photograph.png": (photograph(), "grey and lie at no edge"),
    "third.png": (THIRD, "grey and lie at no edge"),
    "labels.png": (LABELS, "labels"),
    "void.png": (VOID, "labels"),
    "red.png": (np.dstack([BYTES, 0 * BYTES, 0 * BYTES]), "coloured"),
    "marked.png": (np.dstack([photograph(), np.where(KNOWN, photograph(), 0), np.where(KNOWN, photograph(), 0)]), "coloured"),
    "black-on-nothing.png": (painted(0, BYTES), "could mean either"),
    "two-on-nothing.png": (
        np.dstack([BYTES] * 3 + [np.where(np.arange(32) < 4, 0, 255) + 0 * BYTES]).astype(np.uint8),
        "could mean either",
    ),
    "glass.png": (painted(255, np.full_like(BYTES, 128)), "everything is known|grey"),
    "all.npy": (np.ones((24, 32)), "everything is known"),
    "none.npy": (np.zeros((24, 32), bool), "nothing is known"),
    "soft.npy": (np.linspace(0, 1, 24 * 32).reshape(24, 32), "grey and lie at no edge"),
    "nan.npy": (np.where(KNOWN, 1.0, np.nan), "isfinite"),
    "complex.npy": (KNOWN + 0j, "complex"),
    "signed.npy": (np.where(KNOWN, 1, -1), "from -1 to 1"),
    "labels.npy": (LABELS.astype(int), "labels"),
    "far.npy": (np.where(KNOWN, 255.5, 0), "from 0 to 255.5"),
    "huge.npy": (np.where(KNOWN, 10**9, LABELS.astype(int)), "labels"),
    "line.npy": (np.ones(24), "shape"),
    "size.npy": (KNOWN[:-1], "23 x 32"),
    "five.npy": (np.ones((1, 1, 3, 24, 32)), "shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mask_is_refused(name, tmp_path):
    value, words = WRONG[name]
    np.save(tmp_path / name, value) if name.endswith(".npy") else Image.fromarray(value).save(tmp_path / name)
    with pytest.raises(InputError, match=words):
        quietly(SHAPE, str(tmp_path / name))
    with pytest.raises(InputError, match=words):
        quietly(SHAPE, str(tmp_path / name), invert=True)


def test_a_threshold_of_ones_own_takes_greys(tmp_path):
    np.save(tmp_path / "soft.npy", np.linspace(0, 1, 24 * 32).reshape(24, 32))
    for threshold in (0.5, 0.2):
        mask = FileMask(SHAPE, str(tmp_path / "soft.npy"), threshold).mask
        assert np.array_equal(mask[0].numpy() > 0, np.linspace(0, 1, 24 * 32).reshape(24, 32) > threshold)
    for bad in (1, -0.1, True, "x", float("nan")):
        with pytest.raises(InputError, match="threshold must be"):
            FileMask(SHAPE, str(tmp_path / "soft.npy"), bad)


def test_a_drawn_mask_with_soft_edges_is_one(tmp_path):
    """A disc drawn four times as large and averaged: every grey pixel lies at the edge."""
    rows, columns = np.mgrid[:96, :128]
    disc = (rows - 40) ** 2 + (columns - 60) ** 2 > 30**2
    soft = disc.reshape(24, 4, 32, 4).mean((1, 3))
    Image.fromarray((255 * soft).round().astype(np.uint8)).save(tmp_path / "disc.png")
    assert np.array_equal(FileMask(SHAPE, str(tmp_path / "disc.png")).mask[0].numpy() > 0, (255 * soft).round() / 255 > 0.5)


def test_transparency_is_told(tmp_path):
    Image.fromarray(erased()).save(tmp_path / "erased.png")
    with pytest.warns(Note, match="transparent is taken as missing"):
        FileMask(SHAPE, str(tmp_path / "erased.png"))


def test_masks_from_elsewhere(tmp_path):
    """A deep TIFF mask with alpha, and a plane-by-plane one."""
    deep = (KNOWN * 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "planar.tif", np.stack([deep] * 3), photometric="rgb", planarconfig="separate")
    assert np.array_equal(FileMask(SHAPE, str(tmp_path / "planar.tif")).mask[0].numpy() > 0, KNOWN)
    for name, invert in itertools.product(("float",), (False, True)):
        tifffile.imwrite(tmp_path / f"{name}.tif", KNOWN.astype(np.float32))
        assert np.array_equal(FileMask(SHAPE, str(tmp_path / f"{name}.tif"), invert=invert).mask[0].numpy() > 0, invert != KNOWN)
