"""A template directory for new repositories, which gives them our hooks if git does not run configured hooks.

A bare clone, or one made without a checkout, runs no filter that could install hooks, and its pushes would upload
nothing. Git copies ``init.templateDir`` into every repository that it creates (git-init(1), TEMPLATE DIRECTORY).
"""

from __future__ import annotations

import os
from pathlib import Path

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.hooks import HOOKS
from git_theta_ext.git.process import foreign_environment, run_git
from git_theta_ext.util.files import replacing
from git_theta_ext.util.folders import temporary_folder

SETTING = "init.templateDir"
_NO_CONFIGURATION = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
_COPIED = ("branches", "description", "hooks", "info")


def template_folder() -> Path:
    """Return the path of the template, whether or not it exists."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "git-theta" / "template"


def write_template() -> Path:
    """Write git's own template with our hooks, and return its directory.

    Raises:
        RepositoryError: It cannot be written.
    """
    folder = template_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            _copy_of_gits_own(folder)
        (folder / "hooks").mkdir(exist_ok=True)
        for hook in HOOKS:
            with replacing(folder / "hooks" / hook.event) as path:
                path.write_bytes(hook.script())
                path.chmod(0o755)
    except OSError as error:
        raise RepositoryError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return folder


def _copy_of_gits_own(folder: Path) -> None:
    with temporary_folder(folder.parent) as temporary:
        made, new = temporary / "repository", temporary / "template"
        run_git(("init", "-q", "--bare", str(made)), env={**foreign_environment(), **_NO_CONFIGURATION})
        new.mkdir()
        for part in _COPIED:
            if (made / part).exists():
                (made / part).rename(new / part)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process has just made it
                raise


def template_is_current() -> bool:
    """Return whether the template exists and has the hooks of this version."""
    hooks = template_folder() / "hooks"
    try:
        return all((hooks / hook.event).read_bytes() == hook.script() for hook in HOOKS)
    except OSError:
        return False


def still_named() -> bool:
    """Return whether a configuration file of the user names the template, maybe one that git does not read now.

    Git reads another file instead of these if ``GIT_CONFIG_GLOBAL`` names it.
    """
    own = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    files = (Path.home() / ".gitconfig", Path(own) / "git" / "config")
    values = (run_git(("config", "-f", str(file), "--get-all", SETTING), ok=None) for file in files if file.is_file())
    return any(str(template_folder()) in text.decode(errors="surrogateescape").splitlines() for text in values)


def clear_template() -> bool:
    """Remove our hooks from the template, and return whether there were any.

    The directory stays, with the files that git itself gives new repositories: another configuration may name it, and
    git would print a warning at each ``git init`` and ``git clone``.
    """
    hooks = [template_folder() / "hooks" / hook.event for hook in HOOKS]
    present = any(path.exists() for path in hooks)
    for path in hooks:
        path.unlink(missing_ok=True)
    return present
