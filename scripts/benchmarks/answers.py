"""Ask each tool about the same change of a model: what it prints, what the change takes, and how long both last.

``--peers DIR`` has the tools that do not come with git, each in a virtual environment of its own::

    python -m venv DIR/dvc && DIR/dvc/bin/pip install dvc
    python -m venv DIR/theta && DIR/theta/bin/pip install git-theta==0.2.0 torch safetensors colorama
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import lfs
from benchmarks.checkpoints import FAMILIES
from benchmarks.report import markdown
from benchmarks.tools import MODEL, environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    Command = tuple[str, ...]

TENSOR = "encoder.layer.5.attention.self.query.weight"
_LINES = 16
_COMMIT = ("git", "commit", "--quiet", "--message", "{version}")


@dataclass(frozen=True)
class Asked:
    """A tool and what is asked of it.

    Attributes:
        name: Name in the table.
        program: The program that it needs, beside git.
        setup: Commands that make an empty repository track the model.
        add: Commands that store a version of the model and commit it.
        changed: Commands that say what the last commit changed.
        one: The command that returns one tensor of the version before; the whole file if there is no such command.
        stores: Directories of what is stored.
        tidy: The command that compacts what is stored, if there is one.
        peer: Directory of a virtual environment in that of the peers.
        variables: Added to the environment.
    """

    name: str
    program: str
    setup: tuple[Command, ...]
    add: tuple[Command, ...]
    changed: tuple[Command, ...]
    one: str
    stores: tuple[str, ...]
    tidy: Command = ()
    peer: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


_GIT = (("git", "init", "--quiet", "--initial-branch=main"), ("git", "config", "gc.auto", "0"))
_ADD = (("git", "add", "--all"), _COMMIT)

TOOLS = (
    Asked(
        "git theta",
        "git-theta",
        (*_GIT, ("git", "theta", "install", "--local"), ("git", "theta", "track", "*.safetensors")),
        _ADD,
        (("git", "theta", "diff", "HEAD~1", "HEAD"), ("git", "theta", "blame", MODEL)),
        f"git theta cat HEAD~1:{MODEL} {TENSOR}",
        stores=(".git/theta/packs", ".git/objects"),
        tidy=("git", "theta", "gc"),
    ),
    Asked(
        "git",
        "git",
        _GIT,
        _ADD,
        (("git", "diff", "--stat", "HEAD~1", "HEAD"), ("git", "diff", "HEAD~1", "HEAD")),
        f"git cat-file blob HEAD~1:{MODEL}",
        stores=(".git/objects",),
        tidy=("git", "gc", "--quiet", "--prune=now"),
    ),
    Asked(
        "git-lfs",
        "git-lfs",
        (*_GIT, ("git", "lfs", "install", "--local"), ("git", "lfs", "track", "*.safetensors")),
        _ADD,
        (("git", "diff", "HEAD~1", "HEAD"),),
        f"git cat-file blob HEAD~1:{MODEL} | git lfs smudge",
        stores=(".git/lfs", ".git/objects"),
    ),
    Asked(
        "DVC",
        "dvc",
        (*_GIT, ("dvc", "init", "--quiet"), ("dvc", "config", "core.analytics", "false")),
        (("dvc", "add", "--quiet", MODEL), *_ADD),
        (("dvc", "diff", "HEAD~1", "HEAD"), ("git", "diff", "HEAD~1", "HEAD")),
        f"dvc get --quiet --rev HEAD~1 --out ../out . {MODEL} && cat ../out",
        stores=(".dvc/cache", ".git/objects"),
        peer="dvc",
    ),
    Asked(
        "git-theta 0.2.0",
        "git-theta",
        (*_GIT, ("git", "lfs", "install", "--local"), ("git", "theta", "install"), ("git", "theta", "track", MODEL)),
        _ADD,
        (("git", "diff", "HEAD~1", "HEAD"),),
        f"git cat-file --filters HEAD~1:{MODEL}",
        stores=(".git/lfs", ".git/theta", ".git/objects"),
        peer="theta",
        variables={"GIT_THETA_CHECKPOINT_TYPE": "safetensors"},
    ),
)


def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure the fine-tune that the command line names, or one of random weights, and print the report."""
    (folder / "answers").mkdir()
    if arguments.models is not None:
        base, tuned = (arguments.models / f"{name}_{arguments.dtype}.safetensors" for name in ("base", "ft_last2"))
    else:
        base, tuned = lfs.versions(None, arguments.dtype, FAMILIES["minilm"], folder / "answers")
    rows = measure((base, tuned), arguments.peers, folder / "answers")
    print(report(rows), flush=True)
    return rows


