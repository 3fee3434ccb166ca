import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from git_theta_ext.git import index_patch as index_stat
from git_theta_ext.git.index_patch import StatWords, Update, patch, patch_file, refresh

POINTER = b"pointer\n"
OLD = StatWords(1, 2, 3, 4, 5, 6, 7, 8, 9)
NEW = StatWords(11, 12, 13, 14, 15, 16, 17, 18, 19)
OTHER = StatWords(21, 22, 23, 24, 25, 26, 27, 28, 29)
OID = bytes(range(20))


class Work:
    """A repository whose ``*.pt`` files are cleaned to a pointer by a filter that notes each run."""

    def __init__(self, path, object_format="sha1"):
        self.path = path
        self.object_format = object_format
        self.log = path.parent / "cleans"
        self.index = path / ".git" / "index"
        path.mkdir()
        self.git("init", "-q", f"--object-format={object_format}")
        self.git("config", "filter.log.clean", f"echo >> '{self.log}'; printf 'pointer\\n'")
        self.git("config", "filter.log.smudge", "cat")
        self.git("config", "filter.log.required", "true")
        (path / ".gitattributes").write_text("*.pt filter=log -text\n")

    def git(self, *args, input=None, check=True):  # noqa: A002 - as Repository.run
        return subprocess.run(["git", *args], cwd=self.path, input=input, check=check, capture_output=True).stdout

    def check_out(self, *names):
        """Commit models, change something else, and let git write their pointers anew."""
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(b"model")
        self.git("add", ".")
        self.git("commit", "-qm", "models")
        for name in names:
            (self.path / name).unlink()
        self.git("checkout", "-q", "--", ".")
        self.log.unlink(missing_ok=True)

    def populate(self, name):
        """Put a model in the place of a pointer, and return what the index has to learn."""
        path = self.path / name
        old = path.lstat()
        assert path.read_bytes() == POINTER
        unfinished = path.with_name("unfinished")
        unfinished.write_bytes(b"model" * 1000)
        os.utime(unfinished, ns=(old.st_mtime_ns - 2 * 10**9,) * 2)
        unfinished.replace(path)
        blob = hashlib.new(self.object_format, b"blob %d\0" % len(POINTER) + POINTER).digest()
        return {os.fsencode(name): Update(blob, StatWords.of(old), StatWords.of(path.lstat()))}

    def patch(self, updates, wait=1.0):
        self.log.unlink(missing_ok=True)  # git itself runs filters when it rewrites an index
        return patch_file(self.index, updates, self.object_format, wait)

    def refresh(self, updates):
        refresh(self.git, updates)
        self.log.unlink(missing_ok=True)

    def untouched(self):
        """Tell whether git takes the work tree for unchanged without running a filter."""
        return not self.git("status", "--porcelain") and not self.log.exists()


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "repo")


def entry(name, oid=OID, stat=OLD, *, stage=0, extended=False, named=True):
    shown = name if named else b""
    flags = stage << 12 | min(len(shown), 0xFFF) | (0x4000 if extended else 0)
    body = stat.times() + struct.pack(">I", 0o100644) + stat.owner() + oid + struct.pack(">H", flags)
    body += (b"\0\0" if extended else b"") + shown
    return body + bytes(8 - len(body) % 8)


def index_of(*entries, version=2, trailer=None, count=None, extensions=b"", digest=hashlib.sha1):
    data = struct.pack(">4sII", b"DIRC", version, len(entries) if count is None else count)
    data += b"".join(entries) + extensions
    return data + (digest(data).digest() if trailer is None else trailer)


def update(oid=OID, old=OLD, new=NEW):
    return Update(oid, old, new)


def test_only_the_stat_words_and_the_trailer_change():
    index = index_of(entry(b"a"), entry(b"m.pt"), extensions=b"TREE\0\0\0\1x")
    patched = index_of(entry(b"a"), entry(b"m.pt", stat=NEW), extensions=b"TREE\0\0\0\1x")
    assert patch(index, {b"m.pt": update()}, 20) == (patched, {b"m.pt"})


