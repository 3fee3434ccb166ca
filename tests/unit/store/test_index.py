import contextlib
import sqlite3
import time
from types import SimpleNamespace

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.store import index_schema
from git_theta_ext.store.index import Index
from git_theta_ext.store.locations import Location, Verdict
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.stat_records import StatRecords

SPEC = TensorSpec.of("F32", (2,))
A, B, C = (Digest(letter * 64) for letter in "abc")


def entry(digest, stored=8, *bases):
    return Entry(digest, SPEC, "delta" if bases else "dense", (stored,), bases=bases)


@pytest.fixture
def index(tmp_path):
    index = Index(tmp_path / "index.sqlite3")
    yield index
    index.close()


def test_holders_are_reported_with_their_size_and_what_they_lean_on(index):
    index.add_pack("/s", "p", [entry(A), entry(B, 3, A, C)], loose=False)
    index.add_pack("/t", "p", [entry(B, 7)], loose=False)
    locations = {B: {Location("/s", "p", 1, 3, (A, C)), Location("/t", "p", 0, 7)}}
    assert {digest: set(held) for digest, held in index.locations([B, C]).items()} == locations
    assert {digest: set(held) for digest, held in index.all_locations().items()} == {
        A: {Location("/s", "p", 0, 8)},
        **locations,
    }


def test_more_digests_than_one_query_takes_are_looked_up(index):
    digests = [Digest(f"{number:064x}") for number in range(1201)]
    index.add_pack("/s", "p", [entry(digest) for digest in digests], loose=False)
    assert set(index.locations(digests)) == set(digests)


def test_a_few_digests_of_many_that_are_known_are_returned_alone(index):
    digests = [Digest(f"{number:064x}") for number in range(30)]
    index.add_pack("/s", "p", [entry(digest) for digest in digests[:20]], loose=False)
    every = index.locations(digests)
    assert index.locations([A, *digests[18:22]]) == {digest: every[digest] for digest in digests[18:20]}
    assert index.locations(reversed(digests)) == every


def test_changes_by_this_and_another_process_are_seen_at_once(index, tmp_path):
    other = Index(tmp_path / "index.sqlite3")
    assert index.locations([A, B]) == other.locations([A, B]) == {}
    other.add_pack("/s", "p", [entry(A)], loose=False)
    index.add_pack("/t", "q", [entry(B)], loose=False)
    both = {A: (Location("/s", "p", 0, 8),), B: (Location("/t", "q", 0, 8),)}
    assert index.locations([A, B]) == other.locations([A, B]) == both
    other.drop_pack("/s", "p")
    with contextlib.suppress(ZeroDivisionError), index.transaction() as db:
        db.execute("DELETE FROM blobs")
        assert index.locations([B]) == {}
        raise ZeroDivisionError
    assert index.locations([A, B]) == {B: both[B]}
    other.close()


def test_what_was_read_is_kept_when_a_pack_is_added_unless_another_process_wrote(index, tmp_path):
    index.add_pack("/s", "p", [entry(A), entry(B)], loose=False)
    index.locations([A, B, C])
    asked = []
    index._db.set_trace_callback(asked.append)
    index.add_pack("/s", "q", [entry(B, 3, A), entry(C, 4)], loose=False, verified=True)
    index.add_pack("/s", "q", [entry(B, 2, A), entry(C, 4)], loose=False, verified=True)
    q = {B: Location("/s", "q", 0, 2, (A,), Verdict.SOUND), C: Location("/s", "q", 1, 4, (), Verdict.SOUND)}
    held = {A: (Location("/s", "p", 0, 8),), B: (Location("/s", "p", 1, 8), q[B]), C: (q[C],)}
    assert index.locations([A, B, C]) == held
    assert not [query for query in asked if "digest IN" in query]
    index.add_pack("/s", "r", [entry(A)], loose=False)
    assert set(index.locations([A])[A]) == {*held[A], Location("/s", "r", 0, 8)}
    other = Index(tmp_path / "index.sqlite3")
    other.drop_pack("/s", "p")
    other.close()
    index.add_pack("/s", "t", [], loose=False, verified=True)
    assert index.locations([A, B, C]) == {A: (Location("/s", "r", 0, 8),), B: (q[B],), C: (q[C],)}


