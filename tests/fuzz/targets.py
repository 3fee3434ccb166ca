"""The parsers that read what others wrote: seeds for each, and what must hold of what it accepts."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import external_tensors
from git_theta_ext.coding.factors import compiled as compiled_factors
from git_theta_ext.errors import CorruptError, ThetaError
from git_theta_ext.interfaces import Base, Chunk, NotSplittable
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.manifest import Manifest, Skeleton
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec, tensor_digest
from git_theta_ext.model.tokenizers import Tokenizer, united
from git_theta_ext.protocol.lfs.pointer import Pointer
from git_theta_ext.registry import built_in, find_container, find_encoding, find_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.protocol.lfs.locks import FileLock

GOLDEN = Path(__file__).parents[1] / "golden"
ENCODINGS = ("dense", "delta", "scale", "low_rank", "ternary")
A = "a" * 64
SPECS = {name: TensorSpec.of("F32", (4, 4)) for name in ("k.weight", "v.weight")} | {"b": TensorSpec.of("F32", (4,))}


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        seeds: Inputs that it accepts.
        run: Reads an input; raises nothing but ``ThetaError`` and ``AssertionError``, where an invariant is broken.
        reserved: Bytes of addresses that threads of a library reserve and do not use.
    """

    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], object]
    reserved: int = 0


def safetensors(tensors: dict[str, tuple[TensorSpec, bytes]], **metadata: str) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, (spec, data) in tensors.items():
        at = [len(body), len(body) + len(data)]
        header[name] = {"dtype": spec.dtype.name, "shape": list(spec.shape), "data_offsets": at}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def zeros(kind: str, *shape: int) -> tuple[TensorSpec, bytes]:
    spec = TensorSpec.of(kind, shape)
    return spec, bytes(range(256)) * (spec.nbytes // 256) + bytes(range(spec.nbytes % 256))


def _safetensors_seeds() -> list[bytes]:
    many = {f"layers.{n}.w": zeros("BF16", 2, 3) for n in range(20)}
    return [
        safetensors({"a": zeros("F32", 3, 4), "b": zeros("I8"), "é\n": zeros("F4", 4)}, format="pt"),
        safetensors(many),
    ]


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _pickles() -> list[bytes]:
    import pickle
    from collections import OrderedDict

    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\4tQ"
        b"K\0K\2K\2\x86K\2K\1\x86\x89ccollections\nOrderedDict\n)RtR"
    )
    plain = {"epoch": 3, "lr": [1e-3, None, True, (1, 2)], 5: OrderedDict(a=b"x", s="é"), "set": {1}}
    state = b"\x80\2}q\0(X\1\0\0\0w" + tensor + b"q\1X\1\0\0\0vh\1X\4\0\0\0meta}X\1\0\0\0aK\1su."
    return [state, *(pickle.dumps(plain, protocol) for protocol in (2, 4, 5))]


def _torch_seeds() -> list[bytes]:
    plain = [
        {"m/data.pkl": data, "m/byteorder": b"little", "m/data/0": bytes(16), "m/version": b"3\n"}
        for data in _pickles()
    ]
    script = {**plain[0], "m/code/m.py": b"x", "m/constants.pkl": _pickles()[0], "m/constants/0": bytes(16)}
    return [_zip(members) for members in (*plain, script)]


def _export_seeds() -> list[bytes]:
    meta = {"dtype": 7, "sizes": [{"as_int": 2}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
    tables = {"a": {"path_name": "0", "use_pickle": False, "tensor_meta": meta}, "b": {"path_name": "0"}}
    records = {"m/data/weights/0": bytes(8), "m/archive_format": b"pt2", "m/byteorder": b"little"}
    return [_zip({**records, "m/data/weights/m_weights_config.json": json.dumps({"config": tables}).encode()})]


def _tar_seeds() -> list[bytes]:
    import tarfile

    made = []
    for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=dialect) as archive:
            for name, data in (("a.yaml", b"x"), ("m" * 120, _torch_seeds()[0]), ("m.st", _safetensors_seeds()[0])):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return made


def _legacy_seeds() -> list[bytes]:
    import pickle

    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, facts)]
    return [
        b"".join([*head, data, pickle.dumps(keys, 2), *(struct.pack("<q", 4) + bytes(16) for _ in keys)])
        for data, keys in zip(_pickles(), (["0"], [], [], []), strict=True)
    ]


