"""Which paths a migration is about, by git's own reading of patterns."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.attribute_lines import quote_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.git.repository import Repository

_GITS_OWN = (b".git", b".lfsconfig", b".thetaconfig", b".thetamerge", b".mailmap")
"""How the names of files begin that configure git and its extensions, and are never models."""


@contextmanager
def path_matcher(repo: Repository, include: Sequence[str], exclude: Sequence[str]) -> Iterator[Callable[[bytes], bool]]:
    """Yield a function that returns whether a path is to be migrated.

    Git decides, in one process, by a file of attributes with the patterns; the last pattern that matches counts.

    Raises:
        UsageError: A pattern is not valid in ``.gitattributes``.
        RepositoryError: Git does not answer.
    """
    attribute = f"theta-migrate-{secrets.token_hex(8)}"  # one that no repository sets
    lines = [f"{quote_pattern(pattern)} {attribute}\n" for pattern in include]
    lines += [f"{quote_pattern(pattern)} -{attribute}\n" for pattern in exclude]
    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder:
        file = Path(folder) / "attributes"
        file.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
        with subprocess.Popen(
            ["git", "-c", f"core.attributesFile={file}", "check-attr", "-z", "--stdin", attribute],
            cwd=repo.folder,
            env=repo.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            known: dict[bytes, bool] = {}

            def matches(path: bytes) -> bool:
                if path not in known:
                    known[path] = not _is_gits_own(path) and _ask(process, path)
                return known[path]

            try:
                yield matches
            finally:
                process.kill()


def _is_gits_own(path: bytes) -> bool:
    return path.rpartition(b"/")[2].lower().startswith(_GITS_OWN)


def _ask(process: subprocess.Popen[bytes], path: bytes) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(path + b"\0")
        process.stdin.flush()
    except OSError as error:
        raise RepositoryError("git check-attr stopped") from error
    return [_field(process) for _ in range(3)][2] == b"set"


def _field(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    field = bytearray()
    while (byte := process.stdout.read(1)) != b"\0":
        if not byte:
            raise RepositoryError("git check-attr stopped")
        field += byte
    return bytes(field)
