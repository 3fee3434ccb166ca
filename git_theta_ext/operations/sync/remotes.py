"""Find the theta remote that belongs to a git remote.

``theta.remote.<name>.url`` names it, in git's settings or in ``.thetaconfig`` (see ``remote_settings``). If it is not
set, a git remote on this machine keeps packs in ``theta/`` of its git directory, which is also the store of
that repository, and a git remote that is reached by http or ssh keeps them on its LFS server.
``theta.remote.<name>.type`` names the plug-in if the URL's scheme does not determine it. If that plug-in opens no
scheme, it gets the address of the git remote. All other keys are passed to the plug-in.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from git_theta_ext.errors import ConfigError, RemoteError, RepositoryError, ThetaError
from git_theta_ext.git.process import foreign_environment
from git_theta_ext.git.remote_settings import remote_settings
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import branch_of
from git_theta_ext.protocol.lfs.endpoints import is_http, ssh_address
from git_theta_ext.records import replace
from git_theta_ext.registry import find_remote
from git_theta_ext.transfer.places import RemotePlace
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import redacted

if TYPE_CHECKING:
    from git_theta_ext.config import RemoteSettings
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.remote_index import OpenedRemote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FORMER_TYPE = "kvstore"  # of s3, gs and file; now the scheme alone chooses the type
_MOST_FETCHED = 1 << 20
_MOST_ADDRESSES = 4
_OF_SERVERS = "lfs"
"""The plug-in for git remotes that are reached by http or ssh."""

# safe.bareRepository restricts the bare repositories that git discovers, not those that the user names.
_EXPLICIT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.bareRepository", "GIT_CONFIG_VALUE_0": "all"}


def open_remote(workspace: Workspace, name: str, address: str) -> OpenedRemote:
    """Open the theta remote of a git remote.

    Args:
        workspace: The repository whose settings apply.
        name: Name of the git remote, or its address if it has no name.
        address: The address of the git remote.

    Raises:
        ConfigError: No location of the remote's parameters is configured.
        PluginError: No plug-in opens URLs of that scheme.
        RemoteError: The address is a path on this machine, and there is no repository.
    """
    return remote_place(workspace, name, address).opened(workspace.repo)


def remote_place(workspace: Workspace, name: str, address: str) -> RemotePlace:
    """Return where the theta remote of a git remote is; see ``open_remote``."""
    settings, url = _located(workspace, name, address)
    options = dict(settings.options)
    named = options.pop("type", None)
    if named == _FORMER_TYPE:
        key = f"theta.remote.{shell_word(redacted(name))}.type"
        workspace.reporter.note(f"{key} is {named}, which is not needed any more: git config --unset {key}")
        named = None
    return RemotePlace(name, address, url, _scheme(url), named, options)


def remote_url(workspace: Workspace, name: str, address: str) -> str:
    """Return the ``OpenedRemote.url`` of a git remote without opening it.

    Raises:
        ThetaError: See ``open_remote``.
    """
    return redacted(_located(workspace, name, address)[1])


def _located(workspace: Workspace, name: str, address: str) -> tuple[RemoteSettings, str]:
    repo = workspace.repo
    settings = remote_settings(repo, name, address, workspace.reporter)
    if settings.url:
        return settings, _absolute(settings.url, repo)
    if local_path(address) is None and (is_http(address) or ssh_address(address) is not None):
        return replace(settings, options={"type": _OF_SERVERS, **settings.options}), address
    named = settings.options.get("type", _FORMER_TYPE)
    if named != _FORMER_TYPE and not find_remote(named).schemes:
        return settings, address  # the plug-in opens git remotes, not URLs of its own
    return settings, _beside_git(repo, name, address)


def open_remotes(workspace: Workspace) -> list[OpenedRemote]:
    """Open the theta remotes of all git remotes to fetch from: the current branch's first, then ``origin``.

    Remotes that have no parameters or cannot be opened are left out.

    Raises:
        ThetaError: No remote can be opened; the error is that of the first one.
    """
    remotes, failures = try_remotes(workspace)
    if failures and not remotes:
        raise failures[0]
    return remotes


def try_remotes(workspace: Workspace) -> tuple[list[OpenedRemote], list[ThetaError]]:
    """Open all remotes as ``open_remotes`` does, and return the errors of those that cannot be opened as well."""
    remotes: list[OpenedRemote] = []
    failures: list[ThetaError] = []
    for name in remotes_in_order(workspace.repo):
        try:
            remotes.append(open_remote(workspace, name, fetch_address(workspace.repo, name)))
        except ThetaError as error:  # noqa: PERF203 - a handful of remotes
            failures.append(error)
    for address in _fetched_from(workspace.repo):
        with suppress(ThetaError):  # it need not have parameters
            remote = open_remote(workspace, address, address)
            remotes += [remote] if remote.url not in {other.url for other in remotes} else []
    return remotes, failures


def remotes_in_order(repo: Repository) -> list[str]:
    """Return the names of all git remotes: the current branch's first, then ``origin``."""
    names = repo.config.git_remotes
    if len(names) < 2:  # noqa: PLR2004 - nothing to order
        return list(names)
    upstream = repo.config.text(f"branch.{branch_of(repo)}.remote")
    return sorted(names, key=lambda name: (name != upstream, name != "origin"))


