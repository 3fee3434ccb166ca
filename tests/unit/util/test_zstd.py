"""The compiled module of zstandard is that of the package, and the package takes its place where it is not found."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import PathFinder

import pytest
import zstandard

from git_theta_ext.util import zstd as under_test


@pytest.mark.skipif(zstandard.backend != "cext", reason="zstandard has no compiled module here")
def test_the_compiled_module_comes_without_the_package_and_stays_when_that_is_imported():
    code = """if True:
    import sys
    from concurrent.futures import ThreadPoolExecutor
    before = "platform" in sys.modules
    from git_theta_ext.util.zstd import zstd
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: zstd(), range(8))
    print(before or "platform" not in sys.modules, "zstandard" not in sys.modules, all(one is first for one in others))
    frame = first.ZstdCompressor(level=3).compress(bytes(1000))
    import zstandard
    names = ["ZstdCompressor", "ZstdDecompressor", "ZstdError", "ZstdCompressionParameters", "backend_features"]
    print(all(getattr(zstandard, name) is getattr(first, name) for name in names))
    print(zstandard.STRATEGY_FAST == first.STRATEGY_FAST, zstandard.decompress(frame) == bytes(1000), zstd() is first)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 7


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "zstandard")
    monkeypatch.delitem(sys.modules, "zstandard.backend_c", raising=False)
    under_test.zstd.cache_clear()
    yield monkeypatch
    under_test.zstd.cache_clear()


@pytest.mark.parametrize("missing", ["zstandard", "zstandard.backend_c"])
def test_a_compiled_module_that_is_elsewhere_is_not_found(alone, missing):
    find = PathFinder.find_spec
    hide = lambda name, *rest: None if name == missing else find(name, *rest)  # noqa: E731 - used once
    alone.setattr(under_test.PathFinder, "find_spec", hide)
    assert under_test._compiled() is None


def test_the_package_is_imported_if_the_compiled_module_cannot_be_loaded(alone):
    def refuse(_):
        raise ImportError("built for another Python")

    alone.setattr(under_test, "module_from_spec", refuse)
    assert under_test.zstd().__name__ == "zstandard"
