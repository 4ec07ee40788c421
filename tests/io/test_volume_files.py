"""NIfTI and stacks of TIFF pages: the numbers, the place in space and the voxel size come back; and restore of such files."""

import json
import sys

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from invsolve_operators import FileMask
from PIL import Image
from scipy.ndimage import gaussian_filter

from invsolve.cli import main
from invsolve.errors import InputError, PluginError
from invsolve.io.volumes import is_volume, read_volume, stem_of, suffix_of, write_volume
from invsolve.recipe.config import load_config
from invsolve.unit import Unit

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra volumes)")
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.5, 0.2, -5], [0, -0.2, 3, 7], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nifti(name, values, dtype=None, slope=None):
    image = nibabel.Nifti1Image(values, AFFINE, dtype=dtype or values.dtype)
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, name)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_nifti_there_and_back(name):
    values = (np.random.default_rng(0).random((7, 6, 5)) * 1000 - 200).astype(np.int16)
    nifti(name, values)
    volume, info = read_volume(name)
    assert volume.shape == (1, 5, 6, 7)
    low, high = float(values.min()), float(values.max())
    assert info.unit == Unit(low, high)
    assert volume[0, 4, 3, 2] == pytest.approx((values[2, 3, 4] - low) / (high - low), abs=1e-6)  # x, y, z are width, height, depth
    assert info.voxel == pytest.approx((np.hypot(0.2, 3), np.hypot(1.5, 0.2), 2.0))
    write_volume("again.nii.gz", volume, info)
    again = nibabel.load("again.nii.gz")
    # there and back through [0, 1] in float32: rounding of 1000 eps
    assert np.abs(again.get_fdata() - values).max() < 1000 * 4 * np.finfo(np.float32).eps
    assert np.array_equal(again.affine, nibabel.load(name).affine)
    assert again.header.get_xyzt_units()[0] == "mm"
    assert again.header.get_zooms() == nibabel.load(name).header.get_zooms()


def test_slope_and_a_unit_of_one_s_own():
    nifti("ct.nii", np.arange(60, dtype=np.int16).reshape(5, 4, 3), slope=(10.0, -1000.0))
    stored = nibabel.load("ct.nii").get_fdata()
    volume, info = read_volume("ct.nii", unit=Unit(-1000, 1000))
    assert torch.allclose(volume[0], torch.from_numpy((stored.T + 1000) / 2000).float(), atol=1e-6)
    write_volume("back.nii", volume, info)
    assert np.abs(nibabel.load("back.nii").get_fdata() - stored).max() < 1e-3
    write_volume("plain.nii", volume)
    assert np.array_equal(nibabel.load("plain.nii").affine, np.eye(4))


