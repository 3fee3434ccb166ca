"""Upload all that pushed commits need, or stop the push: what the pre-push hook and ``git theta push`` do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

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
from git_theta_ext.git.partial import bring_history, promising_remotes
from git_theta_ext.operations.sync.outgoing import RefUpdate, outgoing, reachable, tips_of
from git_theta_ext.operations.sync.push_refs import boundary, tracked, uses_theta
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.sync.outgoing import Outgoing
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.complete import Complete
    from git_theta_ext.transfer.outgoing import Going
    from git_theta_ext.transfer.relay import Relayed
    from git_theta_ext.transfer.remote_index import OpenedRemote


@dataclass(frozen=True)
class Pushed:
    """What a push found and did.

    Attributes:
        found: In the pushed commits.
        lacking: Tensors and skeletons that the remote lacked.
        lost: Those of them that are neither here nor on any remote.
        packs: How many packs were uploaded.
        nbytes: Their bytes.
        failure: Why the remote was not asked; then no commit that git sends names parameters for the first time.
    """

    found: Outgoing
    lacking: frozenset[Digest] = frozenset()
    lost: frozenset[Digest] = frozenset()
    packs: int = 0
    nbytes: int = 0
    failure: ThetaError | None = None


@dataclass(frozen=True)
class _Survey:
    """What a push needs; where the repository has no parameters, no remote is opened."""

    found: Outgoing
    place: OpenedRemote | None = None
    complete: Complete | None = None


@dataclass(frozen=True)
class Push:
    """A push of some commits to one address of a git remote.

    Attributes:
        workspace: The repository that is pushed from, and its store.
        remote: Name of the git remote, or its address where it has no name.
        address: Where git pushes to.
        updates: The refs that are pushed.
    """

    workspace: Workspace
    remote: str
    address: str
    updates: tuple[RefUpdate, ...]

    @property
    def repo(self) -> Repository:
        """The repository that is pushed from."""
        return self.workspace.repo

    @property
    def shown(self) -> str:
        """The remote, for messages: an address without credentials."""
        from git_theta_ext.util.text import redacted

        return redacted(self.remote)

    def run(self, *, strict: bool, advance: Callable[[int], None] = no_progress) -> Pushed:
        """Upload what the history of the commits needs and the remote lacks.

        Args:
            strict: Whether git is about to send the commits: then they must be sound, and all that the remote will
                name for the first time must be there on return.
            advance: Told the number of bytes uploaded, as it goes.

        Raises:
            RepositoryError: A commit holds a checkpoint as it is, where its attributes ask for a manifest.
            ManifestError: A pushed manifest is broken.
            MissingError: Something that is needed is neither here nor on any remote.
            RemoteError: The upload failed.
            ConfigError: It is not known where the remote keeps parameters.
        """
        try:
            return self._run(strict=strict, advance=advance)
        except (ConfigError, LibraryError, PluginError, RemoteError) as error:
            # Without a way to its parameters a remote can still be pushed to, if that makes nothing worse.
            if not strict or self._named_anew():
                raise
            found = outgoing(self.repo, self.remote, self.updates, [update.remote_oid for update in self.updates])
            _refuse_raw(found)
            return Pushed(found, failure=error)

    def _run(self, *, strict: bool, advance: Callable[[int], None]) -> Pushed:
        from git_theta_ext.transfer.complete import write_complete

        survey = self._survey(ask=True)
        if strict:
            _refuse_raw(survey.found)
        if survey.place is None or survey.complete is None:
            return Pushed(survey.found)
        done, packs = Pushed(survey.found), frozenset[str]()
        if survey.found.digests:
            done, packs = self._upload(survey.place, survey.found, strict=strict, advance=advance)
        if not done.lost:
            write_complete(self.repo.theta_dir, survey.place.url, survey.complete.plus(tips_of(self.updates), packs))
        return done

    def look(self, *, strict: bool) -> Pushed:
        """Find out what ``run`` would do, and change nothing on the remote.

        Raises:
            ThetaError: As by ``run``.
        """
        from git_theta_ext.transfer.remote_index import read_remote_index

        survey = self._survey(ask=False)  # what was known may be wrong by now, and nobody keeps it from getting so
        if strict:
            _refuse_raw(survey.found)
        if survey.place is None or not survey.found.digests:
            return Pushed(survey.found)
        store = self.workspace.store
        lacking = survey.found.digests - read_remote_index(store, survey.place).held()
        lost = store.touch_and_find_missing(lacking)
        for source in self._sources(survey.place) if lost else ():
            with suppress(RemoteError):
                lost -= read_remote_index(store, source).held()
        return Pushed(survey.found, frozenset(lacking), frozenset(lost))

    def _survey(self, *, ask: bool) -> _Survey:
        """Find out what the remote is known to hold, and what is needed besides; open it only where that matters."""
        from git_theta_ext.operations.sync.remotes import open_remote

        tips = tips_of(self.updates)
        if not uses_theta(self.repo, tips):
            # To walk all history of just any repository takes long, and there is nothing to be found.
            by_git = (*(update.remote_oid for update in self.updates), *tracked(self.repo, self.remote))
            found = outgoing(self.repo, self.remote, self.updates, by_git)
            if not found.digests:
                return _Survey(found)
        if (promising := promising_remotes(self.repo)) and self.remote not in promising:
            bring_history(self.repo, tips)
        try:
            place = open_remote(self.workspace, self.remote, self.address)
        except ThetaError:
            found = outgoing(self.repo, self.remote, self.updates)
            if found.digests:
                raise
            return _Survey(found)
        from git_theta_ext.transfer.complete import Complete, read_complete
        from git_theta_ext.transfer.outgoing import keep

        root, complete = self.repo.theta_dir, Complete(boundary=boundary(self.repo))
        known = read_complete(root, place.url, complete.boundary)
        if ask and keep(place, known.packs) == known.packs and not self._known_bad(known.packs):
            complete = known
        return _Survey(outgoing(self.repo, self.remote, self.updates, complete.tips), place, complete)

    def _known_bad(self, packs: AbstractSet[str]) -> bool:
        """Tell whether one of some packs was found to hold something else than it says, since a push relied on it."""
        return bool(packs) and any(name in packs for name, _ in self.workspace.store.verdicts.bad_entries())

    def _upload(
        self, place: OpenedRemote, found: Outgoing, *, strict: bool, advance: Callable[[int], None]
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
            relayed = relay(store, self._sources(place), place, absent, advance)
            if relayed.left and strict:
                self._refuse_new(relayed.left, relayed.failures)
            lost.update(relayed.left)
            through.append(relayed)
            return relayed.left

        def prepare(going: Going) -> None:
            lacking.update(going.digests)
            _recode(self.workspace, going)

        plan = push(store, place, found.digests, PushSteps(prepare, obtain), advance)
        packs = len(plan.packs) + sum(relayed.packs for relayed in through)
        nbytes = plan.nbytes + sum(relayed.nbytes for relayed in through)
        return Pushed(found, frozenset(lacking), frozenset(lost), packs, nbytes), plan.relied_on

    def _sources(self, place: OpenedRemote) -> list[OpenedRemote]:
        from git_theta_ext.operations.sync.remotes import try_remotes

        return [source for source in try_remotes(self.workspace)[0] if source.url != place.url]

    def _refuse_new(self, lost: AbstractSet[Digest], failures: Sequence[ThetaError]) -> None:
        """Stop the push if the remote would name something for the first time that is nowhere."""
        if not (new := lost & self._named_anew()):
            return
        causes = "; ".join(dict.fromkeys(failure.message for failure in failures))
        raise MissingError(
            f"{len(new)} tensors of the pushed history are neither here nor on any remote, {min(new)} among them"
            + (f"; {causes}" if causes else ""),
            hint=f"run git theta push --all {quote(self.shown)} in a clone that has them; "
            "git theta fsck names their files",
        )

    def _named_anew(self) -> set[Digest]:
        """Return what the pushed commits name and those do not that the remote has, as the remote itself says."""
        tips, there = tips_of(self.updates), [update.remote_oid for update in self.updates]
        if named := named_digests(self.repo, reachable(self.repo, tips, there)):
            listed = self.repo.run("ls-remote", "--", self.address, check=False).decode(errors="replace")
            there += [line.partition("\t")[0] for line in listed.splitlines()]
            named = named_digests(self.repo, reachable(self.repo, tips, there))
        return named


def _refuse_raw(found: Outgoing) -> None:
    for path, nbytes in found.raw.items():
        raise RepositoryError(
            f"{path} is tracked by git theta, but a pushed commit holds the file itself ({nbytes} bytes)",
            hint=f"git theta install && git theta add {quote(path)} && git commit --amend",
        )


def _recode(workspace: Workspace, going: Going) -> None:
    from git_theta_ext.operations.maintenance.gc import recode_outgoing
    from git_theta_ext.store.locks import gc_lock

    try:
        with gc_lock(workspace.store.root, wait=False) as acquired:
            if acquired:  # else somebody is recoding the very same tensors; what is done by now is used
                recode_outgoing(workspace, going.digests, going.there)
    except (CorruptError, StoreError) as error:
        # A damaged old version, a full disk or one without locks is no reason not to upload what is here.
        workspace.reporter.note(f"cannot recode what is pushed: {error.message}")
