from __future__ import annotations

import gc
import subprocess
import sys
import tempfile

import pytest
from bounds import memory_of
from reports import Reports

from git_theta_ext.errors import ManifestError, RepositoryError, UsageError
from git_theta_ext.git.commit_attributes import theta_paths_at
from git_theta_ext.git.repository import Repository
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import Conflict
from git_theta_ext.model.manifest import MAGIC, Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.sync import outgoing as outgoing_module
from git_theta_ext.operations.sync.outgoing import Outgoing, RefUpdate, outgoing, parse_updates
from git_theta_ext.operations.sync.push import Push
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import replace


def digest(letter):
    return Digest(letter * 64)


def manifest(*letters, conflicts=()):
    spec = TensorSpec.of("F32", (2,))
    parameters = {f"w{letter}": Parameter(spec, digest(letter)) for letter in letters}
    return Manifest("safetensors", Skeleton(digest("0"), 8), parameters, None, tuple(conflicts))


class Place:
    def __init__(self, path, object_format):
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main", f"--object-format={object_format}")
        self.zero = "0" * (64 if object_format == "sha256" else 40)

    def git(self, *args):
        return subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, data, path="m.pt"):
        (self.path / path).write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-qm", "a commit")
        return self.git("rev-parse", "HEAD")

    def new(self, oid, remote_oid=None):
        return RefUpdate("refs/heads/main", oid, "refs/heads/main", remote_oid or self.zero)

    def found(self, *updates, remote="origin", complete=()):
        return outgoing(Repository.discover(self.path), remote, updates, complete)


@pytest.fixture(params=["sha1", "sha256"])
def place(request, tmp_path):
    return Place(tmp_path / "top", request.param)


def test_a_new_branch_needs_all_versions_in_its_history(place):
    place.commit(manifest("a").to_bytes())
    tip = place.commit(manifest("b").to_bytes())
    found = place.found(place.new(tip))
    assert found.digests == {digest("0"), digest("a"), digest("b")}
    assert found.manifests == 2


def test_what_git_knows_of_a_remote_says_nothing_of_its_parameters(place):
    first = place.commit(manifest("a").to_bytes())
    tip = place.commit(manifest("b").to_bytes())
    place.git("remote", "add", "origin", "../elsewhere")
    place.git("update-ref", "refs/remotes/origin/main", first)
    assert place.found(place.new(tip, first)).digests == {digest("0"), digest("a"), digest("b")}


def test_commits_that_are_complete_on_a_remote_are_not_walked(place):
    first = place.commit(manifest("a").to_bytes())
    tip = place.commit(manifest("b").to_bytes())
    gone = "1" * len(first)
    assert place.found(place.new(tip), complete=[first, gone]).digests == {digest("0"), digest("b")}
    assert place.found(place.new(tip), complete=[tip]).manifests == 0


def test_replaced_objects_are_pushed_as_they_are(place):
    first = place.commit(manifest("a").to_bytes())
    tip = place.commit(manifest("b").to_bytes())
    place.git("replace", "--graft", tip)
    assert digest("a") in place.found(place.new(tip)).digests
    assert first != tip


def test_a_remote_commit_that_is_unknown_here_is_no_error(place):
    tip = place.commit(manifest("a").to_bytes())
    assert place.found(place.new(tip, "1" * len(place.zero))).digests == {digest("0"), digest("a")}


def test_a_partial_clone_is_not_filled_by_a_push(place, tmp_path):
    place.commit(manifest("a").to_bytes())
    place.git("config", "uploadpack.allowFilter", "true")
    place.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{place.path}", str(tmp_path / "part"))
    part = Repository.discover(tmp_path / "part")
    tip = part.run("rev-parse", "HEAD").decode().strip()
    before = part.run("cat-file", "--batch-all-objects", "--batch-check")
    assert outgoing(part, "fork", [place.new(tip)]).manifests == 0
    assert part.run("cat-file", "--batch-all-objects", "--batch-check") == before


class There:
    """What a remote has, as ``HeldDigests``."""

    def __init__(self, digests):
        self.digests = digests

    def among(self, digests):
        return self.digests & set(digests)


def of_many(place, files, parameters, monkeypatch):
    """Commit manifests that share all parameters but one each, and which are counted a few at a time."""
    monkeypatch.setattr(outgoing_module, "_KEPT", 2 * parameters)
    spec = TensorSpec.of("F32", (2,))
    shared = {f"p{number}": Parameter(spec, Digest(f"{number:064x}")) for number in range(parameters)}
    for number in range(files):
        own = {"own": Parameter(spec, Digest(f"{number:063x}f"))}
        (place.path / f"{number}.pt").write_bytes(replace(manifest("a"), parameters={**shared, **own}).to_bytes())
    place.git("add", "-A")
    place.git("commit", "-qm", "many")
    return place.git("rev-parse", "HEAD"), {digest("0"), *(one.digest for one in shared.values())}


