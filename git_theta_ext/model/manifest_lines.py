"""The lines of manifests, for histories: which differ is found much faster than all are parsed."""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from operator import ne
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, ManifestError
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.model.parameters import parse_spec
from git_theta_ext.model.tensor import DIGEST_LENGTH
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import unquoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEAD = 3
"""Lines before the parameters: the magic, the format and the skeleton."""
_CONFLICT = b"conflict"


@dataclass(frozen=True, slots=True)
class ManifestLines:
    """The lines of a manifest.

    Attributes:
        head: The magic, the format and the skeleton.
        parameters: One line each.
        conflicts: The section with the conflicts; empty if there are none.
    """

    head: list[bytes]
    parameters: list[bytes]
    conflicts: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> ManifestLines:
        """Divide a manifest.

        Raises:
            ManifestError: It is not one, or is truncated.
        """
        lines = data.split(b"\n")
        if not is_manifest(data) or len(lines) <= _HEAD or lines.pop():
            raise ManifestError("not a git-theta manifest of version 1, or truncated")
        parameters, conflicts = lines[_HEAD:], []
        if b"\nconflict\n" in data and _CONFLICT in parameters:
            at = parameters.index(_CONFLICT)
            parameters, conflicts = parameters[:at], parameters[at:]
        return cls(lines[:_HEAD], parameters, conflicts)

    def only(self, parameters: Iterable[bytes]) -> Manifest:
        """Return the manifest of some parameters, and the conflicts.

        Raises:
            ManifestError: A line is not valid.
        """
        return Manifest.parse(b"\n".join([*self.head, *parameters, *self.conflicts, b""]))


@dataclass(frozen=True, slots=True)
class ChangedLines:
    """The parameters that a commit changes in a file.

    Attributes:
        old: Lines of the first parent that the commit replaces or removes.
        new: Lines that no parent has.
        unchanged: Number of the other parameters of the commit.
        aligned: Whether both have the same parameters, whose types and shapes are the same, in the same order.
    """

    old: Sequence[bytes]
    new: Sequence[bytes]
    unchanged: int
    aligned: bool = False


def changed_lines(new: ManifestLines | None, old: Sequence[ManifestLines]) -> ChangedLines:
    """Compare the versions of a file.

    Args:
        new: The version in a commit; None if it is not there.
        old: The version in each parent that has one.
    """
    if new is None or not old:
        return ChangedLines(old[0].parameters if old else [], [] if new is None else new.parameters, 0)
    first, *rest = old
    if not rest and (aligned := _aligned(first.parameters, new.parameters)) is not None:
        return aligned
    known = set(first.parameters).union(*(side.parameters for side in rest))
    present = set(new.parameters)
    changed = [line for line in new.parameters if line not in known]
    gone = [line for line in first.parameters if line not in present]
    if rest and gone:
        replaced = {_name(line) for line in changed}
        removed = {_name(line) for line in gone}.difference(map(_name, new.parameters))
        for side in rest:
            removed.intersection_update(map(_name, side.parameters))
        gone = [line for line in gone if _name(line) in replaced or _name(line) in removed]
    return ChangedLines(gone, changed, len(new.parameters) - len(changed))


def _aligned(old: Sequence[bytes], new: Sequence[bytes]) -> ChangedLines | None:
    """Return the lines that differ; None if they differ in more than the digest."""
    if len(old) != len(new):
        return None
    differ = [*map(ne, old, new)]
    before, after = [*compress(old, differ)], [*compress(new, differ)]
    if [line[:-DIGEST_LENGTH] for line in before] != [line[:-DIGEST_LENGTH] for line in after]:
        return None
    return ChangedLines(before, after, len(new) - len(after), aligned=True)


@lru_cache(1 << 18)  # 340 bytes each; a model of more parameters than fit here finds none of them in a second pass
def name_and_bytes(columns: bytes) -> tuple[str, int]:
    """Return name and size of a parameter, from its line without the digest.

    Raises:
        ManifestError: The line is not valid.
    """
    try:
        written, kind, shape = columns.decode().split("\t")
        name, nbytes = unquoted(written), parse_spec(kind, shape).nbytes
    except (ValueError, FormatError) as error:
        raise ManifestError("expected a name, an element type, a shape and a digest") from error
    if name is None:
        raise ManifestError("expected a name in canonical JSON quotes")
    return name, nbytes


def name_of(line: bytes) -> str:
    """Return the name of a parameter, from its line.

    Raises:
        ManifestError: The line is not valid.
    """
    return name_and_bytes(line[: -DIGEST_LENGTH - 1])[0]


def _name(line: bytes) -> bytes:
    return line.partition(b"\t")[0]
