"""The directory in a store where jobs leave finished packs, until the process that asked for them adds them."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.packs.finishing import pack_path, place_pack
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.temporary import WORK
from git_theta_ext.util.files import reporting_os_errors, sync_directories, sync_file
from git_theta_ext.util.system import lock, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.store.store import Store

_LARGEST_RECORD = 1 << 26


@dataclass(frozen=True)
class Delivery:
    """What a job has finished.

    Attributes:
        packs: Names of its packs, which are durable.
        facts: What else there is to know about it, as JSON.
    """

    packs: tuple[str, ...] = ()
    facts: list[Any] = field(default_factory=list)


def deliver(folder: Path, delivery: Delivery) -> None:
    """Record what a job has finished, so that it need not run again if the process that wants it is killed."""
    done = folder / "done"
    done.mkdir(parents=True, exist_ok=True)
    name = os.urandom(16).hex()
    with reporting_os_errors(done):
        (done / f".{name}").write_text(json.dumps({"packs": delivery.packs, "facts": delivery.facts}))
        sync_file(done / f".{name}")
        (done / f".{name}").rename(done / name)


class WorkArea:
    """The directory of one operation, which a killed run leaves to the next one.

    Args:
        store: The store.
        key: What the operation is about, a hash: an operation with the same key goes on with what was finished. If
            another process uses the directory, this one gets one of its own.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self.path = store.root / "tmp" / f"{key}{WORK}"
        with reporting_os_errors(self.path):
            self._lock = _locked(self.path)
            if self._lock is None:
                self.path = store.root / "tmp" / f"{os.urandom(16).hex()}{WORK}"
                self._lock = _locked(self.path)

    def left(self, *, loose: bool = True) -> Iterator[Delivery]:
        """Yield what an interrupted run has finished and did not add, after its packs were added to the store.

        Args:
            loose: As for ``add``.
        """
        with suppress(FileNotFoundError):
            for path in sorted((self.path / "done").iterdir()):
                delivery = _read(path)
                if delivery is not None and all(map(self._is_there, delivery.packs)):
                    self.add(delivery.packs, loose=loose)
                    yield delivery
                path.unlink(missing_ok=True)

    def add(self, packs: Sequence[str], *, loose: bool = True) -> None:
        """Add finished packs to the store. They are durable on return.

        Args:
            packs: Their names.
            loose: Whether recoding may still make them smaller.

        Raises:
            CorruptError: A file is not the pack that was finished. Nothing is added.
            StoreError: The store cannot be written.
        """
        headers = {name: self._header(name) for name in packs}
        with reporting_os_errors(self.path):
            for name in headers:
                if (made := pack_path(self.path, name)).exists():
                    os.utime(made)  # an interrupted run may have left it long ago, and it must not look like garbage
                    sync_directories(place_pack(self._store.root, made, name))
                    self._store.reader.forget(self._store.pack_path(name))
        for name, entries in headers.items():
            self._store.index.add_pack(str(self._store.root), name, entries, loose=loose, verified=True)

    def close(self, *, remove: bool) -> None:
        """Stop using the directory.

        Args:
            remove: Whether to remove it, as nothing in it is needed again. It is also removed if no job has finished.
        """
        if remove or not (self.path / "done").exists():
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _is_there(self, name: str) -> bool:
        return pack_path(self.path, name).exists() or self._store.pack_path(name).exists()

    def _header(self, name: str) -> Any:
        path = pack_path(self.path, name)
        if not path.exists():
            path = self._store.pack_path(name)
        header = read_pack_header(path)
        if header.pack_bytes != path.stat().st_size:
            raise CorruptError(f"pack {name}, which a job has written, has another size than its header says")
        return header.entries


def _locked(folder: Path) -> int | None:
    """Make a directory and lock it; None if another process has locked it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = open_directory(folder)
    try:
        lock(descriptor, wait=False)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks
        pass
    return descriptor


def _read(path: Path) -> Delivery | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        if path.name.startswith(".") or path.stat().st_size > _LARGEST_RECORD:
            return None
        record = read_json(path.read_text())
        if all(isinstance(name, str) and len(name) == 64 and name.isalnum() for name in record["packs"]):  # noqa: PLR2004 - a SHA-256
            return Delivery(tuple(record["packs"]), list(record["facts"]))
    return None
