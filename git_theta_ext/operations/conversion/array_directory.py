"""Directories with arrays, as zarr and Orbax write them: what is in them, before anything of it is decoded."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OCDBT = "manifest.ocdbt"
_ORBAX = ("_METADATA", "_sharding", "checkpoint", _OCDBT)
_ZARR = (".zarray", ".zgroup", "zarr.json")
_JSON = frozenset({".zarray", "zarr.json", "_METADATA"})
_UNFINISHED = ".orbax-checkpoint-tmp"
_ITEMS = ("default", "state", "params", "model")
_MAX_JSON = 1 << 26
_MAX_FILES = 1 << 22
_MAX_DEPTH = 64


@dataclass(frozen=True)
class ArrayDirectory:
    """A directory with arrays.

    Attributes:
        path: The directory, without symbolic links in it.
        nbytes: Size of all files in it.
        files: Paths of the files in it.
    """

    path: Path
    nbytes: int
    files: frozenset[str]

    @property
    def database(self) -> bool:
        """Whether the arrays are in a database of OCDBT instead of files."""
        return _OCDBT in self.files

    @property
    def orbax(self) -> bool:
        """Whether Orbax wrote it. Its arrays have names with dots, and zarr's are in groups."""
        return any(name in self.files for name in _ORBAX)

    def left_out(self) -> dict[str, str]:
        """Return what Orbax saved besides arrays: the name and the kind of each value.

        Raises:
            FormatError: The metadata is damaged.
        """
        left = {name: kind for name, kind in self._values() if kind == "string"}
        if "checkpoint" in self.files:
            left["checkpoint"] = "file with small values of an old version of Orbax"
        return left

    def expected(self) -> frozenset[str]:
        """Return the names of the arrays that Orbax saved; none if its metadata does not have them.

        Raises:
            FormatError: The metadata is damaged.
        """
        return frozenset(name for name, kind in self._values() if kind not in ("string", ""))

    def _values(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the kind of each value in Orbax's metadata, whose kind is empty if it is not saved."""
        tree = self._metadata().get("tree_metadata", {})
        try:
            for value in tree.values():
                name = ".".join(str(part["key"]) for part in value["key_metadata"])
                kind = value["value_metadata"]
                yield name, "" if kind.get("skip_deserialize") else str(kind["value_type"])
        except (AttributeError, KeyError, TypeError) as error:
            raise FormatError(f"{self.path / '_METADATA'} is not as Orbax writes it") from error

    def _metadata(self) -> dict[str, Any]:
        if "_METADATA" not in self.files:
            return {}
        return bounded_object((self.path / "_METADATA").read_bytes(), str(self.path / "_METADATA"))


def bounded_object(data: bytes, label: str) -> dict[str, Any]:
    """Return a JSON object of limited size.

    Raises:
        FormatError: It is not one, or too large.
    """
    if len(data) > _MAX_JSON:
        raise FormatError(f"{label} has {len(data)} bytes, more than {_MAX_JSON}")
    try:
        value = read_json(data.decode())
    except ValueError as error:
        raise FormatError(f"{label} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{label} is not a JSON object")
    return value


def find_arrays(source: Path) -> ArrayDirectory:
    """Find the directory with arrays that a user names: itself, or the item in the directory of a step of Orbax.

    Raises:
        UsageError: There is none, or several.
        FormatError: Orbax has not finished it, or a file in it is a symbolic link or a special file.
    """
    if not source.is_dir():
        raise UsageError(f"{source} is not a directory", hint="git theta import -h")
    path = _item(source)
    if _UNFINISHED in str(path.absolute()):
        raise FormatError(f"{path} is a checkpoint that Orbax did not finish")
    files, nbytes = [], 0
    for file, size in _walk(path):
        files.append(file)
        nbytes += size
        if size > _MAX_JSON and posixpath.basename(file) in _JSON:
            raise FormatError(f"{path / file} has {size} bytes, more than {_MAX_JSON}")
        if len(files) > _MAX_FILES:
            raise FormatError(f"{path} has more than {_MAX_FILES} files")
    found = ArrayDirectory(path.resolve(), nbytes, frozenset(files))
    if not found.database and any(file.startswith("ocdbt.process_") for file in found.files):
        raise FormatError(f"{path} is a checkpoint that Orbax did not finish")
    return found


def _item(source: Path) -> Path:
    if _has(source, *_ORBAX, *_ZARR):
        return source
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir())
    items = [entry.name for entry in folders if _has(entry, *_ORBAX)]
    usual = [name for name in items if name in _ITEMS]
    chosen = items if len(items) == 1 else usual
    if len(chosen) == 1:
        return source / chosen[0]
    if items:
        raise UsageError(f"{source} has several checkpoints: {shortlist(items)}", hint=_command(source / items[0]))
    steps = [folder.name for folder in folders if any(_has(entry, *_ORBAX) for entry in folder.iterdir())]
    if steps:
        newest = sorted(steps, key=lambda name: (len(name), name))[::-1]
        raise UsageError(f"{source} has the steps {shortlist(newest)}", hint=_command(source / newest[0]))
    if any(_has(folder, *_ZARR) for folder in folders):  # a group of zarr 2 need not say that it is one
        return source
    raise UsageError(f"{source} is not a directory of zarr or Orbax", hint="git theta import -h")


def _has(path: Path, *names: str) -> bool:
    return any((path / name).is_file() for name in names)


def _command(source: Path) -> str:
    return f"git theta import {shell_word(str(source))} FILE"


def _walk(top: Path) -> Iterator[tuple[str, int]]:
    """Yield the path and the size of each file. What another file or device could hide behind is refused."""
    pending = [("", 0)]
    while pending:
        folder, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise FormatError(f"{top / folder} is nested too deeply")
        with os.scandir(top / folder) as entries:
            for entry in entries:
                path = posixpath.join(folder, entry.name)
                mode = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(mode.st_mode):
                    pending.append((path, depth + 1))
                elif stat.S_ISREG(mode.st_mode):
                    yield path, mode.st_size
                else:
                    kind = "a symbolic link" if stat.S_ISLNK(mode.st_mode) else "not a regular file"
                    raise FormatError(f"{top / path} is {kind}", hint=f"cp -rL {shell_word(str(top))} COPY")