def test_a_trailer_of_zeros_stays():
    index = index_of(entry(b"m.pt"), trailer=bytes(20))
    assert patch(index, {b"m.pt": update()}, 20) == (index_of(entry(b"m.pt", stat=NEW), trailer=bytes(20)), {b"m.pt"})


def test_an_extended_entry_is_patched():
    index = index_of(entry(b"a", extended=True), entry(b"m.pt", extended=True), version=3)
    _, patched = patch(index, {b"m.pt": update()}, 20)
    assert patched == {b"m.pt"}


def test_a_name_too_long_for_its_length_field_is_found():
    name = b"d/" * 3000 + b"m.pt"
    _, patched = patch(index_of(entry(name), entry(b"z")), {name: update(), b"z": update()}, 20)
    assert patched == {name, b"z"}


@pytest.mark.parametrize(
    "held",
    [
        entry(b"m.pt", oid=bytes(20)),
        entry(b"m.pt", stat=OTHER),
        entry(b"m.pt", stat=StatWords(1, 2, 3, 4, 5, 6, 7, 8, 10)),
        entry(b"m.pt", stage=1),
        entry(b"other.pt"),
    ],
    ids=["another object", "another file", "another size", "unmerged", "another path"],
)
def test_what_does_not_fit_is_left_alone(held):
    index = index_of(held)
    assert patch(index, {b"m.pt": update()}, 20) == (index, set())


def test_an_entry_without_name_is_known_by_its_stat_data():
    index = index_of(entry(b"", stat=OTHER, named=False), entry(b"m.pt", named=False))
    patched = index_of(entry(b"", stat=OTHER, named=False), entry(b"m.pt", stat=NEW, named=False))
    assert patch(index, {b"m.pt": update()}, 20) == (patched, {b"m.pt"})


def test_an_entry_without_name_and_inode_is_left_alone():
    nothing = StatWords(*[0] * 9)
    index = index_of(entry(b"m.pt", stat=nothing, named=False))
    assert patch(index, {b"m.pt": update(old=nothing)}, 20) == (index, set())


def malformed():
    good = index_of(entry(b"a"), entry(b"m.pt"))
    flipped = bytearray(good)
    flipped[20] ^= 1
    zero = {"trailer": bytes(20)}
    yield "empty", b""
    yield "cut", good[:-1]
    yield "a header alone", good[:12]
    yield "one bit flipped", bytes(flipped)
    yield "another signature", b"DIRX" + good[4:]
    yield "version 1", index_of(entry(b"m.pt"), version=1)
    yield "version 5", index_of(entry(b"m.pt"), version=5)
    yield "more entries than there are", index_of(entry(b"m.pt"), count=3, **zero)
    yield "very many entries", index_of(entry(b"m.pt"), count=0xFFFFFFFF, **zero)
    yield "a name beyond the end", index_of(entry(b"m.pt"), entry(b"x" * 500)[:-400], **zero)
    yield (
        "a name without end",
        index_of(entry(b"m.pt"), entry(b"x" * 5000)[:4500].rstrip(b"\0"), trailer=b"\0" * 20)[:-20],
    )
    yield "a prefix that is not there", index_of(entry(b"m.pt")[:62] + b"\x05m.pt\0", version=4, **zero)
    yield "an endless number", index_of(entry(b"m.pt")[:62] + b"\xff" * 400, version=4, **zero)


@pytest.mark.parametrize("index", [pytest.param(data, id=name) for name, data in malformed()])
def test_a_malformed_index_is_left_alone(index):
    assert patch(index, {b"m.pt": update()}, 20) == (index, set())


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_git_takes_populated_files_for_unchanged(tmp_path, object_format, version):
    work = Work(tmp_path / "repo", object_format)
    names = ["m.pt", "deep/er/m.pt", "deep/er/модель 2.pt", "deep/" + "n" * 200 + ".pt"]
    work.check_out(*names)
    work.git("update-index", "--index-version", version)
    updates = {path: update for name in names for path, update in work.populate(name).items()}
    assert work.patch(updates) == set(updates)
    assert work.untouched()
    work.git("fsck", "--strict")


