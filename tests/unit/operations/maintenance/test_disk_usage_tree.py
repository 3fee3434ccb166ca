import pytest

from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.history.versions import Version
from git_theta_ext.operations.maintenance.disk_usage import measure
from git_theta_ext.store.packs.format import Entry, PackHeader

SPEC = TensorSpec.of("U8", (100,))
HEAD = 30


def entry(digest, stored, *bases, encoding="dense"):
    return Entry(digest, SPEC, encoding, (stored,), 0, bases)


def version(oid, parameters, path="m"):
    named = {name: Parameter(SPEC, digest) for name, digest in parameters.items()}
    return Version(oid, path, f"commit {oid}", 7, Manifest("x", Skeleton("skeleton", 10), named))


def measured(versions, *packs, lost=0, only=None):
    headers = {str(number): PackHeader(entries, HEAD) for number, entries in enumerate(packs)}
    return measure(versions, headers, sum(header.pack_bytes for header in headers.values()) + lost, only)


def new(usage):
    return [(share.new.tensors, share.new.raw, share.new.stored, share.new.absent) for share in usage.versions]


def table(shares):
    return {share.label: (share.raw, share.stored) for share in shares}


SKELETON = entry("skeleton", 5)


def test_a_version_counts_what_none_before_it_has():
    versions = [version("1", {"a": "A", "b": "B"}), version("2", {"a": "A", "b": "C"})]
    usage = measured(versions, (SKELETON, entry("A", 80), entry("B", 70)), (entry("C", 60),))
    assert [share.raw for share in usage.versions] == [210, 210]
    assert new(usage) == [(3, 210, 155, 0), (1, 100, 60, 0)]
    assert (usage.raw, usage.unique, usage.stored, usage.absent) == (420, 310, 215, 0)
    assert table(usage.parameters) == {"b": (200, 130), "a": (100, 80), "(file layout)": (10, 5)}


def test_factors_and_forgotten_parents_are_counted_where_they_first_serve():
    versions = [version("1", {"a": "A"}), version("2", {"a": "B"})]
    usage = measured(versions, (SKELETON, entry("A", 80), entry("F", 9), entry("B", 4, "A", "F", encoding="low_rank")))
    assert new(usage) == [(2, 110, 85, 0), (2, 100, 13, 0)]
    assert table(usage.encodings) == {"dense": (110, 94), "low_rank": (100, 4)}
    assert usage.disk.unreachable == 0


def test_what_is_not_here_has_no_stored_bytes():
    usage = measured([version("1", {"a": "A", "b": "B"})], (SKELETON, entry("A", 80), entry("B", 3, "gone")))
    assert new(usage) == [(3, 210, 85, 100)]
    assert usage.disk.live == 85


def test_bytes_on_disk_add_up():
    usage = measured(
        [version("1", {"a": "A"})], (SKELETON, entry("A", 80)), (entry("A", 20),), (entry("X", 50),), lost=33
    )
    disk = usage.disk
    assert (disk.packs, disk.live, disk.again, disk.unreachable, disk.heads, disk.damaged) == (3, 25, 80, 50, 90, 33)
    assert disk.total == disk.live + disk.again + disk.unreachable + disk.heads + disk.damaged


def test_other_paths_are_left_out_and_not_taken_for_garbage():
    versions = [version("1", {"a": "A"}), version("2", {"a": "B"}, path="other")]
    usage = measured(versions, (SKELETON, entry("A", 80)), (entry("B", 70),), only=["other"])
    assert [share.path for share in usage.versions] == ["other"]
    assert usage.stored == 75
    assert usage.disk.unreachable == 0


def test_names_that_differ_in_numbers_are_one_group():
    named = {f"layer.{n}.w": f"W{n}" for n in range(3)} | {"head": "H"}
    usage = measured([version("1", named)], (SKELETON, *(entry(digest, 10) for digest in named.values())))
    assert table(usage.groups) == {"layer.{0-2}.w": (300, 30), "head": (100, 10), "(file layout)": (10, 5)}


@pytest.mark.parametrize("versions", [[], [version("1", {})]])
def test_an_empty_store_is_no_error(versions):
    usage = measured(versions)
    assert (usage.stored, usage.disk.total) == (0, 0)
