"""The commands that change this installation, by what installed it: pipx, uv tool or pip."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

_PACKAGE = "git-theta-ext"


def install_command(extra: str, version: str | None = None) -> str:
    """Return the command that adds an extra to this installation.

    Args:
        extra: An extra of ``setup.cfg``.
        version: The version to install; the one that is installed, or the newest, if None.
    """
    pinned = "" if version is None else f"=={version}"
    match _installer():
        case "pipx":
            return f"pipx inject {_PACKAGE} '{_PACKAGE}[{extra}]{pinned}'"
        case "uv":
            # Every call replaces the extras of the one before, so name all of them.
            return f"uv tool install '{_PACKAGE}[{'all' if extra != 'cluster' else 'all,cluster'}]{pinned}'"
        case "pip":
            return f"pip install '{_PACKAGE}[{extra}]{pinned}'"


def library_command(library: str, *, again: bool = False) -> str:
    """Return the command that installs a library that no extra has, or installs one again."""
    match _installer():
        case "pipx":
            return f"pipx runpip {_PACKAGE} install {'--force-reinstall ' * again}{library}"
        case "uv":
            return f"uv pip install --python {sys.prefix} {'--reinstall ' * again}{library}"
        case "pip":
            return f"pip install {'--force-reinstall ' * again}{library}"


def upgrade_command() -> str:
    """Return the command that installs the newest version."""
    match _installer():
        case "pipx":
            return f"pipx upgrade {_PACKAGE}"
        case "uv":
            return f"uv tool upgrade {_PACKAGE}"
        case "pip":
            return f"pip install --upgrade {_PACKAGE}"


def rebuild_command() -> str:
    """Return the command that builds this package again: what was built before may be in a cache."""
    match _installer():
        case "pipx":
            return f"PIP_NO_CACHE_DIR=1 pipx reinstall {_PACKAGE}"
        case "uv":
            return f"uv tool upgrade --no-cache --reinstall-package {_PACKAGE} {_PACKAGE}"
        case "pip":
            return f"pip install --force-reinstall --no-cache-dir --no-deps {_PACKAGE}"


def path_command(program: str) -> str:
    """Return the command that puts this installation's programs on PATH.

    Args:
        program: One of them.
    """
    match _installer():
        case "pipx":
            return "pipx ensurepath"
        case "uv":
            return "uv tool update-shell"
        case "pip":
            return f'export PATH="{program_folder(program)}:$PATH"'


def program_folder(program: str) -> Path:
    """Return the directory of a program of this installation: where PATH has it, or else where it was installed."""
    import shutil  # filters start without these
    import sysconfig

    if (found := shutil.which(program)) is not None:
        return Path(found).absolute().parent
    started = Path(sys.argv[0]).absolute()
    return started.parent if started.stem == program else Path(sysconfig.get_path("scripts"))


def needed_environment() -> Path | None:
    """Return the virtual environment that must be active for ``git theta`` to be found; None if none need be."""
    return Path(sys.prefix) if _installer() == "pip" and sys.prefix != sys.base_prefix else None


def _installer() -> Literal["pipx", "uv", "pip"]:
    if Path(sys.prefix, "pipx_metadata.json").is_file():
        return "pipx"
    return "uv" if Path(sys.prefix, "uv-receipt.toml").is_file() else "pip"
