"""The state of a repository, and what to do next, for ``git theta`` without arguments.

No checkpoint is read: a file that neither git theta nor git has read since it changed counts as changed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import PRE_PUSH, hook_present
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.presets import pattern_of
from git_theta_ext.git.revisions import branch_of, head_of
from git_theta_ext.git.unattributed import advice, unattributed
from git_theta_ext.operations.filter.pending import read_pending
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.operations.health.finding import Finding
from git_theta_ext.operations.health.submodules import has_models, submodules, tracks_models
from git_theta_ext.operations.history.status import untracked
from git_theta_ext.operations.history.unpushed import unpushed
from git_theta_ext.operations.maintenance.raw_checkpoints import raw_blobs
from git_theta_ext.records import dataclass
from git_theta_ext.store.verification.checks import READ_AGAIN_SECONDS, Checks
from git_theta_ext.util.files import total_bytes
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

_INSTALL = Finding(
    "not_configured", "git is not configured to use git theta", "git theta install", "problem", "getting-started"
)
_CONFIGURE = Finding("install", "configure git, once for each user", "git theta install")


@dataclass(frozen=True)
class Overview:
    """The state of a repository.

    Attributes:
        branch: Name of the current branch; None if HEAD is detached.
        checkpoints: Number of checkpoints in the index.
        stored: Bytes of packs in the store.
        findings: What to do, the most urgent first.
    """

    branch: str | None
    checkpoints: int
    stored: int
    findings: tuple[Finding, ...]


def first_steps(repo: Repository | None) -> list[Finding]:
    """Return those of the first three commands of a user that are left; all of them outside a repository."""
    pattern, path = "*.safetensors", "model.safetensors"
    tracked = repo is not None and tracks_models(repo)
    if repo is not None and not tracked and (found := _largest_checkpoint(repo)) is not None:
        pattern, path = found
    added = path if repo is None else repo.argument(path)
    steps = [] if repo is not None and configured(repo) else [_CONFIGURE]
    steps += [] if tracked else [Finding("track", "choose files", f"git theta track {shell_word(pattern)}")]
    return [*steps, Finding("add", "commit them as any file", f"git add .gitattributes {added} && git commit")]


def _largest_checkpoint(repo: Repository) -> tuple[str, str] | None:
    """Return the pattern and the path of the largest file of the work tree that has the name of a checkpoint."""
    text = repo.run("ls-files", "--cached", "--others", "--exclude-standard", "-z").decode(errors="surrogateescape")
    top, sizes = worktree_of(repo), {}
    for path in text.split("\0")[:-1]:
        if (pattern := pattern_of(path)) is not None:
            with suppress(OSError):
                sizes[pattern, path] = (top / path).lstat().st_size
    return max(sizes, key=sizes.__getitem__, default=None)


def overview(workspace: Workspace) -> Overview:
    """Return the state of a repository with a work tree.

    Raises:
        RepositoryError: Git cannot read the index or the history, or there is no work tree.
    """
    repo, store = workspace.repo, workspace.store
    entries = repo.entries(None)
    index = {entry.path: entry.oid for entry in entries if not entry.stage and entry.regular}
    unmerged = {entry.path for entry in entries if entry.stage}
    tracked = theta_paths(repo.run, {**index, **dict.fromkeys(unmerged)})
    new = untracked(repo)
    packs = [path for root, path in store.pack_files() if root == store.root]
    findings: list[Finding] = []
    if not configured(repo) and (tracked or new):
        findings.append(_INSTALL)
    if head_of(repo) is not None and not repo.index_path.exists():  # as after git clone --no-checkout
        findings += [] if configured(repo) else [_CONFIGURE]
        findings.append(Finding("not_checked_out", "no file is checked out yet", "git checkout"))
    elif not (tracked or new or packs):
        elsewhere = list(submodules(repo, entries))
        findings += elsewhere
        findings += [] if has_models(elsewhere) else first_steps(repo)
    else:
        findings += _files(workspace, index, unmerged, tracked, new)
        findings += _sharing(workspace)
        findings += _store(workspace, packs)
    return Overview(branch_of(repo), len(tracked), total_bytes(packs), tuple(findings))


def _unread(folder: Path, packs: Iterable[Path]) -> int:
    """Count packs that nothing has read in the last week: neither fsck, nor what wrote and verified them."""
    week_ago = time.time() - READ_AGAIN_SECONDS
    old: list[Path] = []
    for path in packs:
        with suppress(FileNotFoundError):  # another process may have removed it
            old += [path] if path.stat().st_mtime < week_ago else []
    with Checks(folder) as checks:
        return checks.unread(old)


def _files(
    workspace: Workspace,
    index: Mapping[str, str],
    unmerged: set[str],
    tracked: Mapping[str, str | None],
    new: list[str],
) -> Iterator[Finding]:
    repo = workspace.repo
    pending = set(read_pending(repo))
    conflicted = sorted(unmerged & tracked.keys())
    known = _known(workspace, {path: tracked[path] for path in tracked if path not in unmerged}, pending)
    absent = tracked.keys() - known.keys() - unmerged
    # What git theta knows of a file is by its directory. Git has times and sizes, also if the directory was moved, and
    # knows which files are outside of a sparse checkout.
    words = ("diff-files", "--name-only", "-z", "--no-relative")
    asked = absent or None in known.values()
    modified = set(os.fsdecode(repo.run(*words)).split("\0")) if asked else set()
    changed = [path for path, oid in known.items() if (path in modified if oid is None else oid != index[path])]
    head = head_of(repo)
    committed = {} if head is None else {entry.path: entry.oid for entry in repo.entries(head) if entry.regular}
    staged = [path for path in tracked if path in index and committed.get(path) != index[path]]
    staged += theta_paths(repo.run, sorted(committed.keys() - index.keys() - unmerged))
    if conflicted:
        yield Finding(
            "conflicted", f"{_named(repo, conflicted)} in conflict", "git theta resolve", "problem", "merging"
        )
    if left := sorted(pending.difference(unmerged)):
        yield Finding("pending", f"{_named(repo, left)} not written yet", "git theta checkout", "problem", "git")
    blobs = raw_blobs(repo, {index[path] for path, oid in known.items() if oid != index[path]})
    raw = [path for path in known if index[path] in blobs]
    yield from _stored_otherwise(repo, raw, (tracked.keys() & index.keys()).difference(raw))
    if new:
        yield Finding("untracked", f"{_named(repo, new)} new", _add(repo, new))
    if changed := [path for path in changed if path not in pending and path not in raw]:
        yield Finding("changed", f"{_named(repo, changed)} changed", _add(repo, changed))
    if deleted := sorted((absent & modified) - pending):
        command = f"git rm {repo.argument(deleted[0])}" if len(deleted) == 1 else "git add -A"
        yield Finding("deleted", f"{_named(repo, deleted)} deleted, which git restore undoes", command)
    if staged and not conflicted:
        yield Finding("staged", f"{_named(repo, staged)} staged", "git commit")


def _known(workspace: Workspace, tracked: Mapping[str, str | None], pending: set[str]) -> dict[str, str | None]:
    """Return the id of each present file's manifest, None if no command has read it; add manifests to ``pending``."""
    repo = workspace.repo
    cache, top = StatCache(workspace.store), worktree_of(repo)
    found: dict[str, str | None] = {}
    for path, kind in tracked.items():
        known = cache.get(top / path, kind, stored=False)
        if known is None and (known := manifest_at(repo, path)) is not None:
            pending.add(path)
        if os.path.lexists(top / path):
            found[path] = None if known is None else blob_id(known, repo.object_format)
    return found


