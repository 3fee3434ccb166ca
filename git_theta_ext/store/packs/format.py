"""The bytes of a pack: magic, version, header length, a MessagePack header, then the chunks of each entry.

Chunk sizes have a fixed width, so the length of a header is known before anything is encoded. The writer leaves
room for it and streams the chunks after it. See docs/store.md.

Reading a header takes at most 16 times its size in memory, and time in proportion: rows are read one at a time
(``git_theta_ext.model.rows``), and a size in them is used only after it was compared with the bytes that are there.
"""

from __future__ import annotations

import struct
from collections import deque
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgpack

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.dtypes import SKELETON
from git_theta_ext.model.rows import RowReader
from git_theta_ext.model.tensor import Digest, TensorSpec, digest_of, skeleton_spec
from git_theta_ext.records import NamedTuple, dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.bundle import Bundle

MAGIC = b"GTHETAPK"
VERSIONS = (1, 2)
"""The versions that can be read. Packs with bundles or parts have the second."""

PART = "part"
"""The encoding of a tensor that is in a bundle, which is its base. It has no bytes of its own. A pack only has such an
entry if others are deltas of the tensor."""

GATHERED = "gathered"
"""The encoding of a bundle whose tensors are in its bases, other bundles or the tensors. It has no bytes of its own."""

PREFIX_BYTES = 20
"""Number of bytes that ``header_length`` needs."""

MAX_HEADER = 1 << 26
MAX_ENTRIES = 1 << 20
MAX_BASES = 8
MAX_SOURCES = 1 << 6
"""The limit of the bases of a gathered bundle."""

WITHOUT_CHUNKS = frozenset({PART, GATHERED})
"""The encodings of entries without bytes of their own."""

_PREFIX = struct.Struct("<8sIQ")

_LARGE = 1 << 9
"""Bytes of a head from which on hashing it takes much less time than reading it."""

_KEPT = 1 << 22
"""Bytes of heads of which the headers are kept although they are not in use."""


class Entry(NamedTuple):
    """One blob of a pack. It is a tuple, because there is one for each tensor of a model.

    Attributes:
        digest: Of the tensor or skeleton.
        spec: Its element type and shape.
        encoding: Name of the encoding that holds it.
        params: Parameters of the encoding.
        bases: Digests of the tensors that it is a delta of.
        chunks: Stored size of each chunk in bytes.
        offset: Of the first chunk in the pack.
        bundle: The tensors that the blob consists of; None if it is one tensor.
    """

    digest: Digest
    spec: TensorSpec
    encoding: str
    chunks: tuple[int, ...]
    offset: int = 0
    bases: tuple[Digest, ...] = ()
    params: Mapping[str, Any] = MappingProxyType({})
    bundle: Bundle | None = None

    @property
    def stored(self) -> int:
        """Stored size in bytes."""
        return self.chunks[0] if len(self.chunks) == 1 else sum(self.chunks)  # as for most tensors


@dataclass(frozen=True)
class PackHeader:
    """The header of a pack.

    Attributes:
        entries: In the order of their chunks.
        nbytes: Size of the head: magic, version, length and header.
    """

    entries: tuple[Entry, ...]
    nbytes: int

    @property
    def pack_bytes(self) -> int:
        """Size of the whole pack."""
        return self.nbytes + sum(entry.stored for entry in self.entries)


_in_use: WeakValueDictionary[bytes, PackHeader] = WeakValueDictionary()
"""Headers by the SHA-256 of their heads."""

_latest: deque[PackHeader] = deque()
_latest_bytes = 0
"""The headers of large heads that were read last, and the size of these heads."""

_lock = Lock()