def fetch_address(repo: Repository, name: str) -> str:
    """Return the address that git fetches from for a remote."""
    return repo.run("ls-remote", "--get-url", name).decode(errors="surrogateescape").removesuffix("\n")


def push_addresses(repo: Repository, name: str) -> list[str]:
    """Return the addresses that git pushes to for a remote."""
    if name not in repo.config.git_remotes:
        return [name]
    urls = repo.run("remote", "get-url", "--push", "--all", name).decode(errors="surrogateescape").splitlines()
    return list(dict.fromkeys(urls))


def local_path(address: str) -> str | None:
    """Return the path that a git remote's address names on this machine, or None if it is on another machine.

    The rules are git's: an address with a colon before its first slash is ``host:path`` or ``helper::address``.
    """
    if match := _SCHEME.match(address):
        return unquote(address[match.end() :]) if match[1].lower() == "file" else None
    colon, slash = address.find(":"), address.find("/")
    return address if colon < 0 or 0 <= slash < colon else None


def repository_at(repo: Repository, name: str, address: str) -> Repository:
    """Open the repository of a git remote whose address is a path on this machine.

    Args:
        repo: The repository with the remote.
        name: Name of the remote, for messages.
        address: Its address.

    Raises:
        RemoteError: There is no repository.
    """
    wanted = repo.folder / (local_path(address) or "")
    for folder in (wanted, wanted.with_name(wanted.name + ".git")):
        if folder.is_dir():
            # If the directory is not a repository itself, git must not discover one above it.
            env = {**foreign_environment(), "GIT_CEILING_DIRECTORIES": os.path.realpath(folder.parent), **_EXPLICIT}
            try:
                return Repository.discover(folder, env=env)
            except RepositoryError as error:
                raise RemoteError(f"{name}: {folder}: {error.message}", hint=error.hint) from error
    if wanted.is_file():
        raise RemoteError(
            f"{name}: {wanted} is a file, as that of git bundle, which has no tensors",
            hint=f"git remote set-url {shell_word(name)} URL, with the URL of a repository that has them",
        )
    raise RemoteError(
        f"{name}: there is no git repository {wanted}",
        hint=f"git remote set-url {shell_word(name)} URL, or mount the file system",
    )


def _fetched_from(repo: Repository) -> list[str]:
    """Return addresses of the last fetch that belong to no remote, as after ``git pull URL``; without ``.git``."""
    try:
        with (repo.git_dir / "FETCH_HEAD").open("rb") as file:
            lines = os.fsdecode(file.read(_MOST_FETCHED)).split("\n")
    except OSError:
        return []
    # "<object id> TAB [not-for-merge] TAB branch 'main' of <address>"
    addresses = dict.fromkeys(line.rpartition("\t")[2].rpartition(" of ")[2] for line in lines)
    configured = {
        url.rstrip("/").removesuffix(".git")
        for name in repo.config.git_remotes
        for url in repo.config.values[f"remote.{name}.url"]
        if url
    }
    return [address for address in addresses if address and address not in configured][:_MOST_ADDRESSES]


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def _absolute(url: str, repo: Repository) -> str:
    if _SCHEME.match(url):
        return url
    if local_path(url) is None:  # git takes it for a host, and such a directory here is rare
        raise ConfigError(
            f"{url} can be a directory on a host or on this machine",
            hint="git config theta.remote.NAME.url ssh://HOST/DIRECTORY, or ./DIRECTORY",
        )
    return str(repo.folder / Path(url).expanduser())


def _beside_git(repo: Repository, name: str, address: str) -> str:
    if local_path(address) is None:
        raise ConfigError(
            f"no store is configured for the remote {redacted(name)} ({redacted(address)}):"
            " a git server does not store parameters",
            hint=f"git config theta.remote.{shell_word(redacted(name))}.url URL, or for all clones: "
            f"{repo.git_at_top} config -f .thetaconfig theta.url URL",
        )
    return str(repository_at(repo, name, address).theta_dir)
