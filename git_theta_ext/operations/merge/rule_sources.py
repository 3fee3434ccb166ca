"""Read the sources of merge rules: ``.thetamerge``, the settings and the environment."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from git_theta_ext.config import FORMER_MERGE_OPTIONS
from git_theta_ext.errors import MergeError, RepositoryError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.process import MERGE_OPTIONS
from git_theta_ext.merging.rules.file import FILE
from git_theta_ext.merging.rules.yaml_file import MOST_BYTES
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.git.repository import Repository

_PASSED = ("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT")
"""Variables in which git passes the settings of its command line to the programs that it starts; see git-config(1)."""
_NO_FILE = f"write the rules into {FILE} itself"


@dataclass(frozen=True)
class RuleSources:
    """The sources of merge rules.

    Attributes:
        file: The content of ``.thetamerge``; None if there is none.
        settings: The words of the settings.
        command_line: The words among them that are on the command line (``git -c``).
        environment: The words of ``GIT_THETA_MERGE``.
        replay: The value of ``theta.merge.replay``.
        all_names: Reads the names of all parameters of the current commit.
    """

    file: bytes | None
    settings: tuple[str, ...]
    command_line: tuple[str, ...]
    environment: tuple[str, ...]
    replay: str | None
    all_names: Callable[[], set[str]]


def rule_sources(repo: Repository) -> RuleSources:
    """Read the sources of merge rules: the file, the settings and the environment.

    Raises:
        MergeError: The file is a link.
        RepositoryError: The file cannot be read.
    """
    settings = repo.config.merge_override
    return RuleSources(
        file=_rules_file(repo),
        settings=settings,
        command_line=_command_line(repo) if settings else (),
        environment=tuple(os.environ.get(MERGE_OPTIONS, "").split()),
        replay=repo.config.merge_replay,
        all_names=lambda: _all_names(repo),
    )


def _command_line(repo: Repository) -> tuple[str, ...]:
    """Return the words of the settings on the command line (``git -c``)."""
    if not any(name in os.environ for name in _PASSED):
        return ()
    query = ("config", "-z", "--show-scope", "--get-regexp", r"^theta\.merge\.(method|options|with)$")
    fields = repo.run(*query, check=False).decode(errors="surrogateescape").split("\0")
    settings = dict(
        item.split("\n", 1)
        for scope, item in zip(fields[::2], fields[1::2], strict=False)
        if scope == "command" and "\n" in item
    )
    method, options = settings.get("theta.merge.method", ""), settings.get("theta.merge.options")
    words = settings.get(FORMER_MERGE_OPTIONS, "") if options is None else options
    return (*([f"method={method}"] if method else []), *words.split())


def _rules_file(repo: Repository) -> bytes | None:
    """Return the rules file of the work tree, or of the current commit if the work tree has none."""
    if repo.worktree is not None:
        path = repo.worktree / FILE
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # git does not follow links for .gitattributes either
                raise MergeError(f"{FILE} is not a regular file", hint=_NO_FILE)
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RepositoryError(f"cannot read {FILE}: {error.strerror}") from error
    entry = repo.entry("HEAD", FILE)
    if entry is not None and not entry.regular:
        raise MergeError(f"{FILE} is not a regular file in the current commit", hint=_NO_FILE)
    return None if entry is None else repo.run("cat-file", "blob", entry.oid)


def _all_names(repo: Repository) -> set[str]:
    """Return the names of the parameters of all checkpoints in the current commit."""
    oids = {entry.oid for entry in repo.entries("HEAD") if entry.regular}
    names: set[str] = set()
    for _, data in manifest_blobs(repo, object_infos(repo, oids)):
        names.update(Manifest.parse(data).parameters)
    return names