def _arrays() -> dict[str, bytes]:
    import numpy as np

    found = {}
    for name, array in {
        "a": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.ones((2, 3), "<i2")),
        "r": np.zeros(2, [("x", "<f4"), ("y", "S3")]),
        "u": np.array(["ab"]),
    }.items():
        file = io.BytesIO()
        np.save(file, array)
        found[name] = file.getvalue()
    return found


def _npz_seeds() -> list[bytes]:
    arrays = _arrays()
    return [_zip({f"{name}.npy": data for name, data in arrays.items()}), *arrays.values()]


def _gguf_seeds() -> list[bytes]:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    pairs = text(b"general.alignment") + struct.pack("<II", 4, 32) + text(b"n") + struct.pack("<I", 8) + text(b"x")
    pairs += text(b"l") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    rows = text(b"w") + struct.pack("<I2QIQ", 2, 4, 2, 0, 0) + text(b"q") + struct.pack("<I1QIQ", 1, 32, 8, 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 3) + pairs + rows
    return [head + bytes(-len(head) % 32) + bytes(32 + 34)]


def _flax_seeds() -> list[bytes]:
    import msgpack

    def array(kind: str, nbytes: int, *shape: int) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((shape, kind, bytes(range(nbytes)))))

    tree = {"params": {"a": {"kernel": array("float32", 24, 2, 3), "bias": array("bfloat16", 6, 3)}}, "list": [1, "x"]}
    chunks = {"0": array("int8", 2, 2), "1": array("int8", 1, 1)}
    chunked = {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 3}, "chunks": chunks}, "step": 5}
    return [bytes(msgpack.packb(tree)), bytes(msgpack.packb(chunked))]


def _onnx_seeds() -> list[bytes]:
    def part(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    weight = b"\x08\2\x08\3\x10\1" + part(8, b"w") + part(9, bytes(range(24)))
    packed = part(1, b"\2") + b"\x10\1" + part(4, bytes(range(8))) + part(8, b"p")
    inner = part(2, b"out") + part(5, part(1, b"then_branch") + part(6, part(5, packed)))
    constant = part(2, b"c") + part(5, part(1, b"value") + part(5, weight))
    graph = part(1, inner) + part(1, constant) + part(2, b"g") + part(5, weight) + part(15, part(1, packed))
    return [b"\x08\x0a" + part(2, b"pytorch") + b"\x3a" + bytes([len(graph) & 127 | 128, len(graph) >> 7]) + graph]


def _boosted(*names: str) -> list[bytes]:
    return [(GOLDEN / "formats" / f"boosted-{name}").read_bytes() for name in names]


def _external_seeds() -> list[bytes]:
    from git_theta_ext.testing.formats import lay_out

    (model,) = _onnx_seeds()
    place = b"".join(
        b"\x6a" + bytes([len(entry)]) + entry
        for entry in (b"\x0a\x08location\x12\x06m.data", b"\x0a\6offset\x12\x0264", b"\x0a\6length\x12\x0224")
    )
    weight = b"\x08\2\x08\3\x10\1\x42\1x" + place + b"\x70\1"
    graph = b"\x2a" + bytes([len(weight)]) + weight
    outside = b"\x08\x0a\x3a" + bytes([len(graph)]) + graph
    return [lay_out(find_format("onnx"), data)[0].to_skeleton() for data in (model, outside)]


def _external(data: bytes) -> None:
    layout = Layout.from_skeleton(data)
    found = external_tensors(Manifest("onnx", Skeleton.of(data), {}), layout)
    names = [tensor.name for tensors in found.values() for tensor in tensors]
    assert len({*names, *layout.parameters}) == len(names) + len(layout.parameters)


def _hdf5_seeds() -> list[bytes]:
    return [(GOLDEN / "formats" / name).read_bytes() for name in ("model.h5", "model-latest.h5", "model-indexes.h5")]


def _row_seeds() -> list[bytes]:
    return [(GOLDEN / "formats" / "model.distcp").read_bytes(), b"".join(_torch_seeds()[:2])]


def _keras_seeds() -> list[bytes]:
    return [(GOLDEN / "formats" / "model.keras").read_bytes()]


def _array_pickles() -> list[bytes]:
    import pickle

    import numpy as np

    tree = {"coef_": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.ones((4, 5))), "raw": bytes(70)}
    return [(GOLDEN / "formats" / "model.joblib").read_bytes(), *(pickle.dumps(tree, protocol) for protocol in (3, 5))]


