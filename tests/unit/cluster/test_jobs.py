"""Work is divided into jobs in the same way everywhere, and their results come in order."""

import os
import socket
from functools import partial
from pathlib import Path

import pytest

from git_theta_ext.cluster.here import LocalWorkers
from git_theta_ext.cluster.jobs import LARGEST_JOB, Failure, Job, divided, perform
from git_theta_ext.cluster.open import open_workers
from git_theta_ext.cluster.probe import SharedDirectory
from git_theta_ext.cluster.ray_workers import RayWorkers
from git_theta_ext.errors import ClusterError, ConfigError, MissingError


def mask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def fail(message: str) -> None:
    raise MissingError(message, hint="git theta fsck", pack="p")


def test_items_are_divided_in_order_by_their_sizes() -> None:
    assert divided([], []) == []
    assert divided("abc", [1, 2, 3]) == [["a", "b", "c"]]
    assert divided("abcd", [3 << 20, 2 << 20, 9 << 20, 1]) == [["a"], ["b"], ["c"], ["d"]]
    many = divided(range(1000), [LARGEST_JOB // 2] * 1000)
    assert [len(part) for part in many] == [2] * 500
    assert [item for part in many for item in part] == list(range(1000))


def test_threads_give_results_in_order_and_the_first_error() -> None:
    workers = LocalWorkers(3)
    assert list(workers.gather(Job(partial(pow, n, 2), 0) for n in range(50))) == [n * n for n in range(50)]
    results = workers.gather(
        [Job(partial(int, "1"), 0), Job(partial(fail, "first"), 0), Job(partial(fail, "second"), 0)]
    )
    assert next(results) == 1
    with pytest.raises(MissingError, match="first"):
        next(results)
    workers.close()


def test_a_failed_job_says_so_without_an_exception() -> None:
    assert perform(partial(pow, 2, 3), mask()) == (8, None)
    assert perform(partial(fail, "gone"), mask()) == (None, Failure("MissingError", "gone", "git theta fsck"))
    error = Failure("MissingError", "gone", "git theta fsck").error()
    assert (type(error), error.message, error.hint) == (MissingError, "gone", "git theta fsck")
    _, failure = perform(Path("/nowhere").read_bytes, mask())
    assert failure == Failure("ClusterError", "on a worker: /nowhere: No such file or directory", None)


def test_jobs_create_files_as_the_process_that_wants_them() -> None:
    before = mask()
    try:
        assert perform(mask, 0o027) == (0o027, None)
    finally:
        os.umask(before)


def test_the_setting_names_the_workers(tmp_path: Path) -> None:
    assert isinstance(open_workers("local", SharedDirectory(tmp_path), 2), LocalWorkers)
    for address in ("ray://head:10001", "10.0.0.1:6379", "ray://[fe80::1]:10001"):
        assert isinstance(open_workers(address, SharedDirectory(tmp_path), 2), RayWorkers)
    for address in ("auto", "ray://", "head", "http://head:1", "ray://user:secret@head:1"):
        with pytest.raises(ConfigError, match=r"theta\.cluster"):
            open_workers(address, SharedDirectory(tmp_path), 2)


def test_an_address_where_nothing_listens_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("git_theta_ext.cluster.ray_workers.require", lambda *_: None)
    monkeypatch.setattr("git_theta_ext.cluster.ray_workers.import_module", lambda _: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for written in (address, f"ray://{address}"):
            with pytest.raises(ClusterError, match=r"cannot be reached: .*refused"):
                list(open_workers(written, SharedDirectory(tmp_path), 2).gather([]))


def test_a_cluster_that_is_not_used_is_not_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = open_workers("head:6379", SharedDirectory(tmp_path), 2)
    workers.close()
    monkeypatch.setattr("git_theta_ext.cluster.ray_workers.require", lambda *_: fail("connects"))
    with pytest.raises(MissingError, match="connects"):
        list(workers.gather([]))
