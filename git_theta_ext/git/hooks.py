"""The pre-push hook: where it is, whether it calls us, and how it gets there."""

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

CONFIG_HOOK = {"hook.theta.command": "git theta hook pre-push", "hook.theta.event": "pre-push"}
CONFIG_HOOK_SINCE = (2, 54)
"""Git runs hooks out of its configuration from this version on."""

HOOK_LINE = (
    'refs=$(mktemp) && cat >"$refs" && git theta hook pre-push "$@" <"$refs" || exit 1; exec <"$refs"; rm -f "$refs"'
)
"""For the top of somebody else's hook: uploads, and leaves the hook its standard input."""

_CALLS_US = re.compile(rb"^[^#\n]*\bgit[- ]theta hook pre-push\b", re.MULTILINE)
_EXECUTABLE = 0o111


@dataclass(frozen=True)
class Change:
    """One thing that was changed, or that the user has to change.

    Attributes:
        what: ``set``, ``unset``, ``wrote``, ``removed``, or ``todo``.
        where: A configuration key with its scope, or a path.
        value: The new value, or the line to add; empty for what is gone.
    """

    what: Literal["set", "unset", "wrote", "removed", "todo"]
    where: str
    value: str = ""


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


def place_hook(repo: Repository) -> list[Change]:
    """Write the pre-push hook file, unless one that calls us is there or the place is somebody else's.

    Returns:
        The file that was written, or the line that the user has to add.

    Raises:
        RepositoryError: The file cannot be written.
    """
    path = _hook_path(repo)
    present = _read(path)
    if present is not None and _CALLS_US.search(present):
        return []
    if present is not None or repo.config.text("core.hookspath") is not None:
        return [Change("todo", str(path), HOOK_LINE)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.theta-{os.getpid()}")
        temporary.write_bytes(hook_script())
        temporary.chmod(temporary.stat().st_mode | _EXECUTABLE)
        temporary.replace(path)
    except OSError as error:
        raise RepositoryError(f"cannot write the hook {path}: {error.strerror}") from error
    return [Change("wrote", str(path))]


def ensure_hooks(repo: Repository) -> list[Change]:
    """Put the hook in place where only the global configuration made this repository use the filter, as in a clone.

    Cheap where there is nothing to do: it reads one small file.

    Returns:
        As ``place_hook``.

    Raises:
        RepositoryError: The file cannot be written.
    """
    if _configured_hook(repo) and git_version() >= CONFIG_HOOK_SINCE:
        return []
    return place_hook(repo)


def hook_present(repo: Repository) -> bool:
    """Tell whether a push from here uploads parameters."""
    if _configured_hook(repo) and git_version() >= CONFIG_HOOK_SINCE:
        return True
    present = _read(_hook_path(repo))
    return present is not None and _CALLS_US.search(present) is not None


def hook_script() -> bytes:
    """Return the pre-push hook that the package brings."""
    from importlib import resources

    return (resources.files("git_theta_ext.hooks") / "pre-push").read_bytes()


def _configured_hook(repo: Repository) -> bool:
    return repo.config.values.get("hook.theta.command", (None,))[-1] == CONFIG_HOOK["hook.theta.command"]


def _hook_path(repo: Repository) -> Path:
    folder = repo.config.text("core.hookspath")
    if folder is None:
        return repo.common_dir / "hooks" / "pre-push"
    return repo.folder / os.path.expanduser(folder) / "pre-push"  # noqa: PTH111 - paths are joined as git joins them


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def remove_hook(repo: Repository) -> list[Change]:
    """Remove the hook file if it is exactly ours, and return what was removed."""
    path = _hook_path(repo)
    if _read(path) != hook_script():
        return []
    path.unlink()
    return [Change("removed", str(path))]