def test_stacks_of_pages():
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65535, (4, 6, 5)).astype(np.uint16)
    tifffile.imwrite("a.tif", deep, imagej=True, resolution=(2.0, 4.0), metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"})
    volume, info = read_volume("a.tif")
    assert volume.shape == (1, 4, 6, 5)
    assert torch.equal(volume[0], torch.from_numpy(deep.astype(np.float32)) / 65535)
    assert info.voxel == (3.0, 0.25, 0.5)
    write_volume("b.tif", volume, info)
    assert np.array_equal(tifffile.imread("b.tif"), deep)
    assert read_volume("b.tif")[1].voxel == (3.0, 0.25, 0.5)
    colour = rng.integers(0, 255, (4, 6, 5, 3)).astype(np.uint8)
    tifffile.imwrite("c.tif", colour, photometric="rgb")
    volume, info = read_volume("c.tif")
    assert torch.equal(volume, torch.from_numpy(colour.transpose(3, 0, 1, 2).astype(np.float32)) / 255)
    write_volume("d.tif", volume, info)
    assert np.array_equal(tifffile.imread("d.tif"), colour)
    pair = rng.random((4, 2, 6, 5)).astype(np.float32)
    tifffile.imwrite("e.tif", pair, imagej=True, metadata={"axes": "ZCYX"})
    volume, info = read_volume("e.tif")
    assert torch.equal(volume, torch.from_numpy(pair.transpose(1, 0, 2, 3).copy()))
    write_volume("f.tif", volume, info)
    assert torch.equal(read_volume("f.tif")[0], volume)


def test_which_files_are_volumes():
    tifffile.imwrite("picture.tif", np.zeros((6, 5), np.uint8))
    tifffile.imwrite("stack.tif", np.zeros((3, 6, 5), np.uint8), photometric="minisblack")
    tifffile.imwrite("colour.tif", np.zeros((6, 5, 3), np.uint8), photometric="rgb")
    names = ("scan.nii", "scan.nii.gz", "stack.tif", "picture.tif", "colour.tif", "none.tif", "x.png")
    assert [is_volume(name) for name in names] == [True, True, True, False, False, False, False]
    assert (stem_of("a/scan.nii.gz"), suffix_of("SCAN.NII.GZ"), stem_of("x.tar.png")) == ("scan", ".nii.gz", "x.tar")


def test_what_is_no_volume_is_refused_in_words():
    nifti("time.nii", np.zeros((3, 3, 3, 4), np.float32))
    nifti("nan.nii", np.full((3, 3, 3), np.nan, np.float32))
    (n := open("cut.nii.gz", "wb")).write(b"\x1f\x8b123")  # noqa: SIM115
    n.close()
    nifti("complex.nii", np.zeros((3, 3, 3), np.complex64))
    tifffile.imwrite("many.tif", np.zeros((2, 3, 4, 6, 5), np.uint8), imagej=True, metadata={"axes": "TZCYX"})
    tifffile.imwrite("signed.tif", np.zeros((3, 6, 5), np.int16), photometric="minisblack")
    for name, words in (
        ("time.nii", "one volume"),
        ("nan.nii", "NaN"),
        ("cut.nii.gz", "damaged"),
        ("complex.nii", "real numbers"),
        ("many.tif", "axes TZCYX"),
        ("signed.tif", "uint8, uint16 or floats"),
        ("none.nii", "no volume none.nii"),
        ("x.png", "no volume x.png"),
    ):
        with pytest.raises(InputError, match=words):
            read_volume(name)
    with pytest.raises(InputError, match=r"\(C, D, H, W\)"):
        write_volume("a.nii", torch.zeros(1, 3, 3))
    with pytest.raises(InputError, match="3 channels"):
        write_volume("a.nii", torch.zeros(3, 2, 3, 3))


def test_without_nibabel_it_is_said_how_to_get_it(monkeypatch):
    nifti("scan.nii", np.zeros((3, 3, 3), np.float32))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(PluginError, match=r"pip install 'invsolve\[volumes\]'"):
        read_volume("scan.nii")
    done = CliRunner().invoke(main, ["restore", "scan.nii", "--denoise"])
    assert done.exit_code == 3


def phantom():
    """Two ellipsoids and a slope, (8, 20, 24)."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in (8, 20, 24)], indexing="ij")
    clean = 0.2 + 0.1 * x + 0.5 * (z**2 + 2 * y**2 + (x - 0.2) ** 2 < 0.5) - 0.3 * (z**2 + (y - 0.1) ** 2 + x**2 < 0.1)
    return gaussian_filter(clean, 0.5)


def restore(*words):
    done = CliRunner().invoke(main, ["restore", *map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def error(name, clean):
    return float(np.sqrt(np.square(nibabel.load(name).get_fdata().T / 1000 - clean).mean()))


def test_a_noisy_scan_and_a_blurred_one():
    clean, rng = phantom(), np.random.default_rng(0)
    nifti("scan.nii.gz", ((clean + 0.05 * rng.standard_normal(clean.shape)) * 1000).T.astype(np.float32))
    facts = restore("scan.nii.gz", "--denoise")
    assert facts["out"] == ["scan_restored.nii.gz"]
    assert facts["image"] == [1, 1, 8, 20, 24]
    assert error("scan_restored.nii.gz", clean) < 0.6 * 0.05
    assert "explains the picture" in facts["verdict"]
    assert np.array_equal(nibabel.load("scan_restored.nii.gz").affine, nibabel.load("scan.nii.gz").affine)
    assert restore("scan.nii.gz", "--denoise", "--solver", "hqs", "--prior", "tv", "--set", "solver.steps=2")["out"] == [
        "scan_restored_2.nii.gz"
    ]
    blurred = gaussian_filter(clean, 1.0, mode="reflect") + 0.01 * rng.standard_normal(clean.shape)
    nifti("soft.nii", (blurred * 1000).T.astype(np.float32))
    facts = restore("soft.nii", "--blur", 1.0, "--set", "solver.steps=4", "--set", "prior.axis=depth")
    assert facts["out"] == ["soft_restored.nii"]
    assert error("soft_restored.nii", clean) < 0.75 * error("soft.nii", clean)


def test_samples_stacks_and_what_is_for_pictures():
    rng = np.random.default_rng(0)
    pages = ((phantom() + 0.05 * rng.standard_normal((8, 20, 24))).clip(0, 1) * 255).astype(np.uint8)[:4]
    tifffile.imwrite("stack.tif", pages, photometric="minisblack")
    facts = restore("stack.tif", "--samples", 2, "--set", "solver.steps=2", "--set", "prior.axis=depth")
    assert facts["out"][0] == "stack_restored.tif"
    assert facts["out"][1].startswith("stack_restored_std.tif")
    assert tifffile.imread("stack_restored.tif").shape == (4, 20, 24)
    assert tifffile.imread("stack_restored.tif").dtype == np.uint8
    assert 0 < tifffile.imread("stack_restored_std.tif").mean() < 0.1 * 255
    done = CliRunner().invoke(main, ["restore", "stack.tif", "--motion", "9"])
    assert done.exit_code == 2
    assert "--motion is for pictures; volumes take --denoise, --blur SIGMA" in done.output
    assert restore("stack.tif", "--denoise", "--set", "prior.axis=depth", "--out", "x.npy")["out"] == ["x.npy"]


def test_a_hole_in_a_scan_is_filled_and_the_rest_kept():
    clean = phantom()
    hole = np.zeros(clean.shape, bool)
    hole[2:6, 6:12, 8:14] = True
    nifti("scan.nii.gz", (np.where(hole, 0.05, clean) * 1000).T.astype(np.float32))
    nifti("known.nii.gz", (~hole).T.astype(np.uint8))
    facts = restore("scan.nii.gz", "--mask", "known.nii.gz", "--set", "solver.steps=6", "--set", "prior.axis=depth")
    assert facts["out"] == ["scan_restored.nii.gz"]
    filled = nibabel.load("scan_restored.nii.gz").get_fdata().T / 1000
    given = nibabel.load("scan.nii.gz").get_fdata().T / 1000
    assert np.abs(filled - given)[~hole].max() < 4 * np.finfo(np.float32).eps  # there and back through [0, 1]
    assert np.square(filled - clean)[hole].mean() < 0.25 * np.square(given - clean)[hole].mean()


def written(kind, known):
    """A mask as a file of one kind; known is (D, H, W)."""
    if kind == "nii":
        nifti("mask.nii", known.T.astype(np.int16))
    elif kind == "labels":
        nifti("mask.nii", (known.T * 3).astype(np.int16))
    elif kind == "tif":
        tifffile.imwrite("mask.tif", known.astype(np.uint8) * 255, photometric="minisblack")
    elif kind == "npy":
        np.save("mask.npy", known)
    return {"labels": "mask.nii"}.get(kind, f"mask.{kind}")


@pytest.mark.parametrize("kind", ["nii", "labels", "tif", "npy"])
@pytest.mark.parametrize("channels", [1, 2])
def test_masks_of_volumes(kind, channels):
    known = np.random.default_rng(0).random((4, 5, 6)) < 0.6
    H = FileMask((channels, 4, 5, 6), written(kind, known))
    x = torch.rand(1, channels, 4, 5, 6)
    expected = x * torch.from_numpy(known)
    assert torch.equal(H.adjoint(H(x)), expected)
    rest = FileMask((channels, 4, 5, 6), written(kind, known), invert=True)
    assert torch.equal(rest.adjoint(rest(x)), x - expected)


def test_a_picture_is_the_mask_of_every_slice_and_other_sizes_are_refused():
    known = np.random.default_rng(0).random((5, 6)) < 0.6
    Image.fromarray((known * 255).astype(np.uint8)).save("mask.png")
    x = torch.rand(1, 1, 4, 5, 6)
    H = FileMask((1, 4, 5, 6), "mask.png")
    assert torch.equal(H.adjoint(H(x)), x * torch.from_numpy(known))
    np.save("mask.npy", np.random.default_rng(0).random((3, 5, 6)) < 0.6)
    with pytest.raises(InputError, match=r"mask\.npy is 3 x 5 x 6, the image 4 x 5 x 6"):
        FileMask((1, 4, 5, 6), "mask.npy")
    nifti("greys.nii", np.linspace(0, 1, 24 * 20 * 8, dtype=np.float32).reshape(24, 20, 8))
    with pytest.raises(InputError, match="looks like no mask"):
        FileMask((1, 8, 20, 24), "greys.nii")
    nifti("below.nii", np.linspace(-1, 1, 120, dtype=np.float32).reshape(6, 5, 4))
    with pytest.raises(InputError, match="values from -1 to 1"):
        FileMask((1, 4, 5, 6), "below.nii")


def test_a_blur_in_millimetres():
    nifti("scan.nii", (phantom() * 1000).T.astype(np.float32))
    options = ("--set", "solver.steps=2", "--set", "prior.axis=depth", "--save-config", "p.toml")
    restore("scan.nii", "--blur", "3mm", *options)
    depth, height, width = np.hypot(0.2, 3), np.hypot(1.5, 0.2), 2.0
    (blur,) = load_config("p.toml", []).operator
    found = blur.arguments
    assert np.allclose(found["sigma"], [[3 / depth, 3 / height, 3 / width]])
    Image.fromarray(np.full((70, 70), 99, np.uint8)).save("photo.png")
    for file, width, said in (("photo.png", "3mm", "has no millimetres"), ("scan.nii", "3cm", "reads a number of pixels")):
        done = CliRunner().invoke(main, ["restore", file, "--blur", width])
        assert done.exit_code == 2
        assert said in done.output


def test_a_mask_that_lies_elsewhere_is_refused():
    values = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    nifti("scan.nii", values)
    flipped = nibabel.Nifti1Image((values[::-1] > 0.3).astype(np.uint8), AFFINE @ np.diag([-1.0, 1, 1, 1]))
    nibabel.save(flipped, "flipped.nii")
    done = CliRunner().invoke(main, ["restore", "scan.nii", "--mask", "flipped.nii"])
    assert done.exit_code == 2
    assert "affines differ" in done.output
