"""The compiled module hashes two messages as hashlib hashes each."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding.kernels import sha256

pytestmark = pytest.mark.skipif(sha256 is None, reason="no C compiler, or no instructions for SHA-256")

INITIAL = bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")


def padded(data):
    return data + b"\x80" + bytes(-(len(data) + 9) % 64) + (8 * len(data)).to_bytes(8, "big")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_messages_have_the_digests_of_hashlib(first, second):
    states = bytearray(2 * INITIAL)
    sha256.update(states, padded(first), padded(second))
    assert states == hashlib.sha256(first).digest() + hashlib.sha256(second).digest()


@given(st.binary(max_size=1000), st.integers(0, 15), st.integers(0, 15))
def test_a_message_may_come_in_any_pieces(data, early, late):
    states, message = bytearray(2 * INITIAL), padded(data)
    first, second = 64 * min(early, late), 64 * max(early, late)
    for piece in (message[:first], message[first:second], message[second:]):
        sha256.update(states, b"", piece)
    assert states == INITIAL + hashlib.sha256(data).digest()


def test_long_messages_of_different_lengths():
    first, second = bytes(range(256)) * 1024, bytes(range(255)) * 700
    states = bytearray(2 * INITIAL)
    sha256.update(states, padded(first), padded(second))
    assert states == hashlib.sha256(first).digest() + hashlib.sha256(second).digest()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((bytearray(63), bytes(64), bytes(64)), id="states"),
        pytest.param((bytearray(64), bytes(63), bytes(64)), id="first"),
        pytest.param((bytearray(64), bytes(64), bytes(65)), id="second"),
    ],
)
def test_buffers_of_other_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="sizes"):
        sha256.update(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((bytes(64), b"", b""), id="read-only states"),
        pytest.param((bytearray(64), "", b""), id="text"),
        pytest.param((bytearray(64), b""), id="one message"),
    ],
)
def test_what_is_no_buffer_is_refused(arguments):
    with pytest.raises(TypeError):
        sha256.update(*arguments)
