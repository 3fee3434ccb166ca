"""What every remote must do.

Subclass ``RemoteTests`` in a test module and give it a fixture ``remote`` that yields an empty remote::

    class TestMine(RemoteTests):
        @pytest.fixture
        def remote(self, tmp_path):
            return open_remote(f"mine://{tmp_path}", {})
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import CorruptError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from git_theta_ext.interfaces import Remote

_KEY = "packs/ab/" + "ab" * 32
_OTHER = "packs/cd/" + "cd" * 32
_INDEX = "index/" + "ab" * 32
_CONTENT = bytes(range(256)) * 300

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


class RemoteTests:
    """Conformance suite; a subclass has a fixture ``remote``, an empty remote."""

    def test_an_empty_remote_lists_nothing(self, remote: Remote) -> None:
        """A remote without objects is not an error."""
        assert list(remote.list("")) == []
        assert list(remote.list("packs/")) == []

    def test_what_is_put_comes_back(self, remote: Remote, tmp_path: Path) -> None:
        """Whole objects are equal to the byte."""
        assert remote.put(_KEY, _file(tmp_path / "a", _CONTENT)) is True
        assert remote.get(_KEY) == _CONTENT

    def test_an_empty_object_comes_back(self, remote: Remote, tmp_path: Path) -> None:
        """Nothing is also something."""
        assert remote.put(_KEY, _file(tmp_path / "a", b""))
        assert remote.get(_KEY) == b""
        assert remote.get(_KEY, 0, 20) == b""
        remote.fetch(_KEY, tmp_path / "b", 0)
        assert (tmp_path / "b").read_bytes() == b""

    def test_putting_does_not_take_the_file_away(self, remote: Remote, tmp_path: Path) -> None:
        """The local pack stays, whatever happens to the remote's."""
        path = _file(tmp_path / "a", _CONTENT)
        remote.put(_KEY, path)
        remote.delete(_KEY)
        assert path.read_bytes() == _CONTENT

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 16), (16, 300), (0, None), (100, None), (76_799, None), (5, 5), (76_700, 90_000), (76_800, 76_900)],
    )
    def test_ranges_follow_slices(self, remote: Remote, tmp_path: Path, start: int, end: int | None) -> None:
        """A range that ends behind the object gives what there is."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        assert remote.get(_KEY, start, end) == _CONTENT[start:end]

    def test_a_range_behind_the_end_is_empty(self, remote: Remote, tmp_path: Path) -> None:
        """Also if it has no end."""
        remote.put(_KEY, _file(tmp_path / "a", b"abc"))
        assert remote.get(_KEY, 7) == b""
        assert remote.get(_KEY, 7, 9) == b""

    def test_list_gives_the_keys_of_a_prefix(self, remote: Remote, tmp_path: Path) -> None:
        """A prefix is text: it need not end at a slash."""
        path = _file(tmp_path / "a", _CONTENT)
        for key in (_KEY, _OTHER, _INDEX):
            remote.put(key, path)
        assert sorted(remote.list("")) == sorted([_KEY, _OTHER, _INDEX])
        assert sorted(remote.list("packs/")) == sorted([_KEY, _OTHER])
        assert list(remote.list("packs/ab/abab")) == [_KEY]
        assert list(remote.list("index/")) == [_INDEX]
        assert list(remote.list("nothing/")) == []

    def test_the_first_put_wins(self, remote: Remote, tmp_path: Path) -> None:
        """Objects are immutable."""
        assert remote.put(_KEY, _file(tmp_path / "a", b"first"))
        assert remote.put(_KEY, _file(tmp_path / "b", b"second")) is False
        assert remote.get(_KEY) == b"first"

    def test_threads_may_put_the_same_key(self, remote: Remote, tmp_path: Path) -> None:
        """All see a whole object afterwards."""
        paths = [_file(tmp_path / str(number), _CONTENT) for number in range(8)]
        with ThreadPoolExecutor(8) as executor:
            written = list(executor.map(lambda path: remote.put(_KEY, path), paths))
        assert any(written)
        assert remote.get(_KEY) == _CONTENT

    def test_keep_gives_what_is_there(self, remote: Remote, tmp_path: Path) -> None:
        """Of the keys that were asked about, and no others."""
        assert remote.keep([]) == set()
        assert remote.keep([_KEY]) == set()
        for key in (_KEY, _OTHER, _INDEX):
            remote.put(key, _file(tmp_path / "a", _CONTENT))
        assert remote.keep([_KEY, _INDEX, "packs/ef/" + "ef" * 32]) == {_KEY, _INDEX}
        assert remote.keep(iter([_OTHER])) == {_OTHER}
        assert remote.get(_KEY) == _CONTENT

    def test_deleted_objects_are_gone(self, remote: Remote, tmp_path: Path) -> None:
        """Deleting twice is not an error."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        remote.delete(_KEY)
        remote.delete(_KEY)
        assert list(remote.list("")) == []
        with pytest.raises(MissingError):
            remote.get(_KEY)

    def test_missing_objects_are_missing(self, remote: Remote, tmp_path: Path) -> None:
        """And leave no file behind that looks like one."""
        with pytest.raises(MissingError):
            remote.get(_KEY, 0, 20)
        with pytest.raises(MissingError):
            remote.fetch(_KEY, tmp_path / "a", 20)
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("begun", [None, 0, 1, 76_799, 76_800])
    def test_fetch_goes_on_where_it_stopped(self, remote: Remote, tmp_path: Path, begun: int | None) -> None:
        """The bytes that are there are not asked for again, and none is lost."""
        remote.put(_KEY, _file(tmp_path / "a", _CONTENT))
        path = tmp_path / "b"
        if begun is not None:
            path.write_bytes(b"x" * begun)
        remote.fetch(_KEY, path, len(_CONTENT))
        assert path.read_bytes() == b"x" * (begun or 0) + _CONTENT[begun or 0 :]

    def test_fetch_starts_over_where_too_much_is_there(self, remote: Remote, tmp_path: Path) -> None:
        """A longer file can be no beginning of the object."""
        remote.put(_KEY, _file(tmp_path / "a", b"abc"))
        path = _file(tmp_path / "b", b"abcdef")
        remote.fetch(_KEY, path, 3)
        assert path.read_bytes() == b"abc"

    @pytest.mark.parametrize("nbytes", [0, 100, 76_801, 1 << 40])
    def test_fetch_takes_no_more_than_the_object_is_known_to_have(
        self, remote: Remote, tmp_path: Path, nbytes: int
    ) -> None:
        """A remote whose object has another size is wrong, or lies: it may not fill the disk."""
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
            lambda: remote.delete(key),
            lambda: remote.keep([key]),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()
