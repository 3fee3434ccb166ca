"""Remember the disk usage of a store, in ``theta/usage.json``, until a version or a pack changes.

The file is derived. It is used only if it has the digest of its content and of the state of the repository.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from git_theta_ext.errors import CorruptError
from git_theta_ext.git.snapshot import snapshot, stat_line
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.maintenance.disk_usage import Disk, Share, Usage, VersionShare, measure
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.util.files import replace_content
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store

_SEAL_BYTES = 64
"""Hexadecimal digits before the content."""
_COUNTING = 2
"""Increased whenever ``measure`` counts differently, also between releases."""


def usage_of(workspace: Workspace, only: Collection[str] | None = None) -> Usage:
    """Return the disk usage of a store.

    Args:
        workspace: The repository and its store.
        only: Paths to count, as ``measure`` takes them. None counts all, which is remembered.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    store = workspace.store
    state = None if only is not None else _state(workspace)
    if state is not None and (known := _read(_path(store), state)) is not None:
        return known
    usage = measure(versions(workspace.repo), *_headers(store), only)
    if state is not None and state == _state(workspace):
        _write(_path(store), state, usage)
    return usage


def _headers(store: Store) -> tuple[dict[str, PackHeader], int]:
    """Return the headers of readable packs by name, and the size of all packs in bytes."""
    headers, total = {}, 0
    for _, path in store.pack_files():
        with suppress(FileNotFoundError):
            if path.name in headers:  # seen already, in this store or an alternate
                continue
            total += path.stat().st_size
            with suppress(CorruptError):  # counted as damaged; fsck names it
                headers[path.name] = read_pack_header(path)
    return headers, total


def _state(workspace: Workspace) -> str | None:
    """Return a digest of all that the usage depends on; None if there is no such digest."""
    repository = snapshot(workspace.repo)
    if repository is None:
        return None
    hasher = blake3(f"{__version__} {_COUNTING} {repository}".encode())
    try:
        for _, entry in workspace.store.pack_entries():
            hasher.update(stat_line(entry.path, entry.stat()).encode(errors="surrogateescape") + b"\0")
    except FileNotFoundError:  # removed just now
        return None
    return hasher.hexdigest()


def _path(store: Store) -> Path:
    return store.root / "usage.json"


def _read(path: Path, state: str) -> Usage | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[_SEAL_BYTES:]
    return _decoded(json.loads(content)) if data[:_SEAL_BYTES] == _seal(state, content) else None


def _write(path: Path, state: str, usage: Usage) -> None:
    if path.parent.is_dir():  # a repository without a store gets none
        content = json.dumps(_encoded(usage)).encode()
        with suppress(OSError):
            replace_content(path, _seal(state, content) + content)


def _seal(state: str, content: bytes) -> bytes:
    return blake3(state.encode() + content).hexdigest().encode()


def _encoded(usage: Usage) -> list[Any]:
    rows = [(v.path, v.commit, v.time, v.raw, _row(v.new)) for v in usage.versions]
    shares = (usage.encodings, usage.parameters, usage.groups)
    return [rows, *([_row(share) for share in group] for group in shares), list(vars(usage.disk).values())]


def _row(share: Share) -> list[object]:
    return list(vars(share).values())


def _decoded(rows: Sequence[Any]) -> Usage:
    versions, encodings, parameters, groups, disk = rows
    return Usage(
        [VersionShare(path, commit, time, raw, Share(*new)) for path, commit, time, raw, new in versions],
        [Share(*row) for row in encodings],
        [Share(*row) for row in parameters],
        [Share(*row) for row in groups],
        Disk(*disk),
    )