def test_manifests_that_name_what_the_remote_lacks_are_counted(place, monkeypatch):
    tip, shared = of_many(place, 20, 5, monkeypatch)
    repo, update = Repository.discover(place.path), place.new(tip)
    own = {Digest(f"{number:063x}f") for number in range(7)}
    assert outgoing(repo, "origin", [update], (), There(shared)).manifests == 20
    assert outgoing(repo, "origin", [update], (), There(shared | own)).manifests == 13
    assert outgoing(repo, "origin", [update], (), There(own)).manifests == 20
    assert outgoing(repo, "origin", [update]).manifests == 20


def test_what_each_manifest_of_a_long_history_names_is_not_kept(place, monkeypatch):
    files, parameters = 100, 500
    tip, _ = of_many(place, files, parameters, monkeypatch)
    repo = Repository.discover(place.path)
    outgoing(repo, "origin", [place.new(tip)])  # what is kept for good
    # Python enlarges its table of interned strings now and then, by megabytes: not twice in a row.
    least = min(memory_of(lambda: outgoing(repo, "origin", [place.new(tip)])) for _ in range(3))
    assert least < 17 * files * parameters


def test_an_anonymous_remote_gets_everything(place):
    tip = place.commit(manifest("a").to_bytes())
    assert place.found(place.new(tip), remote="/some/where/*.git").manifests == 1


def test_deleting_a_branch_needs_nothing(place):
    place.commit(manifest("a").to_bytes())
    found = place.found(RefUpdate("(delete)", place.zero, "refs/heads/x", "1" * len(place.zero)))
    assert (found.digests, found.manifests) == (frozenset(), 0)


def test_an_annotated_tag_and_a_tag_of_a_tree_or_a_file_are_walked(place):
    place.commit(manifest("a").to_bytes())
    place.git("tag", "-a", "v1", "-m", "v1")
    assert place.found(place.new(place.git("rev-parse", "v1"))).manifests == 1
    assert place.found(place.new(place.git("rev-parse", "HEAD^{tree}"))).manifests == 1
    assert place.found(place.new(place.git("rev-parse", "HEAD:m.pt"))).manifests == 1


def test_versions_of_deleted_files_and_merged_branches_are_needed(place):
    place.commit(manifest("a").to_bytes())
    place.git("checkout", "-qb", "side")
    place.commit(manifest("b").to_bytes(), "other.pt")
    place.git("rm", "-q", "other.pt")
    place.git("commit", "-qm", "gone")
    place.git("checkout", "-q", "main")
    place.commit(b"text", "notes")
    place.git("merge", "-q", "--no-edit", "side")
    assert digest("b") in place.found(place.new(place.git("rev-parse", "HEAD"))).digests


def test_a_raw_checkpoint_is_found_by_the_attributes_of_its_own_commit(place):
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    tip = place.commit(b"raw numbers")
    (place.path / ".gitattributes").write_text("")
    assert place.found(place.new(tip)).raw == {"m.pt": 11}


def test_raw_files_that_nothing_declares_checkpoints_are_fine(place):
    tip = place.commit(b"raw numbers")
    assert place.found(place.new(tip)).raw == {}


def test_a_raw_checkpoint_that_the_tip_mended_is_fine(place):
    place.commit(b"raw numbers")
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    tip = place.commit(manifest("a").to_bytes())
    assert place.found(place.new(tip)).raw == {}


def test_a_raw_checkpoint_that_a_later_commit_replaced_is_found_until_a_remote_has_it(place):
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    there = place.commit(bytes(100_001))
    (place.path / "notes").write_bytes(bytes(100_002))
    raw = place.commit(bytes(100_000))
    place.commit(b"less than a rewritten history is worth")
    place.commit(b"other notes", "notes")
    place.git("rm", "-q", "m.pt")
    place.git("commit", "-qm", "gone")
    tip = place.commit(manifest("a").to_bytes())
    (place.path / ".git/theta").mkdir()
    assert place.found(place.new(tip, there)).replaced == {f"{raw[:12]}:m.pt": 100_000}
    assert place.found(place.new(tip)).replaced == {f"{there[:12]}:m.pt": 100_001, f"{raw[:12]}:m.pt": 100_000}
    place.git("init", "--quiet", "--bare", "../x")
    push = Push(Workspace.discover(Reports(), place.path), "origin", "../x", (place.new(tip),))
    with pytest.raises(RepositoryError, match=f"{there[:12]}:m.pt is tracked") as caught:
        push.run(strict=True)
    assert caught.value.hint == "git theta migrate import --include=m.pt"
    place.git("update-ref", "refs/remotes/other/main", raw)
    assert place.found(place.new(tip)).replaced == {}