def measure(versions: tuple[Path, Path], peers: Path | None, folder: Path) -> list[dict[str, Any]]:
    """Commit two versions of a model with each tool that is installed, and ask it what changed.

    Args:
        versions: The versions.
        peers: Directory with the virtual environments of tools; None to ask only what comes with git.
        folder: An existing directory to work in.
    """
    rows = []
    for tool in TOOLS:
        work = _Work(tool, peers, folder / tool.name.replace(" ", "-"))
        if work.present:
            rows.append(work.measure(versions))
        else:
            print(f"{tool.name} is not installed; see scripts/benchmarks/answers.py\n")
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Render the figures and what was printed as Markdown."""
    cells = [
        [
            row["tool"],
            *(f"{row[key] / 1e6:.1f} MB" for key in ("first", "change")),
            *(_time(row[key]) for key in ("add", "add_again")),
            f"{row['tidy']['change'] / 1e6:.1f} MB, {_time(row['tidy'])}" if "tidy" in row else "",
            _time(row["changed"][0]),
            f"{_time(row['one'])}, {row['one_bytes'] / 1e6:.1f} MB",
        ]
        for row in rows
    ]
    head = [
        "",
        "stored",
        "stored for the change",
        "add, commit",
        "again, changed",
        "after gc",
        "what changed?",
        "one old tensor",
    ]
    text = [markdown(head, cells)]
    for row in rows:
        text += [f"### {row['tool']}\n", *(_shown(answer) for answer in row["changed"])]
    return "\n".join(text)


def _time(timed: Mapping[str, Any]) -> str:
    return f"{timed['wall']:.1f} s ({timed['cpu']:.1f} s CPU)"


def _shown(answer: Mapping[str, Any]) -> str:
    lines = str(answer["output"]).splitlines()
    more = [f"… {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
    return "\n".join(["```console", f"$ {answer['command']}", *lines[:_LINES], *more, "```", ""])


class _Work:
    def __init__(self, tool: Asked, peers: Path | None, folder: Path) -> None:
        folder.mkdir()
        self._tool = tool
        self._folder = folder / "repository"
        self._folder.mkdir()
        home = folder / "home"
        self._env = environment(home) | tool.variables
        if tool.peer and peers is not None:
            self._env["PATH"] = f"{peers / tool.peer / 'bin'}{os.pathsep}{self._env['PATH']}"
        found = shutil.which(tool.program, path=self._env["PATH"])
        self.present = found is not None and (not tool.peer or (peers is not None and peers in Path(found).parents))

    def measure(self, versions: tuple[Path, Path]) -> dict[str, Any]:
        for command in self._tool.setup:
            self._run(command)
        row: dict[str, Any] = {"tool": self._tool.name}
        before = 0
        for path, time_key, size_key in zip(versions, ("add", "add_again"), ("first", "change"), strict=True):
            shutil.copyfile(path, self._folder / MODEL)
            row[time_key] = self._timed(lambda version=path.stem: [self._run(c, version) for c in self._tool.add])
            row[size_key], before = self._stored() - before, self._stored()
        row["changed"] = []
        for command in self._tool.changed:
            outputs: list[str] = []
            timed = self._timed(lambda command=command, outputs=outputs: outputs.append(self._run(command, fail=False)))
            row["changed"].append(timed | {"command": " ".join(command), "output": outputs[0]})
        if self._tool.tidy:
            row["tidy"] = self._timed(lambda: self._run(self._tool.tidy)) | {"change": self._stored() - row["first"]}
        target = self._folder.parent / "one"
        row["one"] = self._timed(lambda: self._run(("sh", "-c", f"{self._tool.one} > {target}")))
        row["one_bytes"] = target.stat().st_size
        return row

    def _timed(self, work: Any) -> dict[str, Any]:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.perf_counter() - start, "cpu": cpu}

    def _run(self, command: Command, version: str = "", *, fail: bool = True) -> str:
        words = [word.format(version=version) for word in command]
        done = subprocess.run(
            words,
            cwd=self._folder,
            env=self._env,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode and fail:
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def _stored(self) -> int:
        """Return the size of what the tool stores; files that it also hands out as links count once."""
        files = {
            path.resolve() for name in self._tool.stores for path in (self._folder / name).rglob("*") if path.is_file()
        }
        return sum(path.stat().st_size for path in files)
