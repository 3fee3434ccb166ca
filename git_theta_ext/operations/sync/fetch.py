"""Fetch the tensors and skeletons that manifests need from the remotes of this repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace


def ensure_local(
    workspace: Workspace, manifests: Iterable[Manifest], advance: Callable[[int], None] = no_progress
) -> None:
    """Fetch what the store lacks of some manifests.

    Args:
        workspace: The repository and its store.
        manifests: The manifests. On return the store has all tensors and skeletons that they name.
        advance: Called with the number of bytes fetched, as the transfer goes on.

    Raises:
        MissingError: No remote has a tensor or skeleton that is needed.
        RemoteError: No remote can be reached.
    """
    wanted = list(manifests)
    try:
        ensure_digests(workspace, (digest for manifest in wanted for digest, _ in manifest.digests()), advance)
    except MissingError as error:
        absent = workspace.store.touch_and_find_missing(
            digest for manifest in wanted for digest, _ in manifest.digests()
        )
        names = (name for manifest in wanted for name, p in manifest.parameters.items() if p.digest in absent)
        if (name := next(names, None)) is None:
            raise
        raise MissingError(f"{name}: {error.message}", hint=error.hint) from error


def ensure_digests(
    workspace: Workspace, digests: Iterable[Digest], advance: Callable[[int], None] = no_progress
) -> None:
    """Fetch the tensors and skeletons that the store lacks.

    Args:
        workspace: The repository and its store.
        digests: The tensors and skeletons. On return the store has all of them.
        advance: Called with the number of bytes fetched, as the transfer goes on.

    Raises:
        MissingError: No remote has a tensor or skeleton that is needed.
        RemoteError: No remote can be reached.
    """
    missing = workspace.store.touch_and_find_missing(digests)
    if not missing:
        return
    from git_theta_ext.operations.sync.remotes import open_remotes
    from git_theta_ext.transfer.sync import fetch

    fetch(workspace.store, open_remotes(workspace), missing, advance)
