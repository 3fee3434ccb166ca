"""The repository of the pictures, and what is done in it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from documentation.pictures import model
from documentation.pictures.page import top
from documentation.pictures.terminal import COLUMNS, draw, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DATES = {"base": "2026-03-02T09:00:00Z", "recipes": "2026-03-09T15:20:00Z", "travel": "2026-03-11T10:45:00Z"}
_MERGE_DATE = "2026-03-12T08:30:00Z"
_CONFIGURATION = """\
[user]
    name = Ada
    email = ada@example.com
[init]
    defaultBranch = main
[maintenance]
    auto = false
[theta]
    gcAuto = 0
    threads = 1
    device = cpu
"""


@dataclass(frozen=True)
class Session:
    """A model and its fine-tunes on two branches.

    Attributes:
        folder: The work tree.
        environment: Of commands in it.
    """

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def begin(cls, place: Path) -> Session:
        """Make the repository in an empty directory."""
        (place / ".gitconfig").write_text(_CONFIGURATION, encoding="utf-8")
        passed = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "LESS", "NO_COLOR"))}
        environment = passed | {
            "HOME": str(place),
            "XDG_CONFIG_HOME": str(place),
            "GIT_CONFIG_GLOBAL": str(place / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            "GIT_MERGE_AUTOEDIT": "no",
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        session = cls(place / "my-project", environment)
        session.folder.mkdir()
        for command in ("git init --quiet", "git theta install --local", "git theta track '*.safetensors'"):
            session.run(command, "base")
        session.commit("base", "Base model")
        for name in ("recipes", "travel"):
            session.run(f"git switch --quiet --create {name} main", name)
            session.commit(name, f"Fine-tune on {name}", (name, getattr(model, name)()))
        session.run("git switch --quiet main && git merge --quiet --ff-only recipes", "recipes")
        return session

    def commit(self, name: str, message: str, *changes: tuple[str, model.Change]) -> None:
        """Save the model and commit it."""
        model.write(self.folder / "model.safetensors", *changes)
        self.run(f"git add . && git commit --quiet --message '{message}'", name)

    def run(self, command: str, name: str) -> None:
        """Run a command at the date of a commit."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self._at(_DATES[name]),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")

    def _at(self, date: str) -> dict[str, str]:
        return {**self.environment, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}

    def drawings(self) -> dict[str, str]:
        """Return terminals as SVG, by the name of the file. Merges the branches."""
        look = [self.typed(command) for command in ("git diff main~1 main", "git merge travel")]
        self.run("git theta gc", "travel")
        look.append(self.typed("git theta du"))
        blame = [self.typed(command) for command in ("git theta log", "git theta blame model.safetensors")]
        return {
            "look.svg": draw("look", "compare, merge, store", look),
            "history.svg": draw("history", "history by parameter", blame),
        }

    def typed(self, command: str) -> tuple[str, list[str]]:
        """Run a command in a terminal, and return it with what is shown."""
        return command, shown(command, self.folder, self._at(_MERGE_DATE))

    def pages(self) -> dict[str, str]:
        """Return web pages, by the name of the picture that shows them."""
        self.run("git theta diff main~2 main --html report.html", "travel")
        return {"changes.png": top((self.folder / "report.html").read_text(encoding="utf-8"))}
