"""A repository that asks git the same question once, and starts few processes to ask.

It is for a driver, which handles many files while git waits.
"""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.git.entries import DIRECTORY, TreeEntry
from git_theta_ext.git.kept_process import KeptProcess
from git_theta_ext.git.objects import named_objects, object_reader, read_objects
from git_theta_ext.git.path_attributes import DRIVER_ATTRIBUTES
from git_theta_ext.git.repository import Repository
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from subprocess import Popen

    from typing_extensions import Buffer

    Entries = Mapping[str, TreeEntry]
    """The entries of a directory by their paths."""

_SAME = frozenset({"check-attr", "config", "ls-tree", "merge-base"})
"""Commands whose answers do not change while a driver runs: it changes neither HEAD, nor attributes, nor settings."""
_INFOS = ("cat-file", "--batch-check", "--buffer")
_FIND = ("rev-parse", "--quiet", "--verify", "--end-of-options")
_ATTRIBUTES = ("check-attr", "-z", "--stdin")


@dataclass(frozen=True)
class RememberingRepository(Repository):
    """Remembers what git answered, for as long as nothing else changes the repository."""

    _answers: dict[object, bytes] = field(default_factory=dict, compare=False, repr=False)
    _listed: dict[tuple[str, str], Entries] = field(default_factory=dict, compare=False, repr=False)
    _trees: dict[tuple[str, str], Entries] = field(default_factory=dict, compare=False, repr=False)
    _values: dict[bytes, dict[str, bytes]] = field(default_factory=dict, compare=False, repr=False)
    _readers: list[Popen[bytes]] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, repo: Repository) -> RememberingRepository:
        """Return a repository as one that remembers, with the settings that were read; the caller closes it."""
        remembering = cls(
            repo.git_dir, repo.common_dir, repo.worktree, repo.index_path, repo.object_format, repo.prefix
        )
        vars(remembering).update(vars(repo))
        return remembering

    def close(self) -> None:
        """End the processes that were started."""
        self._infos.close()
        self._attributes.close()
        while self._readers:
            _end(self._readers.pop())

    def run(
        self,
        *args: str,
        input: Buffer | None = None,  # noqa: A002 - as Repository
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run git here, or return what it would print; see ``Repository.run``."""
        data = None if input is None else bytes(input)
        if not env and not cwd:
            if args == _INFOS and data is not None:
                return self._info_lines(data.split(b"\n")[:-1])
            if args[:-1] == _FIND and "\n" not in args[-1]:
                return self._find(args[-1])
            if args[:-1] == _ATTRIBUTES and args[-1] in DRIVER_ATTRIBUTES and data is not None:
                return self._attribute(args[-1], data.split(b"\0")[:-1])
        if args[0] not in _SAME or env or cwd:
            return super().run(*args, input=input, check=check, env=env, cwd=cwd)
        question = args, data, check
        if question not in self._answers:
            self._answers[question] = super().run(*args, input=input, check=check)
        return self._answers[question]

    @contextmanager
    def reading(self) -> Iterator[Popen[bytes]]:
        """Return a context with a ``git cat-file --batch``, which is kept for the next one."""
        process = self._readers.pop() if self._readers else object_reader(self)
        whole = False
        try:
            yield process
            whole = True
        finally:
            # If the caller stopped early, the rest of the output would be taken for the next answer.
            self._readers.append(process) if whole else _end(process)

    def directory(self, rev: str, path: str) -> Sequence[TreeEntry]:
        """List the entries of one directory in a commit or a tree; see ``Repository.directory``."""
        return list(self._directory(rev, path).values())

    def directories(self, revs: Sequence[str], path: str) -> list[Sequence[TreeEntry]]:
        """List one directory in several commits or trees; see ``Repository.directories``."""
        self._list(revs, path)
        return [self.directory(rev, path) for rev in revs]

    def _directory(self, rev: str, path: str) -> Entries:
        self._list([rev], path)
        return self._listed[rev, path]

    def _list(self, revs: Sequence[str], path: str) -> None:
        trees = {rev: self._tree(rev, path) for rev in revs if (rev, path) not in self._listed}
        new = {tree for tree in trees.values() if tree and (tree, path) not in self._trees}
        for oid, data in read_objects(self, new):
            entries = _entries(data, f"{path}/" if path else "", self.oid_bytes)
            self._trees[oid, path] = {entry.path: entry for entry in entries}
        for rev, tree in trees.items():
            if tree is None:
                self._listed[rev, path] = {entry.path: entry for entry in super().directory(rev, path)}
            else:
                self._listed[rev, path] = self._trees[tree, path] if tree else {}

    def _tree(self, rev: str, path: str) -> str | None:
        """Return the id of a directory; empty if there is no such directory, and None if that is unknown."""
        if path and (rev, "") in self._listed:
            entry = self._directory(rev, posixpath.dirname(path)).get(path)
            return entry.oid if entry is not None and entry.mode == DIRECTORY else ""
        tree = None if "\n" in rev + path else named_objects(self, [f"{rev}:{path}"])[0]
        return None if tree is None or tree[1].kind != "tree" else tree[0]

    def entry(self, rev: str | None, path: str) -> TreeEntry | None:
        """Return the entry at a path; see ``Repository.entry``."""
        if rev is None:
            return super().entry(rev, path)
        return self._directory(rev, posixpath.dirname(path)).get(path)

    def _find(self, name: str) -> bytes:
        if self._is_listed(name):
            entry = self.entry(*name.split(":", 1))
            return b"" if entry is None else f"{entry.oid}\n".encode()
        found = named_objects(self, [name])[0]
        return b"" if found is None else f"{found[0]}\n".encode()

    def _is_listed(self, name: str) -> bool:
        """Return whether a name such as ``COMMIT:PATH`` can be looked up in directories: the top one was listed."""
        rev, _, path = name.partition(":")
        plain = path not in ("", ".", "..") and path == posixpath.normpath(path) and not path.startswith(("/", "../"))
        return plain and (rev, "") in self._listed

    def _info_lines(self, names: Sequence[bytes]) -> bytes:
        """Return the lines of ``git cat-file --batch-check``, which is not asked about paths that do not exist."""
        lines = {name: name + b" missing" for name in names if self._is_absent(name.decode(errors="surrogateescape"))}
        asked = [name for name in names if name not in lines]
        answers = iter(self._infos.ask(asked) if asked else ())
        return b"".join((lines.get(name) or next(answers)) + b"\n" for name in names)

    def _is_absent(self, name: str) -> bool:
        return self._is_listed(name) and self.entry(*name.split(":", 1)) is None

    def _attribute(self, name: str, paths: Sequence[bytes]) -> bytes:
        new = [path for path in dict.fromkeys(paths) if path not in self._values]
        fields = self._attributes.ask(new)
        for number, path in enumerate(new):
            of_path = fields[3 * len(DRIVER_ATTRIBUTES) * number :][: 3 * len(DRIVER_ATTRIBUTES)]
            self._values[path] = dict(zip(DRIVER_ATTRIBUTES, of_path[2::3], strict=True))
        return b"".join(b"%b\0%b\0%b\0" % (path, name.encode(), self._values[path][name]) for path in paths)

    @cached_property
    def _infos(self) -> KeptProcess:
        return KeptProcess(self, ("cat-file", "--batch-check"), end=b"\n", fields=1)

    @cached_property
    def _attributes(self) -> KeptProcess:
        # All of them at once: git reads each `.gitattributes` for each process.
        return KeptProcess(self, (*_ATTRIBUTES, *DRIVER_ATTRIBUTES), end=b"\0", fields=3 * len(DRIVER_ATTRIBUTES))


def _entries(tree: bytes, folder: str, oid_bytes: int) -> Iterator[TreeEntry]:
    """Yield the entries of a tree object: mode and name, a null byte, and the object id."""
    start = 0
    while start < len(tree):
        end = tree.index(b"\0", start)
        mode, _, name = tree[start:end].partition(b" ")
        start = end + 1 + oid_bytes
        path = folder + name.decode(errors="surrogateescape")
        yield TreeEntry(path, tree[end + 1 : start].hex(), mode.decode().zfill(6))


def _end(process: Popen[bytes]) -> None:
    process.kill()
    process.communicate()
