"""Checkpoints of any size and number of tensors, and repositories of them with long or wide histories."""

from __future__ import annotations

import json
import logging
import struct
import subprocess
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.tools import MODEL, Repository
from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.file import open_file
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.reporter import LogReporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTE = (16, 1 << 16)
"""Tensors of the model of a history, and their size in bytes."""

STEP = 7e-5
_BLOCK = 1 << 22
_DATE = 1_700_000_000


def write_model(path: Path, tensors: int, nbytes: int, version: int, seed: int = 0) -> None:
    """Write a bf16 checkpoint of equal tensors, of which each version moves all, as a fine-tune does.

    Args:
        path: The file to write.
        tensors: The number of tensors.
        nbytes: Size of each in bytes.
        version: The number of the version.
        seed: Models of other seeds have no tensor in common.
    """
    names = [f"model.layers.{number // 10}.part_{number % 10}.weight" for number in range(tensors)]
    header = {
        name: {"dtype": "BF16", "shape": [nbytes // 2], "data_offsets": [at * nbytes, (at + 1) * nbytes]}
        for at, name in enumerate(names)
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    left = tensors * nbytes // 2
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for block in range(-(-left // _BLOCK)):
            count = min(_BLOCK, left - block * _BLOCK)
            values = np.random.default_rng([seed, block]).standard_normal(count, dtype=np.float32) * np.float32(0.02)
            if version:
                moved = np.random.default_rng([seed, block, version]).standard_normal(count, dtype=np.float32)
                values += moved * np.float32(STEP)
            file.write((values.view("<u4") >> 16).astype("<u2").data)


def add_history(repository: Repository, commits: int, tensors: int, nbytes: int) -> None:
    """Commit versions of one model, one after the other, on the current branch; the store gets a pack for each.

    Git reads the commits from a stream, because ``git commit`` takes longer than anything that is measured.
    """
    _import(repository, list(_manifests(repository, commits, tensors, nbytes)), branches=False)


def add_branches(repository: Repository, branches: int, tensors: int, nbytes: int) -> None:
    """Commit a model, and a version of it on each of many branches, ``branch-0`` and so on."""
    _import(repository, list(_manifests(repository, branches + 1, tensors, nbytes)), branches=True)


def add_lfs_history(repository: Repository, commits: int, tensors: int, nbytes: int) -> None:
    """Do as ``add_history`` in a repository of git-lfs."""
    pointers = []
    for version in range(commits):
        write_model(repository.model, tensors, nbytes, version)
        name = repository.sha256()
        place = repository.path / ".git/lfs/objects" / name[:2] / name[2:4]
        place.mkdir(parents=True, exist_ok=True)
        size = repository.model.stat().st_size
        repository.model.replace(place / name)
        pointers.append(f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {size}\n".encode())
    _import(repository, pointers, branches=False)


def _manifests(repository: Repository, versions: int, tensors: int, nbytes: int) -> Iterator[bytes]:
    with Workspace.discover(LogReporter(logging.getLogger("benchmarks")), repository.path) as workspace:
        for version in range(versions):
            write_model(repository.model, tensors, nbytes, version)
            yield clean(open_file(repository.model, MODEL), MODEL, workspace.store).manifest.to_bytes()


def _import(repository: Repository, contents: list[bytes], *, branches: bool) -> None:
    repository.git("add", ".gitattributes")
    repository.git("commit", "--quiet", "--message", "attributes")
    stream = [b"reset refs/heads/main\nfrom %s\n\n" % repository.git("rev-parse", "HEAD").encode()]
    for number, content in enumerate(contents):
        branch = b"branch-%d" % (number - 1) if branches and number else b"main"
        if branches and number:
            stream.append(b"reset refs/heads/%s\nfrom refs/heads/main\n\n" % branch)
        stream.append(
            b"commit refs/heads/%s\ncommitter A <a@example.com> %d +0000\ndata 4\nstep\n"
            b"M 100644 inline %s\ndata %d\n%s\n" % (branch, _DATE + 60 * number, MODEL.encode(), len(content), content)
        )
    command = ["git", "fast-import", "--quiet", "--force"]
    subprocess.run(command, cwd=repository.path, input=b"".join(stream), check=True)
    repository.git("reset", "--quiet", "--hard", "main")
