"""Configure git to use the filter, the drivers, the merge tool and the hooks, and undo that."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

from git_theta_ext.errors import ConfigError, RepositoryError
from git_theta_ext.git.answer_script import DIFF, FILTER_COMMAND, MERGE
from git_theta_ext.git.hooks import (
    CONFIG_HOOKS_SINCE,
    FORMER_SETTINGS,
    HOOKS,
    Change,
    git_version,
    place_hooks,
    remove_hooks,
)
from git_theta_ext.git.process import run_git
from git_theta_ext.git.program import FIND, PROGRAM
from git_theta_ext.settings import PATH
from git_theta_ext.util.installer import program_folder

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository

Scope = Literal["local", "global", "system", "worktree"]

# If `process` is set, git never uses the one-shot commands `clean` and `smudge`, so they are not set. Git starts
# `git-theta` and not `git theta`, which it refuses to run in submodules until 2.41 (`checkout --recurse-submodules`).
SETTINGS = {
    "filter.theta.process": FILTER_COMMAND,
    "filter.theta.required": "true",
    "diff.theta.command": DIFF.command,
    "diff.theta.textconv": f"{FIND}exec git-theta textconv",
    "merge.theta.name": "merge the parameters of models",
    "merge.theta.driver": MERGE.command,
    "mergetool.theta.cmd": f'{FIND}git theta mergetool "$MERGED"',
    "mergetool.theta.trustExitCode": "true",
}
TRUSTED_SINCE = (2, 46)
"""The first git that asks a diff driver whether versions differ; older ones take an exit code for a crash."""

TRUSTED = "diff.theta.trustExitCode"
_SINCE = {TRUSTED: "true"}
_PLAIN = {
    "filter.theta.process": "git-theta filter-process",
    "diff.theta.command": "git-theta diff-driver",
    "diff.theta.textconv": "git-theta textconv",
    "merge.theta.driver": "git-theta merge-driver %O %A %B %L %P",
    "mergetool.theta.cmd": 'git theta mergetool "$MERGED"',
}
_FORMER = {
    key: {SETTINGS[key].replace(FIND, ""), plain, plain.replace("git-theta ", "git theta ")}
    for key, plain in _PLAIN.items()
}
_FORMER["filter.theta.process"] |= {f"{find}exec git-theta filter-process" for find in ("", FIND)}
_FORMER |= FORMER_SETTINGS
"""The values of earlier versions, which work: ``git theta`` except in submodules with an old git."""
_DROPPED = {"diff.theta.binary": "false"}
"""Settings of earlier versions with which git shows a checkpoint that it stored itself as megabytes of text."""
_LOCKED = "could not lock config file"
_PATIENCE, _PAUSE = 5, 0.05  # seconds
_HOOK_SETTINGS = {key: value for hook in HOOKS for key, value in hook.settings.items()}


def install(scope: Scope, repo: Repository | None, *, force: bool = False) -> list[Change]:
    """Write the settings into one scope of git's configuration, and the hook scripts if git needs them.

    For the scopes of a repository, the hook scripts go into the repository. For the global scope, they go into a
    template of new repositories.

    Args:
        scope: The configuration file to write.
        repo: The repository that the command runs in, if any.
        force: Whether to replace values that are not ours.

    Returns:
        The changes; none if everything was installed already.

    Raises:
        ConfigError: A key has a value that is not ours, and ``force`` is false.
        RepositoryError: Git cannot write the file, or there is no repository for a scope that needs one.
    """
    version = git_version()
    config_hooks = version >= CONFIG_HOOKS_SINCE
    newer = {**(_SINCE if version >= TRUSTED_SINCE else {}), **(_HOOK_SETTINGS if config_hooks else {})}
    wanted = {PATH.key: str(program_folder(PROGRAM)), **SETTINGS, **newer}
    present = {key: _values(scope, key, repo) for key in wanted}
    foreign = [
        key
        for key, values in present.items()
        if key != PATH.key and values and values[-1] not in {wanted[key], *_FORMER.get(key, ())}
    ]
    if foreign and not force:
        raise ConfigError(
            f"{foreign[0]} is {present[foreign[0]][-1]!r} in the {scope} configuration, which git theta did not set",
            hint=f"git theta install --{scope} --force",
        )
    changes = []
    for key, value in wanted.items():
        if present[key] != [value]:
            _git_config(scope, repo, "--replace-all", key, value)
            changes.append(Change("set", f"{key} ({scope})", value))
    for key, value in _DROPPED.items():
        changes += _unset(scope, repo, key, {value})
    if scope == "global":
        changes += _remove_template(repo) if config_hooks else _place_template(repo)
    elif repo is not None and scope != "system":
        changes += remove_hooks(repo) if config_hooks else place_hooks(repo)
    return changes


def _place_template(repo: Repository | None) -> list[Change]:
    from git_theta_ext.git.template import SETTING, template_folder, template_is_current, write_template

    folder = str(template_folder())
    present = _values("global", SETTING, repo)
    if present and present[-1] != folder:  # the user's own template stays; the filter installs the hooks later
        return []
    changes = []
    if not template_is_current():
        changes.append(Change("wrote", str(write_template())))
    if not present:
        _git_config("global", repo, SETTING, folder)
        changes.append(Change("set", f"{SETTING} (global)", folder))
    return changes


def _remove_template(repo: Repository | None) -> list[Change]:
    from git_theta_ext.git.template import SETTING, clear_template, still_named, template_folder

    changes = []
    folder = str(template_folder())
    if folder in _values("global", SETTING, repo):
        _git_config("global", repo, "--unset-all", SETTING, f"^{re.escape(folder)}$")
        changes.append(Change("unset", f"{SETTING} (global)"))
    if not still_named() and clear_template():
        changes.append(Change("removed", f"{folder}/hooks"))
    return changes


def uninstall(scope: Scope, repo: Repository | None) -> list[Change]:
    """Undo ``install``; values and hooks that are not ours stay.

    Raises:
        RepositoryError: Git cannot write the file, or there is no repository for a scope that needs one.
    """
    changes = _unset(scope, repo, PATH.key, set(_values(scope, PATH.key, repo)))
    for key, value in {**SETTINGS, **_SINCE, **_HOOK_SETTINGS, **_DROPPED}.items():
        changes += _unset(scope, repo, key, {value, *_FORMER.get(key, ())})
    if scope == "global":
        changes += _remove_template(repo)
    if repo is not None:
        changes += remove_hooks(repo)
    return changes


def _unset(scope: Scope, repo: Repository | None, key: str, ours: set[str]) -> list[Change]:
    present = ours.intersection(_values(scope, key, repo))
    for value in present:
        _git_config(scope, repo, "--unset-all", key, f"^{re.escape(value)}$")
    return [Change("unset", f"{key} ({scope})")] if present else []


def configured(repo: Repository) -> bool:
    """Return whether the filter is configured in a repository, in any scope."""
    key = "filter.theta.process"
    return repo.config.text(key) in {SETTINGS[key], *_FORMER[key]}


def outdated(repo: Repository) -> list[str]:
    """Return the keys of the filter and the drivers whose values are not those of this version."""
    read = {key: value for key, value in SETTINGS.items() if not key.startswith("mergetool.")}
    return [key for key, value in read.items() if repo.config.text(key) != value]


def trusts_exit_code(repo: Repository) -> bool:
    """Return whether git takes the exit code of the diff driver for an answer."""
    return repo.config.flag(TRUSTED.lower(), default=False) and git_version() >= TRUSTED_SINCE


def _values(scope: Scope, key: str, repo: Repository | None) -> list[str]:
    # Exit code 1: the key is not set.
    text = _git_config(scope, repo, "-z", "--get-all", key)
    return text.decode(errors="surrogateescape").split("\0")[:-1]


def _git_config(scope: Scope, repo: Repository | None, *args: str) -> bytes:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return _git_config_once(scope, repo, *args)
        except RepositoryError as error:
            # Git does not wait if another process writes the file, such as a second installation.
            if _LOCKED not in error.message or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def _git_config_once(scope: Scope, repo: Repository | None, *args: str) -> bytes:
    if repo is None:
        if scope in ("local", "worktree"):
            raise RepositoryError(
                f"--{scope} can only be used inside a git repository", hint="git theta install --global"
            )
        return run_git(("config", f"--{scope}", *args), ok=(0, 1))
    return run_git(("config", f"--{scope}", *args), cwd=repo.folder, env=repo.environment(), ok=(0, 1))
