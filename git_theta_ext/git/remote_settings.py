"""Which settings belong to a git remote: by its name, by its address, after it was renamed, or in a tracked file."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.config import Config, RemoteSettings
from git_theta_ext.git.tracked_config import read_tracked

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.util.reporter import Reporter

_SECTION = re.compile(r"theta\.remote\.(.+)\.[^.]+", re.DOTALL)


def remote_settings(repo: Repository, name: str, address: str, reporter: Reporter) -> RemoteSettings:
    """Find the settings of a git remote.

    What this repository's configuration says wins over what ``.thetaconfig`` says.

    Args:
        repo: The repository.
        name: Of the git remote, or its address where it has no name.
        address: Where git finds it.
        reporter: Takes a note about settings of a remote that was renamed.

    Raises:
        ConfigError: A setting is broken or not allowed.
    """
    config = repo.config
    names = [name] if name in config.git_remotes else _names_of(config, address)
    keys = list(dict.fromkeys([*names, name, address, *(url for one in names for url in _urls(config, one))]))
    found = next((settings for key in keys if (settings := config.remote(key)).url is not None), None)
    if found is None and names:
        found = _renamed(repo, names[0], reporter)
    if found is None and config.for_all().url is not None:
        found = config.for_all()
    if found is not None:
        return found
    own = next((settings for key in keys if (settings := config.remote(key)).options), RemoteSettings(None, {}))
    tracked = read_tracked(repo)
    if tracked is None:
        return own
    said = tracked.remote(names[0] if names else name)
    return RemoteSettings(said.url, {**said.options, **own.options})


def _names_of(config: Config, address: str) -> list[str]:
    return [name for name in config.git_remotes if address in _urls(config, name)]


def _urls(config: Config, name: str) -> list[str]:
    values = (*config.values.get(f"remote.{name}.url", ()), *config.values.get(f"remote.{name}.pushurl", ()))
    return [value for value in values if value]


def _renamed(repo: Repository, name: str, reporter: Reporter) -> RemoteSettings | None:
    """Return the settings of a remote that is gone, if this one must be that one: ``git remote rename`` leaves them."""
    config = repo.config
    if config.remote(name).options:
        return None
    sections = {match[1] for key in config.values if (match := _SECTION.fullmatch(key))}
    gone = {one for one in sections - set(config.git_remotes) if not re.search("[:/]", one)}
    if not gone:
        return None
    # Not what the user's own configuration says for other repositories.
    here = Config.parse(repo.run("config", "--local", "-z", "--get-regexp", r"^theta\.remote\.", check=False))
    left = sorted(one for one in gone if here.remote(one).url is not None)
    if not left:
        return None
    command = f"git config --rename-section theta.remote.{quote(left[0])} theta.remote.{quote(name)}"
    others = [one for one in config.git_remotes if one != name and config.remote(one).url is None]
    there = f"there is no remote {left[0]}"
    if len(left) > 1 or others:
        reporter.note(f"theta.remote.{left[0]}.url is set, but {there}; if {name} is its new name: {command}")
        return None
    reporter.note(f"theta.remote.{left[0]}.url counts for {name}, as {there}; to keep it so: {command}")
    return here.remote(left[0])
