"""Valid files of every kind that is read, and how they are damaged: bytes exchanged, values of tables replaced by anything."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from invsolve_operators import BlockMean, FileMask, GaussianBlur, Mask, PaddedBlur
from PIL import Image
from safetensors.torch import save

from invsolve import GaussianNoise, Problem
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.solvers import HQS

# What a value of a table is replaced by.
ANYTHING: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 10**9, 10**20, -(10**9), 0.5, -0.5, 1e30, 1e-30, float("inf"), "", "x", "auto", "1", "../..",
    "é\x00", [], {}, [0], [1, 2], [[1.0, 2.0], [3.0]], ["a", "b"], {"name": "x"}, {"file": "x"}, {"file": 3}, {"name": "mask"},
    [3, 12000, 12000],
    [1, 100000, 100000], [3, 12000], [1e9, 1e9], "a" * 5000, {"tensor": "y"}, {"tuple": [1, 2]}, {"tuple": [3, 12000, 12000]}, {"dict": {}},
]  # fmt: skip


def pixels(rng: random.Random, *shape: int) -> np.ndarray:
    """uint8 noise."""
    return np.frombuffer(rng.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)


def encoded(array: np.ndarray, form: str, **options: Any) -> bytes:
    """A picture in a format of Pillow's."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format=form, **options)
    return stream.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """A picture as TIFF."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def stored(array: np.ndarray) -> bytes:
    """An array as .npy."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def bundled(**arrays: np.ndarray) -> bytes:
    """Arrays as a compressed .npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def matlab(content: dict[str, Any], packed: bool) -> bytes:
    """Variables as a MATLAB 5 file."""
    import scipy.io

    stream = io.BytesIO()
    scipy.io.savemat(stream, content, do_compression=packed)
    return stream.getvalue()


def pictures(rng: random.Random) -> dict[str, bytes]:
    """Valid pictures and arrays, by name."""
    colour, grey = pixels(rng, 12, 16, 3), pixels(rng, 12, 16)
    deep = grey.astype(np.uint16) * 257
    wide = np.dstack([deep] * 3)
    found = {f"a.{form.lower()}": encoded(colour, form) for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")}
    found |= {"grey.png": encoded(grey, "PNG"), "deep.png": encoded(deep, "PNG"), "alpha.png": encoded(pixels(rng, 9, 9, 4), "PNG")}
    found |= {"deep.tif": tiff(wide, photometric="rgb"), "zip.tif": tiff(wide, photometric="rgb", compression="zlib")}
    found |= {"float.tif": tiff((wide / 65535).astype(np.float32), photometric="rgb"), "bit.tif": encoded(grey > 99, "TIFF")}
    found |= {
        "planar.tif": tiff(wide.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "lzw.tif": encoded(colour, "TIFF", compression="tiff_lzw"),
    }
    found |= {
        "a.npy": stored(colour.transpose(2, 0, 1) / 255.0),
        "hwc.npy": stored(colour),
        "a.safetensors": save({"x": torch.full((3, 9, 9), 0.5)}),
    }
    return found


def masks(rng: random.Random) -> dict[str, bytes]:
    """Valid masks of 12 x 16, by name."""
    known = pixels(rng, 3, 4).repeat(4, 0).repeat(4, 1) > 99
    full = (known * 255).astype(np.uint8)
    found = {"a.png": encoded(full, "PNG"), "bit.png": encoded(known, "PNG"), "ones.png": encoded(known.astype(np.uint8), "PNG")}
    found |= {"a.jpg": encoded(full, "JPEG", quality=95), "erased.png": encoded(np.dstack([pixels(rng, 12, 16, 3), full]), "PNG")}
    found |= {"bool.npy": stored(known), "byte.npy": stored(full), "int.npy": stored(known.astype(int)), "float.npy": stored(known * 1.0)}
    found |= {"deep.tif": tiff(known.astype(np.uint16) * 65535), "a.safetensors": save({"m": torch.from_numpy(full)})}
    return found


def kernels(rng: random.Random) -> dict[str, bytes]:
    """Valid kernels, and small files that claim large ones."""
    kernel = pixels(rng, 7, 9) / 255.0
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = kernel, kernel[:5]
    found = {"a.npy": stored(kernel), "a.npz": bundled(k=kernel, l=kernel[:3]), "a.png": encoded(pixels(rng, 9, 9), "PNG")}
    found |= {"a.mat": matlab({"k": kernel}, False), "packed.mat": matlab({"k": kernel}, True), "cells.mat": matlab({"k": cells}, True)}
    found |= {"a.safetensors": save({"k": torch.ones(5, 5)}), "stack.npy": stored(pixels(rng, 2, 5, 5))}
    found |= {"large.npz": bundled(k=np.zeros((6000, 6000), np.uint8)), "large.mat": matlab({"k": np.zeros((6000, 6000), np.uint8)}, True)}
    return found


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to side x side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(9)
    rows = b"".join([packed.compress(bytes(side + 1)) for _ in range(side)]) + packed.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to three things done to bytes; near the front more often, where headers are."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not out:
            break
        at = rng.randrange(len(out)) if rng.random() < 0.5 else rng.randrange(min(len(out), 200))
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00"))
        elif kind == 4:
            out[at:at] = rng.randbytes(rng.randint(1, 40))
        elif kind == 5:
            del out[at : at + rng.randint(1, 40)]
        elif kind == 6:
            out[at : at + 8] = rng.randbytes(8)
        else:
            digits = [place for place, one in enumerate(out[:400]) if 48 <= one < 58]
            if digits:
                out[rng.choice(digits)] = 57
    return bytes(out)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested tables and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inner for place in [(*path, key), *places(part, (*path, key))]]


def replaced(value: Any, rng: random.Random, keep: Callable[[tuple[Any, ...]], bool] = lambda place: False) -> Any:
    """One or two values of nested tables replaced, removed, doubled or renamed; the input is left as it is."""
    copy = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 2)):
        chosen = [place for place in places(copy) if not keep(place)]
        if not chosen:
            break
        *way, last = rng.choice(chosen)
        place = copy
        for key in way:
            place = place[key]
        kind = rng.randrange(10)
        if kind == 0:
            del place[last]
        elif kind == 1 and isinstance(place, dict):
            place[rng.choice(("name", "x", "operator", "sigma", str(last) + "s"))] = place.pop(last)
        elif kind == 2:
            nested: Any = 1
            for _ in range(rng.choice((3, 40, 300))):
                nested = [nested]
            place[last] = nested
        else:
            place[last] = rng.choice(ANYTHING)
    return copy


def toml(value: Any) -> str:
    """A value as TOML; None, which TOML has not, as text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return "inf" if value == float("inf") else repr(value)
    return '"none"' if value is None else json.dumps(value)


