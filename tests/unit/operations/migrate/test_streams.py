"""Streams of ``git fast-export`` are read within bounds, and edited without changing anything else."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import ProtocolError
from git_theta_ext.operations.migrate.streams import MAX_LINE, Change, CommitFiles, Delete, edited, read_events

A, B = "a" * 40, "b" * 40
HEAD = b"feature done\nreset x\ncommit x\nmark :1\noriginal-oid %s\nauthor A <a> 1 +0000\ncommitter C <c> 2 -0100\n"


class Swap:
    """Replaces blob A by blob B, and adds a file to commits without parents."""

    def __init__(self) -> None:
        self.asked: list[CommitFiles] = []

    def edit(self, commit: CommitFiles) -> list[Change | Delete]:
        self.asked.append(commit)
        edits = [replace(change, oid=B) if change.oid == A else change for change in commit.changes]
        return [*edits, *commit.deletes, *([Change("100644", B, b"kept", b"kept")] if commit.parent is None else [])]


def edit(text: bytes) -> tuple[bytes, dict[int, str], list[CommitFiles]]:
    commits: dict[int, str] = {}
    swap = Swap()
    return b"".join(edited(io.BytesIO(text), "refs/t", swap, commits)), commits, swap.asked


def test_ids_are_replaced_and_authors_and_messages_left_out() -> None:
    stream = (
        HEAD % A.encode()
        + b"encoding ISO-8859-1\ndata 8\nM a b\n\n\xe9"
        + f'M 100644 {A} plain name\nM 100755 {B} "q\\"\\303\\274"\n\n'.encode()
        + f"commit x\nmark :2\noriginal-oid {B}\nauthor A <a> 1 +0000\ncommitter C <c> 2 +0000\n".encode()
        + b"gpgsig sha1 openpgp\ndata 5\nabcd\ndata 0\nfrom :1\nmerge :1\nD kept\nD other\n\ndone\n"
    )
    text, commits, asked = edit(stream)
    assert commits == {1: A, 2: B}
    assert [(one.mark, one.parent) for one in asked] == [(1, None), (2, 1)]
    assert [one.path for one in asked[0].changes] == [b"plain name", 'q"ü'.encode()]
    assert [one.path for one in asked[1].deletes] == [b"kept", b"other"]
    assert text == (
        b"feature done\nreset refs/t\ncommit refs/t\nmark :1\ncommitter x <x> 0 +0000\ndata 0\n\n"
        + f'M 100644 {B} plain name\nM 100755 {B} "q\\"\\303\\274"\nM 100644 {B} kept\n\n'.encode()
        + b"commit refs/t\nmark :2\ncommitter x <x> 0 +0000\ndata 0\n\nfrom :1\nmerge :1\n"
        + b"D kept\nD other\n\ndone\n"
    )


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"feature done\n",
        b"blob\nmark :1\ndata 1\nx\ndone\n",
        HEAD % A.encode(),
        HEAD % b"xyz" + b"data 0\n\ndone\n",
        HEAD % A.encode() + b"data 9\nabc",
        HEAD % A.encode() + b"data -1\n\ndone\n",
        HEAD % A.encode() + b"data 99999999999999999999\n\ndone\n",
        HEAD % A.encode() + b"data 0\nM 100644 inline x\n\ndone\n",
        HEAD % A.encode() + b'data 0\nD "open\n\ndone\n',
        HEAD % A.encode() + b"data 0\nC a b\n\ndone\n",
        HEAD % A.encode() + b"data 0\nfrom :1\n\ndone\n",
        (HEAD % A.encode()).replace(b"reset x\n", b"") + b"data 0\n\ndone\n",
        b"feature done\n" + b"x" * (MAX_LINE + 1),
    ],
)
def test_what_git_never_prints_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        edit(stream)


def test_a_message_of_any_size_takes_bounded_memory() -> None:
    nbytes = 1 << 24
    stream = io.BytesIO(HEAD % A.encode() + b"data %d\n" % nbytes + bytes(nbytes) + b"\ndone\n")
    tracemalloc.start()
    assert sum(len(piece) for piece in edited(stream, "refs/t", Swap(), {})) < 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([HEAD % A.encode(), b"data 1\nx", b"\n", b"done\n"])).map(b"".join)
)
def test_no_stream_raises_another_error(stream: bytes) -> None:
    try:
        for _ in read_events(io.BytesIO(stream)):
            pass
    except ProtocolError:
        pass
