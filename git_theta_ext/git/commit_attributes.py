"""Git's attributes of the paths in commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.entries import REGULAR, TreeEntry, update_index
from git_theta_ext.git.objects import named_objects
from git_theta_ext.git.temporary_index import temporary_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.git.process import RunGit
    from git_theta_ext.git.repository import Repository

_FILE = ".gitattributes"
T = TypeVar("T")


def theta_paths_at(repo: Repository, rev: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that have ``filter=theta`` according to the attributes in a commit.

    This works in bare repositories too. Attributes of the work tree are ignored, those of ``info/attributes`` apply.

    Raises:
        RepositoryError: There is no such commit.
    """
    wanted = list(paths)
    found = by_attributes(
        repo, {rev: wanted} if wanted else {}, lambda run, _: list(theta_paths(run, wanted, cached=True))
    )
    return [path for tracked in found for path in tracked]


def by_attributes(
    repo: Repository, paths: Mapping[str, Iterable[str]], ask: Callable[[RunGit, list[str]], T]
) -> list[T]:
    """Ask git about groups of commits whose attributes are the same.

    Args:
        repo: The repository, which may be bare.
        paths: The paths of interest, by commit or tree. Attributes of other paths may differ within a group.
        ask: Called for each group with a function as ``Repository.run``, which runs git with an index of the group's
            ``.gitattributes`` alone and is valid until ``ask`` returns, and with the commits of the group.

    Returns:
        What ``ask`` returned for each group.

    Raises:
        RepositoryError: There is no such commit.
    """
    # `check-attr --source` requires git 2.40; a temporary index works in all versions.
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for rev, files in _attribute_files(repo, paths):
        groups.setdefault(files, []).append(rev)
    answers = []
    for files, revs in groups.items():
        with temporary_index(repo) as run:
            update_index(run, (TreeEntry(path, oid, REGULAR) for path, oid in files))
            answers.append(ask(run, revs))
    return answers


def _attribute_files(
    repo: Repository, paths: Mapping[str, Iterable[str]]
) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Yield each commit with path and object id of the ``.gitattributes`` that say something of its paths."""
    wanted = {rev: sorted({name for path in those for name in _above(path)}) for rev, those in paths.items()}
    # A request for several objects has a name a line.
    names = [f"{rev}:{name}" for rev, those in wanted.items() for name in ("", *those) if "\n" not in name]
    objects = dict(zip(names, named_objects(repo, names) if names else (), strict=True))
    for rev, those in wanted.items():
        if objects[f"{rev}:"] is None:
            raise RepositoryError(f"{rev} is not a commit of this repository", hint="git log --oneline --all")
        found = []
        for name in those:
            if "\n" in name:
                entry = repo.entry(rev, name)
                found += [(name, entry.oid)] if entry is not None else []
            elif (named := objects[f"{rev}:{name}"]) is not None:
                found.append((name, named[0]))
        yield rev, tuple(found)


def _above(path: str) -> Iterator[str]:
    folders = path.split("/")[:-1]
    for depth in range(len(folders) + 1):
        yield "/".join([*folders[:depth], _FILE])
