"""plugins/template is what `invsolve plugins new template` writes: one truth, and a distribution that anyone can look at.

That such a project installs, is found, conforms and enters a benchmark is shown in test_stranger.py.
"""

from places import ROOT

from invsolve.cli.new import new_plugin

TEMPLATE = ROOT / "plugins" / "template"
LEFT_BY_TOOLS = ("build", "dist", "__pycache__", ".pytest_cache", ".ruff_cache")


def texts(folder):
    """File texts by path, without what installing and testing leave behind."""
    found = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part in LEFT_BY_TOOLS or part.endswith(".egg-info") for part in parts):
            found["/".join(parts)] = path.read_text(encoding="utf-8")
    return found


def test_the_example_is_the_generated_project(tmp_path, monkeypatch):
    monkeypatch.setattr("invsolve.cli.new.taken_by", lambda name: "")  # it may be installed here
    made = texts(new_plugin("template", tmp_path))
    assert texts(TEMPLATE) == made, "run: invsolve plugins new template --into DIR, and copy DIR/template over plugins/template"
