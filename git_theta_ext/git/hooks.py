"""The git hooks that git theta needs: where they are, whether they call it, and how they are installed."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.process import run_git
from git_theta_ext.git.program import FIND
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replacing
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.repository import Repository

CONFIG_HOOKS_SINCE = (2, 54)
"""The first version of git that runs hooks from its configuration."""


@dataclass(frozen=True)
class Hook:
    """A git hook that git theta needs.

    Attributes:
        event: Git's name of the hook.
        setting: Our name of the hook in git's configuration, below ``hook.``.
        command: The command that git runs if its configuration has the hook.
        line: A line for the top of the user's own hook script; it leaves that script its standard input.
        without: What does not happen if the hook is not installed.
        needed: Whether data may be lost without it.
    """

    event: str
    setting: str
    command: str
    line: str
    without: str
    needed: bool

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the hook in git's configuration, by key."""
        return {f"hook.{self.setting}.command": self.command, f"hook.{self.setting}.event": self.event}

    def script(self) -> bytes:
        """Return the hook script in the package."""
        from importlib import resources

        return (resources.files("git_theta_ext.hooks") / self.event).read_bytes()

    def is_ours(self, script: bytes) -> bool:
        """Return whether a hook script is exactly one that this version or an earlier one wrote."""
        return _is_former(script) or script == self.script()

    def called_by(self, script: bytes) -> bool:
        """Return whether a hook script calls git theta."""
        call = rb"^[^#\n]*\bgit[- ]theta hook " + self.event.encode() + rb"\b"
        return re.search(call, script, re.MULTILINE) is not None


PRE_PUSH = Hook(
    "pre-push",
    "theta",
    f"{FIND}git theta hook pre-push",
    'refs=$(mktemp) && cat >"$refs" && git theta hook pre-push "$@" <"$refs" || exit 1; exec <"$refs"; rm -f "$refs"',
    "pushes do not upload parameters",
    needed=True,
)
_NO_RECORD = '! { [ -f "$(git rev-parse --git-path theta/merge.json)" ] || grep -qs "^Theta-Merge:" "$1"; }'
# The driver may have left a script that adds the records for the git process that is its parent, too, and exits then.
_ADDED = (
    '{ d=$(git rev-parse --git-path theta); [ ! -f "$d/merging/records/$PPID" ]'
    ' || . "$d/merging/records/$PPID"; false; }'
)
PREPARE_COMMIT_MSG = Hook(
    "prepare-commit-msg",
    "theta-record",
    f"{_NO_RECORD} || {_ADDED} || {{ {FIND}false; }} || git theta hook prepare-commit-msg",
    f'{_NO_RECORD} || git theta hook prepare-commit-msg "$@"',
    "merge commits do not record how models were merged",
    needed=False,
)
HOOKS = (PRE_PUSH, PREPARE_COMMIT_MSG)

FORMER_SETTINGS = {
    "hook.theta.command": {"git theta hook pre-push"},
    "hook.theta-record.command": {
        f"{_NO_RECORD} || git theta hook prepare-commit-msg",
        f"{_NO_RECORD} || {_ADDED} || git theta hook prepare-commit-msg",
    },
}
"""Commands of earlier versions in git's configuration, which are replaced and unset as well."""

_EXECUTABLE = 0o111
_FORMER_SCRIPTS = frozenset(
    {
        "77827fc558aa186acf9297004ef03e6099c7d28310aa34296e558df14452af7f",
        "a7314ce2a8e7d7f249e52190cba2a4e3658c87104d96aa70b361c870f9f9f35e",
        "4a74f8e152eadaf5e274660667dd6fad36b1e18e07d221a278ed77b95eeb0468",
        "ee3d338efcec5c76fbd0575bd340321f7f0771600ad8b20866aa8a694d63bae0",
        "fe63ae2c870b3f94c83ab44b0f0a2bf908156c7cb4e6aedf91325ac0e218e9b5",
        "e034592be96f8a3158f36bbaa792ca46e5c7a1274885703b1a5ccbe2ddbe8471",
        "e94c573bcae3abee60b9fca050572233aba5a8ce86c1e0ea16df94c2f2888945",
        "212ad09694359307d31edd325512250a3561dd996bb087794916d38ca4ec3b73",
    }
)
"""SHA-256 of the scripts of earlier versions, which are replaced and uninstalled as well."""
_LFS = re.compile(rb'#!/bin/sh\n(?:command -v git-lfs [^\n]*\n)?git lfs pre-push "\$@"\n*')
"""The pre-push hook of git-lfs. Ours does the same, so it is replaced."""
_LFS_SCRIPT = b'#!/bin/sh\ngit lfs pre-push "$@"\n'
"""One that git-lfs takes for its own."""


@dataclass(frozen=True)
class Change:
    """A change that was made, or that the user has to make.

    Attributes:
        what: ``set``, ``unset``, ``wrote``, ``removed``; ``todo`` for what the user has to do, ``option`` for what
            is optional.
        where: A configuration key with its scope, or a path.
        value: The new value; empty if the value or file was removed.
        note: What the user should know about the change, such as what does not happen yet.
        hint: What to do about it.
    """

    what: Literal["set", "unset", "wrote", "removed", "todo", "option"]
    where: str
    value: str = ""
    note: str = ""
    hint: str = ""


