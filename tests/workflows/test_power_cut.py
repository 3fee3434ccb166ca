"""Power cuts behind a checkout: what the disk holds then is the checkpoint, or is not taken for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from workbench import MODEL, Repo, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Disk:
    """An ext4 file system in a file, whose journal is committed every second, and data only after half a minute."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)

    def mount(self) -> bool:
        mount = ["mount", "-o", "loop,commit=1", self._image, self.place]
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        subprocess.run(["umount", self.place], check=False, capture_output=True)

    def cut_the_power(self) -> None:
        """Go on with the disk as it is, without what the system has not written yet."""
        cut = self._image.with_suffix(".cut")
        shutil.copyfile(self._image, cut)
        self.unmount()
        cut.replace(self._image)
        assert self.mount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a disk; skips where that is not allowed."""
    if os.geteuid() or shutil.which("mkfs.ext4") is None:
        pytest.skip("mounting a file system needs root and mkfs.ext4")
    made = Disk(tmp_path)
    if not made.mount():
        pytest.skip("no loop devices here")
    yield made
    made.unmount()


@pytest.mark.parametrize("asked", [False, True], ids=["as git does", "core.fsync"])
def test_no_file_of_zeros_is_taken_for_a_checkpoint(disk: Disk, two: Repo, asked: bool) -> None:
    shutil.copytree(two.path, disk.place / "repo", symlinks=True)
    repo = Repo(disk.place / "repo")
    for index in (repo.path / ".git/theta").glob("index.sqlite3*"):
        index.unlink()
    repo.git("reset", "--quiet", "--hard", "two")
    os.sync()
    repo.git(*(["-c", "core.fsync=all"] if asked else []), "checkout", "--quiet", "one")
    time.sleep(2.5)
    disk.cut_the_power()
    if asked or repo.read() == model(1):
        assert repo.unsettled(MODEL, model(1)) == []
        return
    assert repo.git("status", "--porcelain") == f" M {MODEL}"
    repo.git("theta", "checkout", "--force")
    assert repo.unsettled(MODEL, model(1)) == []
