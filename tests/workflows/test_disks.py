"""Disks with coarse times, and power cuts behind a checkout: no other file is taken for the checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Disk:
    """An ext4 file system in a file, whose journal is committed every second, and data only after half a minute.

    With inodes of 128 bytes its files' times have whole seconds.
    """

    def __init__(self, folder: Path, inode: str = "256") -> None:
        self._image = folder / "disk.img"
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-I", inode, self._image], check=True, capture_output=True)

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
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Mount a disk; skips where that is not allowed."""
    if os.geteuid() or shutil.which("mkfs.ext4") is None:
        pytest.skip("mounting a file system needs root and mkfs.ext4")
    made = Disk(tmp_path, getattr(request, "param", "256"))
    if not made.mount():
        pytest.skip("no loop devices here")
    yield made
    made.unmount()


def moved(repo: Repo, disk: Disk) -> Repo:
    """Copy a repository to a disk."""
    there = Repo(disk.place / "repo")
    shutil.copytree(repo.path, there.path, symlinks=True)
    for index in (there.path / ".git/theta").glob("index.sqlite3*"):
        index.unlink()  # it knows packs by their places
    return there


@pytest.mark.parametrize("disk", ["128"], indirect=True)
def test_whole_seconds_are_fine_enough(disk: Disk, two: Repo) -> None:
    repo = moved(two, disk)
    repo.git("checkout", "--quiet", "--force", "one")
    assert repo.problems(MODEL, model(1)) == []
    time.sleep(1 - time.time() % 1)
    for seed in (3, 4):  # within a second, of the same size, in the same file
        repo.write_model(seed=seed)
        repo.git("theta", "add", MODEL)
    repo.git("commit", "--quiet", "--message", "four")
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert repo.problems(MODEL, model(4)) == []


@pytest.mark.parametrize("asked", [False, True], ids=["as git does", "core.fsync"])
def test_no_file_of_zeros_is_taken_for_a_checkpoint(disk: Disk, two: Repo, asked: bool) -> None:
    repo = moved(two, disk)
    repo.git("reset", "--quiet", "--hard", "two")
    os.sync()
    repo.git(*(["-c", "core.fsync=all"] if asked else []), "checkout", "--quiet", "one")
    time.sleep(2.5)
    disk.cut_the_power()
    if asked or repo.read() == model(1):
        assert repo.problems(MODEL, model(1)) == []
        return
    assert repo.git("status", "--porcelain") == f" M {MODEL}"
    repo.git("theta", "checkout", "--force")
    assert repo.problems(MODEL, model(1)) == []


def test_checkpoints_have_what_their_folder_gives_to_files(two: Repo) -> None:
    (two.path / "models").mkdir()
    if os.geteuid():
        pytest.skip("giving a folder to another group needs root")
    os.chown(two.path / "models", -1, 3000)
    (two.path / "models").chmod(0o2770)
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-d", "-m", "u:3005:r", two.path / "models"], check=False)
    for seed in (1, 2):
        two.write_model(f"models/{MODEL}", seed=seed)
        (two.path / "models/plain").write_text(str(seed))
        two.commit(str(seed))
    two.git("checkout", "--quiet", "HEAD~")
    given = []
    for name in (MODEL, "plain"):
        path = two.path / "models" / name
        found = path.stat()
        given.append((found.st_mode, found.st_gid, {key: os.getxattr(path, key) for key in os.listxattr(path)}))
    assert given[0] == given[1]
    assert given[0][1] == 3000


def test_work_tree_and_store_in_two_mounts_of_one_file_system(tmp_path: Path, two: Repo) -> None:
    mounted = []
    for name in ("tree", "git"):
        (tmp_path / "whole" / name).mkdir(parents=True)
        (tmp_path / name).mkdir()
        mount = ["mount", "--bind", tmp_path / "whole" / name, tmp_path / name]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting a file system needs rights that this user has not")
        mounted.append(tmp_path / name)
    try:
        two.git("clone", "--quiet", "--separate-git-dir", str(tmp_path / "git/r"), ".", str(tmp_path / "tree/r"))
        repo = Repo(tmp_path / "tree/r")
        repo.git("theta", "install", "--local")
        repo.git("theta", "checkout")
        assert repo.read() == model(2)
        repo.git("checkout", "--quiet", "one")
        assert repo.problems(MODEL, model(1)) == []
        assert sorted(path.name for path in repo.path.iterdir()) == [".git", ".gitattributes", MODEL]
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", place], check=True)
