from pathlib import Path

import numpy as np
import pytest
from kinds import q8_0

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk, Fit
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_plugins.encodings.delta import ENCODING

GOLDEN = Path(__file__).parents[2] / "golden" / "delta"
KINDS = {"grown": "F32", "equal": "F32", "sparse": "BF16", "unrelated": "F32", "blocks": "opaque272:Q8_0"}


def coded_size(spec, data, parent):
    chunk = Chunk(spec, 0, (Base(spec, memoryview(parent)),))
    return sum(memoryview(piece).nbytes for piece in ENCODING.encode(chunk, memoryview(data)))


def fine_tuned(kind, elements=1 << 17):
    """Return a parent and what steps of similar absolute size make of it."""
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(elements) * 0.02).astype("<f4")
    moved = values + (rng.standard_normal(elements) * 2e-5).astype("<f4")
    match kind:
        case "BF16":
            return tuple((x.view("<u4") >> 16).astype("<u2") for x in (values, moved))
        case "F16":
            return tuple(x.astype("<f2") for x in (values, moved))
    return values, moved


def blocks(elements):
    """Return a fine-tuned tensor and its parent as blocks of Q8_0."""
    return tuple(q8_0(values.reshape(-1, 32), "U8")[1] for values in reversed(fine_tuned("F32", elements)))


class Held:
    def __init__(self, spec, data):
        self.spec, self.data = spec, memoryview(data)

    def read(self, start=0, end=None):
        return self.data[start:end]


class TestDelta(EncodingTests):
    encoding = ENCODING

    @pytest.mark.parametrize(("kind", "share"), [("BF16", 0.11), ("F16", 0.28), ("F32", 0.55)])
    def test_a_fine_tuned_tensor_shrinks_to_what_its_steps_allow(self, kind, share):
        parent, data = fine_tuned(kind)
        spec = TensorSpec.of(kind, (parent.size,))
        assert coded_size(spec, data.tobytes(), parent.tobytes()) <= share * data.nbytes

    def test_steps_of_one_size_cost_less_where_exponents_group_them(self):
        """The same differences behind a parent that tells nothing of them."""
        parent, data = fine_tuned("BF16")
        spec = TensorSpec.of("BF16", (parent.size,))
        flat = np.full_like(parent, 0x3F80)
        same_steps = flat + (data - parent)
        assert coded_size(spec, data.tobytes(), parent.tobytes()) < 0.9 * coded_size(
            spec, same_steps.tobytes(), flat.tobytes()
        )

    def test_places_in_quantised_blocks_are_coded_by_themselves(self):
        data, parent = blocks(1 << 19)
        known, unknown = TensorSpec.of("opaque272:Q8_0", (len(data) // 34,)), TensorSpec.of("U8", (len(data),))
        assert coded_size(known, data, parent) < 0.96 * coded_size(unknown, data, parent)

    def test_an_unchanged_chunk_costs_one_octet(self):
        data = fine_tuned("F32")[0].tobytes()
        assert coded_size(TensorSpec.of("F32", (len(data) // 4,)), data, data) == 1

    def test_rows_that_did_not_change_cost_next_to_nothing(self):
        parent, data = fine_tuned("BF16")
        spec = TensorSpec.of("BF16", (parent.size,))
        few = parent.copy()
        few[: 1 << 10] = data[: 1 << 10]
        alone = coded_size(TensorSpec.of("BF16", (1 << 10,)), data[: 1 << 10].tobytes(), parent[: 1 << 10].tobytes())
        assert coded_size(spec, few.tobytes(), parent.tobytes()) < alone + 150

    def test_an_unrelated_parent_costs_no_more_than_none(self):
        rng = np.random.default_rng(5)
        parent, data = ((rng.standard_normal(1 << 15) * 0.02).astype("<f4").tobytes() for _ in range(2))
        assert coded_size(TensorSpec.of("F32", (1 << 15,)), data, parent) < 0.85 * len(data)

    def test_a_parent_of_another_type_is_no_use(self):
        specs = [TensorSpec.of(name, (8,)) for name in ("F32", "F32", "I32")]
        target, parent, other = (Held(spec, bytes(32)) for spec in specs)
        assert ENCODING.fit(target, parent) == Fit()
        assert ENCODING.fit(target, other) is None

    def test_a_base_of_another_type_is_refused(self):
        chunk = Chunk(TensorSpec.of("F32", (8,)), 0, (Base(TensorSpec.of("I32", (8,)), memoryview(bytes(32))),))
        with pytest.raises(CorruptError, match="element type"):
            ENCODING.decode(chunk, memoryview(b"\0"), memoryview(bytearray(32)))

    @pytest.mark.parametrize(
        "name",
        ["BF16", "F32", "F16", "F64", "F8_E4M3", "I8", "I64", "C64", "grown", "equal", "sparse", "unrelated", "blocks"],
    )
    def test_payloads_of_the_first_version_still_decode(self, name):
        payload, parent, data = ((GOLDEN / f"{name}.{part}").read_bytes() for part in ("payload", "parent", "data"))
        kind = KINDS.get(name, name)
        spec = TensorSpec.of(kind, (len(data) * 8 // TensorSpec.of(kind, ()).dtype.bits,))
        out = bytearray(len(data))
        ENCODING.decode(Chunk(spec, 0, (Base(spec, memoryview(parent)),)), memoryview(payload), memoryview(out))
        assert out == data
