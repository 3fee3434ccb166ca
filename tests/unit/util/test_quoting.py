from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.util.quoting import shell_word, shown_path, unquote


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("run 1/層.pt", "run 1/層.pt"),
        ("\udcff\udcfe x.pt", r'"\377\376 x.pt"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("a\tb\nc\x1b\x7f", r'"a\tb\nc\033\177"'),
        ("mod\udce8le è", r'"mod\350le è"'),
        ("\u202eabc", r'"\342\200\256abc"'),
        (" a", '" a"'),
        ("", '""'),
    ],
)
def test_paths_are_shown_as_git_shows_them(path: str, shown: str) -> None:
    assert shown_path(path) == shown


@given(st.binary(min_size=1))
def test_a_shown_path_can_be_seen_and_read_back(raw: bytes) -> None:
    path = raw.decode(errors="surrogateescape")
    shown = shown_path(path)
    assert shown.isprintable()
    assert shown == path or unquote(shown[1:-1]) == path


def test_a_text_that_is_no_path_is_shown_too() -> None:
    assert shown_path("\ud800") == r'"\355\240\200"'


def test_a_word_that_cannot_be_printed_can_be_copied_into_a_shell() -> None:
    words = ["a b.pt", "\udcff'\udcfe\n1\"\\x.pt", "\u202e\x1b0"]
    shown = [shell_word(word) for word in words]
    assert shown[0] == "'a b.pt'"
    assert all(word.isprintable() for word in shown)
    printed = subprocess.run(
        ["bash", "-c", rf"printf '%s\0' {' '.join(shown)}"], capture_output=True, check=True
    ).stdout
    assert printed.decode(errors="surrogateescape").split("\0")[:-1] == words
