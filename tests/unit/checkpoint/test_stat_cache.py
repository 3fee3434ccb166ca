import os
import shutil
import subprocess
import time

import pytest

from git_theta_ext.checkpoint import stat_cache as cache_module
from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.store.store import Store

SECOND = 10**9


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=1)
    yield store
    store.close()


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"some model")
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def manifest(store, checkpoint):
    return clean(memoryview(checkpoint.read_bytes()), "m", store).manifest.to_bytes()


def test_an_untouched_file_is_remembered(store, checkpoint, manifest):
    time.sleep(0.05)
    cache = StatCache(store)
    cache.put(checkpoint, checkpoint.lstat(), manifest, None, cache.clock(checkpoint))
    assert cache.get(checkpoint) == manifest
    assert cache.get(checkpoint, "opaque") is None


@pytest.mark.parametrize("tick", [SECOND // 250, SECOND, 2 * SECOND])
def test_a_file_that_may_change_within_the_tick_is_not_trusted(store, checkpoint, manifest, tick):
    cache = StatCache(store)
    changed = checkpoint.lstat().st_ctime_ns
    for clock, known in ((changed, False), (changed + tick, True)):
        cache.put(checkpoint, checkpoint.lstat(), manifest, None, clock)
        assert (cache.get(checkpoint) == manifest) is known


@pytest.mark.parametrize("nameless", [True, False])
def test_the_clock_is_that_of_the_file_system(store, checkpoint, monkeypatch, nameless):
    if not nameless:
        monkeypatch.setattr(cache_module, "NAMELESS", 0)
    monkeypatch.setattr(cache_module.time, "time_ns", lambda: 0)
    before = checkpoint.lstat().st_ctime_ns
    assert before <= StatCache(store).clock(checkpoint) <= before + 600 * SECOND
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["m", "theta"]
    assert list((store.root / "tmp").glob("*")) == []


def test_where_no_file_can_be_made_the_coarsest_tick_is_assumed(store, checkpoint, monkeypatch):
    monkeypatch.setattr(cache_module, "_time_of_new", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert StatCache(store).clock(checkpoint) < time.time_ns() - 2 * SECOND


def test_a_file_that_somebody_has_open_for_writing_is_not_trusted(store, checkpoint, manifest):
    cache = StatCache(store)
    clock = checkpoint.lstat().st_ctime_ns + SECOND
    with checkpoint.open("r+b"):
        cache.put(checkpoint, checkpoint.lstat(), manifest, None, clock)
        with checkpoint.open("rb") as file:
            if not cache_module.being_written(file.fileno()):
                pytest.skip("the system does not tell who writes")
    assert cache.get(checkpoint) is None


def test_a_file_we_wrote_ourselves_is_trusted_at_once(store, checkpoint, manifest):
    StatCache(store).put_written(checkpoint, checkpoint.lstat(), manifest, None)
    assert StatCache(store).get(checkpoint) == manifest


def test_but_not_if_its_date_is_now(store, checkpoint, manifest):
    now = checkpoint.lstat().st_ctime_ns + SECOND
    os.utime(checkpoint, ns=(now, now))
    StatCache(store).put_written(checkpoint, checkpoint.lstat(), manifest, None)
    assert StatCache(store).get(checkpoint) is None


def test_any_change_is_seen(store, checkpoint, manifest):
    StatCache(store).put_written(checkpoint, checkpoint.lstat(), manifest, None)
    with checkpoint.open("r+b") as file:
        file.write(b"x")
    assert StatCache(store).get(checkpoint) is None
    checkpoint.unlink()
    assert StatCache(store).get(checkpoint) is None


def test_a_manifest_whose_tensors_are_gone_is_forgotten(store, checkpoint, manifest):
    StatCache(store).put_written(checkpoint, checkpoint.lstat(), manifest, None)
    for _, path in list(store.pack_files()):
        path.unlink()
    assert StatCache(store).get(checkpoint) is None


@pytest.fixture(params=[("mkfs.ext4", "-q", "-F", "-I", "128"), ("mkfs.vfat",)], ids=["1 s", "2 s"])
def coarse(tmp_path, request):
    """Mount a file system whose times have whole seconds; skips where that is not allowed."""
    image, place = tmp_path / "image", tmp_path / "disk"
    if os.geteuid() or shutil.which(request.param[0]) is None:
        pytest.skip(f"mounting a file system needs root and {request.param[0]}")
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run([*request.param, image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        pytest.skip("this system cannot mount it")
    yield place
    subprocess.run(["umount", place], check=True)


def test_coarse_times_hide_no_change(coarse):
    store = Store(coarse / "theta", threads=1)
    path = coarse / "m"
    cache = StatCache(store)

    def taken():
        known = cache.get(path)
        if known is None:
            found, clock = path.lstat(), cache.clock(path)
            known = clean(memoryview(path.read_bytes()), "m", store).manifest.to_bytes()
            cache.put(path, found, known, None, clock)
        return known

    for number in range(30):
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(b"model %2d" % number)
        first = taken()
        assert first == clean(memoryview(path.read_bytes()), "m", store).manifest.to_bytes()
        time.sleep(0.02)
    expected = Expected.at(path)
    made = populate(clean(memoryview(b"model xx"), "m", store).manifest, store, path, expected)
    cache.put_written(path, made, b"", None)
    assert path.read_bytes() == b"model xx"
    assert [file.name for file in coarse.iterdir() if file.name not in {"m", "theta", "lost+found"}] == []
    with path.open("r+b") as file:
        file.write(b"another.")
    assert cache.get(path) is None
    store.close()