def test_a_pack_of_one_store_goes_and_that_of_another_stays(index):
    for root in ("/s", "/t"):
        index.add_pack(root, "p", [entry(A)], loose=False)
    index.drop_pack("/s", "p")
    assert index.packs() == {("/t", "p")}
    assert index.locations([A]) == {A: (Location("/t", "p", 0, 8),)}


def test_a_pack_is_recorded_once_however_often_it_is_added(index):
    for _ in range(2):
        index.add_pack("/s", "p", [entry(A)], loose=True)
    assert index.locations([A]) == {A: (Location("/s", "p", 0, 8),)}


def test_what_recoding_may_still_make_smaller_is_counted_until_it_was_dealt_with(index):
    index.add_pack("/s", "p", [entry(A, 100), entry(B, 11)], loose=True)
    index.add_pack("/s", "q", [entry(C, 1000)], loose=False)
    index.add_pack("/t", "r", [entry(C, 5000)], loose=True)
    assert index.loose("/s") == {"p"}
    assert index.loose_bytes("/s") == 111
    index.mark_recoded("/s", ["p", "unknown"])
    assert index.loose("/s") == set()
    assert index.loose_bytes("/s") == 0
    assert index.loose("/t") == {"r"}


def test_the_room_of_forgotten_packs_is_given_back(tmp_path):
    path = tmp_path / "index.sqlite3"
    index = Index(path)
    for pack in range(100):
        index.add_pack("/s", str(pack), [entry(Digest(f"{pack:x}{n:x}".zfill(64))) for n in range(16)], loose=True)
    for pack in range(1, 100):
        index.drop_pack("/s", str(pack))
    index.close()
    full = path.stat().st_size
    index = Index(path)
    with index.transaction() as db:  # in the way, and of this very connection
        db.execute("SELECT 1")
        index.compact()
    index.compact()
    assert index.packs() == {("/s", "0")}
    index.close()
    assert path.stat().st_size < full / 2


def test_what_fails_half_way_is_not_recorded(index):
    with pytest.raises(ValueError, match="hex"):
        index.add_pack("/s", "p", [entry(A), entry("no digest")], loose=True)
    assert index.packs() == set()
    assert index.all_locations() == {}


def test_a_database_that_cannot_be_written_is_an_error_and_can_be_used_again(index):
    index._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match=r"index\.sqlite3: database or disk is full") as caught:
        index.add_pack("/s", "p", [entry(Digest(f"{number:064x}")) for number in range(5000)], loose=True)
    assert "free some space" in caught.value.hint
    index._db.execute("PRAGMA max_page_count = 100000")
    index.add_pack("/s", "p", [entry(A)], loose=True)
    assert set(index.all_locations()) == {A}


def test_an_index_is_the_same_when_it_is_opened_again(tmp_path):
    first = Index(tmp_path / "index.sqlite3")
    first.add_pack("/s", "p", [entry(A), entry(B, 3, A)], loose=True)
    StatRecords(first).put("m", "stat", b"manifest")
    first.close()
    second = Index(tmp_path / "index.sqlite3")
    assert second.locations([B]) == {B: (Location("/s", "p", 1, 3, (A,)),)}
    assert second.loose("/s") == {"p"}
    assert StatRecords(second).get("m", "stat") == b"manifest"
    second.close()


def test_a_manifest_is_kept_while_a_path_has_it(index):
    records = StatRecords(index)

    def put(path, manifest):
        records.put(path, "stat", manifest)
        return sorted(content for (content,) in index.rows("SELECT content FROM manifests"))

    assert put("a", b"one") == put("b", b"one") == put("b", b"one") == [b"one"]
    assert put("a", b"two") == [b"one", b"two"]
    assert (records.get("a", "stat"), records.get("b", "stat")) == (b"two", b"one")
    assert put("b", b"two") == [b"two"]
    assert records.get("b", "stat") == b"two"


