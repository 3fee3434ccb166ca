"""Pointers of Git LFS are recognised by their exact text."""

from __future__ import annotations

import pytest

from git_theta_ext.operations.migrate.pointers import Pointer, parse_pointer

TEXT = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"


def test_a_pointer_is_read_and_written() -> None:
    pointer = parse_pointer(TEXT)
    assert pointer == Pointer("a" * 64, 12)
    assert pointer.to_bytes() == TEXT
    assert parse_pointer(TEXT.replace(b"git-lfs.github", b"hawser.github")) == pointer


@pytest.mark.parametrize(
    "text",
    [
        b"",
        TEXT + b"x",
        TEXT.replace(b"size 12", b"size -1"),
        TEXT.replace(b"size 12", b"size 1234567890123456789"),
        TEXT.replace(b"oid", b"ext-0-x sha256:" + b"b" * 64 + b"\noid"),
        TEXT.replace(b"a" * 64, b"../" + b"a" * 61),
        TEXT + b"\n" * 1000,
    ],
)
def test_another_text_is_no_pointer(text: bytes) -> None:
    assert parse_pointer(text) is None
