"""A draft is finished only if it is the checkpoint to the byte, and taken only if nothing has written to it since."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.checkpoint import draft as draft_module
from git_theta_ext.checkpoint.draft import Draft, finished_draft, remove_drafts
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.segments import Checksum, Packing
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.store import Store

SPEC = TensorSpec.of("F32", (100,))
NAMES = ("b", "a", "d", "c")  # as they are in the file
VALUES = {name: np.full(100, number, "<f4").tobytes() for number, name in enumerate(NAMES)}
SLICES = [Slice(name, SPEC) for name in NAMES]
LAYOUT = Layout((Literal(b"head"), *SLICES[:2], Literal(b"mid"), *SLICES[2:], Literal(b"end")))
CONTENT = b"".join([b"head", VALUES["b"], VALUES["a"], b"mid", VALUES["d"], VALUES["c"], b"end"])


def parameter(name):
    return Parameter(SPEC, tensor_digest(SPEC, VALUES[name]))


MANIFEST = Manifest("safetensors", Skeleton.of(LAYOUT.to_skeleton()), {name: parameter(name) for name in NAMES})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "drafts"


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(MANIFEST.to_bytes())
    return path


def drafted(folder, target, names, manifest=MANIFEST, layout=LAYOUT):
    """Return the draft that a merge leaves which computes parameters in an order."""
    with Draft.begin(folder / "1.part", target, layout) as draft:
        for name in names:
            draft.add((name,), parameter(name), VALUES[name])
        draft.finish(manifest)
    return finished_draft(folder, manifest, target)


@pytest.mark.parametrize("names", [NAMES, sorted(NAMES), NAMES[::-1]], ids=["in order", "by name", "reversed"])
def test_tensors_in_any_order_make_the_file(folder, target, names):
    assert drafted(folder, target, names).read_bytes() == CONTENT


def test_a_value_of_several_parameters_is_written_for_each(folder, target):
    names = ("c", "d", "a", "b")
    manifest = replace(MANIFEST, parameters=dict.fromkeys(names, parameter("a")))
    with Draft.begin(folder / "1.part", target, LAYOUT) as draft:
        draft.add(names, parameter("a"), VALUES["a"])
        draft.finish(manifest)
    value = VALUES["a"]
    made = finished_draft(folder, manifest, target)
    assert made.read_bytes() == b"".join([b"head", value, value, b"mid", value, value, b"end"])


def test_it_is_written_from_its_beginning_to_its_end(folder, target):
    with Draft.begin(folder / "1.part", target, LAYOUT) as draft:
        for name, nbytes in (("a", 4), ("c", 4), ("b", 4 + 400 + 400 + 3), ("d", len(CONTENT))):
            draft.add((name,), parameter(name), VALUES[name])
            assert (folder / "1.part").stat().st_size == nbytes


def _with_other_value():
    return replace(MANIFEST, parameters={**MANIFEST.parameters, "d": parameter("c")})


@pytest.mark.parametrize(
    ("names", "manifest"),
    [
        pytest.param(NAMES[:3], MANIFEST, id="a tensor is missing"),
        pytest.param(NAMES, _with_other_value(), id="another value"),
        pytest.param((*NAMES, "a"), replace(MANIFEST, parameters={}), id="other parameters"),
    ],
)
def test_a_file_that_is_not_the_checkpoint_is_not_left(folder, target, names, manifest):
    assert drafted(folder, target, names, manifest) is None
    assert list(folder.iterdir()) == []


def test_too_much_that_waits_gives_the_draft_up(folder, target, monkeypatch):
    monkeypatch.setattr(draft_module, "_HELD", 2 * SPEC.nbytes)
    assert drafted(folder, target, ("a", "d", "b", "c")) is not None
    remove_drafts(folder)
    assert drafted(folder, target, ("a", "d", "c", "b")) is None


def test_a_full_disk_gives_the_draft_up(folder, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with Draft.begin(folder / "1.part", target, LAYOUT) as draft:
        monkeypatch.setattr(draft_module, "write_at", full)
        draft.add(("b",), parameter("b"), VALUES["b"])
        monkeypatch.undo()
        for name in NAMES:
            draft.add((name,), parameter(name), VALUES[name])
        draft.finish(MANIFEST)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(Layout((*LAYOUT.segments, Checksum("a", 0))), id="checksums"),
        pytest.param(replace(LAYOUT, packings=(Packing("gzip", b""),)), id="packed"),
        pytest.param(Layout((Slice("huge", TensorSpec.of("F32", (1 << 44,))),)), id="more than a disk has"),
    ],
)
def test_other_files_have_no_draft(folder, target, layout):
    assert Draft.begin(folder / "1.part", target, layout) is None


def test_what_cannot_be_renamed_has_no_draft(folder, target, monkeypatch):
    drafted(folder, target, NAMES)
    monkeypatch.setattr(draft_module, "can_rename", lambda *_: False)
    assert finished_draft(folder, MANIFEST, target) is None
    assert Draft.begin(folder / "1.part", target, LAYOUT) is None
    assert Draft.begin(folder / "1.part", Path("/proc/self/model"), LAYOUT) is None


def test_a_file_that_was_written_to_is_not_taken(folder, target):
    made = drafted(folder, target, NAMES)
    before = made.stat()
    with made.open("r+b") as file:
        file.write(b"HEAD")
    os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert finished_draft(folder, MANIFEST, target) is None
    os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy = made.with_suffix(".copy")
    copy.write_bytes(CONTENT)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(made)  # another inode
    assert finished_draft(folder, MANIFEST, target) is None


def test_a_draft_of_another_version_is_not_taken(folder, target):
    drafted(folder, target, NAMES)
    assert finished_draft(folder, _with_other_value(), target) is None


def test_a_draft_takes_the_place_of_the_manifest(folder, target, tmp_path):
    made = drafted(folder, target, NAMES)
    store, advanced = Store(tmp_path / "theta"), []
    store.put([(MANIFEST.skeleton.spec, MANIFEST.skeleton.digest, LAYOUT.to_skeleton())])  # and no tensor
    target.chmod(0o640)
    before, inode = Expected.at(target), made.stat().st_ino
    after = populate(MANIFEST, store, target, before, advanced.append, draft=made)
    store.close()
    assert target.read_bytes() == CONTENT
    assert (after.st_ino, after.st_mode & 0o777) == (inode, 0o640)
    assert after.st_mtime_ns < before.stat.st_mtime_ns
    assert sum(advanced) == len(CONTENT)
    assert list(folder.iterdir()) == []


def test_a_file_that_another_program_saved_is_kept(folder, target, tmp_path):
    made = drafted(folder, target, NAMES)
    store = Store(tmp_path / "theta")
    store.put([(MANIFEST.skeleton.spec, MANIFEST.skeleton.digest, LAYOUT.to_skeleton())])
    before = Expected.at(target)
    target.write_bytes(b"saved")
    assert populate(MANIFEST, store, target, before, draft=made) is None
    store.close()
    assert target.read_bytes() == b"saved"
    assert list(folder.iterdir()) == []


@dataclass(frozen=True)
class Tensor:
    names: tuple[str, ...]


def test_tensors_are_computed_in_the_order_of_the_file(folder, target):
    tensors = [Tensor(("a", "c")), Tensor(("b",)), Tensor(("d",)), Tensor(("unknown",))]
    with Draft.begin(folder / "1.part", target, LAYOUT) as draft:
        ordered = [tensor.names[0] for tensor in draft.in_file_order(tensors)]
    assert [name for name in ordered if name != "unknown"] == ["b", "a", "d"]