def test_an_older_index_without_bases_is_made_anew(tmp_path):
    old = sqlite3.connect(tmp_path / "index.sqlite3")
    old.execute("CREATE TABLE packs (id INTEGER PRIMARY KEY, root TEXT, name TEXT)")
    old.execute("INSERT INTO packs VALUES (1, '/s', 'p')")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    index = Index(tmp_path / "index.sqlite3")
    assert index.packs() == set()
    index.add_pack("/s", "q", [entry(B, 3, A)], loose=True)
    assert index.locations([B])[B][0].bases == (A,)
    index.close()


def test_paths_are_bytes_and_need_not_be_utf8(index):
    root = "/\udce8/s"
    index.add_pack(root, "p", [entry(A)], loose=True)
    assert index.packs() == {(root, "p")}
    assert index.locations([A]) == index.all_locations() == {A: (Location(root, "p", 0, 8),)}
    assert (index.loose(root), index.loose_bytes(root)) == ({"p"}, 8)
    index.mark_recoded(root, ["p"])
    assert index.loose(root) == set()
    StatRecords(index).put(f"{root}/m", "stat", b"manifest")
    assert StatRecords(index).get(f"{root}/m", "stat") == b"manifest"
    index.drop_pack(root, "p")
    assert index.packs() == set()


def member(number):
    return Digest(f"{number:x}b0".zfill(64))


def bundle_entry(number):
    """Return the entry of a bundle, whose first tensor is that of ``member``."""
    bundle = Bundle.of([(SPEC, Digest(f"{number:x}b{n:x}".zfill(64))) for n in range(40)])
    return Entry(bundle.digest, bundle.spec, "dense", (8,), bundle=bundle)


def filled(path, warn=lambda _: None):
    index = Index(path, warn)
    for number in range(40):
        entries = [entry(Digest(f"{number:x}{n:x}".zfill(64))) for n in range(40)]
        index.add_pack("/s", f"{number:064x}", [*entries, bundle_entry(number)], loose=True)
        StatRecords(index).put(f"folder/{number}", "stat", b"%d" % number)
    return index


def use(index):
    """Do everything that is done with an index."""
    assert StatRecords(index).get("folder/7", "stat") in {None, b"7"}
    StatRecords(index).put("folder/7", "new", b"x")
    index.locations([A, Digest("1".zfill(64))])
    index.parts([A, Digest("1".zfill(64)), member(3), member(39)])
    index.all_locations()
    index.packs()
    for table in ("blobs INDEXED BY not_sound WHERE verdict <> 1", "sound_packs", "bad_entries"):
        index.rows(f"SELECT * FROM {table}")
    index.loose("/s")
    index.loose_bytes("/s")
    index.mark_recoded("/s", [f"{3:064x}"])
    index.add_pack("/s", "q", [entry(A), bundle_entry(41)], loose=True)
    index.drop_pack("/s", f"{5:064x}")
    index.compact()


