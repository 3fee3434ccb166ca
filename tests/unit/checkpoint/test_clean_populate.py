import errno
import hashlib
import json
import os
import re
import struct
import time

import numpy as np
import pytest

from git_theta_ext.checkpoint import clean as clean_module
from git_theta_ext.checkpoint import populate as populate_module
from git_theta_ext.checkpoint.clean import clean, describe, scan
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import CorruptError, FormatError, ManifestError, MissingError, PluginError, StoreError
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import LayoutConflict
from git_theta_ext.model.fields import Extent
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.store import Store

NOTHING = Expected(None)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


def safetensors(tensors, metadata=None):
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, values in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + values.nbytes],
        }
        body += values.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def model(seed=0, **change):
    rng = np.random.default_rng(seed)
    tensors = {f"layer.{i}.weight": rng.standard_normal((64, 64)).astype("<f4") for i in range(4)}
    return {**tensors, "big": rng.standard_normal(1 << 20).astype("<f4"), **change}


def test_a_checkpoint_comes_back_to_the_byte(store, tmp_path):
    data = safetensors(model(), {"format": "pt"})
    advanced = []
    manifest = clean(memoryview(data), "m", store, advance=advanced.append).manifest
    assert sum(advanced) >= sum(values.nbytes for values in model().values())
    written = []
    (tmp_path / "m").write_bytes(manifest.to_bytes())
    (tmp_path / "m").chmod(0o755)
    stat = populate(manifest, store, tmp_path / "m", Expected.at(tmp_path / "m"), written.append)
    assert (tmp_path / "m").read_bytes() == data
    assert sum(written) == len(data)
    assert stat.st_mode & 0o777 == 0o755
    assert stat.st_mtime < time.time() - 1
    assert list((store.root / "tmp").iterdir()) == []


def test_a_populated_file_seems_older_than_the_manifest_it_replaces(store, tmp_path):
    manifest = clean(memoryview(safetensors(model())), "m", store).manifest
    (tmp_path / "m").write_bytes(manifest.to_bytes())
    written = (tmp_path / "m").stat().st_mtime_ns - 60 * 10**9
    os.utime(tmp_path / "m", ns=(written, written))
    assert populate(manifest, store, tmp_path / "m", Expected.at(tmp_path / "m")).st_mtime_ns == written - 2 * 10**9


def test_describe_gives_the_same_manifest_and_stores_nothing(store):
    data = memoryview(safetensors(model()))
    found = describe(data, "m").manifest
    assert not store.root.joinpath("packs").exists()
    assert clean(data, "m", store).manifest == found


def test_only_what_changed_is_stored(store):
    clean(memoryview(safetensors(model())), "m", store)
    before = {path for _, path in store.pack_files()}
    changed = model()
    changed["layer.2.weight"] = changed["layer.2.weight"] + 1
    clean(memoryview(safetensors(changed)), "m", store)
    (new,) = {path for _, path in store.pack_files()} - before
    assert new.stat().st_size < changed["layer.2.weight"].nbytes + 1000


def test_a_tensor_that_moves_to_another_shard_is_not_stored_again(store):
    tensors = model()
    clean(memoryview(safetensors({name: tensors[name] for name in ["big", "layer.0.weight"]})), "a", store)
    clean(memoryview(safetensors({name: tensors[name] for name in ["layer.1.weight"]})), "b", store)
    before = sum(path.stat().st_size for _, path in store.pack_files())
    clean(memoryview(safetensors({name: tensors[name] for name in ["layer.0.weight", "layer.1.weight"]})), "b", store)
    clean(memoryview(safetensors({name: tensors[name] for name in ["big"]})), "a", store)
    assert sum(path.stat().st_size for _, path in store.pack_files()) - before < 2000


def test_an_empty_and_a_foreign_file_come_back_as_well(store, tmp_path):
    for data in (b"", b"x", b"plain text\n" * 40_000):
        manifest = clean(memoryview(data), "m", store).manifest
        assert manifest.format == "opaque"
        populate(manifest, store, tmp_path / "m", Expected.at(tmp_path / "m"))
        assert (tmp_path / "m").read_bytes() == data


