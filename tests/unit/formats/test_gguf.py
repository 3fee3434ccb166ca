"""llama.cpp's files, against a writer by the book and against broken heads."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.gguf import _BLOCKS, FORMAT

F32, F16, Q4_0, Q8_0, Q6_K, BF16, NEW = 0, 1, 2, 8, 14, 30, 99


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


PAIRS = [
    pair("general.architecture", 8, text("llama")),
    pair("general.file_type", 4, struct.pack("<I", 7)),
    pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + b"".join(map(text, ("a", "é", "")))),
    pair("tokenizer.ggml.scores", 9, struct.pack("<IQ3f", 6, 3, 0.5, 1, 2)),
    pair("nested", 9, struct.pack("<IQ", 9, 2) + 2 * struct.pack("<IQ2H", 2, 2, 1, 2)),
    pair("flag", 7, b"\1"),
]


def gguf(tensors, pairs=PAIRS, version=3, alignment=32, gap=0):
    """Write a file; tensors are (name, kind, dimensions, bytes), each padded as llama.cpp does."""
    rows, data = b"", b""
    for name, kind, dimensions, content in tensors:
        rows += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, len(data))
        data += content + bytes(-len(content) % alignment + gap)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + rows
    return head + bytes(-len(head) % alignment) + data


def noise(nbytes, seed=0):
    return np.random.default_rng(seed).bytes(nbytes)


TENSORS = [
    ("token_embd.weight", Q8_0, (64, 5), noise(2 * 5 * 34)),
    ("blk.0.attn_q.weight", Q4_0, (32, 6), noise(6 * 18, 1)),
    ("blk.0.ffn_down.weight", Q6_K, (256, 3), noise(3 * 210, 2)),
    ("blk.0.attn_norm.weight", F32, (7,), noise(28, 3)),
    ("rope", F16, (2, 3, 4), noise(48, 4)),
    ("bf16", BF16, (3,), noise(6, 5)),
]


class TestGguf(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "all kinds": gguf(TENSORS),
        "version 2": gguf(TENSORS[:2], version=2),
        "no tensors": gguf([]),
        "no pairs": gguf(TENSORS[3:4], pairs=[]),
        "empty and 0-d": gguf([("e", F32, (0,), b""), ("s", F32, (), noise(4)), ("f", F16, (4, 0), b"")]),
        "another alignment": gguf(TENSORS, [*PAIRS, pair("general.alignment", 4, struct.pack("<I", 64))], alignment=64),
        "no padding at the end": gguf(TENSORS[:1]).rstrip(b"\0"),
        "names that are no text": gguf([(b"\xff\xfe", F32, (2,), noise(8))]),
        "gaps": gguf(TENSORS, gap=32),
        "a type of tomorrow": gguf([("new", NEW, (77,), noise(100)), *TENSORS[:2], ("last", NEW, (1,), noise(40))]),
    }

    def test_blocks_are_elements_and_shapes_are_those_of_numpy(self):
        layout, tensors = lay_out(FORMAT, gguf(TENSORS))
        assert layout.parameters == {
            "token_embd.weight": TensorSpec.of("opaque272:Q8_0", (5, 2)),
            "blk.0.attn_q.weight": TensorSpec.of("opaque144:Q4_0", (6, 1)),
            "blk.0.ffn_down.weight": TensorSpec.of("opaque1680:Q6_K", (3, 1)),
            "blk.0.attn_norm.weight": TensorSpec.of("F32", (7,)),
            "rope": TensorSpec.of("F16", (4, 3, 2)),
            "bf16": TensorSpec.of("BF16", (3,)),
        }
        assert tensors == {name: data for name, _, _, data in TENSORS}

    def test_a_type_that_is_not_known_reaches_to_the_next_tensor(self):
        layout, _ = lay_out(FORMAT, self.examples["a type of tomorrow"])
        assert layout.parameters["new"] == TensorSpec.of("opaque8:ggml99", (128,))
        assert layout.parameters["last"] == TensorSpec.of("opaque8:ggml99", (64,))

    @pytest.mark.parametrize("kind", sorted(_BLOCKS))
    def test_every_kind_of_block_is_known_by_its_size(self, kind):
        _, elements, nbytes = _BLOCKS[kind]
        data = noise(6 * nbytes)
        layout, tensors = lay_out(FORMAT, gguf([("w", kind, (2 * elements, 3), data)]))
        assert tensors == {"w": data}
        assert layout.parameters["w"].shape == (3, 2)

    def test_parameters_of_two_files_make_one(self):
        layout, tensors = lay_out(FORMAT, gguf(TENSORS[:3]))
        more, others = lay_out(FORMAT, gguf(TENSORS[3:]))
        wanted = {"blk.0.attn_q.weight": layout.parameters["blk.0.attn_q.weight"], **more.parameters}
        composed = FORMAT.compose(layout, wanted)
        data = assemble(composed, tensors | others)
        assert lay_out(FORMAT, data)[0] == composed
        assert data == gguf([TENSORS[1], TENSORS[5], TENSORS[3], TENSORS[4]])

    def test_what_the_table_has_no_name_for_is_not_composed(self):
        layout, _ = lay_out(FORMAT, gguf(TENSORS))
        for spec in (TensorSpec.of("F8_E4M3", (2,)), TensorSpec.of("F32", (1,) * 5), TensorSpec.of("opaque272", (2,))):
            assert FORMAT.compose(layout, {"x": spec}) is None

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (gguf(TENSORS)[:40], "truncated"),
            (gguf(TENSORS)[:-700], "'blk.0.ffn_down.weight' .* truncated"),
            (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0), "tensors"),
            (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62), "truncated"),
            (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, (1 << 64) - 1), "truncated"),
            (gguf([], [pair("a", 9, struct.pack("<IQ", 12, 1 << 61))]), "truncated"),
            (gguf([], [pair("a", 9, struct.pack("<IQ", 8, 1 << 61))]), "truncated"),
            (gguf([], [pair("a", 9, struct.pack("<IQ", 9, 1) * 20)]), "nested too deeply"),
            (gguf([], [pair("a", 13, bytes(8))]), "unknown type 13"),
            (gguf([], [pair("general.alignment", 4, bytes(4))]), "alignment of 0"),
            (gguf([("w", F32, (1,) * 5, bytes(4))]), "'w' has 5 dimensions"),
            (gguf([("w", F32, (1 << 62, 1 << 62), b"")]), "'w'.*impossible size"),
            (gguf([("w", Q8_0, (33,), bytes(68))]), "'w'.*blocks have 32"),
            (gguf([("w", Q8_0, (), bytes(34))]), "'w'.*blocks have 32"),
            (gguf([("w", F32, (2,), bytes(8)), ("w", F32, (2,), bytes(8))]), "'w' appears twice"),
            (gguf([("w", F32, (20,), bytes(4)), ("v", F32, (2,), bytes(80))]), "overlaps"),
        ],
    )
    def test_broken_files_are_refused_with_a_reason(self, data, why):
        with pytest.raises(FormatError, match=why):
            lay_out(FORMAT, data)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
            (b"GGUF" + struct.pack("<III", 1, 0, 0), "version 1"),
        ],
    )
    def test_files_of_another_kind_are_stored_without_their_tensors(self, data, why):
        with pytest.raises(NotSplittable, match=why):
            FORMAT.parse(memoryview(data))


def test_pairs_are_facts_and_can_be_replaced():
    layout, tensors = lay_out(FORMAT, gguf(TENSORS))
    facts = dict(FORMAT.facts(layout))
    assert list(facts) == [
        "general.architecture",
        "general.file_type",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "nested",
        "flag",
    ]
    del facts["nested"]
    facts["general.architecture"] = struct.pack("<I", 8) + text("a name that is longer than the other")
    wanted = [pair("general.architecture", 8, text("a name that is longer than the other")), *PAIRS[1:4], PAIRS[5]]
    assert assemble(FORMAT.with_facts(layout, facts), tensors) == gguf(TENSORS, wanted)


def test_facts_that_would_move_tensors_are_not_written():
    layout, _ = lay_out(FORMAT, gguf(TENSORS))
    alignment = {"general.alignment": struct.pack("<2I", 4, 64)}
    assert FORMAT.with_facts(layout, {**FORMAT.facts(layout), **alignment}) is None
    patched, _ = lay_out(FORMAT, gguf(TENSORS) + b"more")
    assert FORMAT.facts(patched)["bytes between the tensors"].endswith(b"more")
    assert FORMAT.with_facts(patched, FORMAT.facts(layout)) is None
    twice, _ = lay_out(FORMAT, gguf(TENSORS, [*PAIRS, PAIRS[0]]))
    assert FORMAT.with_facts(twice, FORMAT.facts(twice)) is None
