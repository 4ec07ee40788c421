"""Which pixels the masks know, against their definitions."""

import math

import numpy as np
import pytest
import torch
from invsolve_operators import (
    BayerMask,
    ExpandMask,
    FileMask,
    FilmMask,
    GridMask,
    HalfMask,
    LineMask,
    Mask,
    Mosaic,
    RandomBoxMask,
    RandomRangeMask,
    StrokeMask,
    TextMask,
)
from invsolve_operators.masks.drawn import erase_line

from invsolve import InputError
from invsolve.io.images import write_image

SHAPE = (3, 64, 64)


def known(operator):
    return operator.mask.expand(operator.in_shape)[0]


def test_fixed_patterns():
    assert known(ExpandMask((1, 256, 256)))[96:160, 96:160].all()
    assert known(ExpandMask((1, 256, 256))).sum() == 64 * 64
    for side, part in (("left", np.s_[:, :3]), ("right", np.s_[:, -3:]), ("top", np.s_[:2]), ("bottom", np.s_[-2:])):
        mask = known(HalfMask((1, 5, 6), side))
        assert mask[part].all()
        assert mask.sum() == mask[part].numel()
    assert known(LineMask((1, 5, 4)))[:, 0].tolist() == [1, 0, 1, 0, 1]
    assert known(LineMask((1, 5, 4), 3, 1, "columns"))[0].tolist() == [0, 1, 0, 0]
    grid = known(GridMask((1, 5, 4), 2))
    assert grid.nonzero().tolist() == [[i, j] for i in (0, 2, 4) for j in (0, 2)]


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_bayer(pattern):
    mask = BayerMask((3, 5, 7), pattern).mask
    for i in range(5):
        for j in range(7):
            colour = "RGB".index(pattern[2 * (i % 2) + j % 2])
            assert mask[:, i, j].tolist() == [float(c == colour) for c in range(3)]
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Mosaic((3, 5, 7), pattern)(x)[:, 0], (mask * x).sum(1))


def test_a_mask_from_a_file(tmp_path):
    wanted = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    write_image(tmp_path / "mask.png", wanted.float())
    np.save(tmp_path / "mask.npy", (255 * wanted[0].numpy()).astype(np.uint8))
    for name in ("mask.png", "mask.npy"):
        assert torch.equal(FileMask((3, 6, 8), str(tmp_path / name)).mask > 0, wanted)
        assert torch.equal(FileMask((3, 6, 8), str(tmp_path / name), invert=True).mask > 0, ~wanted)
    with pytest.raises(InputError, match="6 x 8"):
        FileMask((3, 8, 8), str(tmp_path / "mask.png"))
    with pytest.raises(InputError, match=r"nothing\.png"):
        FileMask((3, 8, 8), str(tmp_path / "nothing.png"))


DRAWN = [
    lambda **options: RandomBoxMask(SHAPE, 20, 8, **options),
    lambda **options: RandomRangeMask(SHAPE, **options),
    lambda **options: StrokeMask(SHAPE, "narrow", **options),
    lambda **options: StrokeMask(SHAPE, "wide", **options),
    lambda **options: FilmMask(SHAPE, **options),
]


@pytest.mark.parametrize("make", DRAWN)
def test_seeds_and_items(make):
    """The same seed is the same mask; an item's mask does not depend on how many there are; items and seeds differ."""
    assert torch.equal(make(seed=3).mask, make(seed=3).mask)
    assert not torch.equal(make(seed=3).mask, make(seed=4).mask)
    several = make(seed=3, items=4)
    assert several.batch == 4
    assert torch.equal(several.mask[0], make(seed=3).mask)
    assert torch.equal(several.mask[:2], make(seed=3, items=2).mask)
    assert not torch.equal(several.mask[0], several.mask[1])
    assert torch.equal(several[1].mask[0], several.mask[1])


def test_boxes_keep_their_margin():
    masks = RandomBoxMask((1, 32, 24), 9, 4, items=50).mask[:, 0]
    assert ((1 - masks).sum((1, 2)) == 81).all()
    assert masks[:, :4].all()
    assert masks[:, -4:].all()
    assert masks[:, :, :4].all()
    assert masks[:, :, -4:].all()
    rows = {int((one.sum(1) < 24).nonzero()[0]) for one in masks}
    assert {4, 32 - 9 - 4} <= rows  # both ends are met: 50 draws of 16 places miss a given one with probability .04


