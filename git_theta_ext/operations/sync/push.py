"""Upload all that pushed commits need, or stop the push: what the pre-push hook and ``git theta push`` do."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import count_tensors
from git_theta_ext.errors import (
    ConfigError,
    CorruptError,
    LibraryError,
    MissingError,
    PluginError,
    RemoteError,
    RepositoryError,
    StoreError,
    ThetaError,
)
from git_theta_ext.git.objects import named_digests
from git_theta_ext.operations.maintenance.raw_checkpoints import import_command
from git_theta_ext.operations.sync.outgoing import RefUpdate, outgoing, reachable, tips_of
from git_theta_ext.operations.sync.push_locks import LockCheck
from git_theta_ext.operations.sync.push_survey import survey
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.sync.outgoing import Outgoing
    from git_theta_ext.operations.sync.selection import Part
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.outgoing import Going
    from git_theta_ext.transfer.relay import Relayed
    from git_theta_ext.transfer.remote_index import HeldDigests, OpenedRemote
    from git_theta_ext.util.reporter import Progress


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        needed: The parameters that the pushed commits need.
        lacking: Tensors and skeletons that the remote lacked.
        lost: Tensors and skeletons among them that are neither here nor on any remote.
        packs: Number of packs that were uploaded.
        nbytes: Size of these packs in bytes; before a push an estimate.
        left: What the history needs, was not selected, and is not on the remote: sizes in bytes by digest.
        failure: Why the remote could not be opened. The push only goes on if no commit that git sends names parameters
            that the remote's commits do not name yet.
        locks: What the push has to do with locks of files.
    """

    needed: Outgoing
    lacking: frozenset[Digest] = frozenset()
    lost: frozenset[Digest] = frozenset()
    packs: int = 0
    nbytes: int = 0
    left: Mapping[Digest, int] = field(default_factory=dict)
    failure: ThetaError | None = None
    locks: LockCheck = field(default_factory=LockCheck)

    @cached_property
    def uploaded(self) -> AbstractSet[Digest]:
        """The tensors and skeletons that were uploaded, or would be."""
        return self.lacking - self.lost if self.lost else self.lacking

    @cached_property
    def raw(self) -> int:
        """Size in bytes of these tensors as they are in checkpoints."""
        return self.needed.nbytes(self.uploaded)


