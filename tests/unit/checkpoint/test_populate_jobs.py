"""A checkpoint that jobs write has the same bytes, and a failed one leaves the old file as it was."""

import io
import zipfile

import numpy as np
import pytest
from pickled import PickledWorkers

from git_theta_ext.checkpoint import populate as populate_module
from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.cluster import jobs
from git_theta_ext.errors import CorruptError
from git_theta_ext.store.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_SMALLEST_JOB", 1 << 12)
    monkeypatch.setattr(populate_module, "WORTH", 0)
    made = Store(tmp_path / "theta", threads=2)
    yield made
    made.close()


def archive():
    """Return an npz file, which has the CRC-32 of each array before and after it."""
    rng = np.random.default_rng(3)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for n in range(9):
            with written.open(f"layer.{n}.npy", "w") as entry:
                np.lib.format.write_array(entry, rng.normal(size=(30 + n, 40)).astype("<f4"))
    return file.getvalue()


class Counting(PickledWorkers):
    """Counts the jobs."""

    ran = 0

    def gather(self, some):
        for result in super().gather(some):
            self.ran += 1
            yield result


def test_a_file_that_jobs_write_has_the_same_bytes(store, tmp_path):
    data = archive()
    manifest = clean(memoryview(data), "m.npz", store).manifest
    assert len(manifest.parameters) == 9
    path, advanced, workers = tmp_path / "m.npz", [], Counting(3)
    path.write_bytes(manifest.to_bytes())
    assert populate(manifest, store, path, Expected.at(path), advanced.append, workers) is not None
    assert path.read_bytes() == data
    assert sum(advanced) == len(data)
    assert workers.ran > 3
    assert list((store.root / "tmp").iterdir()) == []


def test_a_damaged_tensor_leaves_the_manifest(store, tmp_path):
    manifest = clean(memoryview(archive()), "m.npz", store).manifest
    digest = manifest.parameters["layer.4"].digest
    pack = store.blobs([digest])[digest].path
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:-40] + bytes(40))
    store.reader.close()
    path = tmp_path / "m.npz"
    path.write_bytes(manifest.to_bytes())
    with pytest.raises(CorruptError):
        populate(manifest, store, path, Expected.at(path), workers=PickledWorkers(2))
    assert path.read_bytes() == manifest.to_bytes()
    assert list((store.root / "tmp").iterdir()) == []
