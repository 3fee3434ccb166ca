import shutil
import subprocess
import time

import numpy as np
import pytest
from reports import Reports

from git_theta_ext.errors import (
    ConfigError,
    CorruptError,
    MissingError,
    RemoteError,
    RemoteTimeoutError,
    RepositoryError,
    UsageError,
)
from git_theta_ext.git.repository import Repository
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.operations.maintenance import delta_candidates, new_tensors
from git_theta_ext.operations.sync import push_survey
from git_theta_ext.operations.sync.outgoing import RefUpdate
from git_theta_ext.operations.sync.push import Push
from git_theta_ext.operations.sync.push_refs import held_updates
from git_theta_ext.operations.sync.remotes import open_remote
from git_theta_ext.operations.sync.selection import Part
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.store.maintenance import write_plans
from git_theta_ext.store.packs import writer
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import early
from git_theta_ext.transfer.complete import Complete, read_complete, write_complete
from git_theta_ext.transfer.early import FinalPacks
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_plugins.remotes.directory import Directory

ZERO = "0" * 40
SPEC = TensorSpec.of("F32", (100,))


class Place:
    """A repository whose models are manifests that a test writes, and remotes beside it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *args, check=True):
        return subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True, check=check).stdout.strip()

    def workspace(self):
        return Workspace.discover(Reports(), self.path)

    @property
    def repo(self):
        return Repository.discover(self.path)

    def commit(self, seed, *, stored=True, path="m.pt", name="w"):
        """Commit a model of one tensor, and return its digest."""
        (self.path / path).parent.mkdir(parents=True, exist_ok=True)
        data = bytes([seed]) * SPEC.nbytes
        digest = tensor_digest(SPEC, data)
        if stored:
            with self.workspace() as workspace:
                workspace.store.put([(SPEC, digest, data)])
        content = Manifest("opaque", Skeleton(digest, SPEC.nbytes), {name: Parameter(SPEC, digest)})
        (self.path / path).write_bytes(content.to_bytes())
        self.git("add", "-A")
        self.git("commit", "-qm", "a commit")
        return digest

    def remote(self, name):
        self.git("init", "-q", "--bare", f"../{name}.git")
        self.git("remote", "add", name, f"../{name}.git")
        return self.path.parent / f"{name}.git"

    def push(self, remote="origin", *, strict=True, there=ZERO, part=None):
        tip = self.git("rev-parse", "HEAD")
        address = self.git("remote", "get-url", remote)
        update = RefUpdate("refs/heads/main", tip, "refs/heads/main", there)
        with self.workspace() as workspace:
            return Push(workspace, remote, address, (update,), part).run(strict=strict)

    def look(self, part=None):
        tip = self.git("rev-parse", "HEAD")
        update = RefUpdate("refs/heads/main", tip, "refs/heads/main", ZERO)
        with self.workspace() as workspace:
            return Push(workspace, "origin", self.git("remote", "get-url", "origin"), (update,), part).look(strict=True)

    def place(self, remote="origin"):
        return open_remote(self.workspace(), remote, self.git("remote", "get-url", remote))

    def there(self, remote="origin"):
        with self.workspace() as workspace:
            index = read_remote_index(workspace.store, self.place(remote))
            return index.held(entry.digest for header in index.headers.values() for entry in header.entries)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "top")
    made.remote("origin")
    return made


def walks(monkeypatch):
    """Count the manifests that pushes look at."""
    counts = []
    real = push_survey.outgoing

    def counted(*args):
        found = real(*args)
        counts.append(found.manifests)
        return found

    monkeypatch.setattr(push_survey, "outgoing", counted)
    return counts


def test_history_that_is_complete_on_a_remote_is_walked_once(place, monkeypatch):
    counts = walks(monkeypatch)
    one, two = place.commit(1), place.commit(2)
    assert place.push().lacking == {one, two}
    three = place.commit(3)
    assert place.push().lacking == {three}
    assert place.push().packs == 0
    assert counts == [2, 1, 0]
    assert place.there() == {one, two, three}


@pytest.mark.parametrize("part", [Part(since="HEAD~1"), Part(("late",)), Part(("l*",), "HEAD~2")])
def test_a_part_is_pushed_and_the_next_push_uploads_the_rest(place, part):
    one, two, three = (place.commit(seed, name=name) for seed, name in ((1, "early"), (2, "early"), (3, "late")))
    seen, done = place.look(part), place.push(strict=False, part=part)
    assert seen.lacking == done.lacking == place.there() == {three}
    assert seen.left == done.left == {one: SPEC.nbytes, two: SPEC.nbytes}
    assert read_complete(place.repo.theta_dir, place.place().url, "") == Complete()
    assert not place.push(strict=False, part=part).lacking
    assert place.push().lacking == {one, two}
    assert place.push(strict=False, part=part).left == {}


def test_a_part_that_a_complete_remote_lost_is_uploaded_again(place):
    one, two = place.commit(1, name="early"), place.commit(2, name="late")
    place.push()
    record = read_complete(place.repo.theta_dir, place.place().url, "")
    shutil.rmtree(place.path.parent / "origin.git" / "theta")
    three = place.commit(3, name="late")
    done = place.push(strict=False, part=Part(("early",)))
    assert (done.lacking, set(done.left)) == ({one}, {two, three})
    assert read_complete(place.repo.theta_dir, place.place().url, "") == record
    assert place.push().lacking == {two, three}


def test_a_part_that_a_complete_remote_has_is_selected_too(place):
    one = place.commit(1, name="early")
    place.push()
    two = place.commit(2, name="late")
    done = place.push(strict=False, part=Part(("early",)))
    assert (done.needed.digests, done.lacking, set(done.left)) == ({one}, set(), {two})
    assert set(place.look(Part(since="HEAD")).left) == {two}
    with pytest.raises(UsageError, match="no parameter is named other"):
        place.push(strict=False, part=Part(("early", "other")))
    with pytest.raises(RepositoryError, match="nowhere is not a commit") as caught:
        place.push(strict=False, part=Part(since="nowhere"))
    assert "git branch --all" in caught.value.hint
    (place.path / ".git" / "shallow").write_text(place.git("rev-parse", "HEAD") + "\n")
    with pytest.raises(RepositoryError, match="nowhere is not a commit") as caught:
        place.push(strict=False, part=Part(since="nowhere"))
    assert "git fetch --unshallow" in caught.value.hint


@pytest.mark.parametrize("loss", ["emptied", "one pack", "moved"])
def test_a_remote_that_lost_something_gets_it_again_whatever_git_knows_of_it(place, loss):
    one, two = place.commit(1), place.commit(2)
    place.push()
    place.git("update-ref", "refs/remotes/origin/main", "HEAD")
    theta = place.path.parent / "origin.git" / "theta"
    if loss == "emptied":
        shutil.rmtree(theta)
    elif loss == "moved":
        place.git("config", "theta.remote.origin.url", str(place.path.parent / "elsewhere"))
    else:
        next(path for path in (theta / "packs").rglob("*") if path.is_file()).unlink()
    updates = held_updates(place.repo, "origin", "")
    with place.workspace() as workspace:
        assert Push(workspace, "origin", "../origin.git", updates).run(strict=False).lacking
    assert place.there() == {one, two}


def test_what_only_another_remote_has_is_brought_through_a_folder_that_is_gone_afterwards(place, monkeypatch):
    from git_theta_ext.transfer import relay

    digests = {place.commit(seed) for seed in range(1, 6)}
    place.push()
    shutil.rmtree(place.path / ".git" / "theta")
    place.remote("fork")
    monkeypatch.setattr(relay, "_BATCH", 1)
    done = place.push("fork")
    assert (done.lacking, done.packs) == (digests, len(digests))
    assert place.there("fork") == digests
    theta = place.path / ".git" / "theta"
    assert not (theta / "passing").exists()
    with place.workspace() as workspace:
        assert workspace.store.touch_and_find_missing(digests) == digests


def test_what_a_killed_push_left_is_removed_a_day_later(place):
    import os
    import time

    place.commit(1)
    place.push()
    shutil.rmtree(place.path / ".git" / "theta")
    place.remote("fork")
    for name, age in (("old", 90_000), ("young", 0)):
        left = place.path / ".git" / "theta" / "passing" / name
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    place.push("fork")
    assert [path.name for path in (place.path / ".git" / "theta" / "passing").iterdir()] == ["young"]


def test_a_push_that_would_name_what_is_nowhere_is_refused(place):
    place.commit(1, stored=False)
    with pytest.raises(MissingError, match="neither here nor on any remote: 1 file layout of the pushed") as caught:
        place.push()
    assert "git theta push --all origin" in caught.value.hint


def test_what_the_remotes_own_commits_name_and_nobody_has_stops_no_push(place):
    lost = place.commit(1, stored=False)
    place.git("push", "-q", "--no-verify", "origin", "main:old")
    kept = place.commit(2)
    done = place.push()  # a new branch: only the remote itself can say that it has the commit
    assert done.lost == {lost}
    assert place.there() == {kept}
    assert read_complete(place.repo.theta_dir, place.place().url, "").tips == ()


def test_a_remote_that_cannot_be_asked_stops_only_what_makes_it_worse(place):
    place.commit(1)
    place.push()
    there = place.git("rev-parse", "HEAD")
    (place.path / "notes").write_text("code")
    place.git("add", "-A")
    place.git("commit", "-qm", "code")
    place.git("config", "theta.remote.origin.url", str(place.path.parent / "unmounted" / "share"))
    assert isinstance(place.push(there=there).failure, RemoteError)
    place.git("config", "--unset", "theta.remote.origin.url")
    place.git("remote", "set-url", "origin", "git://example.invalid/a.git")
    assert isinstance(place.push(there=there).failure, ConfigError)
    place.commit(2)
    with pytest.raises(ConfigError):
        place.push(there=there)


def test_a_repository_without_models_opens_no_remote_and_is_walked_as_far_as_git_sends_it(place, monkeypatch):
    monkeypatch.setattr("git_theta_ext.operations.sync.remotes.open_remote", None)
    (place.path / "notes").write_text("code")
    place.git("add", "-A")
    place.git("commit", "-qm", "code")
    assert place.push().needed.manifests == 0
    assert not (place.path / ".git" / "theta").exists()


def test_models_are_found_by_attributes_where_nothing_is_stored(place):
    (place.path / ".gitattributes").write_text("*.pt filter=theta\n")
    place.commit(1)
    place.git("update-ref", "refs/remotes/origin/main", "HEAD")
    there = place.git("rev-parse", "HEAD")
    shutil.rmtree(place.path / ".git" / "theta")
    assert place.push(there=there).lost


def test_a_history_that_was_shallow_is_walked_again_when_it_is_longer(place, tmp_path):
    one, two = place.commit(1), place.commit(2)
    place.git("push", "-q", "--no-verify", "origin", "main")
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{tmp_path}/origin.git", "cut"], cwd=tmp_path, check=True
    )
    cut = Place.__new__(Place)
    cut.path = tmp_path / "cut"
    shutil.copytree(place.path / ".git" / "theta" / "packs", cut.path / ".git" / "theta" / "packs")
    cut.push()
    assert cut.there() == {two}
    cut.git("fetch", "-q", "--unshallow")
    cut.push()
    assert cut.there() == {one, two}


def test_a_partial_clone_pushes_what_it_left_out_to_another_remote_only(place, tmp_path):
    digests = {place.commit(1), place.commit(2, path="deep/er/m.pt"), place.commit(3)}
    place.push()
    place.git("push", "-q", "--no-verify", "origin", "main")
    for key in ("allowFilter", "allowAnySHA1InWant"):
        place.git("--git-dir=../origin.git", "config", f"uploadpack.{key}", "true")
    for kind in ("blob:none", "tree:0"):
        place.git("clone", "-q", "--no-checkout", f"--filter={kind}", f"file://{tmp_path}/origin.git", f"../{kind[:4]}")
        part = Place.__new__(Place)
        part.path = tmp_path / kind[:4]
        part.git("remote", "set-url", "origin", f"file://{tmp_path}/origin.git")
        part.remote(f"fork-{kind[:4]}")
        (part.path / ".git" / "theta").mkdir()
        assert part.push("origin").needed.manifests == 0
        assert part.push(f"fork-{kind[:4]}").lacking == digests
        assert part.there(f"fork-{kind[:4]}") == digests


def test_a_note_that_is_damaged_or_of_another_version_counts_as_none(place, tmp_path):
    root, remote = place.repo.theta_dir, place.place().url
    note = Complete(("a" * 40,), frozenset({"b" * 64}), "edge")
    write_complete(root, remote, note)
    assert read_complete(root, remote, "edge") == note
    assert read_complete(root, remote, "") == Complete()
    (path,) = (root / "remotes").glob("*.complete")
    for content in ("", "[]", "{}", '{"version": 2, "tips": [], "packs": [], "boundary": "edge"}', '{"tips": 3}'):
        path.write_text(content)
        assert read_complete(root, remote, "edge") == Complete(boundary="edge")


def test_a_note_holds_the_latest_commits_only():
    note = Complete(("old",), frozenset({"p"})).plus([str(number) for number in range(1000)], ["q"])
    assert len(note.tips) == 1000
    assert "old" not in note.tips
    assert note.packs == {"p", "q"}


def versioned(place, count):
    """Commit versions of a model of two tensors, each a small change of the last one."""
    spec, generator = TensorSpec.of("F32", (120_000,)), np.random.default_rng(1)
    values = {name: generator.normal(size=120_000).astype("<f4") for name in "ab"}
    for number in range(count):
        parameters = {}
        for name, value in values.items():
            value[number :: 50 + number] += 1
            parameters[name] = Parameter(spec, tensor_digest(spec, value.tobytes()))
            with place.workspace() as workspace:
                workspace.store.put([(spec, parameters[name].digest, value.tobytes())])
        content = Manifest("opaque", Skeleton(parameters["a"].digest, spec.nbytes), parameters)
        (place.path / "m.pt").write_bytes(content.to_bytes())
        place.git("add", "-A")
        place.git("commit", "-qm", "a commit")


def test_uploads_begin_while_others_are_recoded_and_packs_are_the_same_as_without(place, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_LIMIT", 1)
    monkeypatch.setattr(early, "ENOUGH", 1)
    versioned(place, 3)
    events, real_put, real_write = [], Directory.put, Store.write

    def put(self, key, path):
        if key.startswith("packs/"):
            events.append("put")
        return real_put(self, key, path)

    def write(self, *args, **options):
        names = real_write(self, *args, **options)
        events.append("write")
        deadline = time.monotonic() + 20
        while events.count("put") < events.count("write") and not late and time.monotonic() < deadline:
            time.sleep(0.001)
        return names

    monkeypatch.setattr(Directory, "put", put)
    monkeypatch.setattr(Store, "write", write)
    late = False
    other = Place.__new__(Place)
    other.path = tmp_path / "other" / "top"
    shutil.copytree(tmp_path / "top", other.path)
    shutil.copytree(tmp_path / "origin.git", tmp_path / "other" / "origin.git")
    done = place.push()
    assert events.index("put") < len(events) - events[::-1].index("write") - 1  # before the last pack was written
    assert events.count("put") == done.packs
    late = True
    monkeypatch.setattr(FinalPacks, "add", lambda *_: iter(()))
    assert (other.push().packs, other.push().packs) == (done.packs, 0)
    stored = [read_remote_index(one.workspace().store, one.place()).headers for one in (place, other)]
    assert set(stored[0]) == set(stored[1])
    assert len(stored[0]) == done.packs


def test_an_upload_that_fails_stops_recoding_and_is_the_error(place, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_LIMIT", 1)
    monkeypatch.setattr(early, "ENOUGH", 1)
    versioned(place, 4)
    written, real_write = [], Store.write

    def write(self, packs, advance, **options):
        names = real_write(self, packs, advance, **options)
        written.append(names)
        deadline = time.monotonic() + 20
        while not failed and time.monotonic() < deadline:
            time.sleep(0.001)
        return names

    failed = []

    def put(*_):
        failed.append(1)
        raise RemoteTimeoutError("no answer")

    monkeypatch.setattr(Store, "write", write)
    monkeypatch.setattr(Directory, "put", put)
    with pytest.raises(RemoteError, match="no answer"):
        place.push()
    assert len(written) < 6


def test_a_tensor_that_cannot_be_recoded_goes_as_it_is_after_those_that_can(place, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_LIMIT", 1)
    versioned(place, 3)
    real, calls = write_plans._write_pack, []

    def write(store, plans, *args):
        calls.append(plans)
        if len(calls) == 3:
            raise CorruptError("a damaged tensor")
        return real(store, plans, *args)

    monkeypatch.setattr(write_plans, "_write_pack", write)
    reports = Reports()
    tip = place.git("rev-parse", "HEAD")
    with Workspace.discover(reports, place.path) as workspace:
        update = RefUpdate("refs/heads/main", tip, "refs/heads/main", ZERO)
        done = Push(workspace, "origin", place.git("remote", "get-url", "origin"), (update,)).run(strict=True)
    assert any("cannot recode what is pushed: a damaged tensor" in line for line in reports.lines)
    assert place.there() == done.lacking
    assert len(done.lacking) == 6


def test_a_dry_run_says_about_how_many_bytes_would_go_and_changes_nothing(place):
    versioned(place, 3)
    packs = place.path / ".git" / "theta" / "packs"
    before = set(packs.rglob("*"))
    seen = place.look()
    assert set(packs.rglob("*")) == before
    assert place.there() == set()
    done = place.push()
    assert seen.raw == done.raw == 6 * 480_000
    assert seen.nbytes == pytest.approx(done.nbytes, rel=0.2)
    assert done.nbytes < done.raw
    assert place.look().nbytes == place.look().raw == 0


@pytest.mark.parametrize("few", [True, False])
def test_a_push_of_few_tensors_looks_at_their_parents_only_and_recodes_alike(place, monkeypatch, few):
    versioned(place, 3)
    tip = place.git("rev-parse", "HEAD")
    place.git("reset", "-q", "--hard", "HEAD~1")
    assert len(place.push().uploaded) == 4
    place.git("reset", "-q", "--hard", tip)
    if few:
        monkeypatch.setattr(Store, "all_locations", lambda _: pytest.fail("everything was looked up"))
    else:
        monkeypatch.setattr(new_tensors, "_FEW", 0)
    estimated = place.look().nbytes
    assert estimated == pytest.approx(place.push().nbytes, rel=0.2)
    assert estimated < 100_000  # of 960,000


def test_only_the_latest_commits_are_read_if_they_have_enough_parents(place, monkeypatch):
    for module in (new_tensors, delta_candidates):
        monkeypatch.setattr(module, "PARENTS", 2)
    monkeypatch.setattr(new_tensors, "_LATEST", (4,))
    digests = [place.commit(seed) for seed in range(1, 7)]
    renamed = place.commit(7, path="other.pt", name="v")

    def read(*wanted):
        history = new_tensors.relatives(place.repo, set(wanted))
        return [parameter.digest for version in history for parameter in version.manifest.parameters.values()]

    assert read(digests[5]) == [*digests[3:], renamed]
    assert read(digests[3]) == read(digests[5], digests[0]) == read(renamed) == [*digests, renamed]