@pytest.mark.parametrize("harm", ["a page of rubbish", "truncated", "a table gone", "no database"])
def test_a_damaged_index_is_made_anew_wherever_that_shows_with_one_warning(tmp_path, harm):
    filled(tmp_path / "whole").close()
    sound = (tmp_path / "whole").read_bytes()
    path = tmp_path / "index.sqlite3"
    pages = range(len(sound) // 4096)
    tables = [
        "packs",
        "blobs",
        "manifests",
        "stats",
        "sound_packs",
        "bad_entries",
        "bundles",
        "members",
        "more_members",
    ]
    seen = 0
    for at in {"a table gone": tables, "no database": [0]}.get(harm, pages):
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(sound)
        if harm == "a table gone":
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute(f"DROP TABLE {at}")
        elif harm == "truncated":
            path.write_bytes(sound[: at * 4096 + 1000])
        elif harm == "no database":
            path.write_bytes(b"rubbish" * 999)
        else:
            path.write_bytes(sound[: at * 4096] + b"\x55" * 4096 + sound[(at + 1) * 4096 :])
        warnings = []
        index = Index(path, warnings.append)
        use(index)
        for _ in range(2):  # what is recorded when the damage shows is forgotten with all the rest
            index.add_pack("/s", "r", [entry(B)], loose=True)
        assert set(index.locations([B])) == {B}, at
        assert len(warnings) == index.renewed <= 1
        seen += len(warnings)
        index.close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",) or not warnings
    assert seen


def test_a_bundle_is_known_as_long_as_it_is_in_a_pack(index):
    index.add_pack("/s", "p", [bundle_entry(1)], loose=False)
    index.add_pack("/s", "q", [bundle_entry(1), bundle_entry(2)], loose=False)
    one, two = bundle_entry(1).digest, bundle_entry(2).digest
    assert index.parts([member(1), member(2), A]) == {member(1): [(one, 0)], member(2): [(two, 0)]}
    index.drop_pack("/s", "q")
    index.compact()
    rows = index.rows("SELECT digest FROM bundles"), index.rows("SELECT DISTINCT bundle FROM members")
    assert [len(each) for each in rows] == [1, 1]
    index.add_pack("/s", "q", [bundle_entry(2)], loose=False)
    assert index.parts([member(2)]) == {member(2): [(two, 0)]}


def test_a_bundle_that_another_process_forgets_is_no_error(index, monkeypatch):
    index.add_pack("/s", "p", [bundle_entry(1)], loose=False)
    real = index.rows

    def rows(query, values=()):
        if "FROM bundles WHERE" in query:
            with index.transaction() as db:
                db.execute("DELETE FROM bundles")
        return real(query, values)

    monkeypatch.setattr(index._bundles, "_rows", rows)
    assert index.parts([member(1)]) == {}


def test_a_manifest_with_a_flipped_bit_is_none(index):
    StatRecords(index).put("m", "stat", b"manifest")
    with index.transaction() as db:
        db.execute("UPDATE manifests SET content = ?", (b"manifesu",))
    assert StatRecords(index).get("m", "stat") is None


def test_a_locked_index_is_no_damage_and_no_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("git_theta_ext.store.index.BUSY_SECONDS", 0)
    index = filled(tmp_path / "index.sqlite3", pytest.fail)
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked") as raised:
            index.add_pack("/s", "q", [entry(A)], loose=True)
    assert "another process" in raised.value.hint
    index.close()


def test_a_process_that_makes_the_database_just_now_is_waited_for(tmp_path, monkeypatch):
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waits = []

        def wait(seconds):
            waits.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr(index_schema, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
        with contextlib.closing(Index(tmp_path / "index.sqlite3")) as index:
            index.add_pack("/s", "p", [entry(A)], loose=False)
    assert len(waits) == 1
    with contextlib.closing(Index(tmp_path / "index.sqlite3")) as index:
        assert set(index.locations([A])) == {A}


def test_the_verdicts_of_a_store_follow_it_to_another_place(tmp_path):
    path = tmp_path / "index.sqlite3"
    with contextlib.closing(Index(path, own="/before/theta")) as index:
        index.add_pack("/before/theta", "p", [entry(A)], loose=False, verified=True)
        index.add_pack("/alternate", "q", [entry(B)], loose=False, verified=True)
    with contextlib.closing(Index(path, own="/after/theta")) as index:
        assert index.packs() == {("/after/theta", "p"), ("/alternate", "q")}
        assert index.locations([A]) == {A: (Location("/after/theta", "p", 0, 8, (), Verdict.SOUND),)}


def test_what_earlier_versions_recorded_by_the_path_of_the_store_is_kept(tmp_path):
    path = tmp_path / "index.sqlite3"
    with contextlib.closing(Index(path)) as earlier:
        earlier.add_pack("/s/theta", "p", [entry(A)], loose=False, verified=True)
        earlier.add_pack("/s/theta", "q", [entry(B)], loose=False, verified=True)
    with contextlib.closing(Index(path, own="/s/theta")) as index:
        assert index.locations([A, B]).keys() == {A, B}
        index.drop_pack("/s/theta", "q")
    with contextlib.closing(Index(path)) as earlier:  # another process of it goes on
        earlier.add_pack("/s/theta", "p", [entry(A)], loose=False)
    with contextlib.closing(Index(path, own="/s/theta")) as index:
        assert index.all_locations() == {A: (Location("/s/theta", "p", 0, 8, (), Verdict.SOUND),)}