def test_a_format_can_be_forced(store):
    data = memoryview(safetensors(model()))
    assert scan(data, "m", "opaque").format == "opaque"
    with pytest.raises(PluginError, match="unknown format 'nosuch'"):
        scan(data, "m", "nosuch")


@pytest.mark.parametrize("format_name", [None, "safetensors"])
def test_a_malformed_file_is_opaque_and_named_with_its_parameter(store, tmp_path, format_name):
    data = safetensors(model())[:-10]
    described = clean(memoryview(data), "dir/m", store, format_name)
    assert described.manifest == describe(memoryview(data), "dir/m").manifest
    assert described.manifest.format == "opaque"
    assert re.search(r"^dir/m: .*big", described.scan.malformed.message)
    populate(described.manifest, store, tmp_path / "m", Expected.at(tmp_path / "m"))
    assert (tmp_path / "m").read_bytes() == data


def test_a_malformed_file_can_be_refused_and_nothing_is_stored(store):
    data = safetensors(model())[:-10]
    with pytest.raises(FormatError, match=r"^dir/m: .*big") as caught:
        clean(memoryview(data), "dir/m", store, strict=lambda: True)
    assert "theta-format=opaque" in caught.value.hint
    assert list(store.pack_files()) == []


def test_whether_malformed_files_are_refused_is_not_asked_for_others(store):
    assert clean(memoryview(safetensors(model())), "m", store, strict=pytest.fail).scan.malformed is None
    assert clean(memoryview(b"anything"), "m", store, strict=pytest.fail).scan.malformed is None


def test_a_file_whose_tensors_make_no_layout_is_malformed(store, tmp_path, monkeypatch):
    from git_theta_plugins.formats.safetensors import FORMAT

    data = safetensors(model())
    monkeypatch.setattr(type(FORMAT), "parse", lambda *_: [Extent("w", TensorSpec.of("U8", (2,)), at) for at in (0, 9)])
    described = clean(memoryview(data), "m", store)
    assert described.manifest == describe(memoryview(data), "m").manifest
    assert described.manifest.format == "opaque"
    assert described.scan.malformed.message == "m: parameter 'w' appears twice"
    populate(described.manifest, store, tmp_path / "m", Expected.at(tmp_path / "m"))
    assert (tmp_path / "m").read_bytes() == data


def test_a_failing_plugin_does_not_look_like_a_crash(store, monkeypatch):
    from git_theta_plugins.formats.safetensors import FORMAT

    def parse(self, data):
        raise ValueError("oops")

    monkeypatch.setattr(type(FORMAT), "parse", parse)
    scanned = clean(memoryview(safetensors(model())), "m", store).scan
    assert scanned.malformed.message == "m: not a readable safetensors file (ValueError: oops)"


def test_a_file_with_more_names_than_a_manifest_holds_is_malformed(store, monkeypatch):
    data = memoryview(safetensors({f"w{n}": np.ones(2, "f4") for n in range(9)}))
    expected = clean(data, "m", store).manifest
    monkeypatch.setattr(clean_module, "MAX_MANIFEST", len(expected.to_bytes()))
    assert clean(data, "m", store).manifest == expected
    monkeypatch.setattr(clean_module, "MAX_MANIFEST", len(expected.to_bytes()) - 1)
    described = clean(data, "m", store)
    assert described.manifest.format == "opaque"
    assert "m: a manifest of" in described.scan.malformed.message


@pytest.mark.parametrize(("failure", "error"), [(RecursionError, PluginError), (MemoryError, MemoryError)])
def test_what_another_machine_could_read_is_no_opaque_file_here(store, monkeypatch, failure, error):
    from git_theta_plugins.formats.safetensors import FORMAT

    def parse(self, data):
        raise failure

    monkeypatch.setattr(type(FORMAT), "parse", parse)
    with pytest.raises(error):
        clean(memoryview(safetensors(model())), "m", store)


