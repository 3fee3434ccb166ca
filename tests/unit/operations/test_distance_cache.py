"""Distances are remembered by both digests; a database that cannot be used is only slow."""

import math
import os
import sqlite3

import pytest

from git_theta_ext.comparison.compare import ParameterVersions
from git_theta_ext.comparison.distance import Distance, Rank
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.diff import distance_cache
from git_theta_ext.operations.diff.distance_cache import DistanceCache

NEAR = Distance(16, 3, math.inf, 1.0, math.nan, 0.5, 2, 0, 1, 0, 0, Rank(8))


def pair(number):
    old, new = (Parameter(TensorSpec.of("F32", (4,)), Digest(f"{n:064x}")) for n in (number, number + 1000))
    return ParameterVersions(old, new)


def remember(folder, *numbers):
    with DistanceCache(folder) as cache:
        cache.put({f"w{n}": (pair(n), NEAR) for n in numbers})


def known(folder, *numbers):
    with DistanceCache(folder) as cache:
        return cache.get({f"w{n}": pair(n) for n in numbers})


def test_what_was_measured_is_known_to_the_next_process(tmp_path):
    assert known(tmp_path, 1) == {}
    assert list(tmp_path.iterdir()) == []
    remember(tmp_path, 1, 2)
    assert repr(known(tmp_path, 1, 2, 3)) == repr({"w1": NEAR, "w2": NEAR})


def test_many_distances_are_looked_up_in_a_few_queries(tmp_path, monkeypatch):
    remember(tmp_path, *range(900))
    queries = []
    real = DistanceCache.read

    def read(self, work, otherwise):
        self._opened().set_trace_callback(queries.append)
        return real(self, work, otherwise)

    monkeypatch.setattr(DistanceCache, "read", read)
    assert known(tmp_path, *range(1000)).keys() == {f"w{n}" for n in range(900)}
    assert len([query for query in queries if query.startswith("SELECT")]) <= 4


def test_a_group_that_shares_the_repository_can_write_it(tmp_path):
    before = os.umask(0o002)
    try:
        remember(tmp_path, 1)
    finally:
        os.umask(before)
    assert (tmp_path / "distances.sqlite3").stat().st_mode & 0o777 == 0o664


def test_the_direction_counts(tmp_path):
    remember(tmp_path, 1)
    with DistanceCache(tmp_path) as cache:
        assert cache.get({"w": ParameterVersions(pair(1).new, pair(1).old)}) == {}


def test_only_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(distance_cache, "_MOST", 3)
    remember(tmp_path, *range(5))
    assert list(known(tmp_path, *range(5))) == ["w2", "w3", "w4"]


def test_a_damaged_value_is_not_believed(tmp_path):
    remember(tmp_path, 1, 2)
    with sqlite3.connect(tmp_path / "distances.sqlite3") as db:
        db.execute("UPDATE distances SET value = replace(value, '3', '4') WHERE rowid = 1")
    db.close()
    assert list(known(tmp_path, 1, 2)) == ["w2"]


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + bytes(4000), b"something else" * 100])
def test_a_damaged_database_is_replaced(tmp_path, content):
    (tmp_path / "distances.sqlite3").write_bytes(content)
    assert known(tmp_path, 1) == {}
    remember(tmp_path, 1)
    assert "w1" in known(tmp_path, 1)


def test_a_database_of_another_version_is_emptied(tmp_path, monkeypatch):
    remember(tmp_path, 1)
    monkeypatch.setattr(distance_cache, "_VERSION", 2)
    assert known(tmp_path, 1) == {}
    remember(tmp_path, 1)
    assert "w1" in known(tmp_path, 1)


def test_a_database_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "distances.sqlite3").mkdir()
    remember(tmp_path, 1)
    assert known(tmp_path, 1) == {}
