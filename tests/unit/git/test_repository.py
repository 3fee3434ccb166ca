from __future__ import annotations

import subprocess
import sys

import pytest

from git_theta_ext.errors import ManifestError, RepositoryError
from git_theta_ext.git import objects
from git_theta_ext.git.objects import blob_id, read_objects, starts_with, write_blobs
from git_theta_ext.git.process import foreign_environment
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.worktrees import WorkTree, worktrees
from git_theta_ext.model.manifest import MAGIC, Manifest, Skeleton
from git_theta_ext.model.tensor import Digest

MANIFEST = Manifest("safetensors", Skeleton(Digest("a" * 64), 8), {})


def git(path, *args, data=b""):
    done = subprocess.run(["git", *args], cwd=path, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture(params=["sha1", "sha256"])
def place(request, tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    git(top, "init", "-q", f"--object-format={request.param}")
    (top / "m.safetensors").write_bytes(MANIFEST.to_bytes())
    (top / "notes.txt").write_text("no manifest, but more than a hundred bytes of text " * 4)
    git(top, "add", "-A")
    git(top, "commit", "-qm", "one")
    return top


def test_one_git_process_finds_all_paths(place, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("GIT_TRACE", str(log))
    repo = Repository.discover(place)
    assert log.read_text().count("built-in: git") == 1
    assert repo.git_dir == repo.common_dir == place / ".git"
    assert repo.worktree == place
    assert repo.index_path == place / ".git" / "index"
    assert repo.oid_bytes == (32 if repo.object_format == "sha256" else 20)


def test_a_subfolder_belongs_to_its_repository(place):
    below = place / "a" / "b"
    below.mkdir(parents=True)
    assert Repository.discover(below) == Repository.discover(place)


def test_a_hint_names_a_path_as_the_user_types_it(place, monkeypatch):
    below = place / "a" / "b"
    below.mkdir(parents=True)
    at_top, from_below = Repository.discover(place), Repository.discover(below)
    assert [at_top.argument("a/my model"), at_top.git_at_top] == ["'a/my model'", "git"]
    assert [from_below.argument("a/my model"), from_below.git_at_top] == ["'../my model'", "git -C ../.."]
    assert from_below.argument("a/b/-x.pt") == "./-x.pt"
    assert at_top.argument(":x.pt") == "./:x.pt"
    monkeypatch.setenv("GIT_PREFIX", "a/b/")  # as git sets it for filters, drivers and hooks, which it runs at the top
    assert Repository.discover(place).argument("m.safetensors") == "../../m.safetensors"
    assert Repository.discover(place, env=foreign_environment()).prefix == ""


def test_a_linked_work_tree_shares_the_store_and_has_its_own_index(place, tmp_path):
    git(place, "worktree", "add", "-q", str(tmp_path / "linked"))
    linked = Repository.discover(tmp_path / "linked")
    assert linked.worktree == tmp_path / "linked"
    assert linked.theta_dir == place / ".git" / "theta"
    assert linked.git_dir != linked.common_dir
    assert linked.index_path == linked.git_dir / "index"
    assert linked.manifests(None)["m.safetensors"][1] == MANIFEST


def test_a_bare_repository_has_no_work_tree_and_still_lists_manifests(place, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(place), "bare.git")
    bare = Repository.discover(tmp_path / "bare.git")
    assert bare.worktree is None
    assert bare.folder == bare.git_dir == tmp_path / "bare.git"
    assert list(bare.manifests("HEAD")) == ["m.safetensors"]


def test_a_submodule_has_its_own_store(place, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q", f"--object-format={Repository.discover(place).object_format}")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(place), "sub")
    assert Repository.discover(outer / "sub").theta_dir == outer / ".git" / "modules" / "sub" / "theta"


def test_manifests_come_from_commits_and_index_and_nothing_else_does(place):
    repo = Repository.discover(place)
    oid = git(place, "rev-parse", "HEAD:m.safetensors")
    assert repo.manifests("HEAD") == {"m.safetensors": (oid, MANIFEST)}
    git(place, "rm", "-q", "--cached", "m.safetensors")
    assert repo.manifests(None) == {}


def test_manifests_under_names_that_are_not_utf8_are_found(place):
    name = b"caf\xe9 \t\n.safetensors".decode(errors="surrogateescape")
    (place / name).write_bytes(MANIFEST.to_bytes())
    git(place, "add", "-A")
    assert name in Repository.discover(place).manifests(None)


def test_a_large_manifest_is_read_and_a_large_file_is_not(place):
    repo = Repository.discover(place)
    long = MAGIC + b"x" * (1 << 21)
    ours = git(place, "hash-object", "-w", "--stdin", data=long)
    other = git(place, "hash-object", "-w", "--stdin", data=b"y" * (1 << 21))
    assert starts_with(repo, ours, MAGIC)
    assert not starts_with(repo, other, MAGIC)


def test_large_manifests_of_about_the_same_size_are_checked_once(place, monkeypatch):
    repo = Repository.discover(place)
    checked = []

    def check(git, oid, prefix):
        checked.append(oid)
        return starts_with(git, oid, prefix)

    monkeypatch.setattr(objects, "starts_with", check)
    contents = [b"y" * (1 << 21), *(MAGIC + b"x" * ((1 << 21) + extra) for extra in (0, 100)), MAGIC + b"x" * (1 << 22)]
    oids = [git(place, "hash-object", "-w", "--stdin", data=data) for data in (*contents, b"z" * (1 << 22))]
    found = dict(objects.manifest_blobs(repo, objects.object_infos(repo, oids)))
    assert found == dict(zip(oids[1:4], contents[1:], strict=True))
    assert checked == [oids[0], oids[1], oids[3]]


def test_a_broken_manifest_is_named_by_its_path(place):
    (place / "bad.safetensors").write_bytes(MAGIC + b"format safetensors\nnonsense " + b"x" * 100 + b"\n")
    git(place, "add", "-A")
    with pytest.raises(ManifestError, match=r"^bad\.safetensors: line 3"):
        Repository.discover(place).manifests(None)


def test_many_objects_come_through_one_process_and_absent_ones_are_left_out(place):
    repo = Repository.discover(place)
    oids = [git(place, "hash-object", "-w", "--stdin", data=b"%d" % n) for n in range(5)]
    wanted = [*oids, "0" * (2 * repo.oid_bytes), *oids * 120]
    assert [data for _, data in read_objects(repo, wanted)] == [b"%d" % (n % 5) for n in range(605)]


def test_a_reader_that_stops_early_leaves_no_process_behind(place):
    repo = Repository.discover(place)
    oid = git(place, "rev-parse", "HEAD:notes.txt")
    reader = read_objects(repo, [oid] * 3)
    assert next(reader)[0] == oid
    reader.close()
    assert list(reader) == []


def test_gits_complaint_is_the_message(place, tmp_path):
    with pytest.raises(RepositoryError, match="not a git repository"):
        Repository.discover(tmp_path)
    with pytest.raises(RepositoryError, match="nosuch"):
        Repository.discover(place).manifests("nosuch")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RepositoryError, match="does not exist"):
        Repository.discover(tmp_path / "gone")


def test_without_git_on_path_the_hint_says_so(place, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RepositoryError, match="git is not on PATH"):
        Repository.discover(place)


def test_a_relative_git_dir_in_the_environment_holds_in_every_folder(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_WORK_TREE", ".")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    repo = Repository.discover()
    below = place / "below"
    below.mkdir()
    assert b"m.safetensors" in repo.run("ls-files", "--full-name", "..", cwd=below)


def test_another_repository_is_found_in_spite_of_the_environment(place, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(place / ".git"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'theta.threads=3'")
    assert Repository.discover(other, env=foreign_environment()).git_dir == other / ".git"


def test_settings_come_from_every_scope_in_one_process(place, monkeypatch, tmp_path):
    git(place, "config", "--global", "theta.threads", "2")
    git(place, "config", "theta.merge.method", "ours")
    repo = Repository.discover(place)
    log = tmp_path / "log"
    monkeypatch.setenv("GIT_TRACE", str(log))
    assert (repo.config.threads, repo.config.merge_override) == (2, ("method=ours",))
    assert log.read_text().count("built-in: git") == 1


def test_alternates_are_followed_relative_absolute_and_chained(tmp_path):
    for name in ("a", "b", "c"):
        git(tmp_path, "init", "-q", "--bare", name)
    (tmp_path / "a/objects/info/alternates").write_text(f"# comment\n{tmp_path}/b/objects\n")
    (tmp_path / "b/objects/info/alternates").write_text("../../c/objects\n../../a/objects\n")
    found = Repository.discover(tmp_path / "a").alternates()
    assert {tmp_path / "b/theta", tmp_path / "c/theta"} <= set(found)


def test_alternates_may_be_quoted_and_come_out_of_the_environment(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "--bare", "a")
    (tmp_path / "a/objects/info/alternates").write_bytes(b'"../../b\\303\\250\\n/objects"\n../../c\xe8\x0b/objects\n')
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", f"{tmp_path}/d/objects:{tmp_path}/a/objects")
    found = Repository.discover(tmp_path / "a").alternates()
    assert found == tuple(tmp_path / name / "theta" for name in ("bè\n", "c\udce8\x0b", "d"))


def test_a_repository_below_a_folder_with_any_name_is_found(tmp_path):
    top = tmp_path / "new\nline\udce8\u2028"
    (top / "below").mkdir(parents=True)
    git(top, "init", "-q")
    found = Repository.discover(top / "below")
    assert (found.git_dir, found.common_dir, found.worktree) == (top / ".git", top / ".git", top)
    assert (found.index_path, found.object_format) == (top / ".git/index", "sha1")
    git(top, "init", "-q", "--bare", "bare")
    assert Repository.discover(top / "bare", env=foreign_environment()).worktree is None


def test_work_trees_are_listed_with_their_commits(tmp_path):
    top = tmp_path / "top\udce8\u2028\x0b"
    top.mkdir()
    git(top, "init", "-q")
    repo = Repository.discover(top)
    branch = git(top, "symbolic-ref", "HEAD")
    assert worktrees(repo) == [WorkTree(str(top), None, branch)]
    git(top, "commit", "-qm", "one", "--allow-empty")
    git(top, "worktree", "add", "-q", "--detach", str(top / "linked\x85"))
    head = git(top, "rev-parse", "HEAD")
    assert worktrees(repo) == [WorkTree(str(top), head, branch), WorkTree(str(top / "linked\x85"), head)]


def test_the_store_reads_what_an_alternate_holds(place, tmp_path):
    git(tmp_path, "clone", "-q", "--shared", str(place), "borrower")
    assert Repository.discover(tmp_path / "borrower").alternates() == (place / ".git" / "theta",)


def test_finding_a_repository_needs_neither_numpy_nor_gitpython():
    code = "import git_theta_ext.git.repository, sys; print({'numpy', 'torch', 'git', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


@pytest.mark.parametrize("contents", [[], [b"one"], [b"", b"a\r\nb", bytes(3000), b"a\r\nb"]], ids=len)
def test_blobs_are_stored_together_as_they_are(place, contents):
    subprocess.run(["git", "config", "core.autocrlf", "input"], cwd=place, check=True)
    repo = Repository.discover(place)
    oids = write_blobs(repo, contents)
    assert oids == [blob_id(content, repo.object_format) for content in contents]
    stored = dict(read_objects(repo, oids))
    assert [stored[oid] for oid in oids] == contents
