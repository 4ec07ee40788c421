"""Two hundred broken or hostile weight files: none runs code, none takes long, each ends in a clear error."""

import io
import json
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest
import torch
from invsolve_weights import containers
from safetensors.torch import save

from invsolve import InputError, load_prior

LIMIT = 5.0  # seconds, as promised; they take milliseconds


class Runs:
    """A pickle of this writes a file when it is loaded with code allowed."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def good():
    return save({"m_head.weight": torch.zeros(8, 4, 3, 3), "m_tail.weight": torch.zeros(3, 8, 3, 3)})


def with_header(header, body=b"\0" * 64):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(4,), begin=0, end=16):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def safetensors_files(random):
    """(name, content): random bytes, cut files, headers that lie."""
    whole = good()
    for k in range(40):
        yield f"random{k}.safetensors", random.bytes(int(random.integers(0, 3000)))
    for k in range(20):
        yield f"cut{k}.safetensors", whole[: int(random.integers(0, len(whole)))]
    for k, length in enumerate((0, 1, 2**20, 2**33, 2**62, 2**64 - 1)):
        yield f"huge{k}.safetensors", struct.pack("<Q", length) + b"{}" * 8
    yield "deep.safetensors", with_header(b"[" * 200_000)
    yield "deeper.safetensors", with_header(b'{"a":' * 200_000)
    headers = [
        [],
        {"a": 1},
        {"a": {}},
        {"a": entry(dtype="F3")},
        {"a": {**entry(), "dtype": ["F32"]}},
        {"a": entry(shape=(-1,))},
        {"a": entry(shape=(10**18,))},
        {"a": entry(shape=(2**40, 2**40))},
        {"a": entry(shape=("x",))},
        {"a": entry(shape=(1.5,))},
        {"a": entry(begin=16, end=0)},
        {"a": entry(begin=-16, end=0)},
        {"a": entry(begin=1000, end=1016)},
        {"a": entry(end=12)},
        {"a": {**entry(), "data_offsets": [0]}},
        {"a": {**entry(), "data_offsets": None}},
        {"a": entry(), "b": entry()},
        {"a": entry(), "b": entry(begin=8, end=24)},
        {f"k{k}": entry() for k in range(1000)},
        {"m_head.weight": entry(shape=(2, 2)), "m_tail.weight": entry(shape=(2, 2), begin=16, end=32)},
    ]
    for k, header in enumerate(headers):
        yield f"header{k}.safetensors", with_header(header)


def torch_bytes(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def torch_files(random, marker):
    """Pickles with code in every place, cut and random files, zip bombs, views of nothing."""
    runs = Runs(marker)
    for k in range(30):
        yield f"random{k}.pt", random.bytes(int(random.integers(0, 3000)))
    whole = torch_bytes({"a": torch.zeros(100)})
    for k in range(20):
        yield f"cut{k}.pth", whole[: int(random.integers(0, len(whole)))]
    for k in range(10):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 20):
            damaged[place] ^= 255
        yield f"flipped{k}.pth", bytes(damaged)
    for protocol in range(2, 6):
        yield f"plain{protocol}.pt", pickle.dumps(runs, protocol=protocol)
        yield f"within{protocol}.ckpt", pickle.dumps({"state_dict": {"a": runs}}, protocol=protocol)
    for new in (True, False):
        for k, value in enumerate(
            (runs, {"a": runs}, {"state_dict": {"m_head.weight": runs}}, [runs], {"a": torch.zeros(2), "optimiser": runs})
        ):
            yield f"saved{new}{k}.pth", torch_bytes(value, _use_new_zipfile_serialization=new)
    for k, value in enumerate((1, "text", [torch.zeros(3)], {}, {"a": 1}, {1: torch.zeros(2)}, torch.zeros(3))):
        yield f"content{k}.bin", torch_bytes(value)
    yield "view.pt", torch_bytes({"m_head.weight": torch.zeros(1).expand(10**10), "m_tail.weight": torch.zeros(1)})
    yield "sparse.pt", torch_bytes({"a": torch.zeros(3, 3).to_sparse()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + b"0" * (50 << 20))
    yield "bomb.pt", buffer.getvalue()
    yield "edm.pkl", pickle.dumps({"ema": runs})


def npz_files(random, marker):
    """Objects in arrays, cut files, bombs, headers that lie."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Runs(marker)], dtype=object), allow_pickle=True)
    yield "object.npz", buffer.getvalue()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(20_000_000, np.uint8))
    yield "bomb.npz", buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(50, np.float32))
    whole = buffer.getvalue()
    for k in range(15):
        yield f"cut{k}.npz", whole[: int(random.integers(0, len(whole)))]
    for k in range(10):
        yield f"random{k}.npz", random.bytes(int(random.integers(0, 3000)))
    for k, shape in enumerate(("(10000000000000,)", "(-1,)", "(1,'x')", "__import__('os')")):
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0" * 16)
        yield f"header{k}.npz", buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"not an array")
    yield "text.npz", buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array(["text"]))
    yield "strings.npz", buffer.getvalue()


