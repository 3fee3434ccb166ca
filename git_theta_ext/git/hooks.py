"""Git's hooks that we need: where they are, whether they call us, and how they get there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.repository import run_git

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

CONFIG_HOOKS_SINCE = (2, 54)
"""Git runs hooks out of its configuration from this version on."""


@dataclass(frozen=True)
class Hook:
    """One of git's hooks that we need.

    Attributes:
        event: Git's name for it.
        setting: Our name for it in git's configuration, below ``hook.``.
        command: What git runs where its configuration has the hook.
        line: For the top of somebody else's hook; it leaves that its standard input.
        without: What does not happen where it is not in place.
        needed: Whether something is lost without it.
    """

    event: str
    setting: str
    command: str
    line: str
    without: str
    needed: bool

    @property
    def settings(self) -> dict[str, str]:
        """What git's configuration has to say, by key."""
        return {f"hook.{self.setting}.command": self.command, f"hook.{self.setting}.event": self.event}

    def script(self) -> bytes:
        """Return the file that the package brings."""
        from importlib import resources

        return (resources.files("git_theta_ext.hooks") / self.event).read_bytes()

    def called_by(self, script: bytes) -> bool:
        """Tell whether a hook's file calls us."""
        call = rb"^[^#\n]*\bgit[- ]theta hook " + self.event.encode() + rb"\b"
        return re.search(call, script, re.MULTILINE) is not None


PRE_PUSH = Hook(
    "pre-push",
    "theta",
    "git theta hook pre-push",
    'refs=$(mktemp) && cat >"$refs" && git theta hook pre-push "$@" <"$refs" || exit 1; exec <"$refs"; rm -f "$refs"',
    "pushes do not upload parameters",
    needed=True,
)
_NO_RECORD = '! [ -f "$(git rev-parse --git-path theta/merge.json)" ]'
PREPARE_COMMIT_MSG = Hook(
    "prepare-commit-msg",
    "theta-record",
    f"{_NO_RECORD} || git theta hook prepare-commit-msg",
    f'{_NO_RECORD} || git theta hook prepare-commit-msg "$@"',
    "merge commits do not say how models were merged",
    needed=False,
)
HOOKS = (PRE_PUSH, PREPARE_COMMIT_MSG)

_EXECUTABLE = 0o111


@dataclass(frozen=True)
class Change:
    """One thing that was changed, or that the user has to change.

    Attributes:
        what: ``set``, ``unset``, ``wrote``, ``removed``; ``todo`` for what the user has to do, ``option`` for what
            may be done.
        where: A configuration key with its scope, or a path.
        value: The new value, or the line to add; empty for what is gone.
        without: What does not happen until the user has done it.
    """

    what: Literal["set", "unset", "wrote", "removed", "todo", "option"]
    where: str
    value: str = ""
    without: str = ""


def git_version() -> tuple[int, int]:
    """Return the major and minor version of the git on PATH.

    Raises:
        RepositoryError: There is none.
    """
    text = run_git(("version",)).decode()
    match = re.search(r"(\d+)\.(\d+)", text)
    if match is None:
        raise RepositoryError(f"git calls its version {text.strip()!r}")
    return int(match[1]), int(match[2])


def place_hooks(repo: Repository) -> list[Change]:
    """Write the files of our hooks, where none that calls us is there and the place is not somebody else's.

    Returns:
        The files that were written, and the lines that the user has to add.

    Raises:
        RepositoryError: A file cannot be written.
    """
    return [change for hook in HOOKS for change in _place(repo, hook)]


def _place(repo: Repository, hook: Hook) -> list[Change]:
    path = _hook_path(repo, hook)
    present = _read(path)
    if present is not None and hook.called_by(present):
        return []
    if present is not None or repo.config.text("core.hookspath") is not None:
        return [Change("todo" if hook.needed else "option", str(path), hook.line, hook.without)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.theta-{os.getpid()}")
        temporary.write_bytes(hook.script())
        temporary.chmod(temporary.stat().st_mode | _EXECUTABLE)
        temporary.replace(path)
    except OSError as error:
        raise RepositoryError(f"cannot write the hook {path}: {error.strerror}") from error
    return [Change("wrote", str(path))]


def ensure_hooks(repo: Repository) -> list[Change]:
    """Put hooks in place where only the global configuration made this repository use the filter, as in a clone.

    Cheap where there is nothing to do: it reads small files.

    Returns:
        As ``place_hooks``.

    Raises:
        RepositoryError: A file cannot be written.
    """
    missing = [hook for hook in HOOKS if not _configured(repo, hook)]
    if len(missing) < len(HOOKS) and git_version() < CONFIG_HOOKS_SINCE:
        missing = list(HOOKS)
    return [change for hook in missing for change in _place(repo, hook)]


def hook_present(repo: Repository, hook: Hook = PRE_PUSH) -> bool:
    """Tell whether git calls us in a repository: before a push if nothing else is asked for."""
    if _configured(repo, hook) and git_version() >= CONFIG_HOOKS_SINCE:
        return True
    present = _read(_hook_path(repo, hook))
    return present is not None and hook.called_by(present)


def _configured(repo: Repository, hook: Hook) -> bool:
    return repo.config.values.get(f"hook.{hook.setting}.command", (None,))[-1] == hook.command


def _hook_path(repo: Repository, hook: Hook) -> Path:
    folder = repo.config.text("core.hookspath")
    if folder is None:
        return repo.common_dir / "hooks" / hook.event
    return repo.folder / os.path.expanduser(folder) / hook.event  # noqa: PTH111 - paths are joined as git joins them


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def remove_hooks(repo: Repository) -> list[Change]:
    """Remove the files of hooks that are exactly ours, and return what was removed."""
    changes = []
    for hook in HOOKS:
        path = _hook_path(repo, hook)
        if _read(path) == hook.script():
            path.unlink()
            changes.append(Change("removed", str(path)))
    return changes
