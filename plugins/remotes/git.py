"""A git remote itself, for hosts without Git LFS: packs are git blobs under a ref of their own.

A pack is one blob, or several parts if it is larger than the host allows. The index names the blobs of each pack, and
has the index entries of each push. See ``_outbox`` for the ref with the blobs.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import RemoteType, redacted

from ._blobs import REQUEST, Blobs
from ._git_hosts import on_hugging_face
from ._index_ref import IndexRef
from ._lost import digest_of
from ._outbox import Outbox
from ._pack_index import PackIndex, pack_name, parse_key
from ._part_size import LARGE_BLOB, SMALL_BLOB, part_size_of
from ._parts import (
    MAX_FILE,
    Parts,
    format_parts,
    grouped,
    overlapping,
    pack_key,
    pack_of_parts_path,
    parse_parts,
    parts_path,
    total,
)
from ._timeout import git_limits, timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import RemoteContext


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Git:
    """Open a git repository as a store of packs.

    Args:
        url: The address of the git repository. If nothing else is configured, it is that of the git remote.
        options: ``partsize``, the maximum size of a blob in bytes; ``timeout``, the time that a server may be silent,
            in seconds.
        context: The git remote and the local repository.

    Raises:
        ConfigError: An option is not valid, or there is no local repository.
    """
    shown = redacted(url)
    if unknown := set(options) - {"timeout", "partsize"}:
        raise ConfigError(
            f"{shown}: unknown setting {min(unknown)}", hint=f"git config --unset theta.remote.NAME.{min(unknown)}"
        )
    if context.git is None:
        raise ConfigError(f"{shown}: git fetches packs into a local repository, and there is none")
    limits = git_limits(timeout_of(shown, options))
    size = part_size_of(shown, options, SMALL_BLOB if on_hugging_face(url) else LARGE_BLOB)
    return Git(
        shown,
        IndexRef(context.git, url, limits),
        Outbox(context.git, url, size, limits, context.report),
        Blobs(context.git, url, limits),
        context.report,
    )


REMOTE = RemoteType((), open_remote)


class Git:
    """See ``Remote`` and ``MarkingRemote``.

    A pack that turns out to be lost is not listed any more, so that a push sends it again.

    Args:
        url: The address of the git repository, for messages.
        index: The index.
        outbox: Sends packs.
        blobs: Fetches packs.
        report: See ``RemoteContext``.

    Attributes:
        ranged: False, since git sends whole parts.
    """

    ranged = False

    def __init__(
        self, url: str, index: IndexRef, outbox: Outbox, blobs: Blobs, report: Callable[[str, int], None]
    ) -> None:
        self._url = url
        self._report = report
        self._index = PackIndex(url, index, pack_of_parts_path)
        self._outbox = outbox
        self._blobs = blobs
        self._known: dict[str, Parts] | None = None
        self._compared = False
        self._lock = Lock()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        listed = self._listed()
        lost = (self._index.names() - listed.keys()) | self._lost()
        yield from self._index.keys(prefix, lost)

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        folder, name = parse_key(key)
        if folder == "index":
            data = self._index.entry(name)
            return data[start : len(data) if end is None else end]
        parts = self._parts(name)
        pieces = self._pieces(name, parts, start, total(parts) if end is None else end, keep=True)
        return b"".join(pieces)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download a pack to a local file, and resume at the first part that it lacks."""
        name = pack_name(key)
        parts = self._parts(name)
        if total(parts) != nbytes:
            raise CorruptError(f"{self._url}: pack {name} has {total(parts)} bytes instead of {nbytes}")
        begun = path.stat().st_size if path.exists() else 0
        begun = begun if begun <= nbytes else 0
        pieces = self._pieces(name, parts, begun, nbytes, keep=False)
        first = next(pieces, b"")
        try:
            with path.open("ab") as file:
                file.truncate(begun)
                file.write(first)
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise RemoteError(f"{error.filename or path}: {error.strerror or error}") from error

    def put(self, key: str, path: Path) -> bool:
        """Send a pack unless the remote has it: at once, or together with others before ``publish`` returns."""
        name = pack_name(key)
        if name in self._listed() and name not in self._lost():
            return False
        return self._outbox.add(name, path)

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Send what is left of the packs, and add them and their index entries to the index, in one commit."""
        paths = {parse_key(key)[1]: path for key, path in entries.items()}
        self._outbox.flush()
        sent = {name: parts for name in paths if (parts := self._outbox.parts(name)) is not None}
        known = self._listed()
        if unsent := set(paths) - set(sent) - self._index.names():
            raise RemoteError(f"{self._url}: pack {min(unsent)} was not sent", hint="git push tries again")
        wrong = frozenset(name for name, parts in sent.items() if known.get(name) != parts) & self._index.names()
        self._index.add({name: {parts_path(name): format_parts(parts)} for name, parts in sent.items()}, paths, wrong)
        with self._lock:
            self._known = None
        self._index.lost.remove(sent)

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist.

        The server removes no blobs that its ref reaches, so only the ref is looked for. If that was replaced, downloads
        show what is lost: those of ``git theta push --verify`` or of a checkout.
        """
        wanted = {key: parse_key(key)[1] for key in keys}
        listed = self._listed().keys() & set(wanted.values())
        gone = bool(listed) and not self._blobs.kept()
        if gone:
            self._index.lost.add(self._index.names())
        return {key for key, name in wanted.items() if name in listed - self._lost()}

    def marked(self) -> set[str]:
        """Return the keys of packs that somebody found damaged; see ``MarkingRemote``."""
        return self._index.marked()

    def mark(self, keys: Iterable[str]) -> None:
        """Remember that packs are damaged."""
        self._index.mark(keys)

    def unmark(self, keys: Iterable[str]) -> None:
        """Remove the marks of packs that turned out to be sound."""
        self._index.unmark(keys)

    def _lost(self) -> frozenset[str]:
        """Return the packs that the remote turned out to lack, if nobody has sent packs since."""
        lost = self._index.lost
        if lost.names() and not self._compared and digest_of(self._blobs.kept()) != lost.state:
            lost.remove(lost.names())
        self._compared = True
        return lost.names()

    def _parts(self, name: str) -> Parts:
        """Return the parts of a pack on the remote.

        Raises:
            MissingError: There is no such pack.
        """
        parts = self._outbox.parts(name)
        if parts is not None:
            self._outbox.flush()
            return parts
        parts = self._listed().get(name)
        if parts is None:
            raise MissingError(f"the index of {self._url} has no pack {name}")
        return parts

    def _listed(self) -> dict[str, Parts]:
        """Return the parts of the packs in the index, by name."""
        with self._lock:
            if self._known is None:
                self._known = {}
                for name, data in self._index.pointers(MAX_FILE).items():
                    with suppress(CorruptError):
                        self._known[name] = parse_parts(data)
            return self._known

    def _pieces(self, name: str, parts: Parts, start: int, end: int, *, keep: bool) -> Iterator[bytes]:
        """Yield the bytes of a pack from ``start`` up to ``end`` in pieces."""
        for group in grouped(overlapping(parts, start, end), REQUEST):

            def arrived(nbytes: int, start: int = start) -> None:
                if not keep:
                    self._report(pack_key(name), min(end, start + nbytes))

            try:
                scratch = self._blobs.bring(tuple(part for part, _ in group), arrived, keep=keep)
            except (CorruptError, MissingError) as error:
                self._index.lost.add([name], self._blobs.kept())
                raise type(error)(f"pack {name}: {error.message}") from error
            for part, wanted in group:
                yield from scratch.read(part, wanted)
                start += wanted.stop - wanted.start
