"""Print versions and settings for a bug report.

Values that look like secrets are masked.
"""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.install import current_repository
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.hooks import hook_present
from git_theta_ext.git.install import configured
from git_theta_ext.git.process import run_git
from git_theta_ext.git.tracked_config import FILE, read_tracked
from git_theta_ext.util.files import total_bytes
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.git.repository import Repository

GROUP = "maintain"
EXAMPLE = "git theta env --json > report.json"

_SECRET_KEY = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
_EXTRA = re.compile(r"""extra == ["']([\w-]+)["']""")
_OPTIONAL = ("merge", "cloud")
_URL_USER = re.compile(r"(?<=://)[^/\s]+(?=@)")
_URL_QUERY = re.compile(r"(://[^\s?#]*\?)[^\s#]+")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print versions and settings."""
    repo = current_repository()
    versions = {
        "git-theta": __version__,
        "git": run_git(("version",)).decode().strip().removeprefix("git version "),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        **_dependencies(),
    }
    here = _repository(repo) if repo is not None else None
    lines = [f"{name} {value}" for name, value in versions.items()]
    if here is None:
        lines += ["", "not in a git repository"]
    else:
        settings, tracked = here.pop("settings"), here.pop("tracked_settings")
        assert isinstance(settings, dict)
        assert isinstance(tracked, dict)
        lines += ["", *(f"{name}: {_text(name, value)}" for name, value in here.items())]
        lines += ["", *(f"{key}={value}" for key, value in settings.items())]
        lines += [f"{key}={value}" for key, value in tracked.items()]
        here |= {"settings": settings, "tracked_settings": tracked}
    output_of(args).result({"versions": versions, "repository": here}, lines)
    return 0


def masked(key: str, value: str) -> str:
    """Mask what may be a secret: values of keys that sound like one; users, passwords and queries in URLs."""
    if _SECRET_KEY.search(key.rpartition(".")[2]):
        return "***"
    return _URL_QUERY.sub(r"\1***", _URL_USER.sub("***", value))


def _text(name: str, value: object) -> object:
    return human_bytes(value) if name.endswith("bytes") and isinstance(value, int) else value


def _dependencies() -> dict[str, str]:
    versions = {}
    for requirement in requires("git_theta_ext") or ():
        extra = _EXTRA.search(requirement)
        if extra is not None and extra[1] not in _OPTIONAL:
            continue
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _repository(repo: Repository) -> dict[str, object]:
    packs = [path for path in (repo.theta_dir / "packs").glob("*/*") if path.is_file()]
    return {
        "git_dir": str(repo.git_dir),
        "worktree": str(repo.worktree) if repo.worktree is not None else None,
        "object_format": repo.object_format,
        "filter_configured": configured(repo),
        "pre_push_hook": hook_present(repo),
        "packs": len(packs),
        "pack_bytes": total_bytes(packs),
        "tracked_settings": _tracked(repo),
        "settings": {
            key: masked(key, value if value is not None else "true")
            for key, values in sorted(repo.config.values.items())
            for value in values
        },
    }


def _tracked(repo: Repository) -> dict[str, str]:
    """Return the settings of ``.thetaconfig``; each key names the place that it was read from."""
    try:
        tracked = read_tracked(repo)
    except ThetaError as error:
        return {FILE: error.message}
    if tracked is None:
        return {}
    place = f"{FILE} ({tracked.place})"
    settings = {f"{place} {key}": values[-1] or "" for key, values in tracked.config.values.items()}
    settings |= {f"{place} {key}": "not allowed there" for key in tracked.ignored}
    return {key: masked(key, value) for key, value in settings.items()}
