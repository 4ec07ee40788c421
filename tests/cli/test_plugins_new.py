"""invsolve plugins new: names that are refused, nothing overwritten, and a template that fits every legal name."""

import re
import tomllib

import pytest
from click.testing import CliRunner

from invsolve.cli import main
from invsolve.cli.new import LONGEST, new_plugin, template_files
from invsolve.errors import InputError
from invsolve.plugins import KINDS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("My Lab", "try my-lab"),
        ("my_lab", "try my-lab"),
        ("2-photon", "try photon"),
        ("", "lower-case"),
        ("-", "lower-case"),
        ("a--b", "try a-b"),
        ("../evil", "try evil"),
        ("new\nline", "try new-line"),
        ("é", "lower-case"),
        ("x" * (LONGEST + 1), f"at most {LONGEST}"),
        ("invsolve-mine", "leave out"),
        ("core", "taken by the plug-in of invsolve"),
        ("deepinv", "taken by the plug-in of invsolve"),
        ("smoke", "taken by the suite of invsolve"),
    ],
)
def test_names_that_are_refused(name, hint, tmp_path):
    with pytest.raises(InputError, match=hint):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_importable_module_is_taken(tmp_path, monkeypatch):
    (tmp_path / "invsolve_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="importable module invsolve_mine"):
        new_plugin("mine", tmp_path)


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_nothing_is_overwritten(kind, tmp_path):
    target = tmp_path / "mine"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("precious")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing is overwritten"):
        new_plugin("mine", tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        new_plugin("mine", tmp_path / "file")


@pytest.mark.parametrize("name", ["mine", "my-lab-2", "x" * LONGEST])
def test_the_project_is_whole(name, tmp_path):
    folder = new_plugin(name, tmp_path / "made" / "on the way")
    module = f"invsolve_{name.replace('-', '_')}"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.replace("__module__", module) for path, _ in template_files())
    hook = (folder / "src" / module / "__init__.py").read_text()
    assert sorted(re.findall(r'add\("([a-z]+)"', hook)) == sorted(KINDS), "one of each kind"
    for place in re.findall(rf'"{module}\.(\w+):', hook):
        assert f"src/{module}/{place}.py" in files
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == f"invsolve-{name}"
    assert project["project"]["entry-points"]["invsolve"] == {name: module}
    for path in files:
        text = (folder / path).read_text()
        assert not re.search(r"\$\{?[a-z]|__module__", text), path
        if path.endswith(".py"):
            compile(text, path, "exec")
    assert max(len(entry) for entry in re.findall(rf'"({name}[a-z-]*)"', (folder / "src" / module / "__init__.py").read_text())) <= 64


def test_the_command_says_what_to_do_next(tmp_path):
    done = CliRunner().invoke(main, ["plugins", "new", "mine", "--into", str(tmp_path / "my folder")])
    assert done.exit_code == 0, done.output
    assert "pyproject.toml" in done.output
    assert f"cd '{tmp_path}/my folder/mine' && pip install -e '.[test]' && pytest" in done.output
    again = CliRunner().invoke(main, ["plugins", "new", "mine", "--into", str(tmp_path / "my folder")])
    assert again.exit_code == 2
    assert "nothing is overwritten" in again.output