def git_version() -> tuple[int, int]:
    """Return the major and minor version of the git on PATH.

    Raises:
        RepositoryError: Git is not installed, or its version cannot be parsed.
    """
    text = run_git(("version",)).decode()
    match = re.search(r"(\d+)\.(\d+)", text)
    if match is None:
        raise RepositoryError(f"cannot parse git's version {text.strip()!r}")
    return int(match[1]), int(match[2])


def place_hooks(repo: Repository) -> list[Change]:
    """Write our hook scripts, unless a hook that calls git theta exists or the location belongs to the user.

    Scripts of earlier versions are replaced, and the pre-push hook of git-lfs.

    Returns:
        The files that were written, and what the user has to do.

    Raises:
        RepositoryError: A file cannot be written.
    """
    return [change for hook in HOOKS for change in _place(repo, hook)]


def notes(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """Return the notes and hints of changes; those of optional changes are left out."""
    return [(change.note, change.hint) for change in changes if change.note and change.what != "option"]


def _place(repo: Repository, hook: Hook) -> list[Change]:
    path, chosen = _hook_path(repo, hook), _chosen_folder(repo)
    present = _read(path)
    if (
        present is not None
        and chosen is None
        and (_is_former(present) or (hook is PRE_PUSH and _LFS.fullmatch(present)))
    ):
        present = None  # replaced as if it were missing
    if present is not None and hook.called_by(present):
        if os.access(path, os.X_OK):
            return []
        if not hook.is_ours(present):
            return [_todo(hook, path, "is not executable, and git ignores it", f"chmod +x {shell_word(str(path))}")]
    elif present is not None:
        return [_todo(hook, path, "does not call git theta", _insert(hook))]
    elif chosen is not None and not (hook.needed and _is_inside(chosen, repo)):
        return [_todo(hook, path, "does not exist, and core.hooksPath is outside the repository", _insert(hook))]
    _write(path, hook.script())
    if chosen is None:
        return [Change("wrote", str(path))]
    return [
        Change(
            "wrote", str(path), note=f"{path} is new: it uploads parameters", hint=f"git add {shell_word(str(path))}"
        )
    ]


def _todo(hook: Hook, path: Path, problem: str, hint: str) -> Change:
    return Change("todo" if hook.needed else "option", str(path), note=f"{hook.without}: {path} {problem}", hint=hint)


def _insert(hook: Hook) -> str:
    return f"make this its first line after #!/bin/sh, and the file executable:\n  {hook.line}"


def _write(path: Path, script: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(script)
            temporary.chmod(temporary.stat().st_mode | _EXECUTABLE)
    except OSError as error:
        raise RepositoryError(f"cannot write the hook {path}: {error.strerror}") from error


def ensure_hooks(repo: Repository) -> list[Change]:
    """Install missing hooks if only the global configuration enables the filter in this repository, as in a clone.

    This is cheap if nothing is missing: it only reads small files.

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
    """Return whether git calls git theta from a hook in a repository; by default from the pre-push hook."""
    if _configured(repo, hook) and git_version() >= CONFIG_HOOKS_SINCE:
        return True
    path = _hook_path(repo, hook)
    present = _read(path)
    return present is not None and hook.called_by(present) and os.access(path, os.X_OK)


def _configured(repo: Repository, hook: Hook) -> bool:
    key = f"hook.{hook.setting}.command"
    return repo.config.values.get(key, (None,))[-1] in {hook.command, *FORMER_SETTINGS.get(key, ())}


def _hook_path(repo: Repository, hook: Hook) -> Path:
    folder = _chosen_folder(repo)
    if folder is None:
        return repo.common_dir / "hooks" / hook.event
    # Husky rewrites .husky/_ at each installation, and runs the hooks in .husky from there.
    return (folder.parent if folder.parts[-2:] == (".husky", "_") else folder) / hook.event


def _chosen_folder(repo: Repository) -> Path | None:
    """Return the directory that core.hooksPath names, or None if it is not set."""
    folder = repo.config.text("core.hookspath")
    return None if folder is None else repo.folder / os.path.expanduser(folder)  # noqa: PTH111 - never raises


def _is_former(script: bytes) -> bool:
    return sha256(script).hexdigest() in _FORMER_SCRIPTS


def _is_inside(folder: Path, repo: Repository) -> bool:
    real = Path(os.path.realpath(folder))
    return any(real.is_relative_to(os.path.realpath(top)) for top in (repo.folder, repo.common_dir))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def remove_hooks(repo: Repository) -> list[Change]:
    """Remove the hook scripts that are ours, and return the changes. Git LFS gets its own back if it is used."""
    changes = []
    for hook in HOOKS:
        path = _hook_path(repo, hook)
        present = _read(path)
        if present is not None and hook.is_ours(present):
            if hook is PRE_PUSH and (repo.common_dir / "lfs" / "objects").is_dir():
                _write(path, _LFS_SCRIPT)
                changes.append(Change("wrote", str(path)))
                continue
            path.unlink()
            changes.append(Change("removed", str(path)))
    return changes