def _format(name: str) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        from git_theta_ext.testing.formats import assemble, lay_out

        found = find_format(name)
        found.detect(memoryview(data))
        try:
            layout, tensors = lay_out(found, data)
        except NotSplittable:
            return
        assert layout.nbytes == len(data), "bytes that are not accounted for"
        restored = Layout.from_skeleton(layout.to_skeleton(), len(layout.parameters))
        assert restored == layout
        assert assemble(restored, tensors) == data
        found.compose(layout, layout.parameters)

    return run


def _dcp_index_seeds() -> list[bytes]:
    return [(GOLDEN / "dcp" / ".metadata").read_bytes()]


def _dcp_index(data: bytes) -> None:
    from git_theta_plugins.formats.torch_dcp import FORMAT

    index = FORMAT.read_index(data)
    for name, file in index.weight_map.items():
        assert file in index.fixed, name
        assert index.name_in_model(file, "000000.tensor")


def _container_seeds(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [(GOLDEN / "containers" / name).read_bytes() for name in names]


def _container(name: str, recipe: bytes) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        from git_theta_ext.testing.containers import packed, unpacked

        container = find_container(name)
        found = unpacked(container, data)
        if found is None:
            packed(container, data, recipe)
            return
        assert packed(container, *found) == data

    return run


def _pickle(data: bytes) -> None:
    from git_theta_plugins.formats._pickle_stream import PickleStream
    from git_theta_plugins.formats._torch_objects import read_objects

    list(read_objects(PickleStream(memoryview(data)))[1])


def _tokenizers() -> list[bytes]:
    added = [{"id": 2, "content": "<x>"}]
    models: list[dict[str, object]] = [
        {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]},
        {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]},
    ]
    return [json.dumps({"added_tokens": added, "model": model}).encode() for model in models]


def _tokenizer(data: bytes) -> None:
    parsed = Tokenizer.parse(data, "tokenizer.json")
    assert united(parsed, [parsed]).ids == parsed.ids


def _manifest(data: bytes) -> None:
    manifest = Manifest.parse(data)
    assert manifest.to_bytes() == data
    for _ in manifest.digests():
        pass


def _skeleton_seeds() -> list[bytes]:
    found = [find_format("safetensors").parse(memoryview(data)) for data in _safetensors_seeds()]
    assert found
    from git_theta_ext.testing.formats import lay_out

    made = [(find_format("safetensors"), _safetensors_seeds()[0]), (find_format("npz"), _npz_seeds()[0])]
    return [lay_out(kind, data)[0].to_skeleton() for kind, data in made]


def _skeleton(data: bytes) -> None:
    layout = Layout.from_skeleton(data)
    assert layout.nbytes >= 0
    assert Layout.from_skeleton(layout.to_skeleton()) == layout


def _pack_header(data: bytes) -> None:
    from git_theta_ext.store.packs.format import read_header, write_header

    header = read_header(data)
    again = read_header(write_header(header.entries))
    assert [entry.digest for entry in again.entries] == [entry.digest for entry in header.entries]
    assert [entry.bundle for entry in again.entries] == [entry.bundle for entry in header.entries]
    assert header.pack_bytes >= header.nbytes
    for entry in header.entries:
        if entry.bundle is not None:
            assert all(start + spec.nbytes <= entry.spec.nbytes for start, spec, _ in entry.bundle.members())


def _packs() -> list[bytes]:
    from git_theta_ext.store.packs.format import Entry, write_header

    head = write_header
    made = []
    for spec, data in (zeros("F32", 64, 64), zeros("U8", 300), (skeleton_spec(9), b"skeleton!")):
        pieces = find_encoding("dense").encode(Chunk(spec), memoryview(data))
        payload = b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)
        made.append(head([Entry(tensor_digest(spec, data), spec, "dense", (len(payload),))]) + payload)
    return made


def _bundles() -> list[bytes]:
    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.store.packs.format import GATHERED, PART, Entry, write_header

    spec, data = zeros("F32", 64, 64)
    member = spec, tensor_digest(spec, data)
    bundle, other = Bundle.of([member] * 3), Bundle.of([member, (zeros("F32", 9)[0], member[1]), member])
    part = Entry(member[1], spec, PART, (), bases=(bundle.digest,), params={"start": 0})
    gathered = Entry(other.digest, other.spec, GATHERED, (), bases=(bundle.digest, member[1]), bundle=other)
    return [write_header([Entry(bundle.digest, bundle.spec, "dense", (9,), bundle=bundle), part, gathered])]


