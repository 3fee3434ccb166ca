"""Where packs are pushed: the seam for remotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


class Remote(Protocol):
    """A flat store of immutable objects under keys like ``packs/ab/<sha256>`` and ``index/<sha256>``.

    Every method raises ``RemoteError`` where the remote cannot be reached or refuses, and ``UsageError`` for a key that
    is not a relative path of plain names. All are safe to call from several threads.
    """

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the key of every object whose key starts with ``prefix``, in any order; none is half written.

        Sizes are in pack headers: object stores tell them only at the price of a request an object.
        """
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``, fewer where it is shorter.

        Raises:
            MissingError: There is no such object.
        """
        ...

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Bring a whole object to a local file, continuing what an earlier try left there.

        Args:
            key: Of the object.
            path: May hold the first bytes of the object already. Afterwards it holds all of them.
            nbytes: The size that the object is known to have. ``path`` never becomes larger.

        Raises:
            CorruptError: The object has another size; nothing is copied if that can be known before.
            MissingError: There is no such object.
        """
        ...

    def put(self, key: str, path: Path) -> bool:
        """Upload a local file unless the key is taken; atomic: others see all of it or nothing.

        Returns:
            Whether it was written; False where an object of that key was there.
        """
        ...

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Protect objects that somebody is about to depend on, and return the keys of those that are there.

        Where objects are removed by their age, as ``git theta gc`` does in a folder, they become young again. It may
        cost a listing, but not a request an object.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...


@dataclass(frozen=True)
class RemoteType:
    """A remote plug-in.

    Attributes:
        schemes: Of the URLs that it opens, in lower case: ``("s3", "gs")``. The empty one is that of plain paths. The
            setting ``theta.remote.<name>.type`` names a plug-in for a URL of any scheme.
        open: Opens the remote at a URL, given the settings ``theta.remote.<name>.*`` but ``url`` and ``type``. Raises
            ``ConfigError`` if it does not understand the URL or a setting.
    """

    schemes: tuple[str, ...]
    open: Callable[[str, Mapping[str, Any]], Remote]