@dataclass(frozen=True)
class Push:
    """A push of some commits to one address of a git remote.

    Attributes:
        workspace: The repository that is pushed from, and its store.
        remote: Name of the git remote, or its address if it has no name.
        address: The address that git pushes to.
        updates: The refs that are pushed.
        part: The parameters to upload; None for all that the history of the refs needs.
    """

    workspace: Workspace
    remote: str
    address: str
    updates: tuple[RefUpdate, ...]
    part: Part | None = None

    @property
    def repo(self) -> Repository:
        """The repository that is pushed from."""
        return self.workspace.repo

    @property
    def shown(self) -> str:
        """The remote, for messages: an address without credentials."""
        from git_theta_ext.util.text import redacted

        return redacted(self.remote)

    def run(self, *, strict: bool, advance: Progress = no_progress) -> Pushed:
        """Upload the parameters that the history of the commits needs and the remote lacks.

        Args:
            strict: Whether git is about to send the commits. If so, they must be valid, and the remote must have all
                parameters that they add on return.
            advance: Called with the number of bytes uploaded, as the transfer goes on.

        Raises:
            RepositoryError: A commit holds a checkpoint itself although its attributes require a manifest.
            ManifestError: A pushed manifest is not valid.
            MissingError: A tensor or skeleton that is needed is neither here nor on any remote.
            RemoteError: The upload failed.
            ConfigError: No location of the remote's parameters is configured.
            LockedError: A commit that git sends changes a file that another user has locked.
        """
        try:
            return self._run(strict=strict, advance=advance)
        except (ConfigError, LibraryError, PluginError, RemoteError) as error:
            # Git can still push to a remote whose parameters cannot be reached if no parameters are added.
            if not strict or self._named_anew():
                raise
            needed = outgoing(self.repo, self.remote, self.updates, [update.remote_oid for update in self.updates])
            _refuse_raw(self.repo, needed)
            return Pushed(needed, failure=error)

    def _run(self, *, strict: bool, advance: Progress) -> Pushed:
        from git_theta_ext.transfer.complete import write_complete

        surveyed = survey(self, strict=strict, ask=True)
        if strict:
            _refuse_raw(self.repo, surveyed.needed)
        if surveyed.remote is None or surveyed.complete is None:
            return Pushed(surveyed.needed)
        done, packs = Pushed(surveyed.needed), frozenset[str]()
        if surveyed.needed.digests:
            done, packs = self._upload(surveyed.remote, surveyed.needed, strict=strict, advance=advance)
        if surveyed.others:
            done = replace(done, left=self._left(surveyed.others))
        if not done.lost and self.part is None:
            write_complete(
                self.repo.theta_dir, surveyed.remote.url, surveyed.complete.plus(tips_of(self.updates), packs)
            )
        return replace(done, locks=surveyed.locks)

    def look(self, *, strict: bool) -> Pushed:
        """Return what ``run`` would do, without changing the remote.

        Raises:
            ThetaError: See ``run``.
        """
        from git_theta_ext.transfer.remote_index import HeldDigests, read_remote_index

        surveyed = survey(self, strict=strict, ask=False)  # what is recorded of the remote may be out of date
        if strict:
            _refuse_raw(self.repo, surveyed.needed)
        if surveyed.remote is None or not (surveyed.needed.digests or surveyed.others):
            return Pushed(surveyed.needed, locks=surveyed.locks)
        store = self.workspace.store
        there = HeldDigests(read_remote_index(store, surveyed.remote))
        lacking = surveyed.needed.digests - there.among(surveyed.needed.digests)
        missing = store.touch_and_find_missing(lacking)
        lost = set(missing)
        for source in self._sources(surveyed.remote) if missing else ():
            with suppress(RemoteError):
                lost -= read_remote_index(store, source).held(lost)
        held = frozenset(lacking - missing)
        nbytes = self._estimate(held, there, surveyed.needed) if held else 0
        held_too = there.among(surveyed.others)
        left = {digest: size for digest, size in surveyed.others.items() if digest not in held_too}
        return Pushed(surveyed.needed, frozenset(lacking), frozenset(lost), 0, nbytes, left, locks=surveyed.locks)

    def _estimate(self, digests: AbstractSet[Digest], there: HeldDigests, needed: Outgoing) -> int:
        from git_theta_ext.operations.maintenance.gc import estimate_outgoing
        from git_theta_ext.store.maintenance.rebundle import shares_without_others
        from git_theta_ext.transfer.outgoing import Going

        stored = self.workspace.store.stored_as(digests)
        try:
            shares = shares_without_others(self.workspace.store, stored, there.among)
            going = Going(set(stored.values()), there, stored)
            return estimate_outgoing(self.workspace, going, needed.sizes, shares)
        except CorruptError:  # what is damaged is not recoded either
            return needed.nbytes(digests)

    def _upload(
        self, remote: OpenedRemote, needed: Outgoing, *, strict: bool, advance: Progress
    ) -> tuple[Pushed, frozenset[str]]:
        from git_theta_ext.transfer.outgoing import PushSteps
        from git_theta_ext.transfer.relay import relay
        from git_theta_ext.transfer.sync import push

        store = self.workspace.store
        lacking: set[Digest] = set()
        lost: set[Digest] = set()
        through: list[Relayed] = []

        def obtain(absent: AbstractSet[Digest]) -> AbstractSet[Digest]:
            lacking.update(absent)
            relayed = relay(store, self._sources(remote), remote, absent, advance)
            if relayed.left and strict:
                self._refuse_new(relayed.left, needed.skeletons, relayed.failures)
            lost.update(relayed.left)
            through.append(relayed)
            return relayed.left

        def prepare(going: Going) -> None:
            lacking.update(going.stored)
            _recode(self.workspace, going, needed)

        plan = push(store, remote, needed.digests, PushSteps(prepare, obtain), advance)
        packs = len(plan.packs) + sum(relayed.packs for relayed in through)
        nbytes = plan.nbytes + sum(relayed.nbytes for relayed in through)
        return Pushed(needed, frozenset(lacking), frozenset(lost), packs, nbytes), plan.relied_on

    def _left(self, others: Mapping[Digest, int]) -> dict[Digest, int]:
        from git_theta_ext.operations.sync.remotes import open_remote
        from git_theta_ext.transfer.remote_index import read_remote_index

        remote = open_remote(self.workspace, self.remote, self.address)  # again, since it reads its index once
        there = read_remote_index(self.workspace.store, remote).held(others)
        return {digest: size for digest, size in others.items() if digest not in there}

    def _sources(self, remote: OpenedRemote) -> list[OpenedRemote]:
        from git_theta_ext.operations.sync.remotes import try_remotes

        return [source for source in try_remotes(self.workspace)[0] if source.url != remote.url]

    def _refuse_new(
        self, lost: AbstractSet[Digest], skeletons: AbstractSet[Digest], failures: Sequence[ThetaError]
    ) -> None:
        """Stop the push if its commits add parameters that are neither here nor on any remote."""
        if not (new := lost & self._named_anew()):
            return
        causes = "; ".join(dict.fromkeys(failure.message for failure in failures))
        raise MissingError(
            f"neither here nor on any remote: {count_tensors(new, skeletons)} of the pushed history, such as {min(new)}"
            + (f"; {causes}" if causes else ""),
            hint=f"run git theta push --all {shell_word(self.shown)} in a clone that has them; "
            "git theta fsck names their files",
        )

    def _named_anew(self) -> set[Digest]:
        """Return what the pushed commits name and the commits of the remote, as it lists them itself, do not."""
        tips, excluded = tips_of(self.updates), [update.remote_oid for update in self.updates]
        if named := named_digests(self.repo, reachable(self.repo, tips, excluded)):
            listed = self.repo.run("ls-remote", "--", self.address, check=False).decode(errors="replace")
            excluded += [line.partition("\t")[0] for line in listed.splitlines()]
            named = named_digests(self.repo, reachable(self.repo, tips, excluded))
        return named


