"""A photograph that is cut into pieces, in the shell."""

import torch
from click.testing import CliRunner
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import SeparableGaussianBlur
from invsolve_operators.blurs import separable

from invsolve import estimate
from invsolve.cli import large
from invsolve.cli.app import main
from invsolve.io.images import load_image
from invsolve.io.writing import write_image
from invsolve.tiles import forecast, run
from invsolve.tiles.layout import Tiles


def test_a_large_photograph_is_restored_in_pieces_and_leaves_none(tmp_path, monkeypatch):
    """The same picture as in one piece; the forecast is a note; the folder of its pieces is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    photo = quick_photos()[0].image[:, :80, :96]
    write_image("photo.png", (photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1))
    line = ["restore", "photo.png", "--denoise", "--noise", "0.05", "--solver", "hqs", "--prior", "dncnn", "--set", "solver.steps=2"]
    line += ["--set", "prior.precision=float32"]
    assert CliRunner().invoke(main, [*line, "--out", "whole.png"]).exit_code == 0
    monkeypatch.setattr(large, "LARGE", 1000)
    result = CliRunner().invoke(main, [*line, "--out", "cut.png"])
    assert result.exit_code == 0, result.output
    assert "note: a large image: one piece, 2 evaluations of the network each, about" in result.output
    # Rounding, which may fall to the other side of an 8-bit step.
    torch.testing.assert_close(load_image("cut.png"), load_image("whole.png"), rtol=0, atol=1.01 / 255)
    assert not (tmp_path / "cut_pieces").exists()


def test_the_blur_of_a_large_photograph_is_decomposed_piece_by_piece(tmp_path, monkeypatch):
    """H of the whole is measured with, never decomposed (of 12 megapixels that takes minutes and gigabytes); nor is it for the noise."""
    monkeypatch.chdir(tmp_path)
    sides = []
    own = separable.decomposed
    monkeypatch.setattr(separable, "decomposed", lambda matrix, count: sides.append(matrix.shape[-1]) or own(matrix, count))
    monkeypatch.setattr(large, "LARGE", 1000)
    monkeypatch.setattr(estimate, "LARGE", 1000)
    for module in (run, forecast):
        monkeypatch.setattr(module, "Tiles", lambda: Tiles(176, 28, 16))
    photo = torch.cat([quick_photos()[0].image, quick_photos()[0].image.flip(-1)], -1)[:, 32:96]
    blurred = SeparableGaussianBlur(photo.shape, 1.6, "symmetric")(photo[None])[0]
    noise = 0.01 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    write_image("photo.png", (blurred + noise).clamp(0, 1))
    line = ["restore", "photo.png", "--blur", "1.6", "--set", "solver.steps=3", "--set", "prior.precision=float32", "--out", "sharp.png"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    assert "note: a large image: 3 pieces" in result.output
    assert max(sides) <= 176 < photo.shape[-1] + 12
    before, after = ((load_image(name) - photo).square().mean() for name in ("photo.png", "sharp.png"))
    assert after < before / 1.5  # 1.8 dB
