"""A host that lies about packs: a fetch fails with a clear error, and nothing of what came stays in the store."""

from __future__ import annotations

import subprocess
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from benchmarks.lfs_host import LfsHost

from git_theta_ext.errors import MissingError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.packs.reader import read_head_of
from git_theta_ext.store.store import Store
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = TensorSpec.of("F32", [100_000])
TENSORS = [np.random.default_rng(seed).normal(size=SPEC.elements).astype("<f4").tobytes() for seed in range(2)]
DIGESTS = [tensor_digest(SPEC, data) for data in TENSORS]


def opened(url: str, local: Path) -> OpenedRemote:
    plugin = open_remote(url, {"timeout": "20"}, RemoteContext("origin", url, Repository.discover(local)))
    return OpenedRemote("origin", url, plugin)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a local repository."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "local")], check=True)
    return tmp_path / "local"


@pytest.fixture
def pushed(url: str, local: Path, tmp_path: Path) -> list[str]:
    """Push two tensors, each in a pack of its own; returns the names of the packs."""
    with closing(Store(tmp_path / "mine")) as store:
        for digest, data in zip(DIGESTS, TENSORS, strict=True):
            store.put([(SPEC, digest, data)])
            push(store, opened(url, local), [digest])
        return [store.locations({digest})[digest][0].pack for digest in DIGESTS]


def refused(url: str, folder: Path, words: str) -> None:
    """Fetch the first tensor into an empty store, which has to fail and leave nothing."""
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    root = folder / ".git" / "theta"
    with closing(Store(root)) as store:
        with pytest.raises(MissingError, match=words) as caught:
            fetch(store, [opened(url, folder)], DIGESTS[:1])
        assert "git theta push --all --verify" in caught.value.hint
    left = [path for path in root.rglob("*") if path.is_file() and not {"remotes", "remote-index"} & set(path.parts)]
    assert [path for path in left if path.suffix != ".lock" and not path.name.startswith("index.sqlite3")] == []


def test_other_bytes_than_the_index_names_are_refused(
    host: LfsHost, url: str, pushed: list[str], tmp_path: Path
) -> None:
    another = (host.objects / pushed[1]).read_bytes()
    changes: dict[str, tuple[Callable[[bytes], bytes], str]] = {
        "flipped": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
        "another": (lambda data: another[: len(data)] + bytes(max(0, len(data) - len(another))), "SHA-256"),
        "truncated": (lambda data: data[:-1], "does not have"),
        "long": (lambda data: data + bytes(10_000_000), "does not have"),
        "empty": (lambda _: b"", "does not have"),
    }
    real = partial(LfsHost.object_bytes, host)
    for name, (change, words) in changes.items():
        host.object_bytes = lambda path, change=change: change(real(path))
        refused(url, tmp_path / name, words)


def test_an_index_entry_of_another_pack_is_an_error(
    host: LfsHost, url: str, local: Path, pushed: list[str], tmp_path: Path
) -> None:
    # The entry of the second pack says that it has the first tensor, and the first pack is gone.
    entry = tmp_path / "entry"
    entry.write_bytes(read_head_of(host.objects / pushed[0]))
    bare = str(host.root / "git" / "models.git")
    subprocess.run(["git", "-C", bare, "update-ref", "-d", "refs/theta/index"], check=True)
    remote = opened(url, local).plugin
    remote.put(f"packs/{pushed[1][:2]}/{pushed[1]}", tmp_path / "mine" / "packs" / pushed[1][:2] / pushed[1])
    remote.publish({f"index/{pushed[1]}": entry})
    refused(url, tmp_path / "other", "instead of|SHA-256|head")