def chunk_count(spec: TensorSpec) -> int:
    """Return the number of chunks that a tensor is coded in; none for an empty one."""
    return -(-spec.nbytes // spec.chunk_bytes)


def chunk_range(spec: TensorSpec, number: int) -> tuple[int, int]:
    """Return the byte range of a chunk in its tensor."""
    return number * spec.chunk_bytes, min((number + 1) * spec.chunk_bytes, spec.nbytes)


def write_header(entries: Sequence[Entry]) -> bytes:
    """Return the head of a pack. Its length does not depend on the sizes of chunks."""
    rows = [
        [
            bytes.fromhex(entry.digest),
            entry.spec.dtype.name,
            list(entry.spec.shape),
            entry.encoding,
            dict(entry.params),
            [bytes.fromhex(base) for base in entry.bases],
            struct.pack(f"<{len(entry.chunks)}I", *entry.chunks),
            *(() if entry.bundle is None else entry.bundle.row()),
        ]
        for entry in entries
    ]
    body = bytes(msgpack.packb({"entries": rows}, use_bin_type=True))
    version = 2 if any(entry.bundle is not None or entry.encoding == PART for entry in entries) else 1
    return _PREFIX.pack(MAGIC, version, len(body)) + body


def header_length(prefix: bytes) -> int:
    """Return the size in bytes of a pack's head from its first PREFIX_BYTES bytes.

    Raises:
        CorruptError: The bytes are not a pack, have another version, or the header is too long.
    """
    if len(prefix) < PREFIX_BYTES:
        raise CorruptError("the pack is truncated")
    magic, version, length = _PREFIX.unpack(prefix[:PREFIX_BYTES])
    if magic != MAGIC:
        raise CorruptError("not a pack")
    if version not in VERSIONS:
        from git_theta_ext.util.installer import upgrade_command  # filters start without it

        known = " and ".join(map(str, VERSIONS))
        raise CorruptError(f"pack version {version} is not supported, only {known}", hint=upgrade_command())
    if length > MAX_HEADER:
        raise CorruptError(f"the pack has a header of {length} bytes, which exceeds the limit of {MAX_HEADER}")
    return PREFIX_BYTES + int(length)


def read_header(data: bytes) -> PackHeader:
    """Read the head of a pack; ``data`` may be longer.

    A large head is read once as long as its header is in use or is one of the latest: a fetch needs that of a pack four
    times, and reading it takes as long as decoding its tensors.

    Raises:
        CorruptError: The header is damaged or not valid.
    """
    global _latest_bytes  # noqa: PLW0603 - the size of what is in a cache of the process
    nbytes = header_length(data)
    head = memoryview(data)[:nbytes]
    if nbytes < _LARGE:
        return _parse(head, nbytes)
    name = sha256(head).digest()
    header = _in_use.get(name)
    if header is None:
        header = _in_use[name] = _parse(head, nbytes)
        with _lock:
            _latest.append(header)
            _latest_bytes += header.nbytes
            while _latest_bytes > _KEPT:
                _latest_bytes -= _latest.popleft().nbytes
    return header


def keep_header(head: bytes, header: PackHeader) -> None:
    """Let ``read_header`` return a header for a large head as long as it is in use, since it was written as such."""
    if header.nbytes >= _LARGE:
        _in_use[sha256(head).digest()] = header


def _parse(head: memoryview, nbytes: int) -> PackHeader:
    try:
        return PackHeader(_read_entries(head[PREFIX_BYTES:], nbytes), nbytes)
    except (ValueError, TypeError, OverflowError, FormatError) as error:
        raise CorruptError(f"the header of the pack is damaged: {error}") from error


def _read_entries(header: memoryview, nbytes: int) -> tuple[Entry, ...]:
    if header.nbytes != nbytes - PREFIX_BYTES:
        raise ValueError("it is truncated")
    reader = RowReader(header)
    if reader.mapping() != 1 or reader.value() != "entries":
        raise ValueError("it does not begin with the entries")
    entries, at = [], nbytes
    for row in reader.rows(MAX_ENTRIES):
        entry = _read_entry(row, at)
        entries.append(entry)
        at += sum(entry.chunks)
    reader.end()
    return tuple(entries)


class _Form(NamedTuple):
    """What tensors of one type and shape have in common.

    Attributes:
        spec: The type and the shape.
        chunks: Number of chunks.
        most: The limit of the stored bytes of a chunk.
        last: That of the last one.
    """

    spec: TensorSpec
    chunks: int
    most: int
    last: int


@lru_cache(1 << 10)
def _form(kind: str, shape: tuple[int, ...]) -> _Form:
    if kind == SKELETON.name:
        (length,) = shape
        spec = skeleton_spec(length)
    else:
        spec = TensorSpec.of(kind, shape)
    chunks = chunk_count(spec)
    return _Form(spec, chunks, _limit(spec, 0), _limit(spec, max(0, chunks - 1)))


def _limit(spec: TensorSpec, number: int) -> int:
    """Return the limit of the stored bytes of a chunk."""
    start, end = chunk_range(spec, number)
    # Every encoding falls back to the plain bytes, so a chunk grows by little more than its own head.
    return 2 * (end - start) + 1024


def _read_entry(row: Any, offset: int) -> Entry:
    digest, kind, shape, encoding, params, bases, sizes, *rest = row
    if not (isinstance(sizes, bytes) and isinstance(encoding, str) and isinstance(params, dict)):
        raise TypeError("an entry has fields of the wrong types")
    if not set(map(type, shape)) <= {int}:
        raise TypeError("a shape is not a list of integers")
    form = _form(kind, tuple(shape))
    count = 0 if encoding in WITHOUT_CHUNKS else form.chunks
    if len(sizes) != 4 * count:
        raise ValueError("the length of a chunk table does not fit its tensor")
    chunks = struct.unpack(f"<{count}I", sizes)
    if chunks and (chunks[-1] > form.last or max(chunks) > form.most):
        raise ValueError("a chunk is larger than its tensor allows")
    most = MAX_SOURCES if encoding == GATHERED else MAX_BASES
    if len(bases) > most:
        raise ValueError(f"{len(bases)} bases exceed the limit of {most}")
    names = tuple(map(_digest, bases)) if bases else ()
    bundle = _read_bundle(kind, rest) if rest else None
    name = _digest(digest)
    if bundle is not None and (bundle.digest != name or bundle.spec != form.spec):
        raise ValueError("a bundle does not match its digest")
    if encoding in WITHOUT_CHUNKS and (bundle is None) != (encoding == PART):
        raise ValueError(f"an entry has the encoding {encoding}, and is not what that is for")
    return Entry(name, form.spec, encoding, chunks, offset, names, params, bundle)


def _read_bundle(kind: str, fields: Sequence[object]) -> Bundle:
    from git_theta_ext.model.bundle import Bundle  # filters of models without them start without it

    return Bundle.from_row(kind, fields)


def _digest(raw: object) -> Digest:
    if not isinstance(raw, bytes) or len(raw) != 32:  # noqa: PLR2004 - bytes of a BLAKE3-256
        raise ValueError("a digest has the wrong length")
    return digest_of(raw)
