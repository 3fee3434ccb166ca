"""What the tests of encodings that predict have in common."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from git_theta_ext.interfaces import Base, Chunk, Fit
from git_theta_ext.model.floats import round_once
from git_theta_ext.model.tensor import TensorSpec

GOLDEN = Path(__file__).parents[2] / "golden"


@dataclass
class Memory:
    spec: TensorSpec
    data: bytes

    def read(self, start=0, end=None):
        return memoryview(self.data)[start:end]


def tensor(name, values):
    """Return a tensor of values that were rounded to the type."""
    spec = TensorSpec.of(name, values.shape)
    return Memory(spec, round_once(values.astype(np.float64), spec.dtype))


def values_of(name, shape, seed=0, size=0.03):
    """Return float64 values that the type can represent."""
    from git_theta_ext.model.floats import to_float

    made = tensor(name, np.random.default_rng(seed).standard_normal(shape) * size)
    return to_float(made.data, made.spec.dtype).astype(np.float64).reshape(shape)


REALS = ("BF16", "F32", "F16", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
"""Element types that predictions compute with."""

ROWS = 8
"""Of the matrices on which the conformance suite runs."""


def chunk_of(parent, fit, start=0, end=None, spec=None):
    """Return the chunk of bytes from ``start`` to ``end`` of a tensor coded against a parent."""
    factors = tuple(Base(spec, memoryview(data).cast("B")) for spec, data in fit.tensors)
    return Chunk(spec or parent.spec, start, (Base(parent.spec, parent.read(start, end)), *factors), fit.params)


def round_trip(encoding, fit, target, parent, piece=None):
    """Encode and decode a tensor in pieces of so many bytes; return the size of all payloads."""
    size = 0
    for start in range(0, target.spec.nbytes, piece or target.spec.chunk_bytes):
        end = min(start + (piece or target.spec.chunk_bytes), target.spec.nbytes)
        chunk = chunk_of(parent, fit, start, end)
        payload = b"".join(
            bytes(memoryview(each).cast("B")) for each in encoding.encode(chunk, target.read(start, end))
        )
        out = memoryview(bytearray(end - start))
        encoding.decode(chunk, memoryview(payload), out)
        assert out == target.read(start, end)
        size += len(payload)
    return size


def stored_size(encoding, fit, target, parent):
    """Return the share of its bytes that a tensor takes, its factors included."""
    from git_theta_plugins.encodings.dense import ENCODING as DENSE

    size = round_trip(encoding, fit, target, parent)
    for spec, data in fit.tensors:
        size += sum(memoryview(each).nbytes for each in DENSE.encode(Chunk(spec), memoryview(data).cast("B")))
    return size / target.spec.nbytes


def golden(encoding, name):
    """Return what a stored payload decodes to, and what it was made of."""
    folder = GOLDEN / encoding.name
    about = json.loads((folder / f"{name}.json").read_text())
    tensors = [
        Memory(TensorSpec.of(kind, shape), (folder / f"{name}.base{i}").read_bytes())
        for i, (kind, shape) in enumerate(about["bases"])
    ]
    data = (folder / f"{name}.data").read_bytes()
    fit = Fit(about["params"], tuple((each.spec, each.data) for each in tensors[1:]))
    out = memoryview(bytearray(len(data)))
    chunk = chunk_of(tensors[0], fit)
    encoding.decode(chunk, memoryview((folder / f"{name}.payload").read_bytes()), out)
    return out, data
