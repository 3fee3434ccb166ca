"""Run the steps of a page in one shell, in a throw-away home."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tutorial_runner.page import Page, Step

HOME_SHOWN = "/home/me"
"""The home directory in the outputs of pages."""

_KEPT = ("TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG")
_CONFIGURATION = """\
[user]
    name = Ada
    email = ada@example.com
[init]
    defaultBranch = main
[gc]
    auto = 0
[maintenance]
    auto = false
"""
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "PAGER": "cat",
    "PYTHONWARNINGS": "ignore",  # of libraries
    "GIT_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PROGRESS_DELAY": "3600",  # of files that a checkout writes, which only a busy machine shows
    "OMP_NUM_THREADS": "1",  # the models are too small for more
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Failure:
    """A step that did not end as the page says."""

    step: Step
    status: int
    printed: str


def run(
    page: Page, home: Path, variables: Mapping[str, str], shown: Mapping[str, str]
) -> dict[Step, list[str]] | Failure:
    """Run all steps of a page.

    Args:
        page: The page.
        home: An empty directory, which is the home directory, and the first current one.
        variables: Environment variables of servers.
        shown: What the page shows for texts in outputs, such as the addresses of servers.

    Returns:
        What each step printed, as lines, or the first step that failed.
    """
    out = home.parent / f"{home.name}.out"
    out.mkdir()
    script = home.parent / f"{home.name}.sh"
    script.write_text("".join(_part(step, out / str(n)) for n, step in enumerate(page.steps)), encoding="utf-8")
    done = subprocess.run(
        ["bash", "-e", str(script)],
        cwd=home,
        env=environment(home, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    texts = [path.read_text("utf-8") for n in range(len(page.steps)) if (path := out / str(n)).exists()]
    if done.returncode or len(texts) < len(page.steps):
        return Failure(page.steps[max(0, len(texts) - 1)], done.returncode, texts[-1] if texts else "")
    names = {str(home): HOME_SHOWN, **shown}
    return {step: _lines(text, names) for step, text in zip(page.steps, texts, strict=True)}


def _part(step: Step, out: Path) -> str:
    start = f"exec >{shlex.quote(str(out))} 2>&1\n"
    if not step.status:
        return f"{start}{step.script}\n"
    checked = f"status=$?\nset -e\n[ $status = {step.status} ] || exit $((status + !status))"
    return f"{start}set +e\n{step.script}\n{checked}\n"


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of processes whose home is this directory."""
    configuration = home.parent / f"{home.name}.config"
    configuration.write_text(_CONFIGURATION, encoding="utf-8")
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        **_ENVIRONMENT,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "GIT_CONFIG_SYSTEM": str(configuration),
        **variables,
    }


def _lines(text: str, names: Mapping[str, str]) -> list[str]:
    for name, shown in names.items():
        text = text.replace(name, shown)
    return [line.rstrip() for line in text.splitlines()]
