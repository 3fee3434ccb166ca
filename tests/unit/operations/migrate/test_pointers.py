"""Pointers of Git LFS are recognised by their text, also in the forms that old versions wrote."""

from __future__ import annotations

import pytest

from git_theta_ext.operations.migrate.pointers import has_extensions, old_pointer
from git_theta_ext.protocol.lfs.pointer import Pointer

TEXT = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"
EXTENDED = TEXT.replace(b"oid", b"ext-0-x sha256:" + b"b" * 64 + b"\noid")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT[:-1],
        TEXT.replace(b"git-lfs.github", b"hawser.github"),
        TEXT.replace(b"https://git-lfs.github.com/spec/v1", b"http://git-media.io/v/2"),
        TEXT.replace(b"\n", b"\r\n"),
        b" " + TEXT.replace(b"\n", b"\n\r\n\n"),
        TEXT.replace(b"size ", b"size +00"),
    ],
)
def test_a_pointer_is_read(text: bytes) -> None:
    assert old_pointer(text) == Pointer("a" * 64, 12)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        TEXT + b"x",
        TEXT.replace(b"size 12", b"size -1"),
        TEXT.replace(b"size 12", b"size 9999999999999999999"),
        EXTENDED,
        TEXT.replace(b"oid sha256:", b"oid  sha256:"),
        TEXT.replace(b"spec/v1", b"spec/v2"),
        TEXT[: TEXT.index(b"oid")] + b"size 12\noid sha256:" + b"a" * 64 + b"\n",
        TEXT.replace(b"a" * 64, b"../" + b"a" * 61),
        TEXT + b"\n" * 1000,
    ],
)
def test_another_text_is_no_pointer(text: bytes) -> None:
    assert old_pointer(text) is None
    assert has_extensions(text) == (text == EXTENDED)
