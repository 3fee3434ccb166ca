"""Read objects from git's database, many through one process."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from git_theta_ext.errors import ManifestError, RepositoryError
from git_theta_ext.model.manifest import MAGIC, MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import IO

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest

# The shortest manifest: its three fixed parts with a one-letter format, a digest and a one-digit size.
_LEAST = len(MAGIC) + len("format x\nskeleton  1\n") + 64
# The first bytes of larger blobs are checked before all is read: most large files of a repository are not manifests.
_PEEK_FROM = 1 << 20
# How little a size differs from that of the last large manifest, as a power of two, if it is probably that of another
# version: each check takes a process.
_ALIKE = 6
# Number of requests that are sent at a time; their bytes must fit a pipe, so that neither side waits for the other.
_WINDOW = 256
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")


class Git(Protocol):
    """The part of ``Repository`` that reading objects needs."""

    @property
    def folder(self) -> Path:
        """The directory in which git runs."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the environment that git runs in."""
        ...

    def run(self, *args: str, input: Buffer | None = None) -> bytes:  # noqa: A002 - as in Repository
        """Run git."""
        ...

    def reading(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Return a context with a ``git cat-file --batch`` that no one else uses, and whose output is read whole."""
        ...


@dataclass(frozen=True)
class ObjectInfo:
    """Type (``blob``, ``tree``, ``commit``, ``tag``) and size in bytes of an object."""

    kind: str
    nbytes: int


def blob_id(content: bytes, object_format: str) -> str:
    """Return git's id of a blob, without storing it.

    Args:
        content: The blob.
        object_format: ``sha1`` or ``sha256``.
    """
    head = b"blob %d\0" % len(content)
    return hashlib.new(object_format, head + content, usedforsecurity=False).hexdigest()


def write_blob(git: Git, content: bytes) -> str:
    """Store a blob and return its id.

    Raises:
        RepositoryError: Git cannot write the object.
    """
    return git.run("hash-object", "-w", "--stdin", input=content).decode().strip()


def write_blobs(git: Git, contents: Sequence[bytes]) -> list[str]:
    """Store blobs, all through one process, and return their ids.

    Raises:
        RepositoryError: Git cannot write an object.
        StoreError: The temporary directory is full.
    """
    if len(contents) < 2:  # noqa: PLR2004 - files would cost more than they save
        return [write_blob(git, content) for content in contents]
    import tempfile  # filters and drivers start without it

    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder:
        names = [Path(folder, str(number)) for number in range(len(contents))]
        with reporting_os_errors(Path(folder)):
            for name, content in zip(names, contents, strict=True):
                name.write_bytes(content)
        listed = b"".join(os.fsencode(name) + b"\n" for name in names)
        return git.run("hash-object", "-w", "--no-filters", "--stdin-paths", input=listed).decode().split()


def object_infos(git: Git, oids: Iterable[str]) -> dict[str, ObjectInfo]:
    """Return type and size of objects; missing objects are left out."""
    wanted = "".join(f"{oid}\n" for oid in dict.fromkeys(oids))
    if not wanted:
        return {}
    infos: dict[str, ObjectInfo] = {}
    for line in git.run("cat-file", "--batch-check", "--buffer", input=wanted.encode()).decode().splitlines():
        oid, kind, *rest = line.split(" ")
        if rest:
            infos[oid] = ObjectInfo(kind, int(rest[0]))
    return infos


def named_objects(git: Git, names: Sequence[str]) -> list[tuple[str, ObjectInfo] | None]:
    """Return the id, type and size of the objects with some names, such as ``HEAD:path``; None if there is none.

    Args:
        git: The repository.
        names: The names, without line feeds.
    """
    wanted = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
    found: list[tuple[str, ObjectInfo] | None] = []
    for line in git.run("cat-file", "--batch-check", "--buffer", input=wanted).split(b"\n")[:-1]:
        oid, _, rest = line.decode(errors="surrogateescape").partition(" ")
        kind, _, nbytes = rest.partition(" ")
        found.append((oid, ObjectInfo(kind, int(nbytes))) if nbytes.isdigit() else None)
    return found


def local_blobs(git: Git) -> list[str]:
    """Return the ids of all local blobs, reachable or not; a partial clone fetches none of the others.

    Raises:
        RepositoryError: Git cannot read its objects.
    """
    listed = git.run("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)", "--unordered")
    return [line.removesuffix(" blob") for line in listed.decode().splitlines() if line.endswith(" blob")]


def read_objects(git: Git, oids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield id and content of objects, one in memory at a time; missing objects are left out."""
    wanted = list(oids)
    if not wanted:
        return
    with git.reading() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for start in range(0, len(wanted), _WINDOW):
            window = wanted[start : start + _WINDOW]
            process.stdin.write("".join(f"{oid}\n" for oid in window).encode())
            process.stdin.flush()
            for oid in window:
                data = _read_reply(process.stdout, oid)
                if data is not None:
                    yield oid, data


def object_reader(git: Git) -> subprocess.Popen[bytes]:
    """Start a ``git cat-file --batch``, which the caller kills: git must not wait until its output is read."""
    return subprocess.Popen(
        ["git", "cat-file", "--batch"],
        cwd=git.folder,
        env=git.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _read_reply(stream: IO[bytes], oid: str) -> bytes | None:
    header = stream.readline().split()
    if header[1:] == [b"missing"]:
        return None
    if len(header) != 3 or not header[2].isdigit():  # noqa: PLR2004 - id, type, size
        raise RepositoryError(f"git cannot read object {oid}", hint="git fsck")
    nbytes = int(header[2])
    data = stream.read(nbytes + 1)
    if len(data) != nbytes + 1:
        raise RepositoryError(f"git stopped in the middle of object {oid}", hint="git fsck")
    return data[:-1]


def starts_with(git: Git, oid: str, prefix: bytes) -> bool:
    """Return whether a blob starts with some bytes, without reading all of it."""
    with subprocess.Popen(
        ["git", "cat-file", "blob", oid],
        cwd=git.folder,
        env=git.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        head = process.stdout.read(len(prefix))
        process.kill()
    return head == prefix


def manifest_blobs(git: Git, infos: Mapping[str, ObjectInfo]) -> Iterator[tuple[str, bytes]]:
    """Yield id and content of the blobs that start like manifests."""
    likely: list[str] = []
    last = 0
    for oid, info in infos.items():
        if info.kind != "blob" or not _LEAST <= info.nbytes <= MAX_MANIFEST:
            continue
        if info.nbytes < _PEEK_FROM or abs(info.nbytes - last) <= last >> _ALIKE:
            likely.append(oid)
        elif starts_with(git, oid, MAGIC):
            likely.append(oid)
            last = info.nbytes
    for oid, data in read_objects(git, likely):
        if is_manifest(data):
            yield oid, data


def named_digests(git: Git, oids: Iterable[str]) -> set[Digest]:
    """Return the digests in the manifests among some objects.

    In a manifest that is broken or has conflicts, all text that looks like a digest counts.
    """
    digests: set[Digest] = set()
    for _, data in manifest_blobs(git, object_infos(git, oids)):
        digests.update(cast("list[Digest]", b" ".join(_DIGEST.findall(data)).decode().split()))
    return digests


def read_manifests(git: Git, paths: Mapping[str, str]) -> dict[str, Manifest]:
    """Read the manifests among some blobs.

    Args:
        git: The repository.
        paths: Object id to the path in messages.

    Raises:
        ManifestError: A manifest is broken; the message names its path.
    """
    return {oid: _parse(data, paths[oid]) for oid, data in manifest_blobs(git, object_infos(git, paths))}


def _parse(data: bytes, path: str) -> Manifest:
    try:
        return Manifest.parse(data)
    except ManifestError as error:
        raise ManifestError(f"{shown_path(path)}: {error.message}", hint=error.hint) from error
