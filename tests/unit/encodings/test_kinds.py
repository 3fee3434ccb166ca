"""Every encoding holds every kind of data that it takes, wherever its chunks begin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from kinds import TensorVersions, pairs

from git_theta_ext.interfaces import Base, Chunk, Encoding, Fit
from git_theta_ext.registry import built_in, find_encoding

if TYPE_CHECKING:
    from git_theta_ext.model.tensor import TensorSpec

PAIRS = pairs()
CUTS = (0, 1, 1000, 1064, 5000)
"""Elements at which chunks begin: in the middle of rows, at their ends, and one of a single element."""


@dataclass(frozen=True)
class Held:
    spec: TensorSpec
    data: bytes

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        return memoryview(self.data)[start:end]


def fitted(encoding: Encoding, pair: TensorVersions) -> Fit | None:
    return encoding.fit(Held(pair.new_spec, pair.new), Held(pair.old_spec, pair.old))


def round_trip(encoding: Encoding, pair: TensorVersions, fit: Fit) -> int:
    """Encode and decode all chunks; return the bytes of the payloads."""
    spec = pair.new_spec
    octets = spec.nbytes // spec.elements
    places = [cut * octets for cut in CUTS if cut < spec.elements] + [spec.nbytes]
    whole = [Base(of, memoryview(data).cast("B")) for of, data in fit.tensors]
    stored, back = 0, bytearray()
    for start, end in itertools.pairwise(places):
        bases = (Base(pair.old_spec, memoryview(pair.old)[start:end]), *whole)[: len(encoding.needs)]
        chunk = Chunk(spec, start, bases, fit.params)
        payload = b"".join(encoding.encode(chunk, memoryview(pair.new)[start:end]))
        out = bytearray(end - start)
        encoding.decode(chunk, memoryview(payload), memoryview(out))
        stored += len(payload)
        back += out
    assert back == pair.new
    return stored


@pytest.mark.parametrize("kind", PAIRS)
def test_dense_and_delta_bring_every_kind_back(kind: str):
    dense = round_trip(find_encoding("dense"), PAIRS[kind], Fit())
    fit = fitted(find_encoding("delta"), PAIRS[kind])
    assert fit is not None
    assert round_trip(find_encoding("delta"), PAIRS[kind], fit) <= 1.02 * dense


@pytest.mark.parametrize("name", sorted(set(built_in("encodings")) - {"dense", "delta"}))
def test_an_encoding_of_updates_brings_back_what_it_fits(name: str):
    encoding = find_encoding(name)
    fits = {kind: fitted(encoding, pair) for kind, pair in PAIRS.items()}
    found = {kind: round_trip(encoding, PAIRS[kind], fit) for kind, fit in fits.items() if fit is not None}
    assert {"low_rank": "low rank F32", "scale": "scaled rows F32", "ternary": "ternary F32"}[name] in found


@pytest.mark.parametrize("kind", [kind for kind in PAIRS if kind.startswith("unchanged")])
def test_what_did_not_change_takes_a_byte_a_chunk(kind: str):
    assert round_trip(find_encoding("delta"), PAIRS[kind], Fit()) == len(CUTS)
