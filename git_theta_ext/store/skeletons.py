"""Read the layout of a checkpoint out of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.layout import Layout
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from git_theta_ext.model.manifest import Skeleton
    from git_theta_ext.store.tensor_store import TensorStore


def read_skeleton(
    store: TensorStore, skeleton: Skeleton, *, parameters: int | None = None, path: str | None = None
) -> Layout:
    """Return the layout that a skeleton holds.

    Args:
        store: The store that has it.
        skeleton: Of a manifest.
        parameters: Number of parameters in the manifest, which bounds the segments of the layout.
        path: Of the checkpoint, for messages.

    Raises:
        MissingError: The skeleton is not in the store.
        CorruptError: The stored bytes do not match the digest, or are not a skeleton.
    """
    data = store.read(skeleton.digest, skeleton.spec)
    try:
        return Layout.from_skeleton(data, parameters)
    except FormatError as error:
        prefix = "" if path is None else f"{shown_path(path)}: "
        raise CorruptError(f"{prefix}skeleton {skeleton.digest}: {error.message}", hint=error.hint) from error