def test_a_conflict_is_never_written_as_a_checkpoint(store, tmp_path):
    manifest = clean(memoryview(safetensors(model())), "m", store).manifest
    s = manifest.skeleton
    conflicted = Manifest(manifest.format, s, manifest.parameters, LayoutConflict(Reason("both"), s, (s, s)))
    with pytest.raises(ManifestError, match="unresolved"):
        populate(conflicted, store, tmp_path / "m", Expected.at(tmp_path / "m"))


def test_a_manifest_whose_layout_is_of_other_parameters_is_refused(store, tmp_path):
    manifest = clean(memoryview(safetensors(model())), "m", store).manifest
    odd = dict(manifest.parameters)
    odd["big"] = Parameter(TensorSpec.of("F32", (1024, 1024)), odd["big"].digest)
    with pytest.raises(ManifestError, match="disagree on 'big'"):
        populate(Manifest(manifest.format, manifest.skeleton, odd), store, tmp_path / "m", Expected.at(tmp_path / "m"))


def test_a_skeleton_that_is_none_is_corrupt(store, tmp_path):
    manifest = clean(memoryview(safetensors(model())), "m", store).manifest
    from git_theta_ext.model.tensor import skeleton_spec, tensor_digest

    digest = tensor_digest(skeleton_spec(4), b"junk")
    store.put([(skeleton_spec(4), digest, b"junk")])
    with pytest.raises(CorruptError, match="not a skeleton"):
        populate(
            Manifest(manifest.format, Skeleton(digest, 4), manifest.parameters),
            store,
            tmp_path / "m",
            Expected.at(tmp_path / "m"),
        )


@pytest.mark.parametrize("harm", ["missing", "corrupt", "full"])
def test_when_populate_fails_the_old_file_is_untouched(store, tmp_path, monkeypatch, harm):
    manifest = clean(memoryview(safetensors(model())), "m", store).manifest
    target = tmp_path / "m"
    target.write_bytes(b"old")
    largest = max((path for _, path in store.pack_files()), key=lambda path: path.stat().st_size)
    largest.chmod(0o644)
    if harm == "missing":
        largest.unlink()
    elif harm == "corrupt":
        data = bytearray(largest.read_bytes())
        data[-1] ^= 1
        largest.write_bytes(data)
    else:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(populate_module.os, "pwrite", full)
    with pytest.raises({"missing": MissingError, "corrupt": CorruptError, "full": StoreError}[harm]):
        populate(manifest, store, target, Expected.at(target))
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "theta"]
    assert list((store.root / "tmp").iterdir()) == []


def test_small_tensors_that_follow_each_other_are_read_together(store, tmp_path, monkeypatch):
    small = {f"norm.{number}": np.arange(number, number + 8).astype("<f4") for number in range(40)}
    data = safetensors({"big": model()["big"], **small})
    manifest = clean(memoryview(data), "m", store).manifest
    assert not store.touch_and_find_missing(manifest.named)  # verifies them
    asked = []
    read_ahead = store.read_ahead
    monkeypatch.setattr(
        store, "read_ahead", lambda tensors, *args: (asked.append(len(tensors)), read_ahead(tensors, *args))[1]
    )
    populate(manifest, store, tmp_path / "m", NOTHING)
    assert (tmp_path / "m").read_bytes() == data
    assert asked == [1, 2]  # the skeleton, and the large tensor with a bundle


def test_torch_zip_checksums_are_computed_anew(store, tmp_path):
    torch = pytest.importorskip("torch")
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save({"w": torch.randn(300, 300), "b": torch.randn(7)}, tmp_path / "m.pt")
        data = (tmp_path / "m.pt").read_bytes()
        manifest = clean(memoryview(data), "m.pt", store).manifest
        populate(manifest, store, tmp_path / "again.pt", Expected.at(tmp_path / "again.pt"))
        assert hashlib.sha256((tmp_path / "again.pt").read_bytes()).digest() == hashlib.sha256(data).digest()
        assert manifest.format == "torch_zip"
        # The same skeleton for every value: that is what lets such files be merged.
        assert manifest.skeleton == describe(memoryview(data), "m.pt").manifest.skeleton
