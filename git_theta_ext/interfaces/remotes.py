"""Store packs elsewhere: the interface of remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Buffer

    from git_theta_ext.errors import RemoteError, ThetaError


class Remote(Protocol):
    """A flat store of immutable objects under the keys ``packs/ab/<sha256>`` and ``index/<sha256>``.

    A pack is named by the SHA-256 of its bytes. Its index entry is a small object with the same name.

    Every method raises ``RemoteError`` if the remote cannot be reached or refuses, and ``UsageError`` for a key that is
    not a relative path of plain names (``check_key``). Several threads call the methods at the same time.
    """

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the key of every complete object whose key starts with ``prefix``, in any order.

        A pack may be left out until its index entry is published.

        Sizes are not needed. They are in pack headers, because some object stores need a request for each of them.
        """
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if the object is shorter.

        Tensors are fetched out of a pack by such ranges if that saves much; see also ``RangeRemote``.

        Raises:
            MissingError: There is no such object.
        """
        ...

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download an object to a local file, and resume an interrupted download.

        Args:
            key: The key of the object.
            path: The file, which may have the first bytes of the object already. On return it has all of them.
            nbytes: The expected size of the object. ``path`` never becomes larger.

        Raises:
            CorruptError: The object has another size. If that is known in advance, nothing is copied.
            MissingError: There is no such object.
        """
        ...

    def put(self, key: str, path: Path) -> bool:
        """Upload a local file unless the key exists; atomically, so that others see all of it or nothing.

        Other users of the remote must be able to read the object: a temporary file of mode 0600 is not enough.

        Returns:
            Whether it was written; False if the key exists.
        """
        ...

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Upload the index entries of one push, after its packs: ``put`` has returned for each of them.

        A remote may send the entries together. An entry that exists is left as it is. No other user of the remote sees
        an entry before its pack. If the call fails, some entries may be visible; repeating it adds the others.

        Args:
            entries: Key ``index/<sha256>`` to a local file, of at least one pack.
        """
        ...

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Protect objects that will be referenced from removal, and return the keys of those that exist.

        If objects are removed by their age, as ``git theta gc`` does in a directory, renew their age. A call may list
        the remote, but must not wait for a request for each object.
        """
        ...


@runtime_checkable
class ReadOnlyRemote(Protocol):
    """A remote to which nothing can be pushed: its ``put`` always raises an error."""

    def read_only_error(self) -> RemoteError:
        """Return the error for a push, which is raised before tensors are prepared for an upload."""
        ...


@runtime_checkable
class RangeRemote(Protocol):
    """A ``Remote`` that may have to transfer a whole object to get a range of it."""

    @property
    def ranged(self) -> bool:
        """Whether ranges save bytes, as far as is known by now. If it is False, whole packs are fetched."""
        ...


@runtime_checkable
class MarkingRemote(Protocol):
    """A remote that remembers which of its packs are damaged, for example because it takes no other bytes for them.

    Such packs are the last ones that anybody fetches, and no push relies on them.
    """

    def marked(self) -> set[str]:
        """Return the keys of packs that somebody found damaged."""
        ...

    def mark(self, keys: Iterable[str]) -> None:
        """Remember that packs are damaged. Keys that are marked, or of packs that do not exist, change nothing."""
        ...

    def unmark(self, keys: Iterable[str]) -> None:
        """Remove the marks of packs that turned out to be sound. Keys that are not marked change nothing."""
        ...


class GitCommands(Protocol):
    """A git repository in which a remote can run git."""

    @property
    def common_dir(self) -> Path:
        """The git directory that all work trees share. A remote keeps files in its folder ``theta`` only."""
        ...

    @property
    def folder(self) -> Path:
        """The folder to run commands in."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the environment to run commands in."""
        ...

    def run(
        self,
        *args: str,
        input: Buffer | None = None,  # noqa: A002 - subprocess.run's word for it
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run git and return what it prints.

        Args:
            args: The arguments after ``git``.
            input: Its standard input; empty if None.
            check: Whether a non-zero exit is an error.
            env: Variables that are added to ``environment()``.

        Raises:
            RepositoryError: Git failed; the message is git's.
        """
        ...


def _unwatched(key: str, nbytes: int) -> None:
    """Ignore a report."""


@dataclass(frozen=True)
class RemoteContext:
    """What a remote is opened for.

    Attributes:
        name: Name of the git remote, or its address if it has no name.
        address: The URL that git uses for it, after ``url.<base>.insteadOf``. It may contain a password.
        git: The local repository; None if there is none, as in tests.
        report: Takes the key of an object and how many of its first bytes ``put`` or ``fetch`` has transferred so far.
            A remote that calls it during a transfer, from any thread, shows progress within a pack; the number may
            become smaller when a transfer is repeated. Otherwise a pack counts when ``put`` or ``fetch`` returns. A
            remote that sends packs in ``publish`` reports 0 in ``put``. What ``report`` raises ends the transfer, and
            ``put``, ``publish`` or ``fetch`` must raise an error soon.
    """

    name: str = ""
    address: str = ""
    git: GitCommands | None = None
    report: Callable[[str, int], None] = _unwatched


@dataclass(frozen=True)
class WantedObject:
    """An object to download.

    Attributes:
        oid: SHA-256 of its bytes, in hexadecimal digits.
        nbytes: Its size in bytes.
        path: The file to download it to, which may have the first bytes of the object already.
    """

    oid: str
    nbytes: int
    path: Path


class ObjectServer(Protocol):
    """A server with the objects that pointers of Git LFS in a repository name."""

    def fetch(
        self, objects: Iterable[WantedObject], advance: Callable[[int], None]
    ) -> Iterator[tuple[WantedObject, ThetaError | None]]:
        """Download objects, several at a time, and resume interrupted downloads.

        Args:
            objects: The objects. No file becomes larger than its object.
            advance: Called with the number of bytes that files have got since the last call, also those that a file
                had before. It is negative if a download starts over. Any thread may call it.

        Yields:
            Each object in order, and None if its file has the right bytes now, or else why not.

        Raises:
            RemoteError: The server cannot be reached, or refuses. What was downloaded is kept.
        """
        ...


@dataclass(frozen=True)
class RemoteType:
    """A remote plug-in.

    Attributes:
        schemes: Of the URLs that it opens, in lower case: ``("s3", "gs")``. The empty one is that of plain paths. The
            setting ``theta.remote.<name>.type`` names a plug-in for a URL of any scheme. A plug-in without schemes gets
            the address of the git remote if no URL is set.
        open: Opens the remote at a URL, given the settings ``theta.remote.<name>.*`` but ``url`` and ``type``, and what
            it is opened for. Raises ``ConfigError`` if it does not understand the URL or a setting.
        objects: Opens the server with the objects of Git LFS; None if the plug-in knows none. Raises ``ConfigError`` if
            it has no address.
    """

    schemes: tuple[str, ...]
    open: Callable[[str, Mapping[str, Any], RemoteContext], Remote]
    objects: Callable[[RemoteContext], ObjectServer] | None = None