def test_the_range_of_fractions():
    missing = 1 - RandomRangeMask(SHAPE, 0.3, 0.7, items=200).mask.mean((1, 2, 3))
    assert 0.3 - 1e-3 <= missing.min() <= 0.34  # 200 uniform numbers: the least is within .02 but for e^-10
    assert 0.66 <= missing.max() <= 0.7 + 1e-3
    assert abs(missing.mean() - 0.5) < 5 * 0.4 / math.sqrt(12 * 200)
    exact = RandomRangeMask(SHAPE, 0.5, 0.5, items=3).mask
    assert (exact.sum((1, 2, 3)) == 64 * 64 // 2).all()


def test_a_fraction_per_image():
    operator = Mask(SHAPE, torch.tensor([0.1, 0.5, 0.9]))
    assert operator.mask.sum((1, 2, 3)).tolist() == [round(part * 64 * 64) for part in (0.1, 0.5, 0.9)]
    assert torch.equal(operator[1].mask[0], operator.mask[1])
    assert torch.equal(operator.mask[0], Mask(SHAPE, 0.1).mask)


def test_a_line_is_the_set_of_near_pixels():
    mask = torch.ones(20, 30)
    erase_line(mask, (3.2, 4.7), (15.1, 22.4), 5.0)
    start, along = np.array([3.2, 4.7]), np.array([11.9, 17.7])
    for i in range(20):
        for j in range(30):
            point = np.array([i + 0.5, j + 0.5]) - start
            place = np.clip(point @ along / (along @ along), 0, 1)
            assert mask[i, j] == float(np.linalg.norm(point - place * along) > 2.5)


@pytest.mark.parametrize("kind", ["narrow", "medium", "wide"])
def test_strokes_scale_and_keep_below_the_largest_part(kind):
    small, large = StrokeMask((1, 64, 64), kind, seed=1).mask, StrokeMask((1, 256, 256), kind, seed=1).mask
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    # The same strokes at another resolution: they differ along edges only, and lines thinner than a pixel are kept one pixel wide.
    assert (small - (shrunk > 0.5).float()).abs().mean() < 0.08
    missing = 1 - StrokeMask((1, 64, 64), kind, largest=0.5, items=30).mask.mean((1, 2, 3))
    assert (missing <= 0.5).all()
    assert (missing > 0).all()


def test_film_damage_grows_with_density():
    parts = [float(1 - FilmMask((1, 64, 64), density, items=5).mask.mean()) for density in (0, 0.5, 2.0, 8.0)]
    assert parts[0] == 0
    assert parts == sorted(parts)
    assert 0.02 < float(1 - FilmMask((1, 256, 256), 1.0, items=10).mask.mean()) < 0.08


def test_text_is_written_all_over():
    mask = known(TextMask((1, 128, 128)))
    assert 0.03 < 1 - mask.mean() < 0.4
    for quarter in (mask[:64, :64], mask[:64, 64:], mask[64:, :64], mask[64:, 64:]):
        assert quarter.min() == 0
    assert not torch.equal(mask, known(TextMask((1, 128, 128), "another text ")))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: ExpandMask(SHAPE, 0), "part"),
        (lambda: HalfMask(SHAPE, "lefft"), "did you mean left"),
        (lambda: LineMask(SHAPE, 0), "period"),
        (lambda: LineMask(SHAPE, 2, 2), "offset"),
        (lambda: GridMask(SHAPE, 1.5), "factor"),
        (lambda: BayerMask((1, 4, 4)), "three channels"),
        (lambda: Mosaic(SHAPE, "RGB"), "no pattern"),
        (lambda: RandomBoxMask(SHAPE, 60, 8), "does not fit"),
        (lambda: RandomRangeMask(SHAPE, 0.8, 0.2), "least"),
        (lambda: StrokeMask(SHAPE, "thin"), "narrow, medium, wide"),
        (lambda: StrokeMask(SHAPE, items=0), "items"),
        (lambda: FilmMask(SHAPE, -1), "density"),
        (lambda: TextMask(SHAPE, " "), "letters"),
        (lambda: TextMask(SHAPE, size="a"), "size"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()
