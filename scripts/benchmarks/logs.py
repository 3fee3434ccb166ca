"""Measure the commands that show the history of a model against ``git log -p`` of its manifests.

Git converts them to text only without ``--no-textconv``, in a process for each version.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, environment
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

LAYERS = 30
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj", "norm_1", "norm_2", "bias")
OLDEST = "model.layers.0.bias.weight"
"""A parameter that only the first commit sets, so that its commit is found last."""
CHANGED = (1, 20, 100, LAYERS * len(PARTS))
"""Numbers of parameters that commits change, in turn."""
MOST = 2
"""Target for the time, as a multiple of that of ``git log -p``."""
COMMANDS = (
    ("log", "-p", "--no-textconv", "--", MODEL),
    ("theta", "log"),
    ("theta", "log", "--param", "**.7.**"),
    ("theta", "log", "--graph"),
    ("theta", "blame", MODEL),
)


def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure what the command line asks for, and print the figures."""
    rows = measure(arguments.commits, arguments.repeat, folder / "log")
    print(table(rows), flush=True)
    return rows


def measure(commits: int, repeat: int, folder: Path) -> list[dict[str, Any]]:
    """Make a history of manifests, and run the commands in turn.

    Args:
        commits: Number of commits, each with a version of a model of 300 parameters.
        repeat: Number of repetitions.
        folder: The folder to work in.
    """
    folder.mkdir()
    env = environment(folder / "home")
    repo = Repository(folder / "repo", THETA, env)
    stream = b"".join(_stream(commits))
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=repo.path, input=stream, check=True)
    seconds: dict[tuple[str, ...], list[float]] = {command: [] for command in COMMANDS}
    for _ in range(repeat):
        for command in COMMANDS:
            start = time.perf_counter()
            subprocess.run(["git", *command], cwd=repo.path, env=env, check=True, stdout=subprocess.DEVNULL)
            seconds[command].append(time.perf_counter() - start)
    plain = statistics.median(seconds[COMMANDS[0]])
    return [
        {
            "command": " ".join(("git", *command)),
            "seconds": taken,
            "median": statistics.median(taken),
            "of_git": statistics.median(taken) / plain,
            "target": MOST if number else None,
        }
        for number, (command, taken) in enumerate(seconds.items())
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a table."""
    cells = [[f"`{row['command']}`", f"{row['median']:.2f} s", f"{row['of_git']:.2f}"] for row in rows]
    return markdown(["command", "median", "of `git log -p`"], cells)


def _stream(commits: int) -> Iterator[bytes]:
    """Yield a history for ``git fast-import``."""
    drawn = random.Random(0)
    names = sorted(f"model.layers.{layer}.{part}.weight" for layer in range(LAYERS) for part in PARTS)
    spec = TensorSpec.of("BF16", (1024, 1024))
    values = {name: Parameter(spec, _digest(drawn)) for name in names}
    later = [name for name in names if name != OLDEST]
    yield b"reset refs/heads/main\n"
    for number in range(commits):
        for name in drawn.sample(later, min(CHANGED[number % len(CHANGED)], len(later))):
            values[name] = Parameter(spec, _digest(drawn))
        text = Manifest("safetensors", Skeleton(Digest("0" * 64), 1 << 15), values).to_bytes()
        when = 1700000000 + 60 * number
        yield b"commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 4\nstep\n" % when
        yield b"M 100644 inline %s\ndata %d\n%s\n" % (MODEL.encode(), len(text), text)


def _digest(drawn: random.Random) -> Digest:
    return Digest(f"{drawn.getrandbits(256):064x}")
