import pytest

from git_theta_ext.store.packs import writer
from git_theta_ext.store.store import Store


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch):
    """Let a tensor of half a megabyte have a pack of its own."""
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 19)


@pytest.fixture
def mine(tmp_path):
    return Store(tmp_path / "mine")


@pytest.fixture
def theirs(tmp_path):
    return Store(tmp_path / "theirs")
