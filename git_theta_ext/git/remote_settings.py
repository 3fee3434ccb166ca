"""Find the settings of a git remote: by its name, its address or its former name, or in the tracked file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.config import Config, RemoteSettings
from git_theta_ext.git.tracked_config import read_tracked
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.util.reporter import Reporter

_SECTION = re.compile(r"theta\.remote\.(.+)\.[^.]+", re.DOTALL)


def remote_settings(repo: Repository, name: str, address: str, reporter: Reporter) -> RemoteSettings:
    """Find the settings of a git remote.

    The configuration of this repository takes precedence over ``.thetaconfig``.

    Args:
        repo: The repository.
        name: Name of the git remote, or its address if it has no name.
        address: URL of the git remote.
        reporter: Receives a note about the settings of a renamed remote.

    Raises:
        ConfigError: A setting is invalid or not allowed.
    """
    config = repo.config
    names = [name] if name in config.git_remotes else _names_of(config, address)
    keys = list(dict.fromkeys([*names, name, address, *(url for remote in names for url in _urls(config, remote))]))
    chosen = next((settings for key in keys if (settings := config.remote(key)).url is not None), None)
    if chosen is None and names:
        chosen = _renamed(repo, names[0], reporter)
    if chosen is None and config.for_all().url is not None:
        chosen = config.for_all()
    if chosen is not None:
        return chosen
    own = next((settings.options for key in keys if (settings := config.remote(key)).options), {})
    # Without a URL for all remotes, the other settings for all are about no place.
    options = {**{key: value for key, value in config.for_all().options.items() if key == "type"}, **own}
    tracked = read_tracked(repo)
    if tracked is None:
        return RemoteSettings(None, options)
    shared = tracked.remote(names[0] if names else name)
    return RemoteSettings(shared.url, {**shared.options, **options})


def _names_of(config: Config, address: str) -> list[str]:
    return [name for name in config.git_remotes if address in _urls(config, name)]


def _urls(config: Config, name: str) -> list[str]:
    values = (*config.values.get(f"remote.{name}.url", ()), *config.values.get(f"remote.{name}.pushurl", ()))
    return [value for value in values if value]


def _renamed(repo: Repository, name: str, reporter: Reporter) -> RemoteSettings | None:
    """Return the settings of a former remote that must be this remote: ``git remote rename`` does not rename them."""
    config = repo.config
    if config.remote(name).options:
        return None
    sections = {match[1] for key in config.values if (match := _SECTION.fullmatch(key))}
    gone = {remote for remote in sections - set(config.git_remotes) if not re.search("[:/]", remote)}
    if not gone:
        return None
    # The global configuration may have settings for the remotes of other repositories.
    here = Config.parse(repo.run("config", "--local", "-z", "--get-regexp", r"^theta\.remote\.", check=False))
    left = sorted(remote for remote in gone if here.remote(remote).url is not None)
    if not left:
        return None
    command = f"git config --rename-section theta.remote.{shell_word(left[0])} theta.remote.{shell_word(name)}"
    others = [remote for remote in config.git_remotes if remote != name and config.remote(remote).url is None]
    there = f"there is no remote {left[0]}"
    if len(left) > 1 or others:
        reporter.note(f"theta.remote.{left[0]}.url is set, but {there}; if {name} is its new name: {command}")
        return None
    reporter.note(f"using theta.remote.{left[0]}.url for {name}, because {there}; to rename the setting: {command}")
    return here.remote(left[0])
