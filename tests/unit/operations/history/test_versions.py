from __future__ import annotations

import subprocess

import pytest

from git_theta_ext.git.repository import Repository
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.history.versions import latest_versions, versions

PATH = "m.pt"


def manifest(*letters):
    spec = TensorSpec.of("F32", (2,))
    parameters = {f"w{place}": Parameter(spec, Digest(letter * 64)) for place, letter in enumerate(letters)}
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 8), parameters)


class Place:
    def __init__(self, path, object_format="sha1", *options):
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main", f"--object-format={object_format}", *options)

    def git(self, *args, ok=(0,)):
        done = subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode in ok, done.stderr
        return done.stdout.strip()

    def write(self, *letters, path=PATH):
        (self.path / path).write_bytes(manifest(*letters).to_bytes())
        return self.git("hash-object", path)

    def commit(self, *letters, path=PATH, time=1000):
        oid = self.write(*letters, path=path)
        self.git("add", "-A")
        self.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "c", f"--date={time} +0000")
        return oid

    def found(self):
        return versions(Repository.discover(self.path))


@pytest.fixture(params=["sha1", "sha256"])
def place(request, tmp_path):
    return Place(tmp_path / "top", request.param)


def test_versions_are_reported_oldest_first_with_what_they_replaced(place):
    a, b, c = (place.commit(letter) for letter in "abc")
    found = place.found()
    assert [(version.oid, version.path, version.previous) for version in found] == [
        (a, PATH, ()),
        (b, PATH, (a,)),
        (c, PATH, (b,)),
    ]
    assert [version.manifest for version in found] == [manifest(letter) for letter in "abc"]
    assert found[-1].commit == place.git("rev-parse", "HEAD")
    assert found[-1].time == int(place.git("log", "-1", "--format=%ct"))


def test_a_merge_replaces_what_both_sides_had(place):
    a = place.commit("a")
    place.git("checkout", "-q", "-b", "side")
    b = place.commit("b")
    place.git("checkout", "-q", "main")
    c = place.commit("c")
    place.git("merge", "-q", "--no-commit", "-s", "ours", "side")
    d = place.commit("d")
    found = {version.oid: set(version.previous) for version in place.found()}
    assert found == {a: set(), b: {a}, c: {a}, d: {b, c}}
    order = [version.oid for version in place.found()]
    assert (order[0], order[-1]) == (a, d)


def test_a_version_that_comes_back_is_reported_once_with_all_that_it_replaced(place):
    a, b, _ = place.commit("a"), place.commit("b"), place.commit("a")
    assert [(version.oid, version.previous) for version in place.found()] == [(a, (b,)), (b, (a,))]


def test_a_renamed_file_is_a_version_at_another_path_that_replaced_nothing(place):
    a = place.commit("a")
    place.git("mv", PATH, "new name\twith\ntab.pt")
    place.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "moved")
    assert [(version.oid, version.path, version.previous) for version in place.found()] == [
        (a, PATH, ()),
        (a, "new name\twith\ntab.pt", ()),
    ]


def test_what_only_the_reflog_or_another_branch_reaches_counts(place):
    a = place.commit("a")
    place.git("checkout", "-q", "-b", "side")
    b = place.commit("b")
    place.git("checkout", "-q", "main")
    c = place.commit("c")
    place.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "--amend", "-m", "again")
    place.write("d")
    place.git("add", "-A")
    place.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "--amend", "-m", "other")
    d = place.git("rev-parse", f"HEAD:{PATH}")
    assert {version.oid for version in place.found()} == {a, b, c, d}


def test_what_is_only_staged_has_no_commit(place):
    a = place.commit("a")
    staged = place.write("b")
    place.git("add", "-A")
    fresh = place.write("c", path="other.pt")
    place.git("add", "-A")
    found = {version.oid: (version.commit, version.time, version.previous) for version in place.found()}
    assert found[staged] == (None, 0, (a,))
    assert found[fresh] == (None, 0, ())


def test_what_is_staged_before_the_first_commit_counts(place):
    staged = place.write("a")
    place.git("add", "-A")
    assert [(version.oid, version.commit) for version in place.found()] == [(staged, None)]


def test_a_repository_without_anything_has_no_versions(place):
    assert place.found() == []


def test_deleting_a_file_is_no_version(place):
    a = place.commit("a")
    place.git("rm", "-q", PATH)
    place.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "gone")
    b = place.commit("b")
    assert [(version.oid, version.previous) for version in place.found()] == [(a, ()), (b, ())]


def test_other_files_and_broken_manifests_are_left_out(place):
    (place.path / "text").write_text("git-theta is not mentioned here\n" * 10)
    (place.path / "broken.pt").write_bytes(manifest("b").to_bytes().replace(b"[2]", b"[3"))
    a = place.commit("a")
    assert [version.oid for version in place.found()] == [a]


def test_a_bare_repository_has_the_versions_of_its_branches(place, tmp_path):
    a, b = place.commit("a"), place.commit("b")
    bare = Place(tmp_path / "bare", place.git("rev-parse", "--show-object-format"), "--bare")
    place.git("push", "-q", str(bare.path), "main")
    assert [version.oid for version in bare.found()] == [a, b]


def test_what_a_linked_work_tree_has_staged_is_found_there(place, tmp_path):
    a = place.commit("a")
    place.git("worktree", "add", "-q", "-b", "linked", str(tmp_path / "linked"))
    linked = object.__new__(Place)
    linked.path = tmp_path / "linked"
    staged = linked.write("b")
    linked.git("add", "-A")
    assert {version.oid for version in linked.found()} == {a, staged}


def test_what_another_work_tree_has_staged_is_a_version(place, tmp_path):
    place.commit("a")
    place.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    (tmp_path / "linked" / PATH).write_bytes(manifest("b").to_bytes())
    place.git("-C", str(tmp_path / "linked"), "add", PATH)
    staged = place.found()[-1]
    assert (staged.manifest, staged.commit) == (manifest("b"), None)


def test_the_latest_commits_have_the_latest_versions(place):
    oids = [place.commit(letter) for letter in "abcd"]
    repo = Repository.discover(place.path)
    latest, all_of_them = latest_versions(repo, 2)
    assert ([version.oid for version in latest], all_of_them) == (oids[2:], False)
    assert latest[1].previous == (oids[2],)
    assert latest_versions(repo, 5) == (place.found(), True)
    assert latest_versions(repo, 5, least=5) == ([], True)


def test_a_repository_without_commits_has_no_latest_versions(tmp_path):
    place = Place(tmp_path / "top")
    assert latest_versions(Repository.discover(place.path), 2) == ([], True)