def _stored_otherwise(repo: Repository, raw: list[str], manifests: Collection[str]) -> Iterator[Finding]:
    """Yield what to do about checkpoints that git stores itself, and about manifests that no attribute names."""
    if without := unattributed(repo, manifests):
        text, command = advice(repo, without)
        yield Finding("without_attribute", text, command, "problem", "git")
    if raw:  # git add sees no change in them
        command = f"git theta add {' '.join(map(repo.argument, raw))}"
        yield Finding("raw", f"{_named(repo, raw)} stored in git itself", command, "problem", "migration")


def _sharing(workspace: Workspace) -> Iterator[Finding]:
    if configured(workspace.repo) and not hook_present(workspace.repo):
        text = f"{PRE_PUSH.without}: no pre-push hook calls git theta"
        yield Finding("hook_missing", text, "git theta install --local", "problem", "remotes")
    with suppress(ThetaError):  # a push reports it
        pushed = unpushed(workspace)
        if pushed is not None and pushed.versions:
            versions = plural(pushed.versions, "version")
            where = "on no remote" if pushed.nowhere else f"not on {pushed.remote}"
            yield Finding("not_pushed", f"{versions} of checkpoints {where}", "git push", topic="remotes")


def _store(workspace: Workspace, packs: Iterable[Path]) -> Iterator[Finding]:
    store = workspace.store
    loose = store.index.loose_bytes(str(store.root))
    if loose >= workspace.settings.gc_worth:
        yield Finding(
            "uncollected", f"{human_bytes(loose)} not stored as deltas yet", "git theta gc", topic="maintenance"
        )
    if unread := _unread(store.root, packs):
        text = f"{plural(unread, 'pack')} not verified in the last week"
        yield Finding("unverified", text, "git theta fsck", topic="maintenance")


def _named(repo: Repository, paths: list[str]) -> str:
    return repo.shown(paths[0]) if len(paths) == 1 else plural(len(paths), "checkpoint")


def _add(repo: Repository, paths: list[str]) -> str:
    return f"git add {repo.argument(paths[0])}" if len(paths) == 1 else "git add -A"
