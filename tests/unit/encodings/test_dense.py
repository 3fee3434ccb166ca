from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.coding import planes
from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Chunk
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_plugins.encodings.dense import ENCODING

GOLDEN = Path(__file__).parents[2] / "golden" / "dense"


def quantised(values):
    """Return blocks of Q4_1: scale and minimum as float16, and 32 numbers of four bits."""
    blocks = values.reshape(-1, 32)
    low = blocks.min(1, keepdims=True)
    scale = (blocks.max(1, keepdims=True) - low) / 15
    numbers = np.rint((blocks - low) / scale).astype("u1")
    heads = np.concatenate([scale, low], 1).astype("<f2").view("u1")
    return np.concatenate([heads, numbers[:, :16] | numbers[:, 16:] << 4], 1).tobytes()


def weights(name, elements=1 << 16):
    values = (np.random.default_rng(7).standard_normal(elements) * 0.02).astype("<f4")
    match name:
        case "BF16":
            return (values.view("<u4") >> 16).astype("<u2").tobytes()
        case "F16":
            return values.astype("<f2").tobytes()
        case "F64":
            return values.astype("<f8").tobytes()
        case "upcast":
            values = (values.view("<u4") >> 16 << 16).view("<f4")
        case "measured":
            values = np.rint(values * 5000).astype("<f8") / 1000
        case "pruned":
            values[np.random.default_rng(8).random(elements) > 0.05] = 0
        case "repeating":
            values = np.tile(values[:257], elements // 257)
        case "blocks":
            return quantised(values)
    return values.tobytes()


class TestDense(EncodingTests):
    encoding = ENCODING

    @pytest.mark.parametrize(
        ("name", "kind", "share"),
        [
            ("BF16", "BF16", 0.67),
            ("F32", "F32", 0.84),
            ("F16", "F16", 0.86),
            ("F64", "F64", 0.5),
            ("upcast", "F32", 0.34),
            ("repeating", "F32", 0.1),
            ("measured", "F64", 0.25),
            ("pruned", "F32", 0.09),
            ("blocks", "opaque160:Q4_1", 0.94),
        ],
    )
    def test_weights_shrink_to_what_their_exponents_allow(self, name, kind, share):
        data = weights(name)
        spec = TensorSpec.of(kind, (len(data) * 8 // TensorSpec.of(kind, ()).dtype.bits,))
        assert sum(map(len, self.round_trip(Chunk(spec), data))) <= share * len(data)

    @pytest.mark.parametrize("kind", ["BF16", "F32"])
    def test_weights_are_not_searched_for_repetitions(self, kind, monkeypatch):
        searched = []

        class Tools:
            huffman = planes._tools().huffman
            repeats = matching = text = type("", (), {"compress": staticmethod(searched.append)})

        monkeypatch.setattr(planes, "_tools", lambda: Tools)
        data = weights(kind)
        self.encoding.encode(Chunk(TensorSpec.of(kind, (1 << 16,))), memoryview(data))
        assert searched == []

    def test_a_skeleton_is_compressed_as_text(self):
        data = b"".join(b"model.layers.%d.self_attn.q_proj.weight" % i for i in range(200))
        assert sum(map(len, self.round_trip(Chunk(skeleton_spec(len(data))), data))) < len(data) / 10

    def test_odd_floats_keep_every_bit(self):
        values = np.array([0x7FC00001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x7F800001], "<u4")
        self.round_trip(Chunk(TensorSpec.of("F32", (7 * 50,))), np.tile(values, 50).tobytes())

    @pytest.mark.parametrize("name", ["BF16", "F32", "upcast", "I64", "U8", "tiny", "blocks"])
    def test_payloads_of_the_first_version_still_decode(self, name):
        payload, data = (GOLDEN / f"{name}.payload").read_bytes(), (GOLDEN / f"{name}.data").read_bytes()
        kind = {"upcast": "F32", "tiny": "F32", "blocks": "opaque160:Q4_1"}.get(name, name)
        out = bytearray(len(data))
        spec = TensorSpec.of(kind, (len(data) * 8 // TensorSpec.of(kind, ()).dtype.bits,))
        ENCODING.decode(Chunk(spec), memoryview(payload), memoryview(out))
        assert out == data

    def test_a_frame_that_claims_more_than_the_tensor_is_refused_before_it_is_read(self):
        import zstandard

        bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 24))
        payload = bytes([0, 1]) + len(bomb).to_bytes(4, "little") + bomb
        with pytest.raises(CorruptError, match="does not fit"):
            ENCODING.decode(Chunk(TensorSpec.of("U8", (100,))), memoryview(payload), memoryview(bytearray(100)))

    @pytest.mark.parametrize("arrangement", [2, 3, 4, 255])
    def test_an_arrangement_that_does_not_fit_the_type_is_refused(self, arrangement):
        with pytest.raises(CorruptError):
            ENCODING.decode(
                Chunk(TensorSpec.of("I64", (8,))), memoryview(bytes([arrangement])), memoryview(bytearray(64))
            )