def _refuse_raw(repo: Repository, needed: Outgoing) -> None:
    for path, nbytes in needed.raw.items():
        raise RepositoryError(
            f"{shown_path(path)} is tracked by git theta, "
            f"but a pushed commit contains the file itself ({nbytes} bytes)",
            hint=f"git theta install && git theta add {' '.join(map(repo.argument, needed.raw))} && git commit --amend",
        )
    for where, nbytes in needed.replaced.items():
        raise RepositoryError(
            f"{shown_path(where)} is tracked by git theta, but git stores the file itself ({nbytes} bytes), "
            "and would send it although a later commit replaced or removed it",
            hint=import_command(other.partition(":")[2] for other in needed.replaced),
        )


def _recode(workspace: Workspace, going: Going, needed: Outgoing) -> None:
    from git_theta_ext.operations.maintenance.gc import recode_outgoing
    from git_theta_ext.store.locks import gc_lock

    try:
        with gc_lock(workspace.store.root, wait=False) as acquired:
            if acquired:  # otherwise another process is recoding the same tensors; the push uses its results so far
                recode_outgoing(workspace, going, needed)
    except (CorruptError, StoreError) as error:
        going.upload(())  # the error may be that of an upload
        # A damaged old version, a full disk or a file system without locks must not prevent the upload.
        workspace.reporter.note(f"cannot recode what is pushed: {error.message}")
