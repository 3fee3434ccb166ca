"""Write one model in each format for which a library is installed."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
import zipfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import torch
from safetensors.numpy import save, save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Model = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

_WIDTH = 768


def write_all(folder: Path, megabytes: int) -> list[Path]:
    """Write a model of so many megabytes of float32 in each format, and return the files."""
    draw = np.random.default_rng(0)
    shapes = {f"layers.{n}.weight": (_WIDTH, _WIDTH) for n in range(max(4, megabytes * 1_000_000 // (4 * _WIDTH**2)))}
    model = {name: draw.standard_normal(shape, dtype=np.float32) * np.float32(0.02) for name, shape in shapes.items()}
    files = []
    for suffix, (library, write) in _WRITERS.items():
        if find_spec(library) is not None:
            files.append(folder / f"model-{megabytes}{suffix}")
            write(model, files[-1])
    return files


def _torch(path: Path, content: object, *, legacy: bool = False) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def _tensors(model: Model) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in model.items()}


def _script(model: Model, path: Path) -> None:
    module = torch.nn.Sequential(*(torch.nn.Linear(*value.shape[::-1], bias=False) for value in model.values()))
    module.load_state_dict({f"{n}.weight": value for n, value in enumerate(_tensors(model).values())})
    torch.jit.script(module).save(str(path))


def _hdf5(model: Model, path: Path, **options: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, value in model.items():
            file.create_dataset(name.replace(".", "/"), data=value, **options)


def _flax(model: Model, path: Path) -> None:
    def array(value: np.ndarray[Any, np.dtype[np.float32]]) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    path.write_bytes(msgpack.packb({name: {"kernel": array(value)} for name, value in model.items()}))


def _tar(model: Model, path: Path, mode: Any = "w") -> None:
    inner = path.with_name("model_weights.ckpt")
    _torch(inner, _tensors(model))
    with tarfile.open(path, mode) as tar:
        tar.add(inner, inner.name)
    inner.unlink()


def _gzip(model: Model, path: Path) -> None:
    path.write_bytes(gzip.compress(save(model)))


def _mar(model: Model, path: Path) -> None:
    inner = io.BytesIO()
    torch.save(_tensors(model), inner)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", inner.getvalue())
        archive.writestr("MAR-INF/MANIFEST.json", "{}")


def _zip(model: Model, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in model.items():
            archive.writestr(f"{name}.safetensors", save({name: value}))


def _keras(model: Model, path: Path) -> None:
    inner = path.with_name("model.weights.h5")
    _hdf5(model, inner)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.12.0"}')
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.write(inner, inner.name)
    inner.unlink()


def _onnx(model: Model, path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(value, name) for name, value in model.items()]
    onnx.save(helper.make_model(helper.make_graph([], "model", [], [], tensors)), str(path))


def _gguf(model: Model, path: Path) -> None:
    head, at = b"GGUF" + struct.pack("<I2Q", 3, len(model), 0), 0
    for name, value in model.items():
        head += struct.pack("<Q", len(name)) + name.encode()
        head += struct.pack(f"<I{value.ndim}QIQ", value.ndim, *value.shape[::-1], 0, at)
        at += value.nbytes
    path.write_bytes(head + bytes(-len(head) % 32) + b"".join(value.tobytes() for value in model.values()))


def _dcp(model: Model, path: Path) -> None:
    from torch.distributed import checkpoint

    folder = path.with_name("dcp")
    checkpoint.save(_tensors(model), checkpoint_id=str(folder), no_dist=True)
    (folder / "__0_0.distcp").rename(path)
    shutil.rmtree(folder)


def _export(model: Model, path: Path) -> None:
    module = torch.nn.Sequential(*(torch.nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in model))
    module.load_state_dict({f"{n}.weight": value for n, value in enumerate(_tensors(model).values())})
    torch.export.save(torch.export.export(module, (torch.zeros(1, _WIDTH),)), path)


def _joblib(model: Model, path: Path, **options: Any) -> None:
    import joblib

    joblib.dump(model, path, **options)


_WRITERS: dict[str, tuple[str, Callable[[Model, Path], object]]] = {
    ".safetensors": ("safetensors", save_file),
    ".pt": ("torch", lambda model, path: _torch(path, _tensors(model))),
    "-legacy.pt": ("torch", lambda model, path: _torch(path, _tensors(model), legacy=True)),
    "-script.pt": ("torch", _script),
    ".npz": ("numpy", lambda model, path: np.savez(path, **model)),
    "-compressed.npz": ("numpy", lambda model, path: np.savez_compressed(path, **model)),
    ".h5": ("h5py", _hdf5),
    "-chunked.h5": ("h5py", lambda model, path: _hdf5(model, path, chunks=(64, _WIDTH))),
    ".msgpack": ("msgpack", _flax),
    ".nemo": ("torch", _tar),
    ".keras": ("h5py", _keras),
    ".onnx": ("onnx", _onnx),
    ".gguf": ("numpy", _gguf),
    ".distcp": ("torch", _dcp),
    ".pt2": ("torch", _export),
    ".zip": ("safetensors", _zip),
    ".tar.gz": ("torch", lambda model, path: _tar(model, path, "w:gz")),
    ".safetensors.gz": ("safetensors", _gzip),
    ".mar": ("torch", _mar),
    ".joblib": ("joblib", _joblib),
    "-compressed.joblib": ("joblib", lambda model, path: _joblib(model, path, compress=3)),
    ".bin": ("numpy", lambda model, path: path.write_bytes(b"".join(value.tobytes() for value in model.values()))),
}
"""The library and the function that writes, by the end of the file's name."""
