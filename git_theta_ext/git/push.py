"""What the pre-push hook does: make small and upload all that the pushed commits need, or stop the push."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, RepositoryError, StoreError
from git_theta_ext.git.history import outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.git.history import Outgoing, RefUpdate
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.transfer.outgoing import Going


def pre_push(
    repo: Repository, remote: str, address: str, updates: Sequence[RefUpdate], advance: Callable[[int], None]
) -> Outgoing:
    """Upload what a push needs, recoded first; when this returns, the remote has all of it.

    Args:
        repo: The repository that is pushed from.
        remote: Name of the git remote, or its address where it has no name.
        address: Where git pushes to.
        updates: The refs that are pushed.
        advance: Told the number of bytes uploaded, as it goes.

    Returns:
        What was found in the pushed commits.

    Raises:
        RepositoryError: A commit holds a checkpoint as it is, where its attributes ask for a manifest.
        ManifestError: A pushed manifest is broken.
        MissingError: Something that is needed is neither here nor on the remote.
        RemoteError: The upload failed.
        ConfigError: It is not known where the remote keeps parameters.
    """
    found = outgoing(repo, remote, updates)
    for path, nbytes in found.raw.items():
        raise RepositoryError(
            f"{path} is tracked by git theta, but a pushed commit holds the file itself ({nbytes} bytes)",
            hint=f"git theta install && git theta add {path} && git commit --amend",
        )
    if found.digests:
        from git_theta_ext.git.remotes import open_remote
        from git_theta_ext.transfer.outgoing import PushSteps
        from git_theta_ext.transfer.sync import push

        store = repo.store()
        steps = PushSteps(partial(_recode, repo, store))
        push(store, open_remote(repo, remote, address), found.digests, steps, advance)
    return found


def _recode(repo: Repository, store: Store, going: Going) -> None:
    from git_theta_ext.git.maintenance import recode_outgoing
    from git_theta_ext.store.locks import alone

    with alone(store.root, wait=False) as nobody_else:
        if not nobody_else:  # somebody is recoding the very same tensors; what is done by now is used
            return
        try:
            recode_outgoing(repo, store, going.digests, going.there)
        except (CorruptError, StoreError) as error:
            # A damaged old version, or a full disk, is no reason not to upload what is here.
            sys.stderr.write(f"git-theta: note: what is pushed was not made smaller: {error.message}\n")
