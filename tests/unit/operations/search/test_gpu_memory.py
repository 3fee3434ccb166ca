"""The memory of GPUs that an evaluation takes, with a program in place of NVIDIA's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.operations.search.gpu_memory import GpuUse, free_memory, measured_use

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what the program prints at once, beside the named pipe whose content it prints in a loop."""
    program = tmp_path / "nvidia-smi"
    pipe, free = tmp_path / "loop", tmp_path / "free"
    os.mkfifo(pipe)
    program.write_text(f'#!/bin/sh\ncase "$*" in *loop*) exec cat {pipe} ;; *) exec cat {free} ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    free.write_text("0, 1000\n1, 4000\n")
    return free


def test_free_memory_is_that_of_each_gpu(smi: Path) -> None:
    smi.write_text("0, 1000\n1, [N/A]\nNo devices\n")
    assert free_memory() == {0: 1000 * MIB}


def test_without_the_driver_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert free_memory() == {}
    with measured_use() as use:
        pass
    assert use == GpuUse({})
    assert use.allowed() is None


def test_the_most_that_was_taken_meanwhile_counts(smi: Path) -> None:
    with measured_use() as use, (smi.parent / "loop").open("w") as loop:
        loop.write("0, 900\n1, 4000\n0, 700\n1, 3999\n0, 950\n")
        loop.flush()
        while use.taken != {0: 300 * MIB, 1: MIB}:
            pass
    assert use.allowed() == (3, 300 * MIB, 1000 * MIB)


def test_what_takes_no_memory_of_a_gpu_is_not_bounded(smi: Path) -> None:
    assert GpuUse({0: 0, 1: 0}).allowed() is None
