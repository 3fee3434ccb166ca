"""Files that are added in the place of a model and are none, and output that nobody reads."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from helpers import MODEL

if TYPE_CHECKING:
    from helpers import Repo

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n"


def test_a_file_that_is_likely_no_model_is_noted(two: Repo) -> None:
    for data, words in (
        (POINTER, "is a Git LFS pointer and not the model itself; git lfs pull"),
        (bytes(5000), "begins with zeros, but the previous version is safetensors with 14 parameters"),
        (b"12345678", "has 8 bytes in an unknown format, but the previous version is safetensors"),
    ):
        two.write(data)
        assert words in two.run("add", MODEL).stderr
        two.write(data + b"\n")
        assert words.split(" ")[0] in two.run("theta", "add", MODEL).stderr
    two.write(b"")
    assert f"{MODEL} is empty, but the previous version is" in two.run("add", MODEL).stderr
    two.git("restore", "--source=HEAD", "--staged", "--worktree", MODEL)
    assert two.git("status", "--porcelain") == ""
    two.write(bytes(5000), "new.opaque")
    assert two.run("add", "new.opaque").stderr == ""
    two.write(POINTER, "new.safetensors")
    assert "git lfs pull" in two.run("add", "new.safetensors").stderr


def test_a_diff_that_nobody_reads_ends_quietly(two: Repo) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        ["git", "diff", "one", "two"], cwd=two.path, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.stderr == b""
