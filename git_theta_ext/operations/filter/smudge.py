"""Answer git's request for the content of a checkout with the manifest, if its checkpoint can be written afterwards."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.caller import calling_command
from git_theta_ext.git.process import NESTED, SKIP_SMUDGE, skips_smudge
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.sync.fetch import named, offers_of
from git_theta_ext.settings import ALLOW_INCOMPLETE

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.operations.sync.path_filter import PathFilter
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.protocol.filter import Request
    from git_theta_ext.transfer.offers import Offers


class Supply:
    """The tensors that this repository and its remotes have. The index of a remote is read at most once.

    Args:
        open_workspace: Opens the repository and its store.

    Attributes:
        offers: What the remotes have; None if nothing was missing so far.
    """

    def __init__(self, open_workspace: Callable[[], Workspace]) -> None:
        self._open = open_workspace
        self.offers: Offers | None = None

    @cached_property
    def paths(self) -> PathFilter:
        """The checkpoints whose parameters are fetched."""
        from git_theta_ext.operations.sync.path_filter import fetch_filter  # only if a tensor is missing

        return fetch_filter(self._open().repo)

    def check(self, path: str, manifest: Manifest) -> None:
        """Check that the tensors of a checkpoint that is to be written are in the store or on a remote.

        Raises:
            MissingError: No remote has a tensor or skeleton that is needed.
            RemoteError: No remote can be reached.
        """
        workspace = self._open()
        digests = set(manifest.named)
        missing = workspace.store.touch_and_find_missing(digests)
        if not missing or self.paths.excludes(path):
            return
        if workspace.repo.config.flag(ALLOW_INCOMPLETE.key.lower(), default=False):
            return
        if self.offers is None:
            self.offers = offers_of(workspace)
        if not self.offers.have(missing):
            raise named(self.offers.lack(missing, len(digests)), [manifest], missing)


class SmudgeRequest:
    """Collects the content that git checks out; git holds it in memory as well.

    Only checkouts of a commit are checked (git names a tree-ish): they can be repeated, and a merge, rebase or stash
    would be left half done.

    Args:
        request: Git's request.
        supply: The tensors that are available.
    """

    def __init__(self, request: Request, supply: Supply) -> None:
        self._path = request.pathname
        self._supply = supply
        self._checked = "treeish" in request.metadata and NESTED not in os.environ and not skips_smudge()
        self._data = bytearray()

    def content(self, data: memoryview) -> None:
        """Receive the next bytes."""
        self._data += data

    def end(self) -> bytes:
        """Return the content.

        Raises:
            MissingError: It is the manifest of a checkpoint whose tensors are not available.
            RemoteError: The same, because no remote can be reached.
        """
        data = bytes(self._data)
        if self._checked and is_manifest(data) and calling_command(os.getppid()) != "archive":
            try:
                manifest = Manifest.parse(data)
            except ThetaError:  # an old mistake in history can be checked out, and is reported afterwards
                return data
            if not manifest.conflicted:
                self._check(manifest)
        return data

    def _check(self, manifest: Manifest) -> None:
        try:
            self._supply.check(self._path, manifest)
        except ThetaError as error:
            skip = f"with {SKIP_SMUDGE}=1, manifests take the place of checkpoints"
            raise type(error)(error.message, hint=f"{error.hint}; {skip}" if error.hint else skip) from error
