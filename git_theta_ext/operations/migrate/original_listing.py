"""Find what git-theta 0.2.0 committed in a history, before anything is converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.git.objects import read_objects, starts_with
from git_theta_ext.operations.migrate.attribute_blobs import AttributeBlobs
from git_theta_ext.operations.migrate.original_files import kind_of
from git_theta_ext.operations.migrate.original_metadata import MAX_METADATA, parse_original

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.listing import Listing
    from git_theta_ext.operations.migrate.original_files import FileKind
    from git_theta_ext.protocol.lfs.pointer import Pointer

_PEEK_FROM = 1 << 16
_FILTER = "filter=theta"
"""What ``.gitattributes`` of git-theta 0.2.0 say, too."""


def objects_of_originals(
    repo: Repository, listing: Listing, plain: Mapping[str, int], chosen: FileKind | None
) -> dict[str, frozenset[Pointer]]:
    """Return the objects of Git LFS that the files of git-theta 0.2.0 name, by their blobs.

    Args:
        repo: The repository.
        listing: The history.
        plain: The blobs that may be such files, with their sizes.
        chosen: The file format to restore.

    Raises:
        FormatError: A checkpoint cannot be restored in that format.
        LibraryError: A library that this needs is not installed.
    """
    if not any(_FILTER in text for text in AttributeBlobs.of(repo, listing.attributes).texts.values()):
        return {}
    candidates = [
        oid
        for oid, nbytes in plain.items()
        if 0 < nbytes <= MAX_METADATA and (nbytes < _PEEK_FROM or starts_with(repo, oid, b"{"))
    ]
    found: dict[str, frozenset[Pointer]] = {}
    same: dict[Pointer, Pointer] = {}
    for oid, content in read_objects(repo, candidates):
        try:
            parameters = parse_original(memoryview(content))
        except FormatError:  # the conversion reports it
            continue
        if parameters is not None:
            kind_of(listing.files[oid].decode("utf-8", "surrogateescape"), parameters, chosen)
            found[oid] = frozenset(same.setdefault(one.pointer, one.pointer) for one in parameters.values())
    return found