def document(values: dict[str, Any]) -> str:
    """Tables as a TOML file."""
    return "".join(f"{json.dumps(str(key))} = {toml(part)}\n" for key, part in values.items())


ROUGH = [
    "[" * 900,
    "a" + ".a" * 20000 + " = 1",
    "x = " + "9" * 5000,
    "x = 0x" + "f" * 5000,
    "\x00",
    "a = 1\n" * 3,
    "[data]\n[data]",
    "é = 1",
    "a=" + "[" * 5000,
]


def problem_tables(rng: random.Random) -> dict[str, Any]:
    """A problem file's tables: some operator, some solver, with numbers that their constructors name."""
    operators: list[Any] = [
        {"name": "gaussian-blur", "sigma": 1.0}, {"name": "mask", "keep": 0.5}, {"name": "box-mask", "box": 4},
        {"name": "block-mean", "factor": 2}, {"name": "bicubic", "factor": 2}, {"name": "file-mask", "path": "m.png"},
        {"name": "iterative-prox", "tol": 1e-3, "operator": {"name": "padded-blur", "kernel": [[0.5, 0.5]], "boundary": "reflect"}},
        [{"name": "gaussian-blur"}, {"name": "mask", "keep": 0.5}],
        {"name": "separable-gaussian-blur", "sigma": 1.0, "boundary": "symmetric"}, {"name": "file-blur", "path": "k.npy"},
    ]  # fmt: skip
    solver = rng.choice(["adam-tv", "hqs", "admm", "ddrm", "diffpir", "dps", "score-ald", "rl-tv"])
    arguments = {
        name: parameter.default
        for name, parameter in signature_of(registry().load("solver", solver)).parameters.items()
        if isinstance(parameter.default, bool | int | float | str)
    }
    arguments |= {"steps": 3} if "steps" in arguments else {}
    prior = {"name": "tv", "weight": 0.1} if solver in ("adam-tv", "hqs", "admm", "rl-tv") else {"name": "gaussian", "mean": 0.5}
    return {
        "data": {"image": "a.png", "simulate": True, "crop": [12, 16]},
        "operator": rng.choice(operators),
        "noise": {"name": "poisson", "gain": 0.01} if solver == "rl-tv" else {"name": "gaussian", "sigma": 0.05},
        "prior": prior,
        "solver": {"name": solver, **arguments},
        "run": {"seed": 0, "device": "cpu", "out": "r.npy"},
    }


