"""Check an installation, and the repository in which it is used, for ``git theta doctor``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from git_theta_ext.coding.kernels import compiled
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attribute_lines import patterns, read
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import HOOKS, git_version, hook_present
from git_theta_ext.git.install import SETTINGS, configured, outdated
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.process import run_git
from git_theta_ext.git.program import PROGRAM
from git_theta_ext.git.unattributed import advice, unattributed
from git_theta_ext.operations.filter.pending import read_pending
from git_theta_ext.operations.health.finding import Finding
from git_theta_ext.operations.history.status import untracked
from git_theta_ext.operations.maintenance.raw_checkpoints import raw_blobs
from git_theta_ext.operations.sync.remotes import fetch_address, open_remote, remotes_in_order
from git_theta_ext.settings import PATH
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.util.installer import install_command, path_command, rebuild_command
from git_theta_ext.util.libraries import is_installed
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.health.finding import State
    from git_theta_ext.operations.workspace import Workspace

_OLDEST_GIT = (2, 31)


def check_installation() -> Iterator[Finding]:
    """Yield what can be said without a repository.

    Raises:
        RepositoryError: Git is not installed.
    """
    version = ".".join(map(str, git_version()))
    if git_version() < _OLDEST_GIT:
        least = ".".join(map(str, _OLDEST_GIT))
        yield Finding("git", f"git {version} is too old", f"install git {least} or newer", "problem", "getting-started")
    else:
        yield Finding("git", f"git {version}", state="ok")
    yield _program()
    if compiled is None:
        text = "without C extensions: adds and merges take more CPU time"
        yield Finding(
            "kernels",
            text,
            f"install a C compiler, then {rebuild_command()}",
            topic="getting-started",
        )
    else:
        yield Finding("kernels", "C extensions", state="ok")
    for library, what in (("torch", "merges on GPUs and statistics"), ("obstore", "object stores as remotes")):
        if is_installed(library):
            yield Finding(library, f"{library}, for {what}", state="ok")
        else:
            extra = "merge" if library == "torch" else "cloud"
            text = f"{library} is not installed: no {what}"
            yield Finding(library, text, install_command(extra), topic="getting-started")


def _program() -> Finding:
    """Say which program git starts as ``git theta``."""
    place = shutil.which(PROGRAM)
    if place is None:
        text = f"{PROGRAM} is not on PATH, so git cannot start it"
        return Finding("program", text, path_command(PROGRAM), "problem", "getting-started")
    found = run_git(("theta", "--version")).decode().split()[-1]
    if found != __version__:
        text = f"git starts {place}, which is version {found}, not {__version__}"
        return Finding("program", text, "uninstall one of them, or change PATH", "problem", "getting-started")
    return Finding("program", f"git theta {found} at {place}", state="ok")


def check_repository(workspace: Workspace, *, offline: bool) -> Iterator[Finding]:
    """Yield what can be said of a repository.

    Args:
        workspace: The repository.
        offline: Whether to leave remotes alone.

    Raises:
        RepositoryError: Git cannot read the index.
    """
    repo = workspace.repo
    files = {entry.path: entry.oid for entry in repo.entries(None) if entry.regular and not entry.stage}
    tracked = theta_paths(repo.run, files)
    # A repository without models loses nothing if it is not set up.
    used = bool(tracked or untracked(repo) or patterns(read(worktree_of(repo) / ".gitattributes")))
    yield _settings(repo, "problem" if used else "note")
    for hook in HOOKS:
        if hook_present(repo, hook):
            yield Finding(hook.event, f"{hook.event} hook", state="ok")
        else:
            text = f"{hook.without}: no {hook.event} hook calls git theta"
            state: State = "problem" if used and hook.needed else "note"
            yield Finding(hook.event, text, "git theta install --local", state, "git")
    yield from _files(repo, files, tracked)
    for name in () if offline else remotes_in_order(repo):
        yield _remote(workspace, name)


def _settings(repo: Repository, state: State) -> Finding:
    """Say whether git is configured; ``state`` is what it means if it is not."""
    if not configured(repo):
        text = "git is not configured to use git theta, and would store models itself"
        return Finding("settings", text, "git theta install", state, "getting-started")
    if old := outdated(repo):
        return Finding("settings", f"{old[0]} is not as this version sets it", "git theta install", topic="git")
    folder = repo.config.text(PATH.key)
    if folder is None or shutil.which(PROGRAM, path=folder) is None:
        text = f"{PATH.key} does not name the directory of {PROGRAM}, so desktop programs may not find it"
        return Finding("settings", text, "git theta install", topic="editors")
    return Finding("settings", f"{len(SETTINGS)} settings of git", state="ok")


def _files(repo: Repository, files: Mapping[str, str], tracked: Collection[str]) -> Iterator[Finding]:
    blobs = raw_blobs(repo, {files[path] for path in tracked})
    if raw := [path for path in tracked if files[path] in blobs]:
        paths = " ".join(map(repo.argument, raw[:3]))
        text = f"{repo.shown(raw[0])} is stored in git itself" + (f", and {len(raw) - 1} more" * (len(raw) > 1))
        yield Finding("raw", text, f"git theta add {paths}", "problem", "migration")
    if without := unattributed(repo, sorted(repo.manifests(None))):
        text, command = advice(repo, without)
        yield Finding("attributes", text, command, "problem", "git")
    elif not raw:
        yield Finding("attributes", "attributes of tracked checkpoints", state="ok")
    if left := read_pending(repo):
        yield Finding("pending", f"{repo.shown(left[0])} is not written yet", "git theta checkout", "problem", "git")


def _remote(workspace: Workspace, name: str) -> Finding:
    """Read the index of a remote, as a fetch does, with the credentials that a fetch has."""
    code = f"remote.{name}"
    try:
        remote = open_remote(workspace, name, fetch_address(workspace.repo, name))
        packs = read_remote_index(workspace.store, remote).packs
    except ThetaError as error:
        return Finding(code, f"{name}: {error.message}", error.hint or "", "problem", error.topic)
    return Finding(code, f"remote {name} at {remote.url}: {len(packs)} packs", state="ok")
