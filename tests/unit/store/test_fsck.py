import pytest

from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.store.fsck import check_manifests, check_packs


@pytest.fixture
def manifest(store, make):
    tensors = {"small": make(9), "large": make(1 << 18, 1)}
    layout = Layout((Literal(b"head"), *(Slice(name, spec) for name, (spec, _, _) in tensors.items())))
    skeleton = layout.to_skeleton()
    spec = skeleton_spec(len(skeleton))
    digest = tensor_digest(spec, skeleton)
    store.put([*tensors.values(), (spec, digest, skeleton)])
    return Manifest(
        "safetensors",
        Skeleton(digest, len(skeleton)),
        {name: Parameter(spec, digest) for name, (spec, digest, _) in tensors.items()},
    )


def test_a_sound_store_has_no_problems(store, manifest):
    assert list(check_packs(store)) == []
    assert list(check_manifests(store, {"HEAD:m": manifest}, decode=True)) == []


def test_a_flipped_bit_anywhere_in_a_pack_is_named(store, make):
    store.put([make(50)])
    ((_, path),) = store.pack_files()
    sound = path.read_bytes()
    path.chmod(0o644)
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        assert [(p.kind, p.where) for p in check_packs(store)] == [("corrupt", str(path))]


def test_bytes_behind_the_last_chunk_are_found_even_under_the_right_name(store, make):
    from git_theta_ext.store.writer import pack_path, sha256_of

    store.put([make(50)])
    ((_, path),) = store.pack_files()
    longer = store.root / "longer"
    longer.write_bytes(path.read_bytes() + b"x")
    target = pack_path(store.root, sha256_of(longer))
    target.parent.mkdir(exist_ok=True)
    longer.rename(target)
    assert [p.where for p in check_packs(store)] == [str(target)]


def test_missing_and_wrong_tensors_are_named_by_parameter(store, manifest, make):
    absent = make(7, 5)
    odd = Manifest(
        manifest.format, manifest.skeleton, {**manifest.parameters, "absent": Parameter(absent[0], absent[1])}
    )
    (lost, layout) = check_manifests(store, {"HEAD:m": odd})
    assert (lost.kind, lost.where, lost.what) == ("missing", "HEAD:m", "neither here nor on a remote: 'absent'")
    assert "layout disagree" in layout.what
    assert [p.kind for p in check_manifests(store, {"x": odd}, elsewhere={absent[1]})] == ["corrupt"]


def test_decoding_finds_a_tensor_stored_under_another_digest(store, manifest, make):
    spec, digest, _ = make(11, 7)
    store.put([(spec, digest, bytes(44))])
    odd = Manifest(manifest.format, manifest.skeleton, {**manifest.parameters, "odd": Parameter(spec, digest)})
    kinds = [(p.kind, p.where) for p in check_manifests(store, {"x": odd}, decode=True)]
    assert ("corrupt", "x: odd") in kinds


def test_a_missing_skeleton_is_named(store, manifest):
    odd = Manifest(manifest.format, Skeleton("0" * 64, 5), manifest.parameters)
    assert [(p.kind, p.where) for p in check_manifests(store, {"x": odd})] == [("missing", "x")]
