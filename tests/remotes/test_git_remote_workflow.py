"""Push, clone and pull with a git server that has no LFS server: packs are git blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.lfs_host import LfsHost


def clone(url: str, place: Path) -> Repo:
    Repo(place.parent).git("clone", "--quiet", url, place.name)
    return Repo(place)


def test_a_tracked_file_makes_clones_use_git_itself(two: Repo, host: LfsHost, url: str, tmp_path: Path) -> None:
    two.git("theta", "install", "--global")
    two.git("remote", "add", "origin", url)
    two.git("config", "-f", ".thetaconfig", "theta.type", "git")
    two.git("add", ".thetaconfig")
    two.git("commit", "--quiet", "--message=Store parameters in git")
    two.git("push", "--quiet", "origin", "main")
    copy = clone(url, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    assert host.stored() == set()
    assert [line.split("\t")[1] for line in copy.git("ls-remote", "origin", "refs/*").splitlines()] == [
        "refs/heads/main",
        "refs/theta/index",
        "refs/theta/packs",
    ]
    assert not (copy.path / ".git" / "shallow").exists()
    # Another program replaces the ref with the packs, so that the host removes their blobs.
    other = two.git("commit-tree", "-m", "nothing", two.git("hash-object", "-w", "-t", "tree", "/dev/null"))
    two.git("push", "--quiet", "--force", "--no-verify", url, f"{other}:refs/theta/packs")
    two.git("-C", str(host.root / "git" / "models.git"), "gc", "--quiet", "--prune=now")
    refused = two.run("clone", "--quiet", url, "../none", check=False)
    assert "tensors and file layouts are not in the store" in refused.stderr
    two.git("theta", "push", "--verify", "origin")
    assert clone(url, tmp_path / "healed").problems(MODEL, model(2)) == []
    # A repository on this machine is used in the same way; the push needs the first version, which the clone lacks.
    copy.git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "bare.git"))
    copy.git("push", "--quiet", "../bare.git", "main")
    assert not (tmp_path / "bare.git" / "theta").exists()
    assert clone("bare.git", tmp_path / "again").problems(MODEL, model(2)) == []
