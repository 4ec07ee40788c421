"""The metric against numbers known beforehand, the data set's pictures, and the suite from end to end."""

from pathlib import Path

import torch
from invsolve_template.metric import MeanAbsoluteError

from invsolve.bench import run
from invsolve.data import load_pictures


def test_metric() -> None:
    """Per image; what an answer has outside [0, 1] is clipped."""
    x = torch.full((2, 3, 4, 5), 0.5)
    x_hat = x + torch.tensor([0.25, 9.0]).reshape(2, 1, 1, 1)
    assert MeanAbsoluteError()(x_hat, x).tolist() == [0.25, 0.5]


def test_data_set() -> None:
    """`load_pictures` refuses ids used twice and images outside [0, 1]; a picture does not depend on how many there are."""
    few, many = (load_pictures("template-discs", {"images": images}) for images in (2, 3))
    assert [one.sha256 for one in few] == [one.sha256 for one in many[:2]]
    assert len({one.sha256 for one in many}) == 3


def test_suite(tmp_path: Path) -> None:
    """Every operator x picture x solver has an answer and every number."""
    rows = run("template", out=tmp_path, progress=False)
    assert len(rows) == 2 * 2 * 3
    assert {row["status"] for row in rows} == {"finished"}, [row["reason"] for row in rows]
    assert all(0 < row["metrics"]["template-mae"] < 0.5 for row in rows)
