"""Which theta remote belongs to a git remote.

``theta.remote.<name>.url`` says it, here or in ``.thetaconfig`` (see ``remote_settings``). Else a git remote on this
machine keeps packs in the ``theta`` folder of its git directory, which is its own store where people work in it. Other
keys go to the plug-in, but ``type``, which names the plug-in if it is not that of the URL's scheme.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from urllib.parse import unquote

from git_theta_ext.errors import ConfigError, RemoteError, RepositoryError, ThetaError
from git_theta_ext.git.process import foreign_environment
from git_theta_ext.git.remote_settings import remote_settings
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import branch_of
from git_theta_ext.registry import find_remote, remote_of_scheme
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.util.text import redacted

if TYPE_CHECKING:
    from git_theta_ext.config import RemoteSettings
    from git_theta_ext.operations.workspace import Workspace

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MOST_FETCHED = 1 << 20
_MOST_ADDRESSES = 4
# What the user named may be a bare repository, whatever safe.bareRepository says of those that git comes across.
_EXPLICIT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.bareRepository", "GIT_CONFIG_VALUE_0": "all"}


def open_remote(workspace: Workspace, name: str, address: str) -> OpenedRemote:
    """Open the theta remote of a git remote.

    Args:
        workspace: The repository whose settings count.
        name: Of the git remote, or its address where it has no name.
        address: Where git finds it.

    Raises:
        ConfigError: It is not known where the remote keeps parameters.
        PluginError: No plug-in opens URLs of that scheme.
        RemoteError: The git remote should be on this machine and is not there.
    """
    settings, url = _located(workspace, name, address)
    options = dict(settings.options)
    named = options.pop("type", None)
    remote_type = find_remote(named) if named else remote_of_scheme(_scheme(url))
    return OpenedRemote(name, redacted(url), remote_type.open(url, options))


def remote_url(workspace: Workspace, name: str, address: str) -> str:
    """Return the ``OpenedRemote.url`` of a git remote without opening it.

    Raises:
        ThetaError: As by ``open_remote``.
    """
    return redacted(_located(workspace, name, address)[1])


def _located(workspace: Workspace, name: str, address: str) -> tuple[RemoteSettings, str]:
    repo = workspace.repo
    settings = remote_settings(repo, name, address, workspace.reporter)
    return settings, _absolute(settings.url, repo) if settings.url else _beside_git(repo, name, address)


def open_remotes(workspace: Workspace) -> list[OpenedRemote]:
    """Open the theta remotes of all git remotes to fetch from, the current branch's first, then ``origin``.

    Those that keep no parameters, or cannot be opened, are left out.

    Raises:
        ThetaError: All of them cannot be opened; this is what the first of them said.
    """
    places, failures = try_remotes(workspace)
    if failures and not places:
        raise failures[0]
    return places


def try_remotes(workspace: Workspace) -> tuple[list[OpenedRemote], list[ThetaError]]:
    """Open all remotes as ``open_remotes`` does; also return what those said that cannot be opened."""
    places: list[OpenedRemote] = []
    failures: list[ThetaError] = []
    for name in _in_order(workspace.repo):
        try:
            places.append(open_remote(workspace, name, fetch_address(workspace.repo, name)))
        except ThetaError as error:  # noqa: PERF203 - a handful of remotes
            failures.append(error)
    for address in _fetched_from(workspace.repo):
        with suppress(ThetaError):  # nobody said that it has any parameters
            place = open_remote(workspace, address, address)
            places += [place] if place.url not in {known.url for known in places} else []
    return places, failures


def fetch_address(repo: Repository, name: str) -> str:
    """Return where git fetches from for a remote."""
    return repo.run("ls-remote", "--get-url", name).decode(errors="surrogateescape").removesuffix("\n")


def push_addresses(repo: Repository, name: str) -> list[str]:
    """Return where git pushes to for a remote: there may be several addresses."""
    if name not in repo.config.git_remotes:
        return [name]
    urls = repo.run("remote", "get-url", "--push", "--all", name).decode(errors="surrogateescape").splitlines()
    return list(dict.fromkeys(urls))


def local_path(address: str) -> str | None:
    """Return the path that a git remote's address names on this machine, or None for one elsewhere.

    The rules are git's: what has a colon before its first slash is ``host:path`` or ``helper::address``.
    """
    if match := _SCHEME.match(address):
        return unquote(address[match.end() :]) if match[1].lower() == "file" else None
    colon, slash = address.find(":"), address.find("/")
    return address if colon < 0 or 0 <= slash < colon else None


def _fetched_from(repo: Repository) -> list[str]:
    """Return the addresses of the last fetch that belong to no remote, as of ``git pull URL``; without ``.git``."""
    try:
        with (repo.git_dir / "FETCH_HEAD").open("rb") as file:
            lines = os.fsdecode(file.read(_MOST_FETCHED)).split("\n")
    except OSError:
        return []
    # "<object id> TAB [not-for-merge] TAB branch 'main' of <address>"
    addresses = dict.fromkeys(line.rpartition("\t")[2].rpartition(" of ")[2] for line in lines)
    known = {
        url.rstrip("/").removesuffix(".git")
        for name in repo.config.git_remotes
        for url in repo.config.values[f"remote.{name}.url"]
        if url
    }
    return [address for address in addresses if address and address not in known][:_MOST_ADDRESSES]


def _in_order(repo: Repository) -> list[str]:
    names = repo.config.git_remotes
    if len(names) < 2:  # noqa: PLR2004 - nothing to order
        return list(names)
    upstream = repo.config.text(f"branch.{branch_of(repo)}.remote")
    return sorted(names, key=lambda name: (name != upstream, name != "origin"))


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def _absolute(url: str, repo: Repository) -> str:
    return url if _SCHEME.match(url) else str(repo.folder / Path(url).expanduser())


def _beside_git(repo: Repository, name: str, address: str) -> str:
    path = local_path(address)
    if path is None:
        raise ConfigError(
            f"no store is configured for the remote {redacted(name)} ({redacted(address)}):"
            " a git server does not take parameters",
            hint=f"git config theta.remote.{quote(redacted(name))}.url URL, or for everybody who clones: "
            "git config -f .thetaconfig theta.url URL",
        )
    wanted = repo.folder / path
    for folder in (wanted, wanted.with_name(wanted.name + ".git")):
        if folder.is_dir():
            # A folder that is no repository itself must not stand for one that it lies in.
            env = {**foreign_environment(), "GIT_CEILING_DIRECTORIES": os.path.realpath(folder.parent), **_EXPLICIT}
            try:
                return str(Repository.discover(folder, env=env).theta_dir)
            except RepositoryError as error:
                raise RemoteError(f"{name}: {folder}: {error.message}", hint=error.hint) from error
    raise RemoteError(
        f"{name}: there is no git repository {wanted}",
        hint=f"git remote set-url {quote(name)} URL, or mount the file system",
    )
