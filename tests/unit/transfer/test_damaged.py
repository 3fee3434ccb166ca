"""What a store remembers of packs that were found damaged on a remote, here and by others."""

import json

import pytest

from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.transfer.complete import Complete, read_complete, write_complete
from git_theta_ext.transfer.damaged import learn_damaged, note_damaged, read_damaged, tell_damaged
from git_theta_ext.transfer.records import record_path

ONE, TWO = "1" * 64, "2" * 64
URL = "https://host/repository"


class Marks:
    """A remote that has marks, and packs of all names."""

    def __init__(self):
        self.names = set()
        self.changes = 0

    def marked(self):
        return set(map(pack_key, self.names))

    def mark(self, keys):
        self._become(self.names | {key.rpartition("/")[2] for key in keys})

    def unmark(self, keys):
        self._become(self.names - {key.rpartition("/")[2] for key in keys})

    def _become(self, names):
        self.changes += names != self.names
        self.names = names


@pytest.fixture
def marks():
    return Marks()


def test_what_one_user_finds_the_others_learn_until_one_reads_sound_bytes(tmp_path, marks):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    note_damaged(mine, URL, {ONE, TWO})
    tell_damaged(mine, URL, marks)
    learn_damaged(theirs, URL, marks)
    assert read_damaged(theirs, URL) == {ONE, TWO}
    note_damaged(theirs, URL, set(), {ONE})
    learn_damaged(theirs, URL, marks)  # the mark is there, and they know better
    assert read_damaged(theirs, URL) == {TWO}
    assert marks.names == {ONE, TWO}
    tell_damaged(theirs, URL, marks)
    assert marks.names == {TWO}
    learn_damaged(mine, URL, marks)
    assert read_damaged(mine, URL) == {TWO}
    changes = marks.changes
    for root in (mine, theirs):
        tell_damaged(root, URL, marks)
    assert marks.changes == changes


def test_a_pack_that_is_damaged_again_is_marked_again(tmp_path, marks):
    marks.names = {ONE}
    learn_damaged(tmp_path, URL, marks)
    note_damaged(tmp_path, URL, set(), {ONE})
    note_damaged(tmp_path, URL, {ONE})
    tell_damaged(tmp_path, URL, marks)
    assert marks.names == {ONE}
    note_damaged(tmp_path, URL, set(), {ONE})
    tell_damaged(tmp_path, URL, marks)
    assert marks.names == set()
    note_damaged(tmp_path, URL, {ONE})
    learn_damaged(tmp_path, URL, marks)
    tell_damaged(tmp_path, URL, marks)
    assert marks.names == {ONE}


def test_commits_do_not_count_as_complete_after_damage_is_found_or_learned(tmp_path, marks):
    for learn in (False, True):
        write_complete(tmp_path, URL, Complete(("tip",)))
        note_damaged(tmp_path, URL, set(), {ONE})
        learn_damaged(tmp_path, URL, marks)
        assert read_complete(tmp_path, URL, "").tips == ("tip",)
        if learn:
            marks.names = {TWO}
            learn_damaged(tmp_path, URL, marks)
        else:
            note_damaged(tmp_path, URL, {ONE})
        assert read_complete(tmp_path, URL, "") == Complete()


def test_records_of_earlier_versions_and_broken_ones_are_read(tmp_path):
    path = record_path(tmp_path, URL, "damaged")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": 1, "packs": [ONE]}))
    assert read_damaged(tmp_path, URL) == {ONE}
    for text in ("", "[]", "{}", "null", '{"version": 1, "packs": 1}', '{"version": 2, "packs": []}'):
        path.write_text(text)
        assert read_damaged(tmp_path, URL) == set()
