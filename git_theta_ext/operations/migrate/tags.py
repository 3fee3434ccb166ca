"""Rewrite annotated tags, which name what they tag by its id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.git.objects import read_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.repository import Repository

_OBJECT = re.compile(rb"object ([0-9a-f]+)\ntype (\w+)\n")
_SIGNATURE = re.compile(rb"^-----BEGIN (?:PGP SIGNATURE|PGP MESSAGE|SIGNED MESSAGE|SSH SIGNATURE)-----$", re.MULTILINE)
_SIGNATURE_HEADER = re.compile(rb"^gpgsig(?:-sha256)? [^\n]*\n(?: [^\n]*\n)*", re.MULTILINE)


def read_tags(repo: Repository, oids: Iterable[str]) -> dict[str, bytes]:
    """Return the content of some annotated tags and of those that they tag, the tagged ones first.

    Raises:
        RepositoryError: Git cannot read a tag.
    """
    found: dict[str, bytes] = {}
    level = list(oids)
    while level:
        contents = dict(read_objects(repo, level))
        # One that is found again must come earlier.
        found = {**contents, **{oid: data for oid, data in found.items() if oid not in contents}}
        level = [target for data in contents.values() for target, kind in [target_of(data)] if kind == "tag"]
    return found


def target_of(content: bytes) -> tuple[str, str]:
    """Return the id and the type of what a tag names."""
    match = _OBJECT.match(content)
    return (match[1].decode(), match[2].decode()) if match else ("", "")


def is_signed(content: bytes) -> bool:
    """Return whether a tag has a signature."""
    return _unsigned(content) != content


def retargeted(content: bytes, oid: str) -> bytes:
    """Return a tag that names another object, without its signature."""
    old = target_of(content)[0].encode()
    return _unsigned(content).replace(b"object " + old, b"object " + oid.encode(), 1)


def _unsigned(content: bytes) -> bytes:
    head, blank, body = content.partition(b"\n\n")
    signature = _SIGNATURE.search(body)
    head = _SIGNATURE_HEADER.sub(b"", head + b"\n").removesuffix(b"\n")
    return head + blank + (body if signature is None else body[: signature.start()])


def rewrite_tags(repo: Repository, oids: Iterable[str], ids: Mapping[str, str]) -> dict[str, str]:
    """Write annotated tags anew if what they name has a new id.

    Args:
        repo: The repository.
        oids: Ids of tags.
        ids: Old to new ids of commits.

    Returns:
        Old to new ids of tags.

    Raises:
        RepositoryError: Git cannot read or write a tag.
    """
    tags: dict[str, str] = {}
    for oid, content in read_tags(repo, oids).items():
        target = target_of(content)[0]
        new = tags.get(target) or ids.get(target, target)
        if new != target:
            written = retargeted(content, new)
            tags[oid] = (
                repo.run("hash-object", "-t", "tag", "-w", "--literally", "--stdin", input=written).decode().strip()
            )
    return tags
