import numpy as np
import pytest
from pickled import PickledWorkers

from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.maintenance import fsck
from git_theta_ext.store.maintenance.fsck import (
    check_manifests,
    check_packs,
    check_tensors,
    known_bad,
    specs_of,
    stored_specs,
    users,
)
from git_theta_ext.store.packs.file_names import names_of
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.store.verification.jobs import JobExaminer
from git_theta_ext.util.files import sha256_of


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


@pytest.fixture(params=["here", "in jobs"])
def anywhere(request, store, monkeypatch):
    """Decode entries in this process, or in jobs."""
    if request.param == "here":
        yield
        return
    monkeypatch.setattr("git_theta_ext.store.verification.verifier.WORTH", 0)
    with store.examining_by(JobExaminer(PickledWorkers(2))):
        yield


def test_a_sound_store_has_no_problems(store, manifest):
    assert list(check_packs(store)) == []
    assert list(check_manifests(store, {"HEAD:m": manifest})) == []
    assert list(check_tensors(store, stored_specs(store))) == []


def test_versions_with_one_layout_have_it_read_once(store, manifest, monkeypatch):
    reads = []

    def read(_, skeleton, parameters):
        reads.append(skeleton)
        return read_skeleton(store, skeleton, parameters=parameters)

    monkeypatch.setattr(fsck, "read_skeleton", read)
    assert list(check_manifests(store, {str(version): manifest for version in range(9)})) == []
    assert reads == [manifest.skeleton]


def damage(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


def flipped(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def found(store):
    return [(problem.kind, problem.where, problem.pack) for problem in check_packs(store)]


def test_a_pack_that_is_recoded_during_the_check_is_no_problem(store, manifest, monkeypatch):
    packs = [(root, entry) for root, entry in store.pack_entries()]
    assert len(packs) > 1
    gone, damaged = (store.pack_path(entry.name) for _, entry in packs[:2])
    damage(damaged, flipped(damaged.read_bytes(), -1 % damaged.stat().st_size))

    def names(paths):
        gone.unlink(missing_ok=True)
        return names_of(paths)

    monkeypatch.setattr(fsck, "names_of", names)
    assert [problem.pack for problem in check_packs(store)] == [str(damaged)]


def test_a_flipped_bit_anywhere_in_a_pack_is_named(store, make):
    store.put([make(50)])
    ((_, path),) = store.pack_files()
    sound = path.read_bytes()
    for at in range(len(sound)):
        damage(path, flipped(sound, at, at % 8))
        assert found(store) == [("corrupt", str(path), str(path))]


def test_flipped_bits_in_large_packs_are_named_with_what_needs_them(store, manifest):
    places = np.random.default_rng(5)
    for _, path in store.pack_files():
        sound = path.read_bytes()
        for at in places.integers(0, len(sound), 10):
            damage(path, flipped(sound, int(at)))
            assert found(store) == [("corrupt", str(path), str(path))]
            needed = users(store, {"m": manifest}, [str(path)])[str(path)]
            assert sorted(needed) in (["m: large", "m: small"], ["m: the skeleton"])
        damage(path, sound)
    assert found(store) == []


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:10], lambda _: b"", lambda d: d + b"x"])
def test_cut_and_longer_packs_are_named(store, make, change):
    store.put([make(50)])
    ((_, path),) = store.pack_files()
    damage(path, change(path.read_bytes()))
    assert found(store) == [("corrupt", str(path), str(path))]


def test_renamed_and_swapped_packs_are_named(store, make, monkeypatch):
    for seed in range(3):
        store.put([make(1000, seed)])
    one, two, three = (path for _, path in store.pack_files())
    first, second = one.read_bytes(), two.read_bytes()
    damage(one, second)
    damage(two, first)
    elsewhere = three.with_name(three.name[:-1] + ("0" if three.name[-1] != "0" else "1"))
    three.rename(elsewhere)
    assert {where for _, where, _ in found(store)} == {str(one), str(two), str(elsewhere)}
    monkeypatch.setattr(fsck, "WORTH", 0)
    assert list(check_packs(store, workers=PickledWorkers(2))) == list(check_packs(store))


def test_a_pack_in_the_folder_of_another_is_named(store, make):
    store.put([make(50)])
    ((_, path),) = store.pack_files()
    folder = path.parent.with_name("zz")
    folder.mkdir()
    path.rename(folder / path.name)
    assert [problem.what for problem in check_packs(store)] == ["a pack of this name does not belong there"]


def test_bytes_behind_the_last_chunk_are_found_even_under_the_right_name(store, make):
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
    assert (lost.kind, lost.where, lost.what) == ("missing", "HEAD:m", "neither in the store nor on a remote: 'absent'")
    assert "layout disagree" in layout.what
    assert [p.kind for p in check_manifests(store, {"x": odd}, elsewhere={absent[1]})] == ["corrupt"]
    (away, _) = check_manifests(store, {"x": odd}, elsewhere={absent[1]}, here=True)
    assert (away.kind, away.what) == ("missing", "on a remote, but not in the store: 'absent'")


