"""Fetch the tensors and skeletons that manifests need from the remotes of this repository."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.offers import Offers
    from git_theta_ext.util.reporter import Progress


def offers_of(workspace: Workspace) -> Offers:
    """Return what the remotes of a repository have; their indexes are not read yet.

    Raises:
        ThetaError: No remote can be opened.
    """
    from git_theta_ext.operations.sync.remotes import open_remotes
    from git_theta_ext.transfer.offers import Offers

    return Offers(workspace.store, open_remotes(workspace))


def named(error: ThetaError, manifests: Iterable[Manifest], missing: AbstractSet[Digest]) -> ThetaError:
    """Return the error with the name of a parameter that is missing, if one is."""
    names = (name for one in manifests for name, parameter in one.parameters.items() if parameter.digest in missing)
    name = next(names, None)
    return error if name is None else type(error)(f"{name}: {error.message}", hint=error.hint)


def ensure_local(
    workspace: Workspace,
    manifests: Iterable[Manifest],
    advance: Progress = no_progress,
    offers: Offers | None = None,
) -> None:
    """Fetch what the store lacks of some manifests.

    Args:
        workspace: The repository and its store.
        manifests: The manifests. On return the store has all tensors and skeletons that they name.
        advance: Called with the number of bytes fetched, as the transfer goes on.
        offers: What the remotes had a moment ago. By default their indexes are read now.

    Raises:
        MissingError: No remote has a tensor or skeleton that is needed.
        RemoteError: No remote can be reached.
    """
    wanted = list(manifests)
    try:
        ensure_digests(workspace, chain.from_iterable(one.named for one in wanted), advance, offers)
    except MissingError as error:
        absent = workspace.store.touch_and_find_missing(chain.from_iterable(one.named for one in wanted))
        raise named(error, wanted, absent) from error


def ensure_digests(
    workspace: Workspace,
    digests: Iterable[Digest],
    advance: Progress = no_progress,
    offers: Offers | None = None,
) -> None:
    """Fetch the tensors and skeletons that the store lacks.

    Args:
        workspace: The repository and its store.
        digests: The tensors and skeletons. On return the store has all of them.
        advance: Called with the number of bytes fetched, as the transfer goes on.
        offers: As for ``ensure_local``.

    Raises:
        MissingError: No remote has a tensor or skeleton that is needed.
        RemoteError: No remote can be reached.
    """
    missing = workspace.store.touch_and_find_missing(digests)
    if not missing:
        return
    from git_theta_ext.transfer.sync import fetch_offered

    if offers is not None:
        with suppress(MissingError):  # packs may have been replaced on the remote since
            fetch_offered(workspace.store, offers, missing, advance)
            return
    fetch_offered(workspace.store, offers_of(workspace), missing, advance)
