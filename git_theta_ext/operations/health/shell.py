"""Check that man finds the pages of git theta, and that the user's shell completes its commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.operations.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOPIC = "getting-started"
_SECONDS = 10
_USER = "~/.local/share"
_SYSTEM = "/usr/local/share:/usr/share"
_FILES = {
    "bash": "bash-completion/completions/git-theta",
    "fish": "fish/vendor_conf.d/git-theta.fish",
    "zsh": "zsh/site-functions/_git-theta",
}
"""Where the completions of a shell are in a directory of shared data."""
_WRITTEN = {
    "bash": (f"{_USER}/bash-completion/completions", "git-theta"),
    "fish": ("~/.config/fish/conf.d", "git-theta.fish"),
    "zsh": (f"{_USER}/zsh/site-functions", "_git-theta"),
}
"""The directory and the file to which users write the completions of a shell."""
_BASH_VERSION = re.compile(r"BASH_COMPLETION_VERSINFO=\((\d+) (\d+)")
_BESIDE_PROGRAMS = (2, 12)
"""The first version of bash-completion that looks in the directories beside those of PATH."""


def check_shell() -> Iterator[Finding]:
    """Yield whether man and the user's shell find what belongs to git theta; nothing about what is not installed."""
    if man := shutil.which("man"):
        yield _manual(man)
    shell = Path(os.environ.get("SHELL", "")).name
    if shell in _FILES:
        yield _completion(shell)


def _manual(man: str) -> Finding:
    done = None
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([man, "-w", "git-theta"], capture_output=True, check=False, timeout=_SECONDS)
    if done is not None and done.returncode == 0:
        return Finding("man", "man pages", state="ok")
    installed = Path(sys.prefix, "share", "man")
    if (installed / "man1" / "git-theta.1").exists():
        command = f"export MANPATH={installed}:$MANPATH"
    else:
        command = "git theta help commands"
    return Finding("man", "man does not find the pages of git theta", command, topic=_TOPIC)


def _completion(shell: str) -> Finding:
    if any(place.exists() for place in _places(shell)):
        return Finding("completion", f"completions for {shell}", state="ok")
    folder, name = _WRITTEN[shell]
    command = f"mkdir -p {folder} && git theta completion {shell} > {folder}/{name}"
    return Finding("completion", f"{shell} does not complete git theta", command, topic=_TOPIC)


def _places(shell: str) -> Iterator[Path]:
    """Yield the files in which a shell may look, as far as that can be known without running it."""
    shared = (os.environ.get("XDG_DATA_DIRS") or _SYSTEM).split(":")
    user = os.environ.get("XDG_DATA_HOME") or Path(_USER).expanduser()
    for folder in (user, *shared):
        yield Path(folder, _FILES[shell])
    if shell == "bash" and _looks_beside_programs(shared):
        for programs in os.environ.get("PATH", "").split(":"):
            yield Path(programs).parent / "share" / _FILES[shell]
    elif shell == "fish":
        yield Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "fish/conf.d/git-theta.fish"
    elif shell == "zsh":
        for folder in os.environ.get("FPATH", "").split(":"):
            yield Path(folder, Path(_FILES[shell]).name)


def _looks_beside_programs(shared: list[str]) -> bool:
    for folder in shared:
        with suppress(OSError):
            match = _BASH_VERSION.search(Path(folder, "bash-completion/bash_completion").read_text("utf-8", "replace"))
            return match is not None and (int(match[1]), int(match[2])) >= _BESIDE_PROGRAMS
    return False