def test_without_the_patch_git_looks_again(work):
    work.check_out("m.pt")
    work.populate("m.pt")
    assert not work.untouched()


def test_a_model_changed_after_the_patch_is_seen(work):
    work.check_out("m.pt")
    work.patch(work.populate("m.pt"))
    assert work.untouched()
    (work.path / "m.pt").write_bytes(b"MODEL" * 1000)
    assert not work.untouched()


def test_an_index_with_extended_flags_is_patched(work):
    work.check_out("a.pt", "m.pt")
    work.git("update-index", "--skip-worktree", "a.pt")
    assert work.index.read_bytes()[4:8] == b"\0\0\0\3"
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)
    assert work.untouched()


@pytest.mark.parametrize("version", ["2", "4"])
def test_an_entry_that_overrides_a_shared_index_is_patched(work, version):
    work.check_out("a.pt", "m.pt")
    work.git("update-index", "--index-version", version)
    # Git puts what is as young as the index into the split index. Under load, the index may be a second younger.
    date = min((work.path / name).stat().st_mtime_ns for name in ("a.pt", "m.pt"))
    os.utime(work.index, ns=(date, date))
    work.git("update-index", "--split-index")
    assert b"m.pt" not in work.index.read_bytes()
    for name in ("m.pt", "a.pt"):
        updates = work.populate(name)
        assert work.patch(updates) == set(updates)
    assert work.untouched()


def test_an_entry_that_is_new_to_a_split_index_is_patched(work):
    work.check_out("a.pt")
    work.git("config", "splitIndex.maxPercentChange", "100")
    work.git("update-index", "--split-index")
    work.check_out("m.pt")
    assert b"m.pt" in work.index.read_bytes()
    for name in ("m.pt", "a.pt"):
        updates = work.populate(name)
        assert work.patch(updates) == set(updates)
    assert work.untouched()


def test_an_entry_that_only_the_shared_index_holds_is_left_to_git(work):
    work.check_out("m.pt")
    for path in (work.path / "m.pt", work.path / ".gitattributes"):
        os.utime(path, ns=(10**18, 10**18))  # git puts into the split index what is as young as the index
    work.git("update-index", "-q", "--refresh")
    work.git("update-index", "--split-index")
    before = work.index.read_bytes()
    updates = work.populate("m.pt")
    assert work.patch(updates) == set()
    assert work.index.read_bytes() == before
    work.refresh(updates)
    assert work.untouched()


def test_git_takes_a_file_for_unchanged_after_a_refresh(work):
    work.check_out("m.pt", "deep/модель *.pt")
    updates = {**work.populate("m.pt"), **work.populate("deep/модель *.pt")}
    work.refresh(updates)
    assert work.untouched()


def test_a_refresh_hides_no_change(work):
    work.check_out("m.pt", "staged.pt")
    updates = {**work.populate("m.pt"), **work.populate("staged.pt")}
    work.git("config", "filter.log.clean", "cat")
    work.git("add", "staged.pt")
    work.refresh(updates)
    assert work.git("status", "--porcelain") == b" M m.pt\nM  staged.pt\n"


def test_a_refresh_of_nothing_leaves_the_index_alone(work):
    work.check_out("m.pt")
    before = work.index.stat()
    work.refresh({b"m.pt": update(), b"gone.pt": update()})
    work.refresh({})
    after = work.index.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # reading changes st_atime


def test_a_sparse_index_is_patched(work):
    work.check_out("in/m.pt", "out/m.pt")
    work.git("sparse-checkout", "init", "--cone", "--sparse-index")
    work.git("sparse-checkout", "set", "in")
    assert b"out/m.pt" not in work.index.read_bytes()
    updates = work.populate("in/m.pt")
    assert work.patch(updates) == set(updates)
    assert work.untouched()


def test_an_untracked_cache_survives(work):
    work.check_out("m.pt")
    work.git("update-index", "--force-untracked-cache")
    work.git("status")
    assert b"UNTR" in work.index.read_bytes()
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)
    assert work.untouched()


