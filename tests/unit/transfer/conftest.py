import pytest

from git_theta_ext.store.packs import writer


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch):
    """Let a tensor of half a megabyte have a pack of its own."""
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 19)