def test_two_hundred_hostile_files(tmp_path):
    random, marker = np.random.default_rng(0), tmp_path / "code-ran"
    files = [*safetensors_files(random), *torch_files(random, marker), *npz_files(random, marker)]
    assert len(files) >= 200
    for name, content in files:
        path = tmp_path / name
        path.write_bytes(content)
        start = time.monotonic()
        with pytest.raises(InputError) as raised:
            load_prior(str(path))
        assert time.monotonic() - start < LIMIT, name
        assert name in str(raised.value), (name, str(raised.value))
        assert len(str(raised.value)) < 1500, (name, str(raised.value))
        assert not marker.exists(), name
        path.unlink()


def legacy(pickled):
    """A file of torch's old format whose fourth pickle, the content, is given."""
    first = [pickle.dumps(one, protocol=2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {}})]
    return b"".join(first) + pickled


def zipped(pickled):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return buffer.getvalue()


def slow_files():
    """(name, content): small files that keep a reader busy."""
    busy = b"\x80\x02]" + b"K\x01" * 4_000_000
    yield "zip.pt", zipped(busy + b"0" * 4_000_000 + b".")
    yield "legacy.pt", legacy(busy + b".")
    yield "first.pt", busy
    yield "none.pt", legacy(b"\x80\x02(" + b"N" * 4_000_000 + b"l.")
    empty = {"dtype": "F32", "data_offsets": [0, 0]}
    for count in (2900, 90_000):
        header = {f"conv_list.{n}.weight": {**empty, "shape": [0]} for n in range(count)}
        header |= {"in_conv.weight": {**empty, "shape": [0, 3, 3, 3]}, "out_conv.weight": {**empty, "shape": [3, 0, 3, 3]}}
        yield f"layers{count}.safetensors", with_header(header)
        yield f"chain{count}.safetensors", with_header({f"model.{2 * n}.weight": {**empty, "shape": [3, 3, 0, 0]} for n in range(count)})


def test_files_that_keep_a_reader_busy(tmp_path, monkeypatch, request):
    """In a plain run one of the four pickles is read up to the bound as it is, the others up to an eighth of it."""
    for name, content in slow_files():
        if name == "legacy.pt" and not request.config.getoption("--whole"):
            monkeypatch.setattr(containers, "OPERATION_LIMIT", containers.OPERATION_LIMIT // 8)
        path = tmp_path / name
        path.write_bytes(content)
        start = time.monotonic()
        with pytest.raises(InputError, match=name):
            load_prior(path, check=False)
        assert time.monotonic() - start < 2 * LIMIT, name  # a second or two; half a minute or more without bounds
        path.unlink()


def test_the_marker_does_appear_where_code_is_allowed(tmp_path):
    """The pickles above are live."""
    marker = tmp_path / "code-ran"
    pickle.loads(pickle.dumps(Runs(marker))).close()
    assert marker.exists()