def _pack(data: bytes) -> None:
    """Read a pack as a clone does, entry by entry, chunk by chunk."""
    from git_theta_ext.store.packs.format import WITHOUT_CHUNKS, chunk_range, read_header

    for entry in read_header(data).entries:
        if entry.encoding in WITHOUT_CHUNKS:
            continue
        encoding = find_encoding(entry.encoding)
        at = entry.offset
        for number, stored in enumerate(entry.chunks):
            start, end = chunk_range(entry.spec, number)
            payload = memoryview(data)[at : at + stored]
            if payload.nbytes != stored or encoding.needs:
                return
            encoding.decode(Chunk(entry.spec, start, (), entry.params), payload, memoryview(bytearray(end - start)))
            at += stored


def _index_entry(data: bytes) -> None:
    from git_theta_ext.model.remote_keys import check_key
    from git_theta_ext.store.packs.format import MAX_HEADER, PREFIX_BYTES
    from git_theta_ext.transfer import remote_index

    def get(key: str, start: int = 0, end: int = MAX_HEADER + PREFIX_BYTES) -> bytes:
        check_key(key)
        return data[start:end]

    remote = SimpleNamespace(plugin=SimpleNamespace(get=get), url="x", name="x")
    with suppress(ThetaError):
        remote_index.read_head(remote, A)
    remote_index._index_entry(remote, A)


def _payload_seeds(name: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted((GOLDEN / name).glob("*.payload"))]


def _payload(name: str) -> Callable[[bytes], None]:
    encoding = find_encoding(name)

    def run(data: bytes) -> None:
        for kind in ("F32", "BF16", "I8", "opaque272:Q8_0"):
            spec = TensorSpec.of(kind, (40, 64))
            factors = {
                "scale": ((TensorSpec.of("F32", (40,)), {"axis": 0}),),
                "low_rank": ((TensorSpec.of("F32", (40, 2)), {"scale": 1.0}), (TensorSpec.of("F32", (2, 64)), {})),
                "ternary": (),
            }.get(name, ())
            params = {"scale": 0.5} | {key: value for _, some in factors for key, value in some.items()}
            parent = (Base(spec, memoryview(bytes(spec.nbytes))),) if encoding.needs else ()
            bases = (*parent, *(Base(one, memoryview(bytes(one.nbytes))) for one, _ in factors))
            out = memoryview(bytearray(spec.nbytes))
            with suppress(CorruptError):
                encoding.decode(Chunk(spec, 0, bases, params), memoryview(data), out)

    return run


def _factors_seeds() -> list[bytes]:
    values = struct.pack("<24d", *(number / 8 - 1.5 for number in range(24)))
    sizes = [
        (1, 1, 1, 1, 0, 2, 0, 0),
        (3, 5, 9, 4, 2, 4, 9, 0),
        (8, 2, 40, 33, 0, 2, 9, 0),
        (16, 4, 50, 50, 7, 4, 9, 0),
    ]
    return [bytes(some) + values for some in sizes]


