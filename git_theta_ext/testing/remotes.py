"""The conformance suite of remotes.

Subclass ``RemoteTests`` in a test module and give it a fixture ``remote`` that yields an empty remote::

    class TestMine(RemoteTests):
        @pytest.fixture
        def remote(self, tmp_path):
            return open_remote(f"mine://{tmp_path}", {}, RemoteContext())

A remote that reports its progress gets the fixture ``report``: ``RemoteContext(report=report)``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.interfaces import Remote

_CONTENT = bytes(range(256)) * 300
_OTHER = b"another pack"
_ENTRY = b"an index entry"


def _name(content: bytes) -> str:
    return sha256(content).hexdigest()


def _pack(content: bytes) -> str:
    return f"packs/{_name(content)[:2]}/{_name(content)}"


def _index(content: bytes) -> str:
    return f"index/{_name(content)}"


_KEY = _pack(_CONTENT)
_ABSENT = _pack(b"a pack that no test puts on a remote")

BAD_KEYS = (
    "",
    "/packs/ab",
    "packs//ab",
    "packs/../ab",
    "..",
    "packs/./ab",
    "packs/ab/",
    "packs/a b",
    "packs\\ab",
    "packs/\u00e9",
    "packs/ab\n",
    "packs/\0",
    "a" * 200,
    "a/" * 300 + "a",
)
"""No remote may take these."""


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _add(remote: Remote, folder: Path, *contents: bytes) -> None:
    """Put packs with some contents, and publish their index entries."""
    for content in contents:
        remote.put(_pack(content), _file(folder / "pack", content))
    entry = _file(folder / "entry", _ENTRY)
    remote.publish({_index(content): entry for content in contents})


class Reports:
    """Takes what a remote reports; see ``RemoteContext``.

    Attributes:
        taken: Key and number of bytes of each report.
        error: Is raised by a report.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.error: BaseException | None = None

    def __call__(self, key: str, nbytes: int) -> None:
        """Take a report."""
        self.taken.append((key, nbytes))
        if self.error is not None:
            raise self.error


class _StoppedError(BaseException):
    """Stops a transfer."""


