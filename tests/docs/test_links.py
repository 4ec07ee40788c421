"""Every relative link and anchor of the Markdown pages leads somewhere, and every picture has words for those who cannot see it."""

import re

import pytest
from places import ROOT

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in DOCS.rglob("*.md") if {"_build", "generated"}.isdisjoint(page.parts)),
]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def slugs(text):
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found]


def broken(page):
    """What is wrong with the links of a page, in words."""
    text = page.read_text(encoding="utf-8")
    for picture, words, target in LINK.findall(FENCE.sub("", text)):
        if picture and len(words) < 10:
            yield f"{target}: no words for the picture"
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in slugs(file.with_suffix(".md").read_text(encoding="utf-8")):
            yield f"{target}: no such heading"
    for block in re.findall(r"^```\{(?:image|figure)\} (.*?)^```", text, re.DOTALL | re.MULTILINE):
        name = block.split()[0]
        if not (page.parent / name).exists():
            yield f"{name}: no such file"
        if not re.search(r"^:alt: .{10}", block, re.MULTILINE):
            yield f"{name}: no words for the picture"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_anchors_and_pictures(page):
    assert list(broken(page)) == []


def test_links_that_are_wrong_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Here it is: (1)\n\n[a](#here-it-is-1) [b](page.md#here-it-is-1) [c](https://example.org/x#y) `[no](link)`\n\n"
        "[d](gone.md) [e](#there) [f](page.md#there) ![](page.md)\n\n```text\n[no](link)\n```\n\n```{image} none.png\n:width: 3\n```\n"
    )
    assert list(broken(page)) == [
        "gone.md: no such file",
        "#there: no such heading",
        "page.md#there: no such heading",
        "page.md: no words for the picture",
        "none.png: no such file",
        "none.png: no words for the picture",
    ]


def test_llms_txt_leads_to_pages():
    """Its links are those of the built site: each is a page, a chapter, a notebook, or one that is generated."""
    found = re.findall(r"\]\(([^)]+)\.html\)", (DOCS / "llms.txt").read_text(encoding="utf-8"))
    assert len(found) > 20
    for name in found:
        assert name.startswith("generated/") or (DOCS / f"{name}.md").exists(), name


def test_every_table_has_its_sentence():
    """What is measured is said in plain words, in docs/results.md."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    tables = [str(table.relative_to(ROOT)) for table in (ROOT / "benchmarks" / "results").rglob("*.md")]
    assert [table for table in tables if f"]({'../' + table})" not in text] == []