@pytest.mark.usefixtures("anywhere")
def test_skeletons_are_sound(store, manifest):
    assert list(check_tensors(store, stored_specs(store))) == []
    assert store.touch_and_find_missing({manifest.skeleton.digest}) == set()


@pytest.mark.usefixtures("anywhere", "unbundled")
def test_decoding_names_every_wrong_tensor_among_many_and_no_other(store, make):
    items = [make(1000 + n, n) for n in range(40)]
    wrong = {items[n][1] for n in (0, 7, 8, 39)}
    store.put([(spec, digest, bytes(len(data)) if digest in wrong else data) for spec, digest, data in items])
    advanced = []
    assert {digest for digest, _ in check_tensors(store, stored_specs(store), advanced.append)} == wrong
    assert sum(advanced) >= sum(len(data) for _, _, data in items)


def test_decoding_finds_a_tensor_of_another_shape_than_the_manifests(store, manifest, make):
    digest = manifest.parameters["large"].digest
    other = Manifest(manifest.format, manifest.skeleton, {"large": Parameter(make(11)[0], digest)})
    wanted = {**stored_specs(store), **specs_of([other])}
    assert [bad for bad, _ in check_tensors(store, wanted)] == [digest]


@pytest.mark.usefixtures("anywhere")
def test_only_the_pack_of_a_damaged_base_is_at_fault(store, steps):
    (spec, base, data), (_, leaning, other) = steps(2, elements=1 << 17)
    store.put([(spec, base, data)])
    ((_, path),) = store.pack_files()
    hint, old = DeltaHint("delta", base, spec), MemorySource(spec, data)
    store.write([coded_blobs(leaning, hint, lambda: MemorySource(spec, other), lambda: old)], loose=False)
    assert list(check_tensors(store, stored_specs(store))) == []
    sound = path.read_bytes()
    damage(path, flipped(sound, len(sound) // 2))
    problems = dict(check_tensors(store, stored_specs(store)))
    assert {digest: problem.pack for digest, problem in problems.items()} == {base: str(path), leaning: ""}
    odd = Manifest("x", Skeleton("0" * 64, 5), {"leaning": Parameter(spec, leaning)})
    assert users(store, {"m": odd}, [str(path)]) == {str(path): ["m: leaning"]}


def test_a_missing_skeleton_is_named(store, manifest):
    odd = Manifest(manifest.format, Skeleton("0" * 64, 5), manifest.parameters)
    assert [(p.kind, p.where) for p in check_manifests(store, {"x": odd})] == [("missing", "x")]


@pytest.mark.usefixtures("anywhere")
def test_an_encoding_that_is_not_installed_is_named_and_does_not_stop_the_check(store, make, plant):
    (spec, strange, _), sound, wrong = make(100, 1), make(101, 2), make(102, 3)
    store.put([sound, (*wrong[:2], bytes(len(wrong[2])))])
    name = plant(store, Entry(strange, spec, "from_tomorrow", (4,)), b"abcd")
    problems = dict(check_tensors(store, stored_specs(store)))
    assert set(problems) == {strange, wrong[1]}
    assert (problems[strange].kind, problems[strange].pack) == ("plug-in", "")
    assert name in problems[strange].where
    assert "'from_tomorrow'" in problems[strange].what
    assert "install" in problems[strange].what
    assert problems[wrong[1]].kind == "corrupt"


def test_the_work_grows_in_proportion_to_the_damage(store, make, plant, monkeypatch):
    items = [make(50 + n, n) for n in range(60)]
    for spec, digest, _ in items:
        plant(store, Entry(digest, spec, "dense", (3,)), b"bad")
    asked, decode = [], store.decoder.decode
    monkeypatch.setattr(store.decoder, "decode", lambda *args: asked.append(args) or decode(*args))
    monkeypatch.setattr(store, "pack_files", lambda: pytest.fail("packs are listed"))
    assert len(dict(check_tensors(store, {digest: spec for spec, digest, _ in items}))) == len(items)
    # Where one fails, those that were begun behind it are begun again.
    assert len(asked) <= (2 * store.threads + 3) * len(items)


@pytest.mark.usefixtures("anywhere")
def test_every_pack_that_holds_a_tensor_is_decoded_and_the_bad_one_is_named(store, make, poison):
    item = make(100)
    store.put([item])
    bad = poison(store, item)
    assert [problem.pack for _, problem in check_tensors(store, stored_specs(store))] == [str(store.pack_path(bad))]
    assert [problem.pack for problem in known_bad(store)] == [str(store.pack_path(bad))]
    assert store.touch_and_find_missing([item[1]]) == set()


@pytest.mark.usefixtures("anywhere")
def test_a_pack_that_is_put_right_is_believed_again(store, make):
    item = make(100)
    store.put([item])
    ((_, path),) = store.pack_files()
    sound = path.read_bytes()
    for check in (lambda: list(check_packs(store)), lambda: dict(check_tensors(store, stored_specs(store)))):
        damage(path, flipped(sound, len(sound) - 3))
        store.reader.close()
        assert check()
        assert store.touch_and_find_missing([item[1]]) == {item[1]}
        damage(path, sound)
        store.reader.close()
        assert not check()
        assert store.touch_and_find_missing([item[1]]) == set()