def _factors(data: bytes) -> None:
    """Call the compiled search for factors with any values, and mostly with buffers whose sizes fit each other."""
    rank, rows, columns, count, start, width, short, less = data[:8].ljust(8, b"\0")
    values, lengths = data[8:] or b"\0", iter(range(256))

    def taken(nbytes: int) -> bytearray:
        nbytes = max(0, nbytes - less) if next(lengths) == short else nbytes
        return bytearray(values * (nbytes // len(values) + 1))[:nbytes]

    factors = taken(rows * rank * 8), taken(columns * rank * 8)
    numbers = bytearray().join(
        (number % (columns + less % 2 or 1)).to_bytes(4, "little") for number in taken(rows * count)
    )
    widened = taken(columns * -(-rank // 4) * 32)
    calls = {
        "predict": (*factors, rank, 0.5, start, width, taken(count * width), taken(count * width)),
        "narrowest": (*(taken(rows * columns * 4) for _ in "hc"), rows, *(taken(rows * count * 4) for _ in "chc")),
        "improve": (*(taken(rows * count * 4) for _ in "ch"), numbers, widened, rank, factors[0], 0.6, 1e-3, 3e-3),
    }
    for name, arguments in calls.items():
        with suppress(ValueError):  # the sizes do not fit
            getattr(compiled_factors, name)(*arguments)


def _record_seeds() -> list[bytes]:
    record = {"path": "m", "base": None, "sides": ["a", "b"], "commits": ["c", "d"], "rules": {"method": "average"}}
    more = {"versions": {"ties": 1}, "resolved": [{"method": "ours", "parameters": ["a.*"]}], "git-theta": "0"}
    rules = {
        "method": "ties",
        "with": {"density": 0.2},
        "weights": [1, 2],
        "rules": [{"match": "**", "method": "ours"}],
    }
    return [json.dumps(record | more).encode(), json.dumps(record | more | {"rules": rules}).encode()]


def _record(data: bytes) -> None:
    from git_theta_ext.merging.record import Record

    record = Record.from_json(data.decode(errors="replace"))
    assert Record.from_json(record.to_json()).to_json() == record.to_json()


RULES = b"""version: 1
defaults: {method: average, weights: [0.7, 0.3]}
rules:
  - match: "model.**"
    method: ties
    with: {density: 0.3, lambda: 2}
  - {match: "**.bias", method: conflict}
  - {match: "[a-c]*.w?", method: grow, with: {method: slerp}}
"""


def _rules(data: bytes) -> None:
    from git_theta_ext.merging.rules.file import read_rules
    from git_theta_ext.merging.rules.globs import matcher

    for rule in read_rules(data).rules:
        matcher(rule.match).fullmatch("model.layers.0.mlp.down_proj.weight" * 4)


SLICES = b"""slices:
  - sources: [{model: "main:a", layer_range: [0, 16]}, {model: "side:a", layer_range: [4, 20]}]
  - sources: [{model: "main:a", layer_range: [8, 9]}, {model: "side:a", layer_range: [0, 1]}]
merge_method: linear
base_model: "main:a"
weights: [1, [0, 1]]
dtype: bfloat16
"""


def _slices(data: bytes) -> None:
    from git_theta_ext.merging.stacking.file import read_slices

    slices = read_slices(data, "slices.yml")
    assert read_slices(slices.to_bytes(), "slices.yml").to_bytes() == slices.to_bytes()


EXPERTS = b"""base_model: main:a
experts:
  - {source_model: main:a, positive_prompts: [add, [1, 2]], negative_prompts: [[7]]}
  - {source_model: side:a, positive_prompts: [write]}
gate_mode: cheap_embed
experts_per_token: 1
merge_method: linear
weights: [1, [0, 1]]
dtype: bfloat16
"""


def _experts(data: bytes) -> None:
    from git_theta_ext.merging.experts.file import read_mixture

    mixture = read_mixture(data, "experts.yml")
    assert read_mixture(mixture.to_bytes(), "experts.yml").to_bytes() == mixture.to_bytes()


def _filter_seeds() -> list[bytes]:
    from git_theta_ext.protocol.pktline import encode_content, encode_list

    hello = encode_list([b"git-filter-client", b"version=2"])
    hello += encode_list([b"capability=clean", b"capability=smudge", b"capability=delay"])
    some = encode_list([b"command=clean", b"pathname=a/b.pt"]) + encode_content(b"x" * 70_000)
    other = encode_list([b"command=smudge", b"pathname=\xff", b"ref=refs/heads/x", b"blob=12"]) + encode_content(b"")
    return [hello + some + other, hello + other + some]


def _filter(data: bytes) -> None:
    from git_theta_ext.protocol.filter import Capabilities, Connection, EndOfContent, EndOfInput, Welcome

    connection = Connection()
    # Git waits for an answer behind each list and content, which end with a flush packet.
    pieces = [piece + b"0000" for piece in data.split(b"0000")]
    pieces[-1] = pieces[-1][:-4]
    for piece in (*filter(None, pieces), b""):
        for event in connection.receive(piece):
            if isinstance(event, Welcome):
                connection.send_welcome()
            elif isinstance(event, Capabilities):
                connection.send_capabilities()
            elif isinstance(event, EndOfContent):
                connection.send_success(b"manifest")
            elif isinstance(event, EndOfInput):
                return


def _sftp_seeds() -> list[bytes]:
    from git_theta_ext.protocol.sftp.packets import Attributes, Kind, string, u32, u64

    file = Attributes(4096, 0o100444, 1_700_000_000).encode()
    entries = b"".join(string(b"%064x" % n) + string(b"-r--r--r--    1 user") + file for n in range(3))
    extended = u32(0x80000004) + u32(0o100600) + u32(1) + string(b"a@b") + string(b"c")
    answers = (
        (Kind.STATUS, u32(4) + string(b"Failure") + string(b"en")),
        (Kind.HANDLE, string(bytes(4))),
        (Kind.DATA, string(b"content" * 100)),
        (Kind.NAME, u32(4) + entries + string(b"x") + string(b"") + extended),
        (Kind.ATTRS, file),
        (Kind.EXTENDED_REPLY, b"".join(map(u64, range(11)))),
    )
    packets = [bytes([Kind.VERSION]) + u32(3) + string(b"limits@openssh.com") + string(b"1")]
    packets += [bytes([kind]) + u32(number) + fields for number, (kind, fields) in enumerate(answers)]
    framed = [u32(len(packet)) + packet for packet in packets]
    return [b"".join(framed), *(framed[0] + one for one in framed[1:])]


def _sftp(data: bytes) -> None:
    from git_theta_ext.protocol.sftp.answers import Data, Names, read_answer, read_free_space, read_limits, read_version
    from git_theta_ext.protocol.sftp.packets import Framer

    half = len(data) // 2
    framer = Framer()
    packets = [*framer.feed(data[:half]), *framer.feed(data[half:])]
    assert sum(len(packet) + 4 for packet in packets) <= len(data)
    for number, packet in enumerate(packets):
        if not number:
            read_version(packet)
            continue
        _, answer = read_answer(packet)
        if isinstance(answer, Names):
            assert len(answer.entries) * 12 <= len(packet)
        elif isinstance(answer, Data):
            for read in (read_limits, read_free_space):
                with suppress(ThetaError):
                    read(answer)


LFS_POINTERS = [Pointer(A, 4), Pointer("b" * 64, 5 << 30)]


def _lock_seeds() -> list[bytes]:
    lock = {"id": "7", "path": "a/b.pt", "locked_at": "2026-11-29T10:00:00Z", "owner": {"name": "Ada"}}
    bodies = [{"lock": lock}, {"locks": [lock, lock], "next_cursor": "8"}, {"ours": [lock], "theirs": [lock]}]
    return [json.dumps(body).encode() for body in bodies]


def _locks(data: bytes) -> None:
    from git_theta_ext.protocol.lfs.locks import read_lock, read_page

    def check(lock: FileLock) -> None:
        assert lock.id
        assert lock.path
        texts = (lock.id, lock.path, lock.owner, lock.locked_at)
        assert len("".join(texts).encode()) < 1 << 16  # each can be printed
        assert "\n" not in lock.owner + lock.locked_at

    with suppress(ThetaError):
        check(read_lock(data))
    for verified in (False, True):
        with suppress(ThetaError):
            page = read_page(data, verified=verified)
            for lock in (*page.locks, *page.theirs):
                check(lock)


def _lfs_seeds() -> list[bytes]:
    action = {"href": "https://host/x?y=z", "header": {"Authorization": "Bearer x"}, "expires_in": 60}
    parts = {"chunk_size": str(3 << 30), "1": "https://host/1", "2": "https://host/2"}
    one = {"oid": A, "size": 4, "actions": {"download": action, "upload": action, "verify": action}}
    other = {"oid": "b" * 64, "size": 5 << 30, "actions": {"upload": {**action, "header": parts}, "download": action}}
    missing = {"oid": "b" * 64, "error": {"code": 404, "message": "x"}}
    return [
        json.dumps({"transfer": "basic", "objects": [one, other], "hash_algo": "sha256"}).encode(),
        json.dumps({"objects": [one, missing]}).encode(),
        json.dumps({**action, "message": "m", "expires_at": "2030-01-02T03:04:05.6789Z"}).encode(),
    ]


def _lfs(data: bytes) -> None:
    from git_theta_ext.protocol.lfs.batch import error_message, read_authentication, read_batch
    from git_theta_ext.protocol.lfs.multipart import parts_of

    assert "\n" not in error_message(data)
    with suppress(ThetaError):
        read_authentication(data, "https://host", 1.0)
    for operation in ("upload", "download"):
        with suppress(ThetaError):
            for answer in read_batch(data, operation, LFS_POINTERS, 1.0).values():
                actions = [action for action in (answer.action, answer.verify) if action is not None]
                assert all(action.href.lower().startswith(("http://", "https://")) for action in actions)
                assert not any(set(value) & set("\r\n\0") for action in actions for value in action.header.values())
                for action in actions:
                    assert sum(p.end - p.start for p in parts_of(action, answer.pointer)) == answer.pointer.size


def _heads_seeds() -> list[bytes]:
    from git_theta_plugins.remotes._index_format import join_heads

    return [join_heads({}), join_heads({A: b"head", "b" * 64: (GOLDEN / "pack-1.head").read_bytes()})]


def _heads(data: bytes) -> None:
    from git_theta_plugins.remotes._index_format import join_heads, split_heads

    entries = split_heads(data)
    assert split_heads(join_heads(entries)) == entries
    assert sum(map(len, entries.values())) < len(data)


def _config_seeds() -> list[bytes]:
    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["k"], "use_rslora": False}
    more = {"rank_pattern": {"k": 2}, "alpha_pattern": {"^v": 3}, "fan_in_fan_out": True, "bias": "none"}
    return [json.dumps(lora).encode(), json.dumps(lora | more).encode()]


def _lora() -> bytes:
    name = "base_model.model.k.lora_{}.weight"
    return safetensors({name.format("A"): zeros("F32", 2, 4), name.format("B"): zeros("F32", 4, 2)})


def _config(data: bytes) -> None:
    from git_theta_ext.update.files import read_update
    from git_theta_ext.update.read import read_changes

    for kind in ("lora", "ia3"):
        with suppress(ThetaError):
            read_changes(kind, read_update(memoryview(_lora()), "u", data), SPECS)


def _update_seeds() -> list[bytes]:
    sparse = {"k.weight.indices": zeros("I64", 2), "k.weight.values": zeros("F32", 2)}
    shapes = json.dumps({"k.weight": [4, 4]})
    signs = {"k.weight": zeros("U8", 30)}
    return [
        _lora(),
        safetensors(sparse, mode="set"),
        safetensors({"base_model.model.k.ia3_l": zeros("F32", 4, 1)}),
        safetensors(signs, format="git-theta-compeft 1", scale="0.5", shapes=shapes, piece="524288"),
    ]


def _update(data: bytes) -> None:
    from git_theta_ext.update.files import read_update
    from git_theta_ext.update.read import read_changes
    from git_theta_ext.update.value import new_value

    for kind in built_in("updates"):
        with suppress(ThetaError):
            changes = read_changes(kind, read_update(memoryview(data), "u", _config_seeds()[0]), SPECS)
            for name, change in changes.items():
                spec = SPECS[name]
                assert len(new_value(change, spec, memoryview(bytes(spec.nbytes)), 1)) == spec.nbytes


def _sidecar(data: bytes) -> None:
    from git_theta_ext.statistics.sidecar import check, facts_of

    facts_of(memoryview(data))
    found = find_format("safetensors").parse(memoryview(data))
    check({extent.name: extent.spec for extent in found}, SPECS)


def _sidecar_seeds() -> list[bytes]:
    tensors = {"fisher/k.weight": zeros("F32", 4, 4), "gram/k.weight": zeros("F32", 4, 4)}
    return [safetensors(tensors, format="git-theta-stats 1", samples="12", checkpoint=A)]


_FOLDERS = ("orbax-files", "orbax-ocdbt", "zarr-2", "zarr-3")
_MOST_READ = 1 << 22
_BETWEEN = b"\0\n\0"


def _files_of(folder: str) -> list[Path]:
    top = GOLDEN / "arrays" / folder
    return sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file())


def _directory_seeds() -> list[bytes]:
    return [
        bytes([number]) + _BETWEEN.join((GOLDEN / "arrays" / folder / file).read_bytes() for file in _files_of(folder))
        for number, folder in enumerate(_FOLDERS)
    ]


def _directory(data: bytes) -> None:
    """Import a directory of zarr or Orbax, of which every file may be another one, and some are left out."""
    from git_theta_ext.operations.conversion.array_directory import find_arrays
    from git_theta_ext.operations.conversion.arrays import open_arrays

    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as top:
        names = _files_of(_FOLDERS[next(iter(data), 0) % len(_FOLDERS)])
        for name, content in zip(names, data[1:].split(_BETWEEN), strict=False):
            path = Path(top, "source", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        directory = find_arrays(Path(top, "source"))
        directory.left_out()
        arrays = open_arrays(directory, Path(top), hint="git theta import -h")
        small = [name for name, spec in arrays.specs.items() if spec.nbytes <= _MOST_READ]
        for name, chunks in zip(small, arrays.streams(small), strict=True):
            assert sum(chunk.nbytes for chunk in chunks) == arrays.specs[name].nbytes


TARGETS = {
    "safetensors": Target(_safetensors_seeds, _format("safetensors")),
    "torch_zip": Target(_torch_seeds, _format("torch_zip")),
    "torch_export": Target(_export_seeds, _format("torch_export")),
    "tar": Target(_tar_seeds, _format("tar")),
    "torch_legacy": Target(_legacy_seeds, _format("torch_legacy")),
    "dcp_index": Target(_dcp_index_seeds, _dcp_index),
    "zip": Target(lambda: [_zip({"a.safetensors": _safetensors_seeds()[0], "b": bytes(5000)})], _format("zip")),
    "array directory": Target(_directory_seeds, _directory, reserved=1 << 34),
    "torch pickle": Target(_pickles, _pickle),
    "pickle": Target(_array_pickles, _format("pickle")),
    "npz": Target(_npz_seeds, _format("npz")),
    "gguf": Target(_gguf_seeds, _format("gguf")),
    "flax": Target(_flax_seeds, _format("flax")),
    "hdf5": Target(_hdf5_seeds, _format("hdf5")),
    "keras": Target(_keras_seeds, _format("keras")),
    "torch_dcp": Target(_row_seeds, _format("torch_dcp")),
    "onnx": Target(_onnx_seeds, _format("onnx")),
    "xgboost": Target(lambda: _boosted("xgboost-3.2.0.ubj", "xgboost-3.2.0.json"), _format("xgboost")),
    "torch_package": Target(
        lambda: [(GOLDEN / "formats" / "package-torch-2.13.0.pt").read_bytes()], _format("torch_package")
    ),
    "tflite": Target(lambda: [(GOLDEN / "formats" / "model.tflite").read_bytes()], _format("tflite")),
    "lightgbm": Target(lambda: _boosted("lightgbm-4.7.0.txt"), _format("lightgbm")),
    "onnx external data": Target(_external_seeds, _external),
    **{
        f"{name} container": Target(_container_seeds(*seeds), _container(name, b"\6\x08" * members))
        for name, seeds, members in (
            ("gzip", ("model.safetensors.gz", "compressed.nemo", "pieces.safetensors.gz"), 1),
            ("zlib", ("model.safetensors.z",), 1),
            ("zip", ("compressed.npz", "compressed.pt", "npz-in.zip"), 5),
            ("tar", ("gzip-in.tar",), 0),
            ("pickle_text", ("protocol-2.pkl",), 0),
        )
    },
    "tokenizer": Target(_tokenizers, _tokenizer),
    "manifest": Target(lambda: [(GOLDEN / "manifest-1.txt").read_bytes()], _manifest),
    "skeleton": Target(_skeleton_seeds, _skeleton),
    "pack header": Target(lambda: [(GOLDEN / "pack-1.head").read_bytes(), *_packs(), *_bundles()], _pack_header),
    "pack": Target(_packs, _pack),
    "index entry": Target(lambda: [(GOLDEN / "pack-1.head").read_bytes()], _index_entry),
    **{
        name: Target(_payload_seeds(name), _payload(name))
        for name in ("dense", "delta", "scale", "low_rank", "ternary")
    },
    **({"factors": Target(_factors_seeds, _factors)} if compiled_factors else {}),
    "record": Target(_record_seeds, _record),
    "rules": Target(lambda: [RULES], _rules),
    "slices": Target(
        lambda: [
            SLICES,
            SLICES.replace(b"linear", b"slerp").replace(b"weights: [1, [0, 1]]", b"parameters: {t: [0, 1]}"),
        ],
        _slices,
    ),
    "experts": Target(lambda: [EXPERTS], _experts),
    "lfs": Target(_lfs_seeds, _lfs),
    "lfs_locks": Target(_lock_seeds, _locks),
    "heads": Target(_heads_seeds, _heads),
    "filter": Target(_filter_seeds, _filter),
    "sftp": Target(_sftp_seeds, _sftp),
    "adapter config": Target(_config_seeds, _config),
    "update": Target(_update_seeds, _update),
    "statistics": Target(_sidecar_seeds, _sidecar),
}