def test_a_file_system_monitor_survives(work):
    work.check_out("m.pt")
    hook = work.path.parent / "monitor"
    hook.write_text("#!/bin/sh\nprintf 'token\\0/\\0'\n")
    hook.chmod(0o755)
    work.git("config", "core.fsmonitor", str(hook))
    work.git("update-index", "--fsmonitor")
    assert b"FSMN" in work.index.read_bytes()
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)
    assert work.untouched()


def test_a_change_that_git_could_not_tell_by_stat_is_still_found(work):
    """Git reads a file as young as the index again; a rewritten index must not look younger than it is."""
    work.check_out("m.pt")
    work.git("config", "core.trustctime", "false")
    other = work.path / "notes.txt"
    other.write_bytes(b"before")
    moment = (work.path / "m.pt").lstat().st_mtime_ns + 5 * 10**9
    os.utime(other, ns=(moment, moment))
    work.git("add", "notes.txt")
    work.git("commit", "-qm", "notes")
    os.utime(work.index, ns=(moment, moment))
    other.write_bytes(b"behind")
    os.utime(other, ns=(moment, moment))
    assert work.patch(work.populate("m.pt")) == {b"m.pt"}
    assert work.index.stat().st_mtime_ns == moment
    assert work.git("status", "--porcelain") == b" M notes.txt\n"


def test_the_index_keeps_its_mode(work):
    work.check_out("m.pt")
    work.index.chmod(0o660)
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)
    assert work.index.stat().st_mode & 0o777 == 0o660


def test_an_index_behind_a_symbolic_link_is_patched_in_its_place(work):
    work.check_out("m.pt")
    real = work.path.parent / "real-index"
    work.index.rename(real)
    work.index.symlink_to(real)
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)
    assert work.index.is_symlink()
    assert work.untouched()


def test_a_lock_of_somebody_else_is_respected(work):
    work.check_out("m.pt")
    before = work.index.read_bytes()
    lock = work.index.with_name("index.lock")
    lock.write_bytes(b"theirs")
    assert work.patch(work.populate("m.pt"), 0.05) == set()
    assert lock.read_bytes() == b"theirs"
    assert work.index.read_bytes() == before


def test_a_lock_that_goes_away_is_waited_for(work, monkeypatch):
    work.check_out("m.pt")
    lock = work.index.with_name("index.lock")
    lock.touch()
    monkeypatch.setattr(index_stat.time, "sleep", lambda _: lock.unlink())
    updates = work.populate("m.pt")
    assert work.patch(updates) == set(updates)


def test_no_lock_stays_when_nothing_fits(work):
    work.check_out("m.pt")
    assert work.patch({b"m.pt": update()}) == set()
    assert not work.index.with_name("index.lock").exists()


def test_a_missing_index_or_folder_is_nothing_to_patch(tmp_path):
    assert patch_file(tmp_path / "index", {b"m.pt": update()}, "sha1") == set()
    assert not list(tmp_path.iterdir())
    assert patch_file(tmp_path / "none" / "index", {b"m.pt": update()}, "sha1") == set()


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_the_index_and_the_lock_are_as_before_after_a_failure(work, monkeypatch, failure):
    work.check_out("m.pt")
    before = work.index.read_bytes()
    updates = work.populate("m.pt")

    def fail(*_):
        raise failure

    monkeypatch.setattr(Path, "rename", fail)
    if isinstance(failure, OSError):
        assert work.patch(updates) == set()
    else:
        with pytest.raises(KeyboardInterrupt):
            work.patch(updates)
    assert work.index.read_bytes() == before
    assert not work.index.with_name("index.lock").exists()


def test_numbers_beyond_32_bits_are_cut_as_git_does(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate((1 << 32) + 5)
    assert StatWords.of(path.stat()).size == 5


def test_large_libraries_are_not_imported():
    code = "import sys, git_theta_ext.git.index_patch; print({'numpy', 'torch', 'git'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"
