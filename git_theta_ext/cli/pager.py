"""Show long output in a pager, as git does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.cli.process import silence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.git.repository import Repository

_DEFAULTS = {"LESS": "FRX", "LV": "-c"}
"""As git sets them: less ends at once if the text fits on the screen, and shows colours."""


@contextmanager
def paged(repo: Repository, command: str) -> Iterator[None]:
    """Pass standard output to the user's pager within a block, if it is a terminal.

    The pager is that of ``GIT_PAGER``, ``core.pager`` or ``PAGER``, unless ``pager.COMMAND`` is false or another pager.
    Ask for the width of the terminal and for colours before.

    Args:
        repo: The repository, for its settings.
        command: The name of git's command whose pager it is, such as ``diff``.
    """
    pager = _pager(repo, command) if sys.stdout.isatty() else ""
    if not pager:
        yield
        return
    sys.stdout.flush()
    environment = {**_DEFAULTS, **os.environ, "GIT_PAGER_IN_USE": "true"}
    terminal = os.dup(1)
    reading, writing = os.pipe()
    process = subprocess.Popen(pager, shell=True, stdin=reading, env=environment)  # noqa: S602 - the user's command, as in git
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the user has left the pager
        silence(1)
    finally:
        os.dup2(terminal, 1)  # closes the pipe: the pager knows the end
        os.close(terminal)
        process.wait()


def _pager(repo: Repository, command: str) -> str:
    """Return the pager's command line; empty if there is none."""
    own = (repo.config.values.get(f"pager.{command}", ("",))[-1] or "true").lower()
    if own in ("false", "no", "off", "0"):
        return ""
    if own not in ("true", "yes", "on", "1", ""):
        return repo.config.values[f"pager.{command}"][-1] or ""
    pager = repo.run("var", "GIT_PAGER", check=False).decode(errors="surrogateescape").strip()
    return "" if pager == "cat" else pager