def test_links_and_empty_files_are_no_raw_checkpoints(place):
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    place.commit(b"", "empty.pt")
    (place.path / "link.pt").symlink_to("empty.pt")
    tip = place.commit(manifest("a").to_bytes())
    assert place.found(place.new(tip)).raw == {}


def test_raw_checkpoints_stop_the_push_with_a_command_for_all(place):
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    place.commit(b"raw numbers")
    tip = place.commit(b"more numbers", "n.pt")
    with pytest.raises(RepositoryError, match=r"m\.pt is tracked") as caught:
        Push(Workspace.discover(Reports(), place.path), "origin", "../x", (place.new(tip),)).run(strict=True)
    assert "git theta add m.pt n.pt" in caught.value.hint


def test_a_push_without_checkpoints_asks_no_remote(place):
    tip = place.commit(b"text", "notes")
    done = Push(Workspace.discover(Reports(), place.path), "origin", "nowhere://x", (place.new(tip),)).run(strict=True)
    assert done.needed.manifests == 0


def test_what_is_wrong_with_commits_that_the_remote_has_does_not_stop_a_push(place):
    place.commit(b"*.pt filter=theta\n", ".gitattributes")
    place.commit(b"raw numbers", "raw.pt")
    there = place.commit(MAGIC + b"format safetensors\n" + b"x" * 120 + b"\n", "broken.pt")
    tip = place.commit(manifest("a").to_bytes())
    assert place.found(place.new(tip, there)).raw == {}
    with pytest.raises(ManifestError, match="broken"):
        place.found(place.new(tip))


def test_conflicted_manifests_are_reported(place):
    parameter = Parameter(TensorSpec.of("F32", (2,)), digest("a"))
    conflict = Conflict("wa", Reason("both changed it"), None, (parameter, parameter))
    tip = place.commit(manifest("a", conflicts=[conflict]).to_bytes())
    assert place.found(place.new(tip)).conflicted == ("m.pt",)


def test_a_broken_manifest_is_named(place):
    tip = place.commit(MAGIC + b"format safetensors\n" + b"x" * 120 + b"\n")
    with pytest.raises(ManifestError, match=r"^m\.pt: line 3"):
        place.found(place.new(tip))


def test_attributes_of_a_commit_are_read_in_a_bare_repository(place, tmp_path):
    tip = place.commit(b"*.pt filter=theta\n", ".gitattributes")
    place.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    bare = Repository.discover(tmp_path / "bare.git")
    assert theta_paths_at(bare, tip, ["a b.pt", "caf\u00e9.pt", "x.txt"]) == ["a b.pt", "caf\u00e9.pt"]
    assert not (bare.git_dir / "index").exists()


def test_two_interrupts_are_not_reported_as_ignored(place, monkeypatch):
    tip = place.commit(b"*.pt filter=theta\n", ".gitattributes")
    ignored, cleanup = [], tempfile.TemporaryDirectory.cleanup

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    def cleanup_and_interrupt(folder):
        cleanup(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    monkeypatch.setattr("git_theta_ext.git.commit_attributes.theta_paths", interrupt)
    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", cleanup_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        theta_paths_at(Repository.discover(place.path), tip, ["a.pt"])
    gc.collect()
    assert [each.exc_value for each in ignored] == []


def test_lines_for_the_hook_are_read_and_others_refused():
    assert parse_updates("a b c d\n") == [RefUpdate("a", "b", "c", "d")]
    assert parse_updates("") == []
    with pytest.raises(UsageError, match="unexpected line"):
        parse_updates("a b c\n")


@pytest.mark.parametrize(("names", "nbytes"), [("", 0), ("b", 20), ("ac", 104), ("abc", 124)])
def test_the_bytes_of_some_of_the_tensors_are_added_up(names, nbytes):
    sizes = {Digest(name): size for name, size in (("a", 4), ("b", 20), ("c", 100))}
    assert Outgoing(sizes, 1, {}, ()).nbytes({*map(Digest, names)}) == nbytes