class RemoteTests:
    """Conformance suite; a subclass has a fixture ``remote``, an empty remote."""

    @pytest.fixture
    def report(self) -> Reports:
        """Take the reports of a remote that the subclass opens with it."""
        return Reports()

    def test_no_report_exceeds_its_object(self, remote: Remote, report: Reports, tmp_path: Path) -> None:
        """Reports are about objects that are transferred, and may be missing."""
        _add(remote, tmp_path, _CONTENT, _OTHER)
        remote.fetch(_KEY, tmp_path / "a", len(_CONTENT))
        sizes = {_KEY: len(_CONTENT), _pack(_OTHER): len(_OTHER)}
        sizes |= dict.fromkeys([_index(_CONTENT), _index(_OTHER)], len(_ENTRY))
        assert [(key, nbytes) for key, nbytes in report.taken if not 0 <= nbytes <= sizes[key]] == []

    def test_a_report_can_stop_a_transfer(self, remote: Remote, report: Reports, tmp_path: Path) -> None:
        """What is not transferred then is not visible, and another transfer succeeds."""
        report.error = _StoppedError()
        with suppress(_StoppedError, RemoteError):
            _add(remote, tmp_path, _CONTENT)
            assert report.taken == []
        report.error = None
        _add(remote, tmp_path, _CONTENT)
        assert remote.get(_KEY) == _CONTENT
        report.error, report.taken = _StoppedError(), []
        with suppress(_StoppedError, RemoteError):
            remote.fetch(_KEY, tmp_path / "a", len(_CONTENT))
            assert report.taken == []
        report.error = None
        remote.fetch(_KEY, tmp_path / "a", len(_CONTENT))
        assert (tmp_path / "a").read_bytes() == _CONTENT

    def test_an_empty_remote_lists_nothing(self, remote: Remote) -> None:
        """A remote without objects is not an error."""
        assert list(remote.list("")) == []
        assert list(remote.list("packs/")) == []

    def test_what_is_put_comes_back(self, remote: Remote, tmp_path: Path) -> None:
        """Whole objects are equal to the byte."""
        assert remote.put(_KEY, _file(tmp_path / "a", _CONTENT)) is True
        assert remote.get(_KEY) == _CONTENT

    def test_an_empty_object_comes_back(self, remote: Remote, tmp_path: Path) -> None:
        """An object may have no bytes."""
        key = _pack(b"")
        assert remote.put(key, _file(tmp_path / "a", b""))
        assert remote.get(key) == b""
        assert remote.get(key, 0, 20) == b""
        remote.fetch(key, tmp_path / "b", 0)
        assert (tmp_path / "b").read_bytes() == b""

    def test_the_local_file_stays(self, remote: Remote, tmp_path: Path) -> None:
        """The caller still needs the pack and the index entry."""
        _add(remote, tmp_path, _CONTENT)
        assert (tmp_path / "pack").read_bytes() == _CONTENT
        assert (tmp_path / "entry").read_bytes() == _ENTRY

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 16), (16, 300), (0, None), (100, None), (76_799, None), (5, 5), (76_700, 90_000), (76_800, 76_900)],
    )
    def test_ranges_follow_slices(self, remote: Remote, tmp_path: Path, start: int, end: int | None) -> None:
        """A range that ends after the object returns the bytes that exist."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        assert remote.get(_KEY, start, end) == _CONTENT[start:end]

    def test_a_range_behind_the_end_is_empty(self, remote: Remote, tmp_path: Path) -> None:
        """This includes a range without an end."""
        remote.put(_pack(b"abc"), _file(tmp_path / "a", b"abc"))
        assert remote.get(_pack(b"abc"), 7) == b""
        assert remote.get(_pack(b"abc"), 7, 9) == b""

    def test_list_gives_the_keys_of_a_prefix(self, remote: Remote, tmp_path: Path) -> None:
        """A prefix is text: it need not end at a slash."""
        _add(remote, tmp_path, _CONTENT, _OTHER)
        packs, entries = [_KEY, _pack(_OTHER)], [_index(_CONTENT), _index(_OTHER)]
        assert sorted(remote.list("")) == sorted([*packs, *entries])
        assert sorted(remote.list("packs/")) == sorted(packs)
        assert list(remote.list(_KEY[:12])) == [_KEY]
        assert sorted(remote.list("index/")) == sorted(entries)
        assert list(remote.list("nothing/")) == []

    def test_index_entries_come_back(self, remote: Remote, tmp_path: Path) -> None:
        """Entries of several pushes are returned."""
        _add(remote, tmp_path, _CONTENT, _OTHER)
        _add(remote, tmp_path, b"abc")
        for content in (_CONTENT, _OTHER, b"abc"):
            assert remote.get(_index(content)) == _ENTRY
            assert remote.get(_index(content), 3, 100) == _ENTRY[3:]
        with pytest.raises(MissingError):
            remote.get(_index(b"something else"))

    def test_a_published_entry_stays_as_it_is(self, remote: Remote, tmp_path: Path) -> None:
        """Another push adds the entries that are missing."""
        _add(remote, tmp_path, _CONTENT)
        remote.put(_pack(_OTHER), _file(tmp_path / "pack", _OTHER))
        later = _file(tmp_path / "later", b"later")
        remote.publish({_index(_CONTENT): later, _index(_OTHER): later})
        assert remote.get(_index(_CONTENT)) == _ENTRY
        assert remote.get(_index(_OTHER)) == b"later"

    def test_a_pack_is_put_once(self, remote: Remote, tmp_path: Path) -> None:
        """The second time, nothing is written."""
        path = _file(tmp_path / "a", _CONTENT)
        assert remote.put(_KEY, path) is True
        assert remote.put(_KEY, path) is False
        assert remote.get(_KEY) == _CONTENT

    def test_threads_may_put_the_same_key(self, remote: Remote, tmp_path: Path) -> None:
        """Afterwards every reader sees a whole object."""
        paths = [_file(tmp_path / str(number), _CONTENT) for number in range(8)]
        with ThreadPoolExecutor(8) as executor:
            written = list(executor.map(lambda path: remote.put(_KEY, path), paths))
        assert any(written)
        assert remote.get(_KEY) == _CONTENT

    def test_keep_gives_what_is_there(self, remote: Remote, tmp_path: Path) -> None:
        """``keep`` returns only keys that it was given."""
        assert remote.keep([]) == set()
        assert remote.keep([_KEY]) == set()
        _add(remote, tmp_path, _CONTENT, _OTHER)
        assert remote.keep([_KEY, _index(_CONTENT), _ABSENT]) == {_KEY, _index(_CONTENT)}
        assert remote.keep(iter([_pack(_OTHER)])) == {_pack(_OTHER)}
        assert remote.get(_KEY) == _CONTENT

    def test_missing_objects_are_missing(self, remote: Remote, tmp_path: Path) -> None:
        """``fetch`` leaves no file that could be taken for the object."""
        with pytest.raises(MissingError):
            remote.get(_ABSENT, 0, 20)
        with pytest.raises(MissingError):
            remote.fetch(_ABSENT, tmp_path / "a", 20)
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("begun", [None, 0, 1, 76_799, 76_800])
    def test_fetch_goes_on_where_it_stopped(self, remote: Remote, tmp_path: Path, begun: int | None) -> None:
        """Only the missing bytes are requested."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        path = tmp_path / "b"
        if begun is not None:
            path.write_bytes(b"x" * begun)
        remote.fetch(_KEY, path, len(_CONTENT))
        assert path.read_bytes() == b"x" * (begun or 0) + _CONTENT[begun or 0 :]

    def test_fetch_starts_over_where_too_much_is_there(self, remote: Remote, tmp_path: Path) -> None:
        """A longer file cannot be the beginning of the object."""
        remote.put(_pack(b"abc"), _file(tmp_path / "a", b"abc"))
        path = _file(tmp_path / "b", b"abcdef")
        remote.fetch(_pack(b"abc"), path, 3)
        assert path.read_bytes() == b"abc"

    @pytest.mark.parametrize("nbytes", [0, 100, 76_801, 1 << 40])
    def test_fetch_takes_no_more_than_the_object_is_known_to_have(
        self, remote: Remote, tmp_path: Path, nbytes: int
    ) -> None:
        """An object of another size must not fill the disk."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        with suppress(CorruptError):
            remote.fetch(_KEY, tmp_path / "b", nbytes)
            assert (tmp_path / "b").read_bytes() == _CONTENT[:nbytes]
        assert not (tmp_path / "b").exists() or (tmp_path / "b").stat().st_size <= min(nbytes, len(_CONTENT))

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys_are_refused(self, remote: Remote, tmp_path: Path, key: str) -> None:
        """No key leads out of the remote."""
        path = _file(tmp_path / "a", b"")
        calls: list[Callable[[], object]] = [
            lambda: remote.get(key),
            lambda: remote.put(key, path),
            lambda: remote.fetch(key, tmp_path / "b", 1),
            lambda: remote.publish({key: path}),
            lambda: remote.keep([key]),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()
