"""Tags that name a rewritten commit lose their signature and nothing else."""

from __future__ import annotations

import pytest

from git_theta_ext.operations.migrate.tags import is_signed, retargeted, target_of

OLD, NEW = b"a" * 40, "b" * 40
HEAD = b"object %s\ntype commit\ntag v1\ntagger T <t> 1 +0000\n" % OLD


@pytest.mark.parametrize("kind", ["PGP SIGNATURE", "SSH SIGNATURE", "SIGNED MESSAGE"])
def test_a_signature_is_cut_off(kind: str) -> None:
    tag = HEAD + f"\nmessage {OLD.decode()}\n-----BEGIN {kind}-----\nabc\n".encode()
    assert is_signed(tag)
    assert retargeted(tag, NEW) == HEAD.replace(OLD, NEW.encode()) + b"\nmessage %s\n" % OLD


def test_a_tag_without_signature_is_copied() -> None:
    tag = HEAD + b"\nwith -----BEGIN PGP SIGNATURE----- inside"
    assert not is_signed(tag)
    assert retargeted(tag, NEW) == tag.replace(OLD, NEW.encode(), 1)
    assert target_of(tag) == (OLD.decode(), "commit")
    assert target_of(b"nonsense") == ("", "")


def test_a_signature_in_the_headers_is_dropped() -> None:
    tag = HEAD + b"gpgsig -----BEGIN PGP SIGNATURE-----\n abc\n -----END PGP SIGNATURE-----\n\nmessage\n"
    assert is_signed(tag)
    assert retargeted(tag, NEW) == HEAD.replace(OLD, NEW.encode()) + b"\nmessage\n"
