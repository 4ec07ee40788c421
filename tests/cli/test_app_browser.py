"""The page of `invsolve app` in headless Chromium: a photograph in, its restoration out, and no request that leaves this computer."""

import os
import shutil
from importlib.util import find_spec
from urllib.parse import urlparse

import pytest
import torch
from invsolve_benchmarks.datasets import quick_photos

from invsolve.io.images import read_image, write_image

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra browser)")
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
    pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed (extra app)"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from invsolve_app.command import library, served

    library()
    folder = tmp_path_factory.mktemp("page")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    page, address = served(folder)
    yield address
    page.close(verbose=False)
    os.environ.pop("GRADIO_TEMP_DIR") if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


@pytest.fixture
def page(address):
    """The page, and that it asked nobody else and complained of nothing."""
    said, asked = [], []
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1024, "height": 900})
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#go")
        yield page
        browser.close()
    assert said == []
    assert {urlparse(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}


def test_a_photograph_goes_in_and_its_restoration_comes_out(page, tmp_path):
    noisy = tmp_path / "photo.png"
    clean = quick_photos()[2].image[:, 20:68, 30:78]
    write_image(noisy, clean + 0.06 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))
    page.locator("#go").click()
    assert "Put in a photograph" in page.locator("#said [role=alert]").inner_text()
    page.locator("#photograph input[type=file]").set_input_files(noisy)
    page.wait_for_selector("#said :text('48 x 48')")
    page.locator("#go").click()
    page.wait_for_selector("#report .answer")
    assert "explains the picture" in page.locator("#said").inner_text()
    images = page.locator("#slider img")
    images.nth(1).wait_for()
    page.wait_for_function("[...document.querySelectorAll('#slider img')].every((one) => one.alt && one.naturalWidth === 48)")
    with page.expect_download() as taken:
        page.locator("#files a").first.click()
    taken.value.save_as(tmp_path / "taken.png")
    restored = read_image(tmp_path / "taken.png")[0]
    assert (restored - clean).square().mean() < 0.3 * (read_image(noisy)[0] - clean).square().mean()  # 5 dB; 7.6 when written
    for width in (390, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_holes_are_painted_and_filled(page, tmp_path):
    photo = tmp_path / "holes.png"
    write_image(photo, quick_photos()[2].image[:, :64, :64])
    page.get_by_label("Holes", exact=True).click()
    page.locator("#photograph input[type=file]").set_input_files(photo)
    page.wait_for_selector("#said :text('64 x 64')")
    page.wait_for_selector("#painter canvas")
    page.wait_for_timeout(800)  # the canvas grows to the picture
    box = page.locator("#painter canvas").first.bounding_box()
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(across - 20, down)
    page.mouse.down()
    page.mouse.move(across + 20, down + 8, steps=6)
    page.mouse.up()
    page.wait_for_timeout(800)  # what is painted is sent a moment later
    page.locator("#go").click()
    page.wait_for_selector("#report .answer")
    assert "--mask holes_mask.png" in page.locator("#report").inner_text()
    assert page.locator("#said [role=alert]").count() == 0
