"""A name alone may be text, one table stands for a list of one, a crop may be a side; what is neither is refused in words."""

import pytest
from language_cases import BLUR, HOLES, config, suite

from invsolve.errors import InputError
from invsolve.recipe.config import load_config


def test_a_name_alone_may_be_text_in_suites_and_problem_files(tmp_path):
    assert suite("mask").operator == suite({"name": "mask"}).operator
    assert suite(["mask", HOLES | {"label": "holes"}]).operator == suite([{"name": "mask"}, HOLES | {"label": "holes"}]).operator
    assert suite(BLUR, noise="none").noise == suite(BLUR, noise={"name": "none"}).noise
    assert suite(BLUR, metrics="psnr").metrics == suite(BLUR, metrics=["psnr"]).metrics
    mine = config("mask", tmp_path, noise="none", solver="hqs", prior="tv")
    tables = {kind: {"name": name} for kind, name in (("noise", "none"), ("solver", "hqs"), ("prior", "tv"))}
    assert mine == config({"name": "mask"}, tmp_path, **tables)
    assert config(["mask", BLUR], tmp_path) == config([{"name": "mask"}, BLUR], tmp_path)
    (tmp_path / "saved.toml").write_text(mine.toml())
    assert [one.name for one in load_config(tmp_path / "saved.toml").operator or ()] == ["mask"]


WANTED = 'a table { name = "..." }, a name, or a list of them is wanted; given '


@pytest.mark.parametrize(("operator", "words"), [(3, WANTED + "3"), ([], WANTED + "[]"), ([3], "operator.0: a table is"), (True, WANTED)])
def test_what_is_no_operator_is_refused_in_words(operator, words, tmp_path):
    for make in (lambda: suite(operator), lambda: config(operator, tmp_path)):
        with pytest.raises(InputError) as caught:
            make()
        assert words in str(caught.value)
        assert "OperatorEntry" not in str(caught.value)


def test_tables_are_asked_for_by_that_name(tmp_path):
    image = {"image": "photo.npy"}
    for make, place in (
        (lambda: suite({**BLUR, "noise": 3}), "operator.0.noise"),
        (lambda: suite(BLUR, metrics=[3]), "metrics.0"),
        (lambda: suite(BLUR, data=3), "data"),
        (lambda: suite(BLUR, solver={"name": "hqs", "prior": "tv", "for": {"gaussian-blur": 3}}), "solver.0.for.gaussian-blur"),
        (lambda: config(BLUR, tmp_path, data="photo.npy"), "data"),
        (lambda: config(BLUR, tmp_path, data=image, run=3), "run"),
        (lambda: config(BLUR, tmp_path, solver=3), "solver"),
    ):
        with pytest.raises(InputError, match=rf"- {place}: a table is wanted, such as {{ key = value }} \(given"):
            make()


def test_a_crop_may_be_a_side(tmp_path):
    def image(crop):
        return config(BLUR, tmp_path, data={"image": "photo.npy", "crop": crop}).data.crop

    assert image(8) == image([8, 8]) == (8, 8)
    assert image([1, 2, 3, 4]) == (1, 2, 3, 4)
    for wrong in (0, -1, True, "large", 2.5, [8], [8, 0], [1, 2, 3, 4]):
        for make in (
            lambda: suite(BLUR, data={"folder": "photos", "crop": wrong}),  # noqa: B023 (called at once)
            lambda: config(BLUR, tmp_path, data={"set": {"folder": "photos", "crop": wrong}}),  # noqa: B023
        ):
            with pytest.raises(
                InputError, match=r"data\.(set\.)?crop: a side or \[height, width\], whole numbers above 0; given"
            ) as caught:
                make()
            assert "constrained" not in str(caught.value)
    for wrong in ("large", 2.5, [8], [1, 2, 3], [1.5, 2], True, {"a": 1}):
        with pytest.raises(InputError, match=r"data\.crop: crop is a side, \[height, width\] or \[top, left, height, width\], whole"):
            image(wrong)