def argument(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """(kind, registered name, arguments) of a solver, an operator or a prior with one argument of any kind, as Python has it."""
    kind = rng.choice(["solver", "solver", "operator", "prior"])
    name = rng.choice(registry().names(kind))
    taken = [
        one for one, parameter in signature_of(registry().load(kind, name)).parameters.items() if parameter.kind != parameter.VAR_KEYWORD
    ]
    given = {"in_shape": (1, 8, 8)} if "in_shape" in taken else {}
    value = rng.choice(
        [*ANYTHING, (1, 2), torch.ones(2), torch.ones(3, 4), torch.tensor(float("nan")), 2**70, -0.0, 1 + 2j, object(), print]
    )
    return kind, name, {**given, rng.choice(taken): value} if taken else given


def suite_tables(rng: random.Random) -> dict[str, Any]:
    """A small suite's tables."""
    problem = problem_tables(rng)
    operator = problem["operator"] if isinstance(problem["operator"], dict) else {"chain": problem["operator"]}
    return {
        "title": "t",
        "data": {"shape": [3, 12, 16], "images": 1},
        "noise": problem["noise"],
        "operator": [{**operator, "label": "box"}],
        "metrics": ["psnr", {"name": "ssim", "crop": 0}],
        "solver": [{**problem["solver"], "prior": problem["prior"], "label": "s", "for": {"box": {"prior": problem["prior"]}}}],
    }


def plain_suite() -> dict[str, Any]:
    """A suite of two cells that ends at once."""
    solver = {"name": "adam-tv", "steps": 2, "prior": {"name": "tv"}}
    data = {"shape": [3, 12, 16], "images": 2}
    return {"data": data, "noise": {"sigma": 0.05}, "operator": [{"name": "gaussian-blur"}], "metrics": ["psnr"], "solver": [solver]}


def save_problems(folder: Path) -> list[Path]:
    """Folders that Problem.save and Solution.save wrote."""
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shape = (1, 8, 8)
    named = {"radon": {}, "separable-gaussian-blur": {}, "motion-blur": {}, "camera-shake-blur": {"size": 5}, "walsh-hadamard": {}}
    blur, holes = GaussianBlur(shape, 1.0), Mask(shape, keep=0.5)
    operators = [holes, blur, BlockMean(shape, 2), holes @ blur, FileMask(shape), PaddedBlur(shape, [[0.5, 0.5]], "valid"), 2 * blur]
    operators += [registry().build("operator", name, in_shape=shape, **arguments) for name, arguments in named.items()]
    made = []
    for index, operator in enumerate(operators):
        problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0)
        problem.save(folder / f"problem{index}")
        made.append(folder / f"problem{index}")
    solution = HQS(steps=3).solve(
        Problem.simulate(operators[0], x, GaussianNoise(0.05), generator=0), registry().build("prior", "tv"), keep=1
    )
    solution.save(folder / "solution")
    return [*made, folder / "solution"]


def damage_folder(source: Path, target: Path, rng: random.Random) -> None:
    """A copy of a saved folder with a value of config.json or a byte of the tensors changed; the checksum often made to fit again."""
    target.mkdir()
    config, blob = (source / "config.json").read_text(), (source / "tensors.safetensors").read_bytes()
    if rng.random() < 0.75:
        changed = replaced(json.loads(config), rng, keep=lambda place: place[0] in ("sha256", "format"))
        text = json.dumps(changed)
    else:
        blob = damaged(blob, rng)
        fits = {**json.loads(config), "sha256": hashlib.sha256(blob).hexdigest()}
        text = json.dumps(fits) if rng.random() < 0.8 else config
    (target / "config.json").write_text(text)
    (target / "tensors.safetensors").write_bytes(blob)


def damage_run(folder: Path, rng: random.Random) -> None:
    """One JSON file of a run changed in a value, one other file in its bytes, or a file gone."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [path for path in files if path.suffix == ".json"]
    kind = rng.random()
    if kind < 0.8:
        path = rng.choice(tables)
        path.write_text(json.dumps(replaced(json.loads(path.read_text()), rng)))
    elif kind < 0.95:
        path = rng.choice(files)
        path.write_bytes(damaged(path.read_bytes(), rng))
    else:
        rng.choice(files).unlink()
