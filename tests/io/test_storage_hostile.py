"""Damaged and hostile folders end in an error of ours, never in a traceback of a library."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from storage_cases import SHAPE, saved, with_our_operators  # noqa: F401

from invsolve import InputError, InvsolveError, Problem


def edit(folder, change):
    """Rewrite config.json after `change` (which may give a replacement)."""
    file = folder / "config.json"
    data = json.loads(file.read_text())
    changed = change(data)
    file.write_text(json.dumps(data if changed is None else changed))


INNER = "['operator']['arguments']['outer']['object']"
HOSTILE = {
    "not json": lambda folder: (folder / "config.json").write_text("{"),
    "bytes": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"),
    "empty": lambda folder: (folder / "config.json").write_bytes(b""),
    "a list": lambda folder: edit(folder, lambda data: [data]),
    "deep nesting": lambda folder: (folder / "config.json").write_text("[" * 100_000),
    "deep value": lambda folder: (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"items": [', '"items": ' + "[" * 5000, 1)
    ),
    "a solution": lambda folder: edit(folder, lambda data: data.update(kind="solution")),
    "another format": lambda folder: edit(folder, lambda data: data.update(format=2)),
    "an extra key": lambda folder: edit(folder, lambda data: data.update(extra=1)),
    "a missing key": lambda folder: edit(folder, lambda data: data.pop("y")),
    "y of a missing tensor": lambda folder: edit(folder, lambda data: data.update(y={"tensor": "nowhere"})),
    "y a number": lambda folder: edit(folder, lambda data: data.update(y=3)),
    "y complex that is not": lambda folder: edit(folder, lambda data: data["y"].update(complex=True)),
    "y another tensor": lambda folder: edit(folder, lambda data: data.update(y={"tensor": "noise.state.sigma"})),
    "items too many": lambda folder: edit(folder, lambda data: data.update(items=[1, 2])),
    "items strings": lambda folder: edit(folder, lambda data: data.update(items=["a", "b", "c"])),
    "import path": lambda folder: edit(folder, lambda data: data["noise"].update(name="os:system")),
    "unknown core": lambda folder: edit(folder, lambda data: data["operator"].update(core="system")),
    "core as noise": lambda folder: edit(folder, lambda data: data.update(noise={"core": "sum", "arguments": {}, "state": {}})),
    "unknown tag": lambda folder: edit(folder, lambda data: data["operator"]["arguments"].update(outer={"eval": "1"})),
    "name not a string": lambda folder: edit(folder, lambda data: data["noise"].update(name=[1])),
    "misspelt argument": lambda folder: edit(folder, lambda data: data["noise"].update(arguments={"sigmo": 1})),
    "argument of a wrong type": lambda folder: edit(folder, lambda data: data["noise"].update(arguments={"sigma": "much"})),
    "argument refused": lambda folder: edit(folder, lambda data: data["noise"].update(arguments={"sigma": -1})),
    "an operator for a number": lambda folder: edit(
        folder, lambda data: data["noise"]["arguments"].update(sigma={"object": data["operator"]["arguments"]["outer"]["object"]})
    ),
    "a number for an operator": lambda folder: edit(folder, lambda data: data["operator"]["arguments"].update(outer=3)),
    "no state": lambda folder: edit(folder, lambda data: data["operator"].pop("state")),
    "state missing": lambda folder: edit(folder, lambda data: data["operator"].update(state={})),
    "state of another name": lambda folder: edit(folder, lambda data: data["noise"]["state"].update(other={"tensor": "y"})),
    "state of another shape": lambda folder: edit(folder, lambda data: data["noise"]["state"].update(sigma={"tensor": "y"})),
    "tensors gone": lambda folder: (folder / "tensors.safetensors").unlink(),
    "tensors cut": lambda folder: (folder / "tensors.safetensors").write_bytes((folder / "tensors.safetensors").read_bytes()[:-7]),
    "tensors exchanged": lambda folder: save_file({"y": torch.zeros(2)}, folder / "tensors.safetensors"),
    "tensors a folder": lambda folder: ((folder / "tensors.safetensors").unlink(), (folder / "tensors.safetensors").mkdir()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_folders(name, tmp_path):
    folder = saved(tmp_path / "saved")
    HOSTILE[name](folder)
    with pytest.raises(InvsolveError):
        Problem.load(folder)


def test_one_changed_bit_is_noticed(tmp_path):
    file = saved(tmp_path / "saved") / "tensors.safetensors"
    blob = bytearray(file.read_bytes())
    blob[-1] ^= 1  # the last bit of a number: nothing but the checksum can tell
    file.write_bytes(blob)
    with pytest.raises(InputError, match="checksum"):
        Problem.load(tmp_path / "saved")


def test_tensors_with_a_right_checksum_but_hostile_content(tmp_path):
    folder = saved(tmp_path / "saved")
    for blob in (b"x" * 100, (2**62).to_bytes(8, "little") + b"{}", b"\x02\x00\x00\x00\x00\x00\x00\x00{}junk"):
        (folder / "tensors.safetensors").write_bytes(blob)
        edit(folder, lambda data, blob=blob: data.update(sha256=hashlib.sha256(blob).hexdigest()))
        with pytest.raises(InputError):
            Problem.load(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        Problem.load(tmp_path / "nowhere")


def test_equal_tensors_are_kept_once(tmp_path):
    folder = saved(tmp_path / "saved")
    stored = load_file(folder / "tensors.safetensors")
    shapes = [tuple(value.shape) for value in stored.values()]
    assert shapes.count((3, *SHAPE)) == 2  # the gains (argument and buffer in one) and y
