"""Values that only a file has are measured, and remembered only if they are those of the manifest."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import Repo

from git_theta_ext.cli.output import Output
from git_theta_ext.comparison.compare import compare
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec, tensor_digest
from git_theta_ext.operations.diff.distance_cache import DistanceCache
from git_theta_ext.operations.diff.measuring import measure_modified
from git_theta_ext.operations.workspace import Workspace

SPEC = TensorSpec.of("F32", (2, 3))
OLD, NEW = bytes(24), b"\0\0\x80\x3f" * 6  # zeros and ones


class InMemory:
    def __init__(self, **values):
        self._values = values

    def values(self, name, parameter):
        return iter([memoryview(self._values[name])]) if name in self._values else None


def manifest(**values):
    parameters = {name: Parameter(SPEC, tensor_digest(SPEC, value)) for name, value in values.items()}
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)


@pytest.fixture
def workspace(repo: Repo):
    with Workspace.discover(Output("quiet"), repo.path) as opened:
        yield opened


def known(workspace, diff):
    with DistanceCache(workspace.repo.theta_dir) as cache:
        return cache.get(diff.modified)


def test_values_of_files_are_measured_and_remembered(workspace):
    diff = compare(manifest(w=OLD, gone=NEW), manifest(w=NEW, gone=OLD))
    found, notes = measure_modified(workspace, diff, InMemory(w=OLD), InMemory(w=NEW, gone=OLD))
    assert (found["w"].changed, found["w"].largest) == (6, 1)
    assert list(found) == ["w"]
    assert "the values of 1 parameter are not in this repository; git theta fetch REMOTE REV" in notes[0]
    assert known(workspace, diff) == found


def test_a_file_that_was_written_since_is_not_remembered(workspace):
    diff = compare(manifest(w=OLD), manifest(w=NEW))
    found, _ = measure_modified(workspace, diff, InMemory(w=OLD), InMemory(w=OLD))
    assert found["w"].changed == 0
    assert known(workspace, diff) == {}


def test_opaque_files_and_other_shapes_are_not_measured(workspace):
    other = Parameter(TensorSpec.of("F32", (6,)), Digest("1" * 64))
    reshaped = compare(manifest(w=OLD), Manifest("safetensors", Skeleton(Digest("0" * 64), 9), {"w": other}))
    assert measure_modified(workspace, reshaped, InMemory(), InMemory()) == ({}, [])
    sides = (Manifest("opaque", side.skeleton, side.parameters) for side in (manifest(w=OLD), manifest(w=NEW)))
    chunks = compare(*sides)
    assert measure_modified(workspace, chunks, InMemory(w=OLD), InMemory(w=NEW)) == ({}, [])


def test_small_tensors_are_measured_in_few_tasks(workspace, monkeypatch):
    spec, count = TensorSpec.of("F32", (32, 32)), 600
    old = [np.full(1024, number, "<f4").tobytes() for number in range(count)]
    new = [np.full(1024, number + 2, "<f4").tobytes() for number in range(count)]
    for values in (old, new):
        workspace.store.put([(spec, tensor_digest(spec, value), value) for value in values])
    sides = (
        Manifest(
            "safetensors",
            Skeleton(Digest("0" * 64), 9),
            {f"w{at}": Parameter(spec, tensor_digest(spec, value)) for at, value in enumerate(values)},
        )
        for values in (old, new)
    )
    tasks = []
    submit = ThreadPoolExecutor.submit
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda *args: tasks.append(args) or submit(*args))
    found, _ = measure_modified(workspace, compare(*sides), InMemory(), InMemory())
    assert [found[f"w{at}"].norm_old for at in range(count)] == [32 * at for at in range(count)]
    assert {(distance.changed, distance.norm, distance.rank.value) for distance in found.values()} == {(1024, 64, 1)}
    assert 0 < len(tasks) < count / 10


@pytest.mark.parametrize("stored", [True, False])
def test_the_rows_that_both_have_are_measured(workspace, stored):
    # More rows than fit into one chunk, in different types: each version has chunks that the other one lacks.
    rng = np.random.default_rng(0)
    before = rng.normal(size=(300_000, 4)).astype(np.float32)
    after = np.concatenate([before[:200_000] + np.float32(1), before[:400_000]]).astype(np.float16)
    sides = []
    for values, kind in ((before, "F32"), (after, "F16")):
        spec = TensorSpec.of(kind, values.shape)
        data = values.tobytes()
        sides.append((Parameter(spec, tensor_digest(spec, data)), data))
    if stored:
        workspace.store.put([(parameter.spec, parameter.digest, data) for parameter, data in sides])
    head = Skeleton(Digest("0" * 64), 9)
    diff = compare(*(Manifest("safetensors", head, {"w": parameter}) for parameter, _ in sides))
    found, notes = measure_modified(workspace, diff, *(InMemory(**({} if stored else {"w": d})) for _, d in sides))
    assert (found["w"].elements, found["w"].rank, notes) == (1_200_000, found["w"].rank, [])
    expected = (after[:300_000].astype("f8") - before).ravel()
    assert found["w"].norm == pytest.approx(np.linalg.norm(expected), rel=1e-6)
    assert known(workspace, diff) == found


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("rows", [600, 700])
def test_complex_values_of_another_width_have_chunks_of_other_elements_and_are_measured(workspace, stored, rows):
    rng = np.random.default_rng(0)
    before = rng.normal(size=(600, 1024)) + 1j * rng.normal(size=(600, 1024))
    after = np.resize(before + 1, (rows, 1024)).astype(np.complex64)
    sides = []
    for values, kind in ((before, "C128"), (after, "C64")):
        spec = TensorSpec.of(kind, values.shape)
        sides.append((Parameter(spec, tensor_digest(spec, values.tobytes())), values.tobytes()))
    if stored:
        workspace.store.put([(parameter.spec, parameter.digest, data) for parameter, data in sides])
    head = Skeleton(Digest("0" * 64), 9)
    diff = compare(*(Manifest("npy", head, {"w": parameter}) for parameter, _ in sides))
    found, notes = measure_modified(workspace, diff, *(InMemory(**({} if stored else {"w": d})) for _, d in sides))
    assert (found["w"].elements, found["w"].changed, notes) == (600 * 1024, 600 * 1024, [])
    assert found["w"].norm == pytest.approx(np.linalg.norm(after[:600] - before), rel=1e-6)
    assert known(workspace, diff) == found
